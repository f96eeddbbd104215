import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sticker_pipeline.diffusion.base_model import (
    BaseModelError,
    BaseNoise,
    base_noise,
    check_base,
    config_folder,
    open_base,
    part_files,
)
from sticker_pipeline.diffusion.samplers import SCHEDULERS, make_scheduler
from sticker_pipeline.training.cache.latents import vae_hash
from sticker_pipeline.training.models import load_models
from sticker_pipeline_tests.single_file import write_single_file
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline, build_tiny_sdxl

BUILDERS = {"sd15": build_tiny_pipeline, "sdxl": build_tiny_sdxl}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """Return a family, and a tiny base model of it: as a folder, and as a single file with configurations beside."""
    folder = tmp_path_factory.mktemp(request.param)
    base = BUILDERS[request.param](folder / "diffusers")
    single = write_single_file(base, request.param, folder / "single.safetensors")
    shutil.copytree(base, folder / "single", ignore=shutil.ignore_patterns("*.safetensors"))
    return request.param, base, single


def states(pipeline: object, family: str) -> dict[str, torch.Tensor]:
    parts = ["unet", "vae", "text_encoder", *(["text_encoder_2"] if family == "sdxl" else [])]
    return {f"{part}.{name}": value for part in parts for name, value in getattr(pipeline, part).state_dict().items()}


def test_a_folder_and_a_single_file_are_the_same_model(both: tuple[str, Path, Path]) -> None:
    family, folder, single = both
    opened = []
    for base in (folder, single):
        check_base(base, family)
        opened.append(states(open_base(base, family, torch.float32, torch.float32), family))
    assert opened[0].keys() == opened[1].keys()
    for name, value in opened[0].items():
        assert torch.equal(value, opened[1][name]), name


def test_each_part_has_its_precision(both: tuple[str, Path, Path]) -> None:
    family, folder, single = both
    for base in (folder, single):
        models = load_models(base, family, torch.bfloat16, prediction="base", zero_terminal_snr=False)
        assert models.unet.dtype == torch.bfloat16
        assert models.vae.dtype == torch.float32
        assert [encoder.dtype for encoder in models.text_encoders] == [torch.bfloat16] * len(models.text_encoders)
        assert not any(p.requires_grad for model in (models.unet, models.vae) for p in model.parameters())


def test_the_other_family_is_refused(both: tuple[str, Path, Path]) -> None:
    family, _, single = both
    other = {"sd15": "sdxl", "sdxl": "sd15"}[family]
    with pytest.raises(BaseModelError, match=f"single.safetensors is a model of family {family}, not {other}"):
        check_base(single, other)


def test_a_folder_of_the_other_family_is_refused(both: tuple[str, Path, Path]) -> None:
    family, folder, _ = both
    other = {"sd15": "sdxl", "sdxl": "sd15"}[family]
    with pytest.raises(BaseModelError, match=f"diffusers is a model of family {family}, not {other}"):
        check_base(folder, other)


def test_a_vae_whose_latents_are_normalised_by_channel_is_refused(both: tuple[str, Path, Path], tmp_path: Path) -> None:
    family, folder, _ = both
    copy = Path(shutil.copytree(folder, tmp_path / "folder"))
    config = copy / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latents_mean": [0.0] * 4}))
    with pytest.raises(BaseModelError, match="vae states latents_mean"):
        check_base(copy, family)


def test_v_prediction_and_zero_terminal_snr_are_read_from_a_single_file(
    both: tuple[str, Path, Path], tmp_path: Path
) -> None:
    family, folder, single = both
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    silent = {key: value for key, value in config.items() if key not in ("prediction_type", "rescale_betas_zero_snr")}
    target = tmp_path / "model.safetensors"
    shutil.copytree(single.with_suffix(""), tmp_path / "model")
    (tmp_path / "model" / "scheduler" / "scheduler_config.json").write_text(json.dumps(silent))
    save_file(load_file(single), target)
    plain = load_models(target, family, torch.float32, prediction="base", zero_terminal_snr=False)
    assert plain.prediction_type == "epsilon" and plain.noise.alphas_cumprod[-1] > 0
    save_file({**load_file(single), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, target)
    stated = load_models(target, family, torch.float32, prediction="base", zero_terminal_snr=False)
    assert stated.prediction_type == "v_prediction" and stated.noise.alphas_cumprod[-1] == pytest.approx(0, abs=1e-6)
    config = open_base(target, family, torch.float32, torch.float32).scheduler.config
    for name in SCHEDULERS:
        sampler = make_scheduler(name, config).config
        assert (sampler.prediction_type, sampler.rescale_betas_zero_snr) == ("v_prediction", True)
    save_file(load_file(single), target, metadata={"modelspec.prediction_type": "v"})
    noted = load_models(target, family, torch.float32, prediction="base", zero_terminal_snr=False)
    assert noted.prediction_type == "v_prediction" and noted.noise.alphas_cumprod[-1] > 0
    assert base_noise(target) == BaseNoise(v_prediction=True, spacing="leading")
    overruled = load_models(target, family, torch.float32, prediction="epsilon", zero_terminal_snr=False)
    assert overruled.prediction_type == "epsilon"


def test_pickles_are_refused_by_content(both: tuple[str, Path, Path], tmp_path: Path) -> None:
    family, folder, _ = both
    pickle = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(1)}, pickle)
    with pytest.raises(BaseModelError, match="pickle"):
        check_base(pickle, family)
    copy = Path(shutil.copytree(folder, tmp_path / "folder"))
    (weights,) = (copy / "vae").glob("*.safetensors")
    weights.write_bytes(pickle.read_bytes())
    with pytest.raises(BaseModelError, match="pickle"):
        check_base(copy, family)


def test_files_of_parts(both: tuple[str, Path, Path]) -> None:
    _, folder, single = both
    assert [path.name for path in part_files(folder, "vae")] == ["config.json", "diffusion_pytorch_model.safetensors"]
    beside = single.with_suffix("")
    configurations = [beside / part / "config.json" for part in ("text_encoder", "vae")]
    assert part_files(single, "vae", "text_encoder") == [single, *configurations]


def test_what_is_cached_of_a_single_file_is_of_its_configurations_too(
    both: tuple[str, Path, Path], tmp_path: Path
) -> None:
    _, _, single = both
    base = Path(shutil.copy(single, tmp_path / "base.safetensors"))
    alone = vae_hash(base)
    shutil.copytree(single.with_suffix(""), tmp_path / "base")
    beside = vae_hash(base)
    config = tmp_path / "base" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.5}))
    assert len({alone, beside, vae_hash(base)}) == 3


def test_where_configurations_and_tokenizers_lie(both: tuple[str, Path, Path]) -> None:
    family, folder, single = both
    for base, expected in ((folder, folder), (single, single.with_suffix(""))):
        with config_folder(base, family) as found:
            assert found == expected


def test_targets_of_both_kinds(both: tuple[str, Path, Path]) -> None:
    family, folder, _ = both
    latents, noise, timesteps = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2), torch.tensor([0, 700])
    for prediction in ("epsilon", "v_prediction"):
        models = load_models(folder, family, torch.float32, prediction=prediction, zero_terminal_snr=False)
        levels = models.noise.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        wanted = noise if prediction == "epsilon" else levels.sqrt() * noise - (1 - levels).sqrt() * latents
        assert torch.allclose(models.target(latents, noise, timesteps), wanted, atol=1e-6)


def test_the_last_level_of_zero_terminal_snr_is_pure_noise(both: tuple[str, Path, Path]) -> None:
    family, folder, _ = both
    models = load_models(folder, family, torch.float32, prediction="v_prediction", zero_terminal_snr=True)
    latents, noise, last = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2), torch.tensor([999])
    assert torch.allclose(models.noise.add_noise(latents, noise, last), noise, atol=1e-6)
    assert torch.allclose(models.target(latents, noise, last), -latents, atol=1e-6)
