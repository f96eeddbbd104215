import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sticker_pipeline.core.process.threads import waiting_asleep
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.diffusion.base_model import BaseModelError
from sticker_pipeline.diffusion.denoise import starting_noise
from sticker_pipeline.diffusion.lora.file import Adapter, LoraError, LoraFile, write_lora
from sticker_pipeline.diffusion.lora.key_map import adaptable_modules
from sticker_pipeline.diffusion.samplers import SCHEDULERS, make_scheduler
from sticker_pipeline.generation.generate import (
    GenerationError,
    Model,
    generate,
    open_pipeline,
    with_lora,
    with_loras,
    without_loras,
)
from sticker_pipeline.generation.prompts import PromptError, Request
from sticker_pipeline_tests.tiny_models import build_tiny_sdxl

REQUESTS = [
    Request("sticker", "x, sticker, smile", 11),
    Request("sticker", "x, sticker, waving", 12),
    Request("art", "x, art, a much longer prompt, long hair", 11),
    Request("art", "x, art", 14),
    Request("art", "x, art", 15),
]


@pytest.fixture
def pipeline(tiny_profile: Profile) -> Any:
    return open_pipeline(tiny_profile)


def images(model: Any, requests: Sequence[Request], **changes: Any) -> list[np.ndarray]:
    """Of a Model, or of a pipeline as it is."""
    model = model if isinstance(model, Model) else without_loras(model)
    settings = GenerationSettings(steps=4, **{"guidance_scale": 4.0, "batch_size": 4, **changes})
    return [np.asarray(image) for image in generate(model, requests, settings, 32)]


def distance(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> int:
    return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_batch_size_and_order_do_not_change_an_image(pipeline: Any, scheduler: str) -> None:
    pipeline.scheduler = make_scheduler(scheduler, pipeline.scheduler.config)
    batched = images(pipeline, REQUESTS)
    assert [image.shape for image in batched] == [(32, 32, 3)] * 5
    assert distance(batched, images(pipeline, REQUESTS, batch_size=1)) <= 2
    assert distance(batched[::-1], images(pipeline, REQUESTS[::-1], batch_size=2)) <= 2
    assert distance(batched, images(pipeline, REQUESTS)) == 0


@pytest.mark.parametrize("guidance_scale", [4.0, 1.0])
def test_a_large_batch_is_drawn_in_two_parts_side_by_side(
    pipeline: Any, guidance_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 17 if guidance_scale > 1 else 33
    requests = [Request("art", f"smile {number}", number) for number in range(count)]
    changes = {"guidance_scale": guidance_scale, "batch_size": count}
    sizes: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    at_once = images(pipeline, requests, **changes)
    assert sorted(sizes) == [16] * 4 + [18 if guidance_scale > 1 else 17] * 4
    monkeypatch.setattr("sticker_pipeline.diffusion.streams.STREAMS", 1)
    sizes.clear()
    assert distance(at_once, images(pipeline, requests, **changes)) <= 2
    assert len(sizes) == 4


def test_seed_and_prompt_each_change_the_image(pipeline: Any) -> None:
    base, seed, prompt = images(
        pipeline, [Request("art", "smile", 1), Request("art", "smile", 2), Request("art", "crying, blue dress", 1)]
    )
    assert distance([base], [seed]) > 20
    assert distance([base], [prompt]) > 0


def test_starting_noise_is_standard_normal_and_independent_of_global_state() -> None:
    def noise_of(seed: int) -> torch.Tensor:
        return starting_noise(torch.Generator().manual_seed(seed), (4, 64, 64))

    noise = noise_of(5)
    torch.manual_seed(1)
    assert torch.equal(noise, noise_of(5))
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
    assert not torch.equal(noise, noise_of(6))


def test_without_guidance_the_negative_prompt_is_not_read_and_each_step_is_one_call(pipeline: Any) -> None:
    pipeline.scheduler = make_scheduler("lcm", pipeline.scheduler.config)
    sizes: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    plain = images(pipeline, REQUESTS[:3], guidance_scale=1.0)
    assert sizes == [3] * 4  # steps
    assert distance(plain, images(pipeline, REQUESTS[:3], guidance_scale=1.0, negative_prompt="angry")) == 0
    assert distance(plain, images(pipeline, REQUESTS[:3], guidance_scale=1.0, batch_size=1)) <= 2


def test_lcm_adds_noise_that_is_not_the_starting_noise_again(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = pipeline.scheduler = make_scheduler("lcm", pipeline.scheduler.config)
    generators: list[Any] = []
    original = scheduler.step

    def noted(*arguments: Any, generator: Any, **rest: Any) -> Any:
        generators.append([one.get_state().clone() for one in generator])
        return original(*arguments, generator=generator, **rest)

    monkeypatch.setattr(scheduler, "step", noted)
    images(pipeline, REQUESTS[:1], guidance_scale=1.0)
    fresh = torch.Generator().manual_seed(REQUESTS[0].seed).get_state()
    states = [fresh, *(one[0] for one in generators)]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(states))


def test_the_scheduler_keeps_the_prediction_type_of_the_base_model(tiny_profile: Profile) -> None:
    for name, (class_name, _) in SCHEDULERS.items():
        settings = tiny_profile.generation.model_copy(update={"scheduler": name})
        scheduler = open_pipeline(tiny_profile.model_copy(update={"generation": settings})).scheduler
        assert type(scheduler).__name__ == class_name
        assert scheduler.config.prediction_type == "v_prediction"
        assert scheduler.config.beta_schedule == "scaled_linear"


def test_progress_counts_images(pipeline: Any) -> None:
    seen: list[tuple[int, int]] = []
    settings = GenerationSettings(steps=1, batch_size=2)
    list(generate(without_loras(pipeline), REQUESTS, settings, 32, lambda done, total: seen.append((done, total))))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_a_prompt_that_would_be_cut_is_refused_before_any_work(pipeline: Any) -> None:
    fits, model = "smile " * 225, without_loras(pipeline)
    assert len(images(pipeline, [Request("art", fits, 0)])) == 1
    with pytest.raises(PromptError, match="226 tokens, and 225 are read"):
        generate(model, [Request("art", "smile", 0), Request("art", fits + "smile", 0)], GenerationSettings(), 32)


def test_a_resolution_off_the_grid_is_refused(pipeline: Any) -> None:
    with pytest.raises(ValueError, match="resolution 33"):
        generate(without_loras(pipeline), REQUESTS, GenerationSettings(), 33)


def test_a_missing_base_model_is_named(tiny_profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"nowhere/model_index.json is missing"):
        open_pipeline(tiny_profile.model_copy(update={"base": tmp_path / "nowhere"}))


def test_a_missing_tokenizer_is_refused(tiny_profile: Profile, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_profile.base, base)
    (base / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(BaseModelError, match="does not fit the text encoder"):
        open_pipeline(tiny_profile.model_copy(update={"base": base}))


def test_a_lora_changes_images_and_leaves_no_trace(pipeline: Any, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    modules = adaptable_modules(pipeline.unet, (pipeline.text_encoder,))
    write_lora(path, LoraFile({key: random_adapter(module.weight) for key, module in modules.items()}), "float32")
    before = images(pipeline, REQUESTS)
    with with_lora(pipeline, path):
        full = images(pipeline, REQUESTS)
    with with_lora(pipeline, path, strength=0.5):
        half = images(pipeline, REQUESTS)
    assert distance(before, full) > 10
    assert distance(before, half) > 0 and distance(half, full) > 0
    assert distance(before, images(pipeline, REQUESTS)) == 0


def test_pixels_that_are_no_numbers_are_no_image(pipeline: Any, tmp_path: Path) -> None:
    """Weights that are finite, and overflow where they are used: such images would be black."""
    key, layer = next(iter(adaptable_modules(pipeline.unet, (pipeline.text_encoder,)).items()))
    out, into, *kernel = layer.weight.shape
    adapter = Adapter(torch.full((1, into, *kernel), 1e30), torch.ones(out, 1, *(1 for _ in kernel)), 1.0)
    write_lora(tmp_path / "lora", LoraFile({key: adapter}), "float32")
    before = images(pipeline, REQUESTS)
    with pytest.raises(GenerationError, match="not finite"), with_lora(pipeline, tmp_path / "lora"):
        images(pipeline, REQUESTS)
    assert distance(before, images(pipeline, REQUESTS)) == 0


def test_several_loras_add_up_and_leave_no_trace(pipeline: Any, tmp_path: Path) -> None:
    modules = adaptable_modules(pipeline.unet, (pipeline.text_encoder,))
    key, layer = next(iter(modules.items()))
    paths = [tmp_path / f"{number}.safetensors" for number in range(2)]
    ones = (1,) * (layer.weight.ndim - 2)
    for path in paths:
        adapter = Adapter(torch.ones(1, *layer.weight.shape[1:]), torch.ones(len(layer.weight), 1, *ones), 1.0)
        write_lora(path, LoraFile({key: adapter}), "float32")
    original = layer.weight.detach().clone()
    with with_loras(pipeline, [(paths[0], 0.5), (paths[1], 0.25)]):
        torch.testing.assert_close(layer.weight - original, torch.full_like(original, 0.75))
    assert layer.weight.equal(original)
    with with_loras(pipeline, []):
        assert layer.weight.equal(original)
    with pytest.raises(LoraError, match="no such file"), with_loras(pipeline, [(paths[0], 1.0), (tmp_path / "x", 1.0)]):
        pass
    assert layer.weight.equal(original)


def test_a_profile_of_sdxl_draws_by_prompt_and_seed(tiny_profile: Profile, tmp_path: Path) -> None:
    base = build_tiny_sdxl(tmp_path / "base")
    pipeline = open_pipeline(tiny_profile.model_copy(update={"base": base, "family": "sdxl"}))
    first, again = images(pipeline, REQUESTS), images(pipeline, REQUESTS)
    assert len(first) == len(REQUESTS) and first[0].shape == (32, 32, 3)
    assert distance(first, again) == 0
    assert distance(first[:1], first[1:2]) > 0


@pytest.mark.parametrize(("upcast", "dtype"), [(True, torch.float32), (False, torch.float16)])
def test_on_a_gpu_the_vae_of_sdxl_is_in_half_precision_only_where_it_says_that_it_bears_it(
    tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upcast: bool, dtype: torch.dtype
) -> None:
    """As if there were a GPU; nothing is moved to it."""
    from diffusers import StableDiffusionXLPipeline

    base = build_tiny_sdxl(tmp_path / "base")
    config = json.loads((base / "vae" / "config.json").read_text())
    (base / "vae" / "config.json").write_text(json.dumps({**config, "force_upcast": upcast}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(StableDiffusionXLPipeline, "to", lambda pipeline, device: pipeline)
    pipeline = open_pipeline(tiny_profile.model_copy(update={"base": base, "family": "sdxl"}))
    assert (pipeline.unet.dtype, pipeline.vae.dtype) == (torch.float16, dtype)


def test_a_lora_of_others_changes_every_part_of_sdxl(tmp_path: Path) -> None:
    """In diffusers' own layout, which is not the one that we write."""
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(build_tiny_sdxl(tmp_path / "base"), local_files_only=True)
    names = {
        "unet": "mid_block.attentions.0.proj_in",
        "text_encoder": "encoder.layers.1.mlp.fc1",
        "text_encoder_2": "text_model.encoder.layers.1.mlp.fc1",
    }
    weights = {part: getattr(pipeline, part).get_submodule(name).weight for part, name in names.items()}
    before = {part: weight.detach().clone() for part, weight in weights.items()}
    tensors = {}
    for part, name in names.items():
        out, into = weights[part].shape
        tensors |= {
            f"{part}.{name}.lora_A.weight": torch.ones(1, into),
            f"{part}.{name}.lora_B.weight": torch.ones(out, 1),
        }
    save_file(tensors, tmp_path / "lora.safetensors")
    with with_lora(pipeline, tmp_path / "lora.safetensors", strength=0.5):
        for part, weight in weights.items():
            torch.testing.assert_close(weight - before[part], torch.full_like(weight, 0.5))
    assert all(weight.equal(before[part]) for part, weight in weights.items())


def test_the_lora_is_taken_off_when_generation_fails(pipeline: Any, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    key, layer = next(iter(adaptable_modules(pipeline.unet, (pipeline.text_encoder,)).items()))
    write_lora(path, LoraFile({key: random_adapter(layer.weight)}), "float32")
    original = layer.weight.detach().clone()
    with pytest.raises(PromptError), with_lora(pipeline, path):
        assert not layer.weight.equal(original)
        images(pipeline, [Request("art", "smile " * 226, 0)])
    assert layer.weight.equal(original)


def random_adapter(weight: Any) -> Adapter:
    generator = torch.Generator().manual_seed(weight.shape[0])
    down = torch.randn(2, *weight.shape[1:], generator=generator)
    up = torch.randn(weight.shape[0], 2, *(1 for _ in weight.shape[2:]), generator=generator)
    return Adapter(down * 0.3, up * 0.3, 2.0)


def test_a_busy_machine_does_not_change_an_image(pipeline: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = images(pipeline, REQUESTS)
        with waiting_asleep(2, 2):
            shared = images(pipeline, REQUESTS)
    finally:
        torch.set_num_threads(before)
    assert distance(alone, shared) == 0
