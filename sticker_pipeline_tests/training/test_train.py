from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sticker_pipeline.storage import file_sha256
from sticker_pipeline.training.data import read_training_set
from sticker_pipeline.training.log import COLUMNS
from sticker_pipeline.training.lora_file import LoraError, read_lora
from sticker_pipeline.training.progress import Progress
from sticker_pipeline.training.schedule import recipe
from sticker_pipeline.training.spec import SpecError, load_spec
from sticker_pipeline.training.step import TrainingDiverged, training_step
from sticker_pipeline.training.stopping import Interrupted
from sticker_pipeline.training.train import set_up, stop_if_asked, train
from sticker_pipeline_tests.training.conftest import SpecMaker

QUIET = Progress(lambda line: None)
KEY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"


def test_a_whole_training(make_spec: SpecMaker) -> None:
    spec = make_spec(sample_prompts=["nova_tag, smile"])
    last = train(spec, QUIET)

    assert last == spec.output / "checkpoints" / "epoch_02.safetensors"
    assert sorted(path.relative_to(spec.output).as_posix() for path in spec.output.rglob("*.*")) == [
        "checkpoints/epoch_01.safetensors",
        "checkpoints/epoch_02.safetensors",
        "log.parquet",
        "samples/epoch_01_0.png",
        "samples/epoch_02_0.png",
        "spec.json",
    ]
    assert load_spec(spec.output / "spec.json") == spec
    log = pd.read_parquet(spec.output / "log.parquet")
    assert list(log.columns) == COLUMNS
    assert log["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert log["epoch"].tolist() == [1, 1, 1, 2, 2, 2]
    assert log["lr_unet"].tolist() == pytest.approx([1e-3 * recipe(6)(step) for step in range(6)])
    assert np.isfinite(log.to_numpy(dtype=float)).all() and (log["loss"] > 0).all()

    metadata = read_lora(last).metadata
    assert (metadata["ss_steps"], metadata["ss_epoch"]) == ("6", "2")
    assert metadata["modelspec.prediction_type"] == "v"


def test_a_constant_schedule_reaches_the_optimizer(make_spec: SpecMaker) -> None:
    spec = make_spec(settings={"schedule": "constant", "cycles": 1, "warmup_fraction": 0.4, "epochs": 1})
    train(spec, QUIET)
    log = pd.read_parquet(spec.output / "log.parquet")
    assert log["lr_unet"].tolist() == pytest.approx([0.0, 1e-3, 1e-3])  # 3 steps, of which round(1.2) warm up


def test_equal_specs_give_equal_bytes_whether_latents_are_cached_or_not(make_spec: SpecMaker, tmp_path: Path) -> None:
    settings = {"epochs": 1, "cycles": 1, "warmup_fraction": 0.0}
    first = train(make_spec(settings=settings), QUIET)
    second = train(make_spec(settings=settings, output=tmp_path / "again"), QUIET)  # finds its latents in the cache
    third = train(make_spec(settings=settings, output=tmp_path / "third", cache=tmp_path / "cache3"), QUIET)
    assert file_sha256(first) == file_sha256(second) == file_sha256(third)


def test_the_seed_decides_the_result(make_spec: SpecMaker, tmp_path: Path) -> None:
    settings = {"epochs": 1, "draws_per_epoch": 2, "cycles": 1, "warmup_fraction": 0.0}
    first = train(make_spec(settings=settings), QUIET)
    other = train(make_spec(output=tmp_path / "other", settings={**settings, "seed": 1}), QUIET)
    assert not torch.equal(load_file(first)[f"{KEY}.lora_up.weight"], load_file(other)[f"{KEY}.lora_up.weight"])


def test_the_base_model_stays_as_it_is_and_adapters_learn(make_spec: SpecMaker, tiny_base: Path) -> None:
    spec = make_spec(settings={"cycles": 1, "warmup_fraction": 0.0, "caption_dropout": 0.0})
    run = set_up(spec, read_training_set(spec), QUIET, lambda: None)
    for _ in range(3):
        run.log.append(training_step(run, run.epochs[0][0], 1))
    trainable = {
        name
        for model in (run.models.unet, run.models.text_encoder, run.models.vae)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert trainable and all("lora_A" in name or "lora_B" in name for name in trainable)
    for folder, model in (("unet", run.models.unet), ("text_encoder", run.models.text_encoder)):
        trained = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
        (file,) = (tiny_base / folder).glob("*.safetensors")
        for name, original in load_file(file).items():
            assert torch.equal(trained[name.removeprefix("text_model.")], original), name
    for key, layer in run.layers.items():
        assert layer.lora_B["default"].weight.abs().max() > 0, key


def test_loss_falls_on_what_is_seen_again_and_again(make_spec: SpecMaker) -> None:
    spec = make_spec(settings={"rank": 16, "alpha": 16.0, "cycles": 1, "warmup_fraction": 0.0})
    run = set_up(spec, read_training_set(spec), QUIET, lambda: None)
    # The log stays empty, so that each step is step 0: the same pictures, noise and noise levels at the peak rate.
    losses = [training_step(run, run.epochs[0][0], 1).loss for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_target_follows_the_scheduler_config(make_spec: SpecMaker, prediction_type: str) -> None:
    spec = make_spec()
    run = set_up(spec, read_training_set(spec), QUIET, lambda: None)
    run.models.scheduler.register_to_config(prediction_type=prediction_type)
    seen: dict[str, torch.Tensor] = {}

    def perfect(noisy: torch.Tensor, timesteps: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        """The true target by its definition, from the noise that the step drew (recorded below)."""
        signal = run.models.scheduler.alphas_cumprod[timesteps].sqrt()[:, None, None, None]
        deviation = (1 - signal**2).sqrt()
        latents = (noisy - deviation * seen["noise"]) / signal
        target = seen["noise"] if prediction_type == "epsilon" else signal * seen["noise"] - deviation * latents
        return (target.requires_grad_(),)

    add_noise = run.models.scheduler.add_noise
    run.models.scheduler.add_noise = lambda latents, noise, t: (seen.update(noise=noise), add_noise(latents, noise, t))[
        1
    ]
    run = replace(run, unet=perfect)
    assert training_step(run, run.epochs[0][0], 1).loss == pytest.approx(0, abs=1e-6)


def test_a_text_encoder_with_rate_0_is_left_alone(make_spec: SpecMaker) -> None:
    keys = read_lora(train(make_spec(settings={"learning_rate_text_encoder": 0, "epochs": 1}), QUIET)).adapters
    assert keys and all(key.startswith("lora_unet_") for key in keys)


def test_an_earlier_run_in_the_output_folder_is_replaced(make_spec: SpecMaker) -> None:
    spec = make_spec(settings={"epochs": 1})
    stale = spec.output / "checkpoints" / "epoch_09.safetensors"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    train(spec, QUIET)
    assert not stale.exists()


def test_divergence_keeps_earlier_checkpoints(make_spec: SpecMaker) -> None:
    settings = {"learning_rate_unet": 1e30, "cycles": 1, "warmup_fraction": 0.5, "epochs": 4, "draws_per_epoch": 2}
    spec = make_spec(settings=settings, save_precision="float32")  # rates: 0, 0.5e30, 1e30 …
    with pytest.raises(TrainingDiverged, match="step 3 of 4: the training has diverged"):
        train(spec, QUIET)
    assert read_lora(spec.output / "checkpoints" / "epoch_01.safetensors").adapters
    assert len(pd.read_parquet(spec.output / "log.parquet")) == 2


def test_a_checkpoint_that_overflows_is_not_written(make_spec: SpecMaker) -> None:
    settings = {"learning_rate_unet": 1e30, "cycles": 1, "warmup_fraction": 0.5, "epochs": 4, "draws_per_epoch": 2}
    spec = make_spec(settings=settings)
    with pytest.raises(LoraError, match="infinities"):
        train(spec, QUIET)
    assert [path.name for path in (spec.output / "checkpoints").iterdir()] == ["epoch_01.safetensors"]


def test_a_request_to_stop_saves_what_is_learned(make_spec: SpecMaker) -> None:
    lines: list[str] = []
    spec = make_spec()
    progress = Progress(lines.append)
    with pytest.raises(Interrupted) as interruption:
        train(spec, progress, lambda: 15 if any(line.startswith("step 3") for line in lines) else None)
    assert interruption.value.exit_code == 143
    checkpoints = sorted(path.name for path in (spec.output / "checkpoints").iterdir())
    assert checkpoints == ["epoch_01.safetensors", "interrupted_step_0003.safetensors"]
    metadata = read_lora(spec.output / "checkpoints" / checkpoints[1]).metadata
    assert (metadata["ss_steps"], metadata["ss_epoch"]) == ("3", "1")
    assert len(pd.read_parquet(spec.output / "log.parquet")) == 3


def test_processes_that_train_together_stop_at_the_same_step(make_spec: SpecMaker) -> None:
    spec = make_spec()
    run = set_up(spec, read_training_set(spec), QUIET, lambda: None)
    run.log.append(training_step(run, run.epochs[0][0], 1))
    first_of_two = SimpleNamespace(
        num_processes=2,
        is_main_process=True,
        mixed_precision="no",
        device=torch.device("cpu"),
        gather=lambda mine: torch.cat([mine, torch.tensor([15])]),  # only the other one has had the signal
    )
    with pytest.raises(Interrupted, match=r"1 of 6 steps are saved in .*interrupted_step_0001"):
        stop_if_asked(replace(run, accelerator=first_of_two), lambda: None, 0)


def test_a_request_to_stop_during_set_up(make_spec: SpecMaker) -> None:
    spec = make_spec()
    with pytest.raises(Interrupted, match="nothing was learned yet"):
        train(spec, QUIET, lambda: 2)
    assert not (spec.output / "checkpoints").exists()


def test_a_tokenizer_without_its_vocabulary_is_noticed(make_spec: SpecMaker, tmp_path: Path, tiny_base: Path) -> None:
    import shutil

    broken = Path(shutil.copytree(tiny_base, tmp_path / "broken"))
    for path in (broken / "tokenizer").iterdir():
        if path.name != "tokenizer_config.json":
            path.unlink()
    with pytest.raises(SpecError, match="tokens where the text encoder has"):
        train(make_spec(base=broken), QUIET)
