from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._C._profiler import _EventType
from torch.profiler import profile

from sticker_pipeline.core.optimizer_table import OPTIMIZERS
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.training.memory import plan as memory
from sticker_pipeline.training.memory.dry_run import (
    BLOCK,
    GIB,
    RESERVE,
    DryRun,
    Parts,
    Workload,
    dry_run,
    folder_parts,
    peak_bytes,
    state_bytes,
    tensors_of,
    tile_vae,
    true_parts,
)
from sticker_pipeline.training.memory.plan import decide
from sticker_pipeline.training.optimizers import make_optimizer, optimizer_state
from sticker_pipeline.training.spec import SpecError
from sticker_pipeline_tests.training.plain_adapters import plain_adapters


def test_the_peak_of_a_step_by_hand() -> None:
    resident = torch.zeros(1000)  # 4,000 bytes, in 8 blocks

    def step() -> None:
        first = resident + 1
        view = first.view(10, 100)[:, 3:]  # shares the memory of the first
        del first
        second = view * 2  # 3,880 bytes, in 8 blocks
        del view
        resident.mul_(second.sum())  # one block for the sum; the rest is in place
        torch.zeros(1)

    assert peak_bytes(step, [resident, resident[3:]]) == (8 * BLOCK, 16 * BLOCK)


def workload(parts: Parts, *, text: bool = False, **settings: Any) -> Workload:
    rate = 1e-5 if text else 0.0
    chosen = TrainingSettings(rank=4, learning_rate_text_encoder=rate, max_tokens=150, **settings)
    adapt = plain_adapters(4, text_encoders=text)
    return Workload(parts, "sd15", chosen, adapt, 96, 64, torch.float32, sample_batch=3)


def real(work: Workload) -> DryRun:
    """The same as a dry run over true tensors."""
    unet, vae, *encoders = (make() for make in (work.parts.unet, work.parts.vae, *work.parts.text_encoders))
    for model in (unet, vae, *encoders):
        model.requires_grad_(False)
        model.eval()
    work.adapt(unet, encoders)
    return DryRun(work, nullcontext(), unet, vae, tuple(encoders))


@pytest.mark.parametrize("text", [False, True])
def test_fakes_take_what_the_real_models_take(tiny_base: Path, text: bool) -> None:
    work = workload(folder_parts(tiny_base, "sd15"), text=text)
    dry, true = dry_run(work), real(work)
    assert dry.train(False) == true.train(False)
    assert dry.train(True) == true.train(True) < dry.train(False)
    assert dry.sample(3) == true.sample(3) > true.sample(1)
    assert dry.encode() == true.encode()
    assert dry.decode(1) == true.decode(1) > dry.decode(2) == true.decode(2) > dry.decode(4)
    assert dry.idle() == true.idle()


def allocated(step: Any) -> int:
    """The most that PyTorch's allocator held during `step`, by its own profiler."""
    with profile(profile_memory=True) as profiled:
        step()
    changes = []

    def walk(events: Any) -> None:
        for event in events:
            if event.tag == _EventType.Allocation:
                changes.append((event.start_time_ns, event.extra_fields.alloc_size))
            walk(event.children)

    walk(profiled.profiler.kineto_results.experimental_event_tree())
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def test_what_is_counted_is_what_is_allocated(tiny_base: Path) -> None:
    run = real(workload(folder_parts(tiny_base, "sd15")))
    _, counted = peak_bytes(run.training_step, tensors_of(run.unet))
    assert counted == pytest.approx(allocated(run.training_step), rel=0.02)


def test_averages_are_there(tiny_base: Path) -> None:
    parts = folder_parts(tiny_base, "sd15")
    plain, averaged = dry_run(workload(parts)), dry_run(workload(parts, ema_decay=0.9))
    adapters = sum(parameter.nbytes for parameter in plain.trained)
    assert averaged.train(True) - plain.train(True) == adapters
    assert averaged.sample(1) - plain.sample(1) == 2 * adapters  # and the weights that the average replaces


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_optimizers_keep(name: Any) -> None:
    pytest.importorskip(OPTIMIZERS[name].package)
    settings = TrainingSettings(optimizer=name, learning_rate_unet=1.0, learning_rate_text_encoder=0.0)
    for shape in ((16, 320), (320, 16, 1, 1), (70,)):
        weight = torch.nn.Parameter(torch.ones(shape))
        optimizer = make_optimizer(settings, [{"name": "unet", "params": [weight], "peak": 1.0}])
        weight.grad = torch.ones(shape)
        optimizer.step()
        tensors, _ = optimizer_state(optimizer)
        kept = sum(t.nbytes for key, t in tensors.items() if t.dim() > 0 and "qmap" not in key)  # one map for all
        assert kept == state_bytes(name, weight)


class Measured:
    """A dry run that found round numbers: with nothing idle, training takes 60, or 40 with checkpointing, …"""

    work = workload(Parts(lambda: None, lambda: None, ()))

    def encode(self) -> int:
        return 20

    def train(self, checkpointing: bool) -> int:
        return 40 if checkpointing else 60

    def sample(self, batch: int) -> int:
        return 30 + 10 * batch

    def decode(self, tiles: int) -> int:
        return {1: 50, 2: 38, 4: 35}[tiles]

    def idle(self) -> dict[str, int]:
        return {"encode": 60, "train": 15, "sample": 15, "decode": 5}


@pytest.mark.parametrize(
    ("budget", "phasing", "checkpointing", "tiles", "batch", "peaks"),
    [
        (100, False, False, 1, 3, (80, 75, 75, 55)),
        (80, False, False, 1, 3, (80, 75, 75, 55)),
        (79, True, False, 1, 3, (20, 60, 60, 50)),  # the VAE has the GPU to itself
        (60, True, False, 1, 3, (20, 60, 60, 50)),
        (59, True, True, 1, 1, (20, 40, 40, 50)),
        (49, True, True, 2, 1, (20, 40, 40, 38)),
        (40, True, True, 2, 1, (20, 40, 40, 38)),
    ],
)
def test_the_first_plan_that_fits(
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
    phasing: bool,
    checkpointing: bool,
    tiles: int,
    batch: int,
    peaks: tuple[int, ...],
) -> None:
    monkeypatch.setattr(memory, "dry_run", lambda work: Measured())
    plan = decide(budget, Measured.work)
    assert (plan.phasing, plan.gradient_checkpointing, plan.tiles, plan.sample_batch) == (
        phasing,
        checkpointing,
        tiles,
        batch,
    )
    assert tuple(plan.peak_bytes[phase] for phase in ("encode", "train", "sample", "decode")) == peaks


def test_what_was_counted_is_not_counted_again(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, kept = workload(folder_parts(tiny_base, "sd15")), tmp_path / "cache" / "counted.json"
    first = decide(GIB + RESERVE, work, kept)
    monkeypatch.delattr(memory, "dry_run")
    assert decide(GIB + RESERVE, work, kept) == first


def test_a_budget_that_nothing_fits(tiny_base: Path) -> None:
    work = workload(folder_parts(tiny_base, "sd15"), text=True, batch_size=3)
    with pytest.raises(SpecError) as caught:
        decide(GIB // 10, work)
    said = str(caught.value)
    assert said.startswith("settings.memory_budget: 0.10 GiB are too little;")
    needed = float(said.split("needs ")[1].split(" GiB")[0])
    assert decide(int(needed * GIB), work).most <= needed * GIB  # what it asks for is enough
    with pytest.raises(SpecError):
        decide(int((needed - 0.01) * GIB), work)
    for choice in ("the resolution (96 × 64)", "rank (4)", "learning_rate_text_encoder", "adamw8bit"):
        assert choice in said


def test_tiles_change_where_an_image_is_decoded_and_not_its_size(tiny_base: Path) -> None:
    vae = folder_parts(tiny_base, "sd15").vae()
    tile_vae(vae, 96, 64, 2)
    assert (vae.tile_latent_min_size, vae.tile_sample_min_size) == (12, 48)  # 4 px for each latent
    assert vae.decode(torch.randn(1, 4, 16, 24)).sample.shape == (1, 3, 64, 96)


def test_sd15_at_512_px_within_4_gib() -> None:
    """The true architecture, adapters of rank 16 in half precision: 860 M frozen weights take 1.6 GiB of it."""
    settings = TrainingSettings(rank=16, learning_rate_text_encoder=0.0)
    adapt = plain_adapters(16)
    work = Workload(true_parts("sd15"), "sd15", settings, adapt, 512, 512, torch.float16)
    plan = decide(4 * GIB, work)
    assert plan.most <= 4 * GIB and plan.phasing and not plan.gradient_checkpointing
    frozen = 859_520_964 * 2  # U-Net
    assert all(plan.peak_bytes[phase] > frozen + RESERVE for phase in ("train", "sample", "decode"))
