"""Fixtures that every stage's tests share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Real characters and hostile files kept beside the checkout; tests that need them skip where there are none."""
    folder = REPOSITORY.parent / "shared" / "realdata"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


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
