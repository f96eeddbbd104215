"""A distillation learns, resumes after a kill or stop, and leaves a LoRA file."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

import sticker_pipeline.training.distill.images as images
import sticker_pipeline.training.distill.train as module
from sticker_pipeline.core.process.threads import processors, waiting_asleep
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.diffusion.lora.apply import apply_lora
from sticker_pipeline.diffusion.lora.file import Adapter, LoraFile, read_lora, write_lora
from sticker_pipeline.diffusion.lora.key_map import adaptable_modules
from sticker_pipeline.training.adapters import adapters_of
from sticker_pipeline.training.distill.state import fingerprint
from sticker_pipeline.training.distill.step import plain, sample_batch, unet_prediction
from sticker_pipeline.training.distill.train import distil, set_up
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.models import load_models
from sticker_pipeline.training.spec import SpecError
from sticker_pipeline.training.stopping import Interrupted
from sticker_pipeline_tests.damage import flip
from sticker_pipeline_tests.tiny_models import build_tiny_sdxl
from sticker_pipeline_tests.training.distill.conftest import ConsistencySpecMaker

QUIET = Progress(lambda line: None)


class Killed(BaseException):
    """Stands for SIGKILL inside this process: nothing may catch it."""


def test_the_loss_falls(make_consistency_spec: ConsistencySpecMaker) -> None:
    """Steps over all noise levels at once: real steps change this loss by about as little as its noise."""
    spec = make_consistency_spec(settings={"steps": 40, "batch_size": 4, "learning_rate": 1e-2, "skip": 1000})
    distil(spec, QUIET)
    loss = pd.read_parquet(spec.output / "log.parquet")["loss"]
    assert len(loss) == 40
    assert loss.tail(10).mean() < 0.8 * loss.head(10).mean()


def test_the_file_says_how_it_is_used(make_consistency_spec: ConsistencySpecMaker) -> None:
    path = distil(make_consistency_spec(), QUIET)
    lora = read_lora(path)
    assert {adapter.rank for adapter in lora.adapters.values()} == {4}
    assert all(key.startswith("lora_unet_") for key in lora.adapters)
    assert any("resnets" in key for key in lora.adapters)
    assert "LCM sampler" in lora.metadata["modelspec.usage_hint"]
    assert lora.metadata["modelspec.prediction_type"] == "v"


def test_sdxl_is_distilled_too(make_consistency_spec: ConsistencySpecMaker, tmp_path: Path) -> None:
    base = build_tiny_sdxl(tmp_path / "sdxl")
    spec = make_consistency_spec(base=base, family="sdxl", settings={"steps": 2})
    assert read_lora(distil(spec, QUIET), "sdxl").metadata["modelspec.prediction_type"] == "epsilon"


def test_the_teacher_is_the_base_model(make_consistency_spec: ConsistencySpecMaker) -> None:
    spec = make_consistency_spec()
    run = set_up(spec, QUIET, lambda: None)
    drawn = sample_batch(run, 0)
    base = load_models(spec.base, "sd15", torch.float32, prediction="base", zero_terminal_snr=False).unet
    with torch.no_grad():
        text = drawn.prompted["encoder_hidden_states"]
        wanted = base(drawn.noisy, drawn.timesteps, text, return_dict=False)[0]
        for weight in run.weights.learned:
            weight += 0.1
        with plain(run.layers):
            teacher = unet_prediction(run, drawn.noisy, drawn.timesteps, drawn.prompted)
        student = unet_prediction(run, drawn.noisy, drawn.timesteps, drawn.prompted)
    torch.testing.assert_close(teacher, wanted, atol=1e-4, rtol=1e-4)
    assert (student - wanted).abs().max() > 0.01
    assert all(weight.requires_grad for weight in run.weights.learned)


def killed_at(spec: Any, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = module.distillation_step

    def dying(run: Any) -> Any:
        if len(run.log) == step:
            raise Killed
        return original(run)

    with monkeypatch.context() as patched:
        patched.setattr(module, "distillation_step", dying)
        with pytest.raises(Killed):
            distil(spec, QUIET)


def test_killed_twice_it_ends_as_one_that_was_not(
    make_consistency_spec: ConsistencySpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_consistency_spec(state_seconds=0)
    whole = distil(spec.model_copy(update={"output": tmp_path / "whole"}), QUIET)
    killed_at(spec, 2, monkeypatch)
    killed_at(spec, 5, monkeypatch)
    lines: list[str] = []
    monkeypatch.setattr(images, "_generated", lambda *_: pytest.fail("drawn again"))
    path = distil(spec, Progress(lines.append))
    assert any(line.startswith("goes on after step 5 of 6") for line in lines)
    assert file_sha256(path) == file_sha256(whole)


def test_a_distillation_with_a_flipped_bit_in_its_state_begins_anew(
    make_consistency_spec: ConsistencySpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_consistency_spec(state_seconds=0)
    whole = distil(spec.model_copy(update={"output": tmp_path / "whole"}), QUIET)
    killed_at(spec, 3, monkeypatch)
    (state,) = (spec.output / "state").iterdir()
    flip(state / "optimizer.safetensors", 5000)
    lines: list[str] = []
    path = distil(spec, Progress(lines.append))
    assert not any(line.startswith("goes on") for line in lines)
    assert path.read_bytes() == whole.read_bytes()


def test_it_goes_on_with_another_number_of_threads(
    make_consistency_spec: ConsistencySpecMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its LoRA has convolutions of 1×1, for which PyTorch has another kernel with one thread."""
    spec = make_consistency_spec(state_seconds=0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with waiting_asleep(2, len(processors())):  # other tests run meanwhile
            whole = distil(spec.model_copy(update={"output": tmp_path / "whole"}), QUIET)
            killed_at(spec, 2, monkeypatch)
            torch.set_num_threads(1)
            path = distil(spec, QUIET)
    finally:
        torch.set_num_threads(before)
    assert file_sha256(path) == file_sha256(whole)


def test_stopped_while_images_are_drawn_and_later(make_consistency_spec: ConsistencySpecMaker, tmp_path: Path) -> None:
    spec = make_consistency_spec(settings={"steps": 3})
    whole = distil(spec.model_copy(update={"output": tmp_path / "whole"}), QUIET)
    lines: list[str] = []
    with pytest.raises(Interrupted, match="4 of 6 images ready"):
        distil(spec, Progress(lines.append), lambda: 15 if "images 0/6" in lines else None)
    lines.clear()
    with pytest.raises(Interrupted, match="1 of 3 steps") as stopped:
        distil(spec, Progress(lines.append), lambda: 15 if any("step 1/3" in line for line in lines) else None)
    assert stopped.value.exit_code == 143
    assert file_sha256(distil(spec, QUIET)) == file_sha256(whole)


def test_another_spec_begins_anew(make_consistency_spec: ConsistencySpecMaker) -> None:
    distil(make_consistency_spec(), QUIET)
    lines: list[str] = []
    distil(make_consistency_spec(settings={"skip": 40}), Progress(lines.append))
    assert not any("goes on" in line for line in lines)


@pytest.fixture
def tuning(tmp_path: Path, make_consistency_spec: ConsistencySpecMaker) -> dict[str, Any]:
    """Images of three colours, sampled unevenly, and two LoRAs.

    A LoRA of the character on one layer of U-Net and text encoder each; the LoRA to resume from.
    """
    frames = tmp_path / "frames"
    frames.mkdir()
    for name, colour in (("a", "red"), ("b", "green"), ("c", "blue")):
        Image.new("RGB", (40, 20), colour).save(frames / f"{name}.png")
    unet = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    models = load_models(
        make_consistency_spec().base, "sd15", torch.float32, prediction="base", zero_terminal_snr=False
    )
    modules = adaptable_modules(models.unet, models.text_encoders, family="sd15")
    text = next(key for key in modules if key.startswith("lora_te"))
    adapters = {}
    for key in (unet, text):
        out, into = modules[key].weight.shape
        adapters[key] = Adapter(torch.linspace(-1, 1, into)[None], torch.linspace(-1, 1, out)[:, None], 1.0)
    write_lora(tmp_path / "character.safetensors", LoraFile(adapters), "float32")
    start = distil(make_consistency_spec(output=tmp_path / "start"), QUIET)
    return {
        "start": start,
        "start_sha": "s",
        "lora": tmp_path / "character.safetensors",
        "lora_sha": "c",
        "frames": frames,
        "files": ["a.png", "b.png", "a.png", "c.png", "a.png", "b.png"],
    }


def test_it_goes_on_for_a_character(make_consistency_spec: ConsistencySpecMaker, tuning: dict[str, Any]) -> None:
    spec = make_consistency_spec(tuning=tuning)
    run = set_up(spec, QUIET, lambda: None)
    assert run.latents[0].equal(run.latents[2]) and not run.latents[0].equal(run.latents[1])
    started = read_lora(tuning["start"]).adapters
    for key, adapter in adapters_of(run.layers).items():
        torch.testing.assert_close(adapter.up, started[key].up.float())
    plain_run = set_up(make_consistency_spec(), QUIET, lambda: None)
    assert not torch.allclose(run.texts.hidden, plain_run.texts.hidden)  # the text encoder has the character's LoRA
    drawn = sample_batch(run, 0)
    base = load_models(spec.base, "sd15", torch.float32, prediction="base", zero_terminal_snr=False)
    text = drawn.prompted["encoder_hidden_states"]
    with torch.no_grad(), plain(run.layers):
        without = base.unet(drawn.noisy, drawn.timesteps, text, return_dict=False)[0]
        apply_lora(base.unet, base.text_encoders, read_lora(tuning["lora"]))
        wanted = base.unet(drawn.noisy, drawn.timesteps, text, return_dict=False)[0]
        teacher = unet_prediction(run, drawn.noisy, drawn.timesteps, drawn.prompted)
    torch.testing.assert_close(teacher, wanted, atol=1e-4, rtol=1e-4)
    assert (wanted - without).abs().max() > 1e-3
    lora = read_lora(distil(spec, QUIET))
    assert any(not lora.adapters[name].up.equal(started[name].up) for name in started)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {"rank": 2}}, "another rank, alpha or other targets"),
        ({"settings": {"alpha": 8.0}}, "another rank, alpha or other targets"),
        ({"base_sha": "cd34"}, "for another base model"),
    ],
)
def test_a_start_that_is_no_beginning_of_this_is_refused(
    make_consistency_spec: ConsistencySpecMaker, tuning: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=rf"tuning.start: .*{said}"):
        distil(make_consistency_spec(tuning=tuning, **changes), QUIET)


def test_what_changes_nothing_lets_a_distillation_go_on(make_consistency_spec: ConsistencySpecMaker) -> None:
    spec = make_consistency_spec()
    same = {"gradient_checkpointing": False, "measured_seeds": 9, "tuning": {"steps": 7}}
    assert fingerprint(spec) == fingerprint(make_consistency_spec(settings=same))
    assert fingerprint(spec) != fingerprint(make_consistency_spec(settings={"huber": 0.01}))


def test_an_image_that_cannot_be_read_is_named(
    make_consistency_spec: ConsistencySpecMaker, tuning: dict[str, Any]
) -> None:
    (tuning["frames"] / "c.png").write_bytes(b"no image")
    with pytest.raises(SpecError, match=r"c\.png"):
        distil(make_consistency_spec(tuning=tuning), QUIET)


def test_checkpointing_changes_nothing_but_memory(make_consistency_spec: ConsistencySpecMaker, tmp_path: Path) -> None:
    twice, kept = (
        read_lora(
            distil(make_consistency_spec(output=tmp_path / str(on), settings={"gradient_checkpointing": on}), QUIET)
        )
        for on in (True, False)
    )
    for key, adapter in kept.adapters.items():
        torch.testing.assert_close(twice.adapters[key].up, adapter.up, atol=1e-4, rtol=1e-2)
