"""Fixtures that every stage's tests share."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import dagster as dg

REPOSITORY = Path(__file__).resolve().parents[1]


def heed_signals() -> None:
    """Let SIGINT and SIGTERM end the processes that tests start, as in a terminal: whoever runs in the background of a
    shell, or as a worker of pytest-xdist, ignores them, and so would they."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def pytest_configure() -> None:
    heed_signals()


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Real characters and hostile files kept beside the checkout; tests that need them skip where there are none."""
    folder = REPOSITORY.parent / "shared" / "realdata"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[dg.DagsterInstance]":
    """A Dagster instance with the settings that ship, in a DAGSTER_HOME of its own."""
    from sticker_pipeline.dagster_kit.instance import open_instance

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with open_instance() as instance:
        yield instance


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch has `count` threads meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    with _threads(2):
        yield


@pytest.fixture
def four_threads() -> Iterator[None]:
    with _threads(4):
        yield


@pytest.fixture(scope="session")
def embedded_models() -> Path:
    return REPOSITORY / "data" / "models" / "embedded"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model with random weights, in the diffusers layout."""
    from sticker_pipeline_tests.tiny_models import build_tiny_pipeline

    return build_tiny_pipeline(tmp_path_factory.mktemp("models") / "base")
