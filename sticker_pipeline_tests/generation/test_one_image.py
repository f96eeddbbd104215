"""A training's sample equals the image that generation makes with its LoRA, for any kind of training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.generation.generate import generate, open_pipeline, with_lora, without_loras
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline, build_tiny_sdxl
from sticker_pipeline_tests.training.conftest import make_spec as make_spec

PROMPTS = [
    "nova_tag, sticker, smile",
    "(nova_tag:1.4), (smile, blue dress:0.6), star (art)",
    "nova_tag, " + ", ".join(["long hair, red dress"] * 30),  # two chunks
]
WEIGHTED, LONG = "angry, (crying:1.3)", "angry " * 80
STRONG = {"learning_rate_unet": 0.02, "learning_rate_text_encoder": 0.02, "warmup_fraction": 0.0, "epochs": 1}
# One row each: settings that decide how a LoRA is drawn, in pairs that cover each with each sampler and base.
CASES = [
    ("v_prediction", {}, "euler", 4.0, ""),
    ("v_prediction", {"clip_skip": 2}, "dpmsolver++", 4.0, WEIGHTED),
    ("v_prediction", {"zero_terminal_snr": True}, "ddim", 4.0, LONG),
    ("v_prediction", {"zero_terminal_snr": True, "clip_skip": 3}, "euler", 4.0, ""),
    ("v_prediction", {"prediction": "epsilon"}, "dpmsolver++", 1.0, WEIGHTED),
    ("v_prediction", {"clip_skip": 2}, "lcm", 1.0, LONG),
    ("epsilon", {}, "ddim", 4.0, ""),
    ("epsilon", {"clip_skip": 2, "prediction": "v_prediction"}, "dpmsolver++", 4.0, WEIGHTED),
    ("epsilon", {"prediction": "v_prediction", "zero_terminal_snr": True}, "lcm", 1.0, LONG),
]


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By what they predict; text encoders of three layers."""
    folder = tmp_path_factory.mktemp("bases")
    return {
        prediction: build_tiny_pipeline(folder / prediction, text_layers=3, prediction=prediction)
        for prediction in ("epsilon", "v_prediction")
    }


def compared(spec: TrainingSpec, profile: Profile) -> tuple[list[float], list[float]]:
    """Train; mean differences (of 255) of each sample from what generation draws with the LoRA, and with none."""
    checkpoint = train(spec, Progress(lambda line: None))
    samples = [spec.output / "samples" / f"epoch_01_{number}.png" for number in range(len(spec.sample_prompts))]
    pipeline = open_pipeline(profile.model_copy(update={"base": spec.base, "family": spec.family}))
    requests = [Request("art", text, spec.sample_seed + number) for number, text in enumerate(spec.sample_prompts)]
    with with_lora(pipeline, checkpoint) as model:
        drawn = list(generate(model, requests, spec.generation, spec.resolution))
    bare = list(generate(without_loras(pipeline), requests, spec.generation, spec.resolution))
    return (
        [_difference(Image.open(path), one) for path, one in zip(samples, drawn, strict=True)],
        [_difference(Image.open(path), one) for path, one in zip(samples, bare, strict=True)],
    )


def _difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one).astype(float) - np.asarray(other)).mean())


@pytest.mark.parametrize(("base", "settings", "scheduler", "guidance", "negative"), CASES)
def test_a_sample_of_the_training_is_what_generation_draws(
    make_spec: Any,
    bases: dict[str, Path],
    tiny_profile: Profile,
    base: str,
    settings: dict[str, Any],
    scheduler: str,
    guidance: float,
    negative: str,
) -> None:
    profile = with_sampler(tiny_profile, scheduler, guidance, negative)
    spec = make_spec(
        base=bases[base], settings=STRONG | settings, sample_prompts=PROMPTS, generation=profile.generation.model_dump()
    )
    with_lora_on, bare = compared(spec, profile)
    assert max(with_lora_on) < 1  # a checkpoint holds float16
    assert min(bare) > 3


def test_the_same_of_sdxl(make_spec: Any, tiny_profile: Profile, tmp_path: Path) -> None:
    profile = with_sampler(tiny_profile, "euler", 4.0, WEIGHTED)
    spec = make_spec(
        base=build_tiny_sdxl(tmp_path / "base"),
        family="sdxl",
        settings=STRONG,
        sample_prompts=PROMPTS,
        generation=profile.generation.model_dump(),
    )
    with_lora_on, bare = compared(spec, profile)
    assert max(with_lora_on) < 1
    assert min(bare) > 3


def with_sampler(profile: Profile, scheduler: str, guidance: float, negative: str) -> Profile:
    changes = {"scheduler": scheduler, "guidance_scale": guidance, "negative_prompt": negative, "steps": 3}
    return profile.model_copy(update={"generation": profile.generation.model_copy(update=changes)})
