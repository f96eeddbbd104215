"""A base model on disk: a diffusers folder or one .safetensors file.

Opened offline. Architectures: `families.py`, `architectures.py`. Training: `training/models.py`.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sticker_pipeline.core.files.space import SpaceError, writing
from sticker_pipeline.core.texts import UserError, are, counted
from sticker_pipeline.diffusion.architectures import CONFIGS, least_tensors, write_config_folder
from sticker_pipeline.diffusion.base_configs import read_config, why_not_index, why_not_part, why_not_sides
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.other_models import EDM, INPUT_CHANNELS, TEXT_WIDTHS, file_kind, quantised
from sticker_pipeline.models.content import read_header, tensors_of, why_not_safetensors

if TYPE_CHECKING:
    import torch

UNET_CLASS = "UNet2DConditionModel"
VAE_CLASSES = ("AutoencoderKL", "AutoencoderTiny")
PREDICTION_TYPES = {"epsilon": "epsilon", "v_prediction": "v_prediction", "v": "v_prediction"}  # as files spell them
VAE_PREFIX = "first_stage_model."
# Prefixes of the tensors of each part in single files of all families.
FILE_PREFIXES: dict[str, str | tuple[str, ...]] = {
    "U-Net": "model.diffusion_model.",
    "VAE": VAE_PREFIX,
    "text encoder": ("cond_stage_model.", "conditioner.embedders."),
}
# Text encoders of other models than SD1.5 and SDXL.
OTHER_TEXT_ENCODERS = {
    "cond_stage_model.model.": TEXT_WIDTHS[1024],
    "conditioner.embedders.0.model.": TEXT_WIDTHS[1280],
}
UNREADABLE = (".ckpt", ".pt", ".pth", ".bin", ".gguf")  # suffixes of unread checkpoints
_AGAIN = "Download it again."
NO_OTHER_WEIGHTS = "Pickles, and variants such as fp16, are not looked for: rename a variant."
NOT_QUANTISED = "such weights are not read here. Use the model in float16, bfloat16 or float32."

Header = dict[str, Any]


class BaseModelError(UserError):
    """An unusable base model; the message names its path and the defect."""


@dataclass(frozen=True)
class BaseNoise:
    """Noise settings that a base model states.

    `zero_snr`: its last level is pure noise. `spacing`: its `timestep_spacing`.
    """

    v_prediction: bool = False
    zero_snr: bool = False
    spacing: str | None = None


def check_base(base: Path, family: str) -> None:
    """Raise BaseModelError unless `base` is a complete, usable model of `family`.

    Reads headers and configurations only: no weights, no torch.
    """
    headers = _file_headers(base, family) if base.is_file() else _folder_headers(base, family)
    _check_unet(base, family, headers["unet"])
    _check_weights(base, family, headers)
    base_noise(base)


def base_given(base: Path) -> bool:
    """Tell whether there is anything at `base` for `check_base`.

    A file, a folder with model_index.json, or a file of the same name in an unread format.
    """
    return base.is_file() or (base / "model_index.json").is_file() or _unreadable(base) is not None


def config_files(family: str) -> list[str]:
    """Return the paths of a diffusers folder's files other than weights."""
    tokenizers = [f"{encoder.tokenizer}/tokenizer_config.json" for encoder in FAMILIES[family].text_encoders]
    parts = [f"{part}/config.json" for part in _parts(family)]
    return ["model_index.json", *parts, *tokenizers, "scheduler/scheduler_config.json"]


def _parts(family: str) -> list[str]:
    return ["unet", "vae", *(encoder.folder for encoder in FAMILIES[family].text_encoders)]


def _use_instead(family: str) -> str:
    return f"Use a whole checkpoint of {FAMILIES[family].title}."


# --- a folder in the diffusers layout ---------------------------------------------------------------------------------


def _folder_headers(base: Path, family: str) -> dict[str, Header]:
    """Return each part's tensors. Raises BaseModelError for other folders and missing files."""
    if path := _unreadable(base):
        raise BaseModelError(f"{path} {why_not_safetensors(path) or 'is not read here.'}")
    if (base / "model_index.json").is_file():
        _check_index(base, family)
    layout = f"A base model of family {family} is one .safetensors file, or a folder in the diffusers layout."
    _check_configs(base, family, layout)
    return {part: _part_header(base / part) for part in _parts(family)}


def _unreadable(base: Path) -> Path | None:
    """Return a checkpoint in an unread format where `base` does not exist."""
    paths = [base.with_name(base.name + suffix) for suffix in UNREADABLE]
    return None if base.exists() else next((path for path in paths if path.is_file()), None)


def _check_index(base: Path, family: str) -> None:
    index = _json(base / "model_index.json")
    has = {name for name, entry in index.items() if isinstance(entry, list) and any(entry)}
    kind = index.get("_class_name", "pipeline without a class")
    if "unet" not in has:
        raise BaseModelError(f"{base} is a {kind}, which has no U-Net of Stable Diffusion. {_use_instead(family)}")
    if "text_encoder_2" in has and "text_encoder" not in has:
        raise BaseModelError(f"{base} is {TEXT_WIDTHS[1280]}, no base model. {_use_instead(family)}")
    other = "sdxl" if "text_encoder_2" in has else "sd15"
    for part in _parts(other):
        if part not in has:
            raise BaseModelError(f"{base} has no {part}: model_index.json names none. {_use_instead(family)}")
    for encoder in FAMILIES[other].text_encoders:
        name = index[encoder.folder][-1]
        if name != encoder.class_name:
            raise BaseModelError(
                f"{base} is a {kind}: its {encoder.folder} is a {name}, not a {encoder.class_name}. "
                f"{_use_instead(family)}"
            )
    _refuse(why_not_index(base / "model_index.json", index))
    _check_family(base, family, other)


def _check_family(base: Path, family: str, other: str) -> None:
    if other != family:
        raise BaseModelError(f"{base} is a model of family {other}, not {family}: choose a profile of that family.")


def _check_configs(folder: Path, family: str, what_to_do: str) -> None:
    """Check the configurations of a whole model, or beside a single file."""
    for name in config_files(family):
        if not (folder / name).is_file():
            raise BaseModelError(f"{folder / name} is missing. {what_to_do}")
    unet = _json(folder / "unet" / "config.json").get("_class_name")
    if unet != UNET_CLASS:
        raise BaseModelError(f"{folder / 'unet'} is a {unet}, not a {UNET_CLASS}. {_use_instead(family)}")
    for part in _parts(family):
        config = _json(folder / part / "config.json")
        _refuse(why_not_part(folder / part / "config.json", config))
        if config.get("quantization_config"):
            raise BaseModelError(f"{folder / part} is quantised: {NOT_QUANTISED}")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    _refuse(why_not_part(scheduler, _json(scheduler)))
    for encoder in FAMILIES[family].text_encoders:
        _json(folder / encoder.tokenizer / "tokenizer_config.json")
    vae = _json(folder / "vae" / "config.json")
    if vae.get("_class_name") not in VAE_CLASSES:
        raise BaseModelError(f"{folder / 'vae'} is a {vae.get('_class_name')}; known are {', '.join(VAE_CLASSES)}.")
    if vae.get("latents_mean") is not None:
        raise BaseModelError(
            f"{folder / 'vae'} states latents_mean: its latents are normalised channel by channel, which is not "
            "done here. Choose a base model whose VAE has a scaling_factor alone."
        )


def _part_header(folder: Path) -> Header:
    stem = "model" if folder.name.startswith("text_encoder") else "diffusion_pytorch_model"
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return _tensors(single)
    if not index.is_file():
        others = [path.name for suffix in ("safetensors", "bin") for path in sorted(folder.glob(f"*.{suffix}"))]
        there = f", but {', '.join(others)}" if others else ""
        raise BaseModelError(f"{folder} has no {single.name}, nor an index of its parts{there}. {NO_OTHER_WEIGHTS}")
    stated = _json(index).get("weight_map")
    if not isinstance(stated, dict) or not all(_is_name(name) for name in stated.values()):
        raise BaseModelError(f"{index} has no weight_map of files in this folder. {_AGAIN}")
    names = sorted(set(stated.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise BaseModelError(
            f"{index} names {counted(len(names), 'file')}, and {len(missing)} of them {are(len(missing))} missing: "
            f"{', '.join(missing[:3])}. Download all of them."
        )
    return {tensor: value for name in names for tensor, value in _tensors(folder / name).items()}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and Path(value).name == value and value not in ("", "..")


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_config(path)
    except ValueError as error:
        raise BaseModelError(str(error)) from error


def _refuse(why: str | None) -> None:
    if why:
        raise BaseModelError(why)


# --- a single file ----------------------------------------------------------------------------------------------------


def _file_headers(path: Path, family: str) -> dict[str, Header]:
    """Return each part's tensors. Raises BaseModelError for other files and missing parts."""
    header = _tensors(path)
    if kind := file_kind(header):
        raise BaseModelError(f"{path} is {kind}, no base model. {_use_instead(family)}")
    has = [name for name, prefix in FILE_PREFIXES.items() if any(tensor.startswith(prefix) for tensor in header)]
    if not has:
        raise BaseModelError(f"{path} is no checkpoint of Stable Diffusion. {_use_instead(family)}")
    if len(has) < len(FILE_PREFIXES):
        lacking = [name for name in FILE_PREFIXES if name not in has]
        raise BaseModelError(f"{path} has no {' and no '.join(lacking)}. {_use_instead(family)}")
    for prefix, what in OTHER_TEXT_ENCODERS.items():
        if any(tensor.startswith(prefix) for tensor in header):
            raise BaseModelError(f"{path} is {what}, not of family {family}. {_use_instead(family)}")
    other = next((other for other in FAMILIES.values() if other.text_encoders[-1].single_file_key in header), None)
    for encoder in (other or FAMILIES[family]).text_encoders:
        if encoder.single_file_key not in header:
            raise BaseModelError(
                f"{path} is no whole checkpoint: it has no tensor {encoder.single_file_key!r}. {_use_instead(family)}"
            )
    _check_family(path, family, other.name if other else family)
    if any(name in header for name in EDM):
        raise BaseModelError(
            f"{path} has other noise levels (EDM, as Playground 2.5 and CosXL), which are not supported here. "
            f"{_use_instead(family)}"
        )
    if (beside := path.with_suffix("")).is_dir():
        remedy = f"{beside} is read for the configurations of {path.name}: complete it, or move it away."
        _check_configs(beside, family, remedy)
    prefixes = {"unet": "model.diffusion_model.", "vae": VAE_PREFIX}
    prefixes |= {encoder.folder: encoder.single_file_prefix for encoder in FAMILIES[family].text_encoders}
    return {
        part: {name.removeprefix(prefix): value for name, value in header.items() if name.startswith(prefix)}
        for part, prefix in prefixes.items()
    }


def _tensors(path: Path) -> Header:
    if why := why_not_safetensors(path):
        raise BaseModelError(f"{path} {why}")
    header = read_header(path)
    if any(not isinstance(text, str) for text in (header.get("__metadata__") or {}).values()):
        raise BaseModelError(f"{path} has metadata that are no texts, which safetensors does not open. {_AGAIN}")
    return tensors_of(header)


# --- what both have ---------------------------------------------------------------------------------------------------


def _config(base: Path, family: str, part: str) -> dict[str, Any]:
    path = _config_path(base, part)
    return _json(path) if path.is_file() else CONFIGS[family][part]


def _config_path(base: Path, part: str) -> Path:
    return (base.with_suffix("") if base.is_file() else base) / part / "config.json"


def _check_unet(base: Path, family: str, unet: Header) -> None:
    """Check the U-Net's tensors against the VAE's latents and the text encoders."""
    first = next((unet[name] for name in ("conv_in.weight", "input_blocks.0.0.weight") if name in unet), None)
    keys = next((value for name, value in unet.items() if name.endswith("attn2.to_k.weight")), None)
    if first is None or keys is None or len(first["shape"]) != 4 or len(keys["shape"]) != 2:
        raise BaseModelError(f"{base}: its U-Net is not one of Stable Diffusion. {_use_instead(family)}")
    channels, width = first["shape"][1], keys["shape"][1]
    latents = _config(base, family, "vae").get("latent_channels", 4)
    encoders = [_config(base, family, encoder.folder) for encoder in FAMILIES[family].text_encoders]
    texts = sum(config.get("hidden_size", 512) for config in encoders)
    published = CONFIGS[family]["unet"]["cross_attention_dim"]
    if channels != latents:
        kind = INPUT_CHANNELS.get(channels, "of another kind")
        raise BaseModelError(
            f"{base} is {kind}: its U-Net reads {channels} channels, not the {latents} of the latents. "
            f"{_use_instead(family)}"
        )
    if width in TEXT_WIDTHS and width != published:
        raise BaseModelError(
            f"{base} is {TEXT_WIDTHS[width]}: its U-Net reads texts of width {width}, not {published}. "
            f"{_use_instead(family)}"
        )
    if width != texts:
        raise BaseModelError(
            f"{base}: its U-Net reads texts of width {width}, and its text encoders give {texts}: they are of "
            f"different models. {_use_instead(family)}"
        )
    config = _config(base, family, "unet")
    for key, value, usual in (("in_channels", channels, 4), ("cross_attention_dim", width, 1280)):
        stated = config.get(key, usual)  # a list where blocks differ
        if isinstance(stated, int) and stated != value:
            raise BaseModelError(
                f"{base}: the configuration of its U-Net says {key} {stated}, and its weights have "
                f"{value}: they are of different models. {_use_instead(family)}"
            )


def _check_weights(base: Path, family: str, headers: dict[str, Header]) -> None:
    """Check that weights are unquantised and complete; missing ones would be random."""
    for part, header in headers.items():
        config = _config(base, family, part)
        _refuse(why_not_sides(_config_path(base, part), config, header))
        if found := quantised(header):
            raise BaseModelError(f"{base} is quantised ({part}: {found}): {NOT_QUANTISED}")
        least = least_tensors(family, part, config, single_file=base.is_file())
        if len(header) < least:
            raise BaseModelError(
                f"{base}: its {part} has {len(header)} tensors, and that of {FAMILIES[family].title} {least}: it is "
                f"pruned, or another model. {_use_instead(family)}"
            )


def base_noise(base: Path) -> BaseNoise:
    """Return the noise settings of a model, without loading weights.

    One of these sources is enough: the scheduler's configuration (in a folder or beside a single file); in single files
    also `modelspec.prediction_type` in the metadata (Stability AI's ModelSpec: "epsilon", "v") and the tensors `v_pred`
    and `ztsnr`, as in clients. Raises BaseModelError for other values.
    """
    path = (base.with_suffix("") if base.is_file() else base) / "scheduler" / "scheduler_config.json"
    config = _json(path) if path.is_file() else {}
    header = read_header(base) if base.is_file() else {}
    stated = [config.get("prediction_type", "epsilon")]
    stated += [str((header.get("__metadata__") or {}).get("modelspec.prediction_type") or "epsilon")]
    for prediction in stated:
        if not isinstance(prediction, str) or prediction not in PREDICTION_TYPES:
            raise BaseModelError(
                f"{base}: prediction type {prediction!r} is none of {', '.join(PREDICTION_TYPES)}. Use a model that "
                "predicts noise or v."
            )
    spacing = config.get("timestep_spacing")
    if not isinstance(spacing, str | None):
        raise BaseModelError(f"{path} says timestep_spacing {spacing!r}, which is no text. {_AGAIN}")
    return BaseNoise(
        v_prediction="v_pred" in header or "v_prediction" in map(PREDICTION_TYPES.__getitem__, stated),
        zero_snr="ztsnr" in header or bool(config.get("rescale_betas_zero_snr")),
        spacing=spacing,
    )


def part_files(base: Path, *parts: str) -> list[Path]:
    """Return the sorted files that decide the behaviour of `parts`.

    `parts`: "vae", "text_encoder", "tokenizer", …. A single file comes with the parts' configurations beside it.
    """
    folder, single = (base.with_suffix(""), [base]) if base.is_file() else (base, [])
    return single + sorted(path for part in parts for path in (folder / part).glob("*") if path.is_file())


@contextmanager
def config_folder(base: Path, family: str) -> Iterator[Path]:
    """Yield the folder with configurations and tokenizers of `base`.

    For a single file: that of its name without suffix, else a temporary one with the published architecture.
    """
    if not base.is_file():
        yield base
        return
    beside = base.with_suffix("")
    if beside.is_dir():
        yield beside
        return
    with tempfile.TemporaryDirectory() as temporary:
        with writing(Path(temporary)):
            written = write_config_folder(family, Path(temporary) / family)
        yield written


def open_base(base: Path, family: str, dtype: "torch.dtype", vae_dtype: "torch.dtype") -> Any:
    """Open `base` as a diffusers pipeline on the CPU, from local safetensors.

    The VAE gets `vae_dtype`; the scheduler's configuration follows `base_noise`. Raises BaseModelError for a model that
    does not open, a tokenizer that does not fit its text encoder, and an unknown prediction type.
    """
    with _quiet_loading(), _in_plain_words(base):
        opened = _from_file if base.is_file() else _from_folder
        pipeline = opened(base, family, dtype, vae_dtype)
    for encoder in FAMILIES[family].text_encoders:
        check_tokenizer(base, getattr(pipeline, encoder.tokenizer), getattr(pipeline, encoder.folder))
    noise = base_noise(base)
    stated = {"prediction_type": "v_prediction"} if noise.v_prediction else {}
    zero = {"rescale_betas_zero_snr": True} if noise.zero_snr else {}
    # register_to_config would leave the old values listed as defaults, which other samplers then take.
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **stated, **zero)
    return pipeline


@contextmanager
def _in_plain_words(base: Path) -> Iterator[None]:
    import torch

    try:
        yield
    except (BaseModelError, SpaceError, torch.OutOfMemoryError):
        raise
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError, ImportError),
        *(RuntimeError, AssertionError),
    ) as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise BaseModelError(f"{base} cannot be opened ({why}). Download it again, or use another model.") from error


def _options(family: str) -> dict[str, Any]:
    """Return loading options without safety checker, often a pickle."""
    checker = {"safety_checker": None, "requires_safety_checker": False}
    return {"local_files_only": True, **(checker if family == "sd15" else {})}


def _from_folder(base: Path, family: str, dtype: "torch.dtype", vae_dtype: "torch.dtype") -> Any:
    import diffusers

    pipeline_class = getattr(diffusers, FAMILIES[family].pipeline)
    dtypes = {"default": dtype, "vae": vae_dtype}
    return pipeline_class.from_pretrained(base, dtype=dtypes, use_safetensors=True, **_options(family))


def _from_file(base: Path, family: str, dtype: "torch.dtype", vae_dtype: "torch.dtype") -> Any:
    import diffusers

    with config_folder(base, family) as configs:
        shared: dict[str, Any] = {"config": str(configs), "local_files_only": True}
        vae = diffusers.AutoencoderKL.from_single_file(str(base), subfolder="vae", dtype=vae_dtype, **shared)
        return getattr(diffusers, FAMILIES[family].pipeline).from_single_file(
            str(base), config=str(configs), vae=vae, dtype=dtype, **_options(family)
        )


def check_tokenizer(base: Path, tokenizer: Any, text_encoder: Any) -> None:
    """Raise BaseModelError unless the tokenizer fits the text encoder and reads letters.

    transformers silently builds an empty tokenizer without files.
    """
    known, expected = len(tokenizer), text_encoder.config.vocab_size
    inner = tokenizer("sticker").input_ids[1:-1]
    if known != expected or not inner or tokenizer.unk_token_id in inner:
        raise BaseModelError(
            f"{base}: the tokenizer does not fit the text encoder: it has {known} tokens where the encoder has "
            f"{expected}, and reads 'sticker' as {inner}. It needs tokenizer.json, or vocab.json and merges.txt."
        )


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Hide loading bars, which would garble the caller's progress."""
    import diffusers
    import transformers

    libraries = [diffusers.utils.logging, transformers.utils.logging]
    shown = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, was_shown in zip(libraries, shown, strict=True):
            if was_shown:
                library.enable_progress_bar()
