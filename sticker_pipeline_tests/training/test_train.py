from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.diffusion.base_model import BaseModelError
from sticker_pipeline.diffusion.lora.file import LoraError, read_lora
from sticker_pipeline.training.backward import Inputs, predict
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.logs.tables import BAND_COLUMNS, LOG
from sticker_pipeline.training.objective import image_losses
from sticker_pipeline.training.schedule import cosine_restarts_warmup_each
from sticker_pipeline.training.setup import set_up
from sticker_pipeline.training.spec import SpecError, load_spec
from sticker_pipeline.training.step import TrainingDiverged, check_exploding, sample_batch, training_step, whole_inputs
from sticker_pipeline.training.stopping import Interrupted
from sticker_pipeline.training.train import stop_if_asked, train
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
        "memory.json",
        "samples/epoch_01_0.png",
        "samples/epoch_02_0.png",
        "spec.json",
        *(
            f"state/step_0000006_epoch_0002/{name}"
            for name in ("checksums.json", "log.parquet", "lora.safetensors", "optimizer.safetensors")
        ),
        "state/step_0000006_epoch_0002/state.json",
        *(f"tensorboard/{path.name}" for path in (spec.output / "tensorboard").iterdir()),
        "validation_loss.parquet",
    ]
    assert load_spec(spec.output / "spec.json") == spec
    log = pd.read_parquet(spec.output / "log.parquet")
    assert list(log.columns) == LOG.names
    assert log["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert log["epoch"].tolist() == [1, 1, 1, 2, 2, 2]
    assert log["lr_unet"].tolist() == pytest.approx([1e-3 * cosine_restarts_warmup_each(6)(step) for step in range(6)])
    assert (log["weights_scaled"] == 0).all() and log["weight_norm"].isna().all()  # there is no limit
    assert (
        np.isfinite(log.drop(columns=[*BAND_COLUMNS, "weight_norm"]).to_numpy(dtype=float)).all()
        and (log["loss"] > 0).all()
    )
    # With uniform weights the loss of a step is the mean over its images, and so between its bands' errors.
    bands = log[BAND_COLUMNS].to_numpy()
    assert (np.nanmin(bands, axis=1) <= log["loss"] + 1e-6).all() and (
        log["loss"] <= np.nanmax(bands, axis=1) + 1e-6
    ).all()
    fixed = pd.read_parquet(spec.output / "validation_loss.parquet")
    assert fixed[["epoch", "split", "images"]].to_numpy().tolist() == [
        [epoch, split, count] for epoch in range(3) for split, count in (("train", 8), ("holdout", 2))
    ]
    assert fixed["loss"].to_numpy() == pytest.approx(fixed[BAND_COLUMNS].mean(axis=1).to_numpy())

    metadata = read_lora(last).metadata
    assert (metadata["ss_steps"], metadata["ss_epoch"]) == ("6", "2")
    assert metadata["modelspec.prediction_type"] == "v"


def test_validation_images_have_a_loss_of_their_own(make_spec: SpecMaker) -> None:
    spec = make_spec(settings={"epochs": 1})
    index = spec.training_set / "index.parquet"
    table = pd.read_parquet(index)
    holdout = table.index[table["split"] == "holdout"]
    train(spec, QUIET)
    before = pd.read_parquet(spec.output / "validation_loss.parquet").set_index(["epoch", "split"])["loss"]
    table.loc[holdout[1:], "split"] = "validation"
    table.to_parquet(index)
    train(spec.model_copy(update={"output": spec.output.with_name("again")}), QUIET)
    after = pd.read_parquet(spec.output.with_name("again") / "validation_loss.parquet").set_index(["epoch", "split"])
    assert after["images"].to_dict() == {
        (epoch, split): count for epoch in (0, 1) for split, count in (("train", 8), ("holdout", 1), ("validation", 1))
    }
    for epoch in (0, 1):
        assert after.loc[(epoch, "train"), "loss"] == before[epoch, "train"]  # nothing else is learned
        assert after.loc[(epoch, "validation"), "loss"] > 0


def test_a_constant_schedule_reaches_the_optimizer(make_spec: SpecMaker) -> None:
    spec = make_spec(settings={"schedule": "constant", "warmup_fraction": 0.4, "epochs": 1})
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
    settings = {"epochs": 1, "samples_per_epoch": 2, "cycles": 1, "warmup_fraction": 0.0}
    first = train(make_spec(settings=settings), QUIET)
    other = train(make_spec(output=tmp_path / "other", settings={**settings, "seed": 1}), QUIET)
    assert not torch.equal(load_file(first)[f"{KEY}.lora_up.weight"], load_file(other)[f"{KEY}.lora_up.weight"])


def test_the_base_model_stays_as_it_is_and_adapters_learn(make_spec: SpecMaker, tiny_base: Path) -> None:
    # What a CPU trains on otherwise has no weights to compare any more: test_fast_layers.py shows that it is the same.
    spec = make_spec(settings={"accelerate": "off", "cycles": 1, "warmup_fraction": 0.0, "caption_dropout": 0.0})
    run = set_up(spec, QUIET, lambda: None).run
    for _ in range(3):
        run.history.log.append(training_step(run, run.plan.epoch(0)[0], 1))
    trainable = {
        name
        for model in (run.models.unet, *run.models.text_encoders, run.models.vae)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert trainable and all("lora_A" in name or "lora_B" in name for name in trainable)
    for folder, model in (("unet", run.models.unet), ("text_encoder", run.models.text_encoders[0])):
        trained = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
        (file,) = (tiny_base / folder).glob("*.safetensors")
        for name, original in load_file(file).items():
            assert torch.equal(trained[name.removeprefix("text_model.")], original), name
    for key, layer in run.layers.items():
        assert layer.lora_B["default"].weight.abs().max() > 0, key


def test_loss_falls_on_what_is_seen_again_and_again(make_spec: SpecMaker) -> None:
    spec = make_spec(settings={"rank": 16, "alpha": 16.0, "cycles": 1, "warmup_fraction": 0.0})
    run = set_up(spec, QUIET, lambda: None).run
    # The log stays empty, so that each step is step 0: the same images, noise and noise levels at the peak rate.
    losses = [training_step(run, run.plan.epoch(0)[0], 1).loss for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_follows_the_prediction_type(make_spec: SpecMaker, prediction: str) -> None:
    """A U-Net that knows the image (its posterior is made certain) predicts the target by its definition."""
    spec = make_spec(settings={"prediction": prediction})
    run = set_up(spec, QUIET, lambda: None).run
    (batch,) = run.plan.epoch(0)[0]
    certain = [
        replace(run.latents.entry(row, 0), std=torch.zeros_like(run.latents.entry(row, 0).std))
        for row in batch.tolist()
    ]
    latents = torch.stack([entry.mean for entry in certain]) * run.models.vae.config.scaling_factor

    def perfect(noisy: torch.Tensor, timesteps: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor]:
        signal = run.models.noise.alphas_cumprod[timesteps].sqrt()[:, None, None, None]
        spread = (1 - signal**2).sqrt()
        noise = (noisy - signal * latents) / spread
        return (noise if prediction == "epsilon" else signal * noise - spread * latents,)

    def backward(inputs: Inputs) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        return image_losses(predict(perfect, inputs), inputs["target"]), ()

    one_way = SimpleNamespace(variants=lambda row: 1, entry=lambda row, _: certain[batch.tolist().index(row)])
    run = replace(run, backward=backward, latents=one_way)
    assert training_step(run, [batch], 1).loss == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({}, [1.0, 1.0]),
        ({"loss_weighting": "min_snr", "prediction": "epsilon"}, None),
        ({"noise_offset": 0.1}, [1.0, 1.0]),
    ],
)
def test_what_is_drawn_follows_the_settings(
    make_spec: SpecMaker, settings: dict[str, object], weights: list[float] | None
) -> None:
    run = set_up(make_spec(settings=settings), QUIET, lambda: None).run
    (batch,) = run.plan.epoch(0)[0]
    sampled, again, next_step = (sample_batch(run, batch, step, 0) for step in (0, 0, 1))
    assert all(torch.equal(value, again.inputs[name]) for name, value in sampled.inputs.items())
    assert not torch.equal(sampled.inputs["noisy"], next_step.inputs["noisy"])
    levels = run.models.noise.alphas_cumprod[sampled.inputs["timesteps"]]
    snr = levels / (1 - levels)
    expected = torch.tensor(weights) if weights else torch.minimum(snr, torch.tensor(5.0)) / snr
    assert torch.allclose(sampled.weights, expected)


def test_batches_that_add_up_are_one_batch(make_spec: SpecMaker) -> None:
    """The mean over a step's images, however they were divided: batches of 1 and 3 weigh 1 to 3."""
    run = set_up(make_spec(), QUIET, lambda: None).run
    whole = np.arange(4)
    drawn = [sample_batch(run, part, 0, number) for number, part in enumerate((whole[:1], whole[1:]))]
    errors = []
    for one in drawn:
        predicted = predict(run.models.unet, whole_inputs(run, one, 4))
        errors += (predicted - one.inputs["target"]).square().mean(dim=(1, 2, 3)).tolist()
    row = training_step(run, [whole[:1], whole[1:]], 1)
    assert row.samples == 4
    assert row.loss == pytest.approx(np.mean(errors), rel=1e-5)
    assert row.error == pytest.approx(np.mean(errors), rel=1e-5)


def test_transparent_pixels_may_be_left_out(make_spec: SpecMaker) -> None:
    run = set_up(make_spec(settings={"background_weight": 0.25}), QUIET, lambda: None).run
    (batch,) = run.plan.epoch(0)[0]
    weights = sample_batch(run, batch, 0, 0).inputs["pixel_weights"]
    masks = torch.stack([run.latents.entry(row, 0).mask for row in batch.tolist()])
    assert torch.allclose(weights, masks + (1 - masks) * 0.25) and weights.min() < 1


def test_accelerations_can_be_turned_off(make_spec: SpecMaker, tmp_path: Path) -> None:
    """The same training with PyTorch's own layers alone: equal up to rounding."""
    with_them, without = make_spec(), make_spec(output=tmp_path / "plain", settings={"accelerate": "off"})
    prepared = set_up(without, QUIET, lambda: None)
    assert not [module for module in prepared.run.models.unet.modules() if "accel" in type(module).__module__]
    fast, plain = (load_file(train(spec, QUIET)) for spec in (with_them, without))
    for name, tensor in fast.items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-2, atol=1e-5)


def test_a_moving_average_is_what_is_saved(make_spec: SpecMaker, tmp_path: Path) -> None:
    settings = {"epochs": 1, "cycles": 1, "warmup_fraction": 0.0}
    last = read_lora(train(make_spec(settings=settings), QUIET))
    average = read_lora(train(make_spec(output=tmp_path / "ema", settings={**settings, "ema_decay": 0.9}), QUIET))
    first, second = last.adapters[KEY].up.float(), average.adapters[KEY].up.float()
    assert 0 < second.norm() < first.norm()  # it began at nothing and lags behind


def test_caption_dropout_of_everything_trains_the_empty_caption(make_spec: SpecMaker) -> None:
    for rate in (0.0, 1e-3):  # read beforehand, and while it is trained
        run = set_up(
            make_spec(settings={"caption_dropout": 1.0, "learning_rate_text_encoder": rate}), QUIET, lambda: None
        ).run
        (batch,) = run.plan.epoch(0)[0]
        hidden = sample_batch(run, batch, 0, 0).text().hidden
        assert torch.allclose(hidden, run.text([""] * len(batch), None)().hidden, atol=1e-6)


def test_text_read_beforehand_is_the_text_read_at_each_step(make_spec: SpecMaker) -> None:
    captions = ["nova_tag, sticker, smile", "nova_tag, art, angry"]
    live, cached = (
        set_up(make_spec(settings={"learning_rate_text_encoder": rate}), QUIET, lambda: None).run.text(captions, None)()
        for rate in (1e-3, 0.0)
    )
    assert torch.allclose(live.hidden, cached.hidden, atol=1e-6)


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


def test_an_exploding_error_stops_the_training(make_spec: SpecMaker) -> None:
    run = set_up(make_spec(), QUIET, lambda: None).run
    row = training_step(run, run.plan.epoch(0)[0], 1)
    calm, wild = replace(row, error=0.1), replace(row, error=0.5)
    run.history.log[:] = [calm] * 150 + [wild] * 50
    with pytest.raises(TrainingDiverged, match="The error has multiplied by step 200 of 6: the training has diverged"):
        check_exploding(run)
    for fine in ([wild] * 50 + [calm] * 50, [calm] * 50 + [replace(row, error=0.39)] * 50, [calm] * 50 + [wild] * 49):
        run.history.log[:] = fine
        check_exploding(run)


def test_divergence_keeps_earlier_checkpoints(make_spec: SpecMaker) -> None:
    settings = {"learning_rate_unet": 1e30, "cycles": 1, "warmup_fraction": 0.5, "epochs": 4, "samples_per_epoch": 2}
    spec = make_spec(settings=settings, save_precision="float32")  # rates: 0, 0.5e30, 1e30 …
    with pytest.raises(TrainingDiverged, match="step 3 of 4: the training has diverged"):
        train(spec, QUIET)
    assert read_lora(spec.output / "checkpoints" / "epoch_01.safetensors").adapters
    assert len(pd.read_parquet(spec.output / "log.parquet")) == 2


def test_a_checkpoint_that_overflows_is_not_written(make_spec: SpecMaker) -> None:
    settings = {"learning_rate_unet": 1e30, "cycles": 1, "warmup_fraction": 0.5, "epochs": 4, "samples_per_epoch": 2}
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
    run = set_up(spec, QUIET, lambda: None).run
    run.history.log.append(training_step(run, run.plan.epoch(0)[0], 1))
    first_of_two = SimpleNamespace(
        num_processes=2,
        is_main_process=True,
        mixed_precision="no",
        scaler=None,
        device=torch.device("cpu"),
        gather=lambda mine: torch.cat([mine, torch.tensor([15])]),  # only the other one has had the signal
    )
    with pytest.raises(Interrupted, match=r"1 of 6 steps saved in .*interrupted_step_0001"):
        stop_if_asked(replace(run, accelerator=first_of_two), lambda: None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_half_precision_that_a_cpu_lacks_is_refused(make_spec: SpecMaker) -> None:
    with pytest.raises(SpecError, match=r"float16 needs a GPU\. Set `precision: auto`"):
        train(make_spec(settings={"precision": "float16"}), QUIET)


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
    with pytest.raises(BaseModelError, match="tokens where the encoder has"):
        train(make_spec(base=broken), QUIET)
