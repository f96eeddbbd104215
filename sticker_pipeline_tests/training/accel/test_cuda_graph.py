"""Recorded and replayed steps: which and when, with a stand-in; on a GPU, the real graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from sticker_pipeline.diffusion.lora.file import read_lora
from sticker_pipeline.training.accel import cuda_graph
from sticker_pipeline.training.accel.cuda_graph import MOST, Recording, Recordings, forget, recorded
from sticker_pipeline.training.accel.fused_lora import fuse
from sticker_pipeline.training.backward import Inputs, in_use, unet_backward
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.models import checkpoint_gradients
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.training.conftest import SpecMaker
from sticker_pipeline_tests.training.test_backward import adapted, batch


def on_gpu(test: Any) -> Any:
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")(test))


class Again:
    """Stands for a graph: computes anew from the recording's own inputs into its own results."""

    def __init__(self, compute: Callable[[], None]) -> None:
        self.replay = compute


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Recordings need no GPU; what was recorded, by its shape."""
    shapes: list[Any] = []

    def record(backward: Any, inputs: Inputs, others: Recordings) -> Recording:
        own = {name: tensor.clone() for name, tensor in inputs.items()}
        errors, gradient = torch.zeros(len(inputs["x"])), torch.zeros_like(own["x"])

        def compute() -> None:
            found, (of_x,) = backward(own)
            errors.copy_(found)
            gradient.copy_(of_x)

        shapes.append(tuple(inputs["x"].shape))
        return Recording(Again(compute), own, errors, (gradient,))  # type: ignore[arg-type]

    monkeypatch.setattr(cuda_graph, "_record", record)
    return shapes


def squares(inputs: Inputs) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    return inputs["x"].square().sum(dim=1), (2 * inputs["x"],)


def test_each_shape_is_recorded_at_its_second_batch(made: list[Any]) -> None:
    recordings: Recordings = {}
    step = recorded(squares, recordings)
    kept = []
    for rows, value in ((1, 1.0), (1, 2.0), (2, 3.0), (2, 4.0), (1, 5.0), (1, 6.0)):
        errors, (gradient,) = step({"x": torch.full((rows, 3), value)})
        assert errors.tolist() == [3 * value**2] * rows
        kept.append((gradient, value))
    assert all(gradient.unique().tolist() == [2 * value] for gradient, value in kept)  # later ones do not overwrite it
    # The first batch of a new shape is not recorded, and takes the memory of those that are.
    assert made == [(1, 3), (2, 3), (1, 3)]
    assert len(recordings) == 2


def test_what_was_forgotten_is_recorded_again(made: list[Any]) -> None:
    recordings: Recordings = {}
    step = recorded(squares, recordings)
    for _ in range(2):
        step({"x": torch.ones(1, 3)})
    forget(recordings)
    assert not recordings
    assert step({"x": torch.full((1, 3), 2.0)})[0].tolist() == [12.0]
    assert made == [(1, 3), (1, 3)]


def test_so_many_are_kept(made: list[Any]) -> None:
    recordings: Recordings = {}
    step = recorded(squares, recordings)
    for _ in range(2):
        for rows in range(1, MOST + 2):
            step({"x": torch.ones(rows, 3)})
    assert len(recordings) == MOST
    assert made[:2] == [(1, 3), (2, 3)] and len(made) == MOST + 1


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_replayed_gradients_are_those_of_eager_steps(tiny_base: Path, dtype: torch.dtype, checkpointing: bool) -> None:
    models, _, weights = adapted(tiny_base, dtype, "cuda")
    assert fuse(models.unet) > 0
    if checkpointing:
        checkpoint_gradients(models.unet)
    plain = unet_backward(models.unet, weights, lambda loss: loss)
    recordings: Recordings = {}
    replayed = recorded(plain, recordings)
    for number in range(8):
        inputs = {name: tensor.cuda() for name, tensor in batch(dtype, number, images=1 + number % 2).items()}
        inputs["encoder_hidden_states"].requires_grad_()
        if number == 6:
            forget(recordings)
        results = []
        for step in (plain, replayed):
            weights.gradient.zero_()
            with in_use(weights):
                errors, (of_text,) = step(inputs)
            results.append((errors, of_text, weights.gradient.clone()))
        for expected, found in zip(*results, strict=True):
            assert torch.allclose(found.float(), expected.float(), rtol=1e-2, atol=1e-4)
        with torch.no_grad():
            for one in weights.learned:
                one.add_(0.01)
    assert len(recordings) == 2


@on_gpu
@pytest.mark.parametrize("changes", [{}, {"dora": True}, {"precision": "float16"}, {"gradient_accumulation": 2}])
def test_trainings_on_the_gpu_learn_what_the_cpu_learns(
    make_spec: SpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    settings = {"epochs": 3, "samples_per_epoch": 12, "cycles": 1, **changes}
    quiet = Progress(lambda line: None)
    spec = make_spec(settings=settings, sample_prompts=["nova_tag"], save_precision="float32")
    AcceleratorState._reset_state(reset_partial_state=True)  # it remembers devices and precisions
    graphed = read_lora(train(spec, quiet)).adapters
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plain = make_spec(settings={**settings, "precision": "float32"}, output=tmp_path / "cpu", save_precision="float32")
    for key, adapter in read_lora(train(plain, quiet)).adapters.items():
        if adapter.up.norm() > 0:
            found = graphed[key].up
            assert torch.nn.functional.cosine_similarity(found.flatten(), adapter.up.flatten(), dim=0) > 0.9, key
