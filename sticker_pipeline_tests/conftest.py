"""Fixtures shared by the tests of all stages."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sticker_pipeline.core.process.threads import processors

if TYPE_CHECKING:
    import dagster as dg

REPOSITORY = Path(__file__).resolve().parents[1]
SLOW = (  # files that take more than four seconds, in order; no two with a browser at a time
    "fleet/test_ray.py",
    "fleet/test_line_in_bucket.py",
    "ui/test_door.py",
    "test_chaos.py",
    "defs/test_pack.py",
    "cli/test_pack.py",
    "training/test_resume.py",
    "defs/test_release_line.py",
    "ui/test_ui.py",
    "cli/test_ui.py",
    "ui/test_desk_line.py",
    "cli/test_request.py",
    "defs/test_automation.py",
    "test_guide.py",
    "defs/test_line.py",
    "ui/test_desk.py",
    "dagster_kit/test_launcher.py",
    "training/distill/test_train.py",
    "ui/test_pack_page.py",
    "training/memory/test_room.py",
    "training/test_processes.py",
    "defs/test_together.py",
    "packing/test_folder.py",
    "packing/test_telegram.py",
    "core/process/test_quiet.py",
    "defs/test_style.py",
    "fleet/test_postgres.py",
    "core/object_store/test_object_store.py",
    "core/object_store/test_contract.py",
    "core/object_store/test_copying.py",
    "cli/test_storage.py",
    "training/test_damaged_state.py",
    "training/memory/test_dry_run.py",
    "defs/test_sampling_grid.py",
    "dagster_kit/test_patience.py",
    "defs/test_staleness.py",
    "defs/test_one_off.py",
    "defs/test_room.py",
    "defs/test_sdxl.py",
    "dagster_kit/test_compat.py",
    "experiments/test_experiments.py",
    "training/test_train.py",
    "defs/test_lcm.py",
    "defs/test_real_character.py",
    "publishing/test_release.py",
    "dagster_kit/test_dead_runs.py",
    "generation/test_one_image.py",
    "test_contributing.py",
    "defs/test_checks.py",
    "training/test_main.py",
    "experiments/test_training_sweep.py",
    "training/test_weight_norms.py",
    "dagster_kit/test_instance.py",
    "defs/test_recommended.py",
    "training/distill/test_main.py",
    "embedded/test_base.py",
    "fleet/test_deploy.py",
    "diffusion/lora/test_clients.py",
    "diffusion/test_base_model.py",
    "embedded/test_tagger.py",
    "dagster_kit/test_history.py",
    "publishing/test_report_browser.py",
    "dagster_kit/test_step.py",
    "packing/test_fit.py",
    "models/test_fetch.py",
    "media/test_fuzz.py",
    "publishing/test_report_folder.py",
    "models/test_arriving.py",
    "media/test_video.py",
    "embedded/test_clip.py",
    "generation/test_generate.py",
    "diffusion/lora/test_scale.py",
    "cli/test_commands.py",
    "publishing/test_contents.py",
    "core/process/test_guard.py",
    "defs/test_publishing.py",
    "test_bad_characters.py",
    "defs/test_sensors.py",
    "benchmark/test_tracing.py",
    "test_damaged_caches.py",
    "defs/test_tagging.py",
    "core/test_images.py",
    "packing/test_verify.py",
    "tagging/test_curation.py",
    "core/process/test_output.py",
    "diffusion/lora/test_formats.py",
    "cli/test_send_pack.py",
    "cli/test_tracing.py",
)


def heed_signals() -> None:
    """Let SIGINT and SIGTERM end the processes that tests start, as in a terminal.

    A process in a shell's background, or a worker of pytest-xdist, ignores them, and so would its children.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def pytest_configure() -> None:
    heed_signals()


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: for a quarter of the time, tests wait for what they started."""
    return len(processors()) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow files and those that need a browser; begin with the slowest.

    Then the last worker ends sooner.
    """
    order = {REPOSITORY / "sticker_pipeline_tests" / file: place for place, file in enumerate(SLOW)}
    for item in items:
        if item.path in order:
            item.add_marker("slow")
        if item.path.parent.name == "ui":
            item.add_marker("ui")
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real characters and hostile files, beside the checkout.

    Tests that need it skip without it.
    """
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
