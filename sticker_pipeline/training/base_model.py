"""A base model on disk: a folder in the diffusers layout or one .safetensors file, opened without network.

Which architecture it must have is data in families.py and architectures.py; how it is trained stands in models.py.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sticker_pipeline.models.content import why_not_safetensors
from sticker_pipeline.space import writing
from sticker_pipeline.training.families import FAMILIES

if TYPE_CHECKING:
    import torch

VAE_CLASSES = ("AutoencoderKL", "AutoencoderTiny")
PREDICTION_TYPES = ("epsilon", "v_prediction")


class BaseModelError(ValueError):
    """A base model that cannot be used; the message names the folder or file and what is wrong with it."""


def check_base(base: Path, family: str) -> None:
    """Raise BaseModelError unless `base` has all files of a model of `family` and no pickles: cheap, without torch."""
    if base.is_file():
        _check_single_file(base, family)
    else:
        _check_folder(base, family)


def config_files(family: str) -> list[str]:
    """What a diffusers folder of `family` has beside the weights, as paths in it."""
    tokenizers = [f"{encoder.tokenizer}/tokenizer_config.json" for encoder in FAMILIES[family].text_encoders]
    parts = [f"{part}/config.json" for part in _weights(family)]
    return ["model_index.json", *parts, *tokenizers, "scheduler/scheduler_config.json"]


def _weights(family: str) -> list[str]:
    return ["unet", "vae", *(encoder.folder for encoder in FAMILIES[family].text_encoders)]


def _check_folder(base: Path, family: str) -> None:
    for name in config_files(family):
        if not (base / name).is_file():
            raise BaseModelError(
                f"{base / name} is missing. A base model of family {family} is one .safetensors file, or a folder in "
                "the diffusers layout."
            )
    if (base / "text_encoder_2").is_dir() and "text_encoder_2" not in _weights(family):
        raise BaseModelError(
            f"{base} has two text encoders: it is not of family {family}. Choose a profile of its own."
        )
    for part in _weights(family):
        files = sorted((base / part).glob("*.safetensors"))
        if not files:
            raise BaseModelError(f"{base / part} has no .safetensors file (pickled weights are not loaded).")
        for path in files:
            _check_content(path)
    vae = json.loads((base / "vae" / "config.json").read_text(encoding="utf-8"))
    if vae["_class_name"] not in VAE_CLASSES:
        raise BaseModelError(f"{base / 'vae'} is a {vae['_class_name']}; known are {', '.join(VAE_CLASSES)}.")
    if vae.get("latents_mean") is not None:
        raise BaseModelError(
            f"{base / 'vae'} states latents_mean: its latents are normalised channel by channel, which is not "
            "done here. Choose a base model whose VAE has a scaling_factor alone."
        )


def _check_content(path: Path) -> None:
    if why := why_not_safetensors(path):
        raise BaseModelError(f"{path} {why}")


def _check_single_file(path: Path, family: str) -> None:
    _check_content(path)
    keys = tensor_names(path)
    if FAMILIES[family].single_file_key in keys:
        return
    others = [name for name, other in FAMILIES.items() if other.single_file_key in keys]
    if others:
        raise BaseModelError(f"{path} is a model of family {others[0]}, not {family}: choose a profile of that family.")
    raise BaseModelError(
        f"{path} is no whole {family} checkpoint: it has no tensor {FAMILIES[family].single_file_key!r}. Text encoder "
        "and VAE must be in the same file."
    )


def tensor_names(path: Path) -> set[str]:
    """The names of the tensors in a safetensors file, from its header alone."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return set(header) - {"__metadata__"}


def part_files(base: Path, *parts: str) -> list[Path]:
    """The files that decide what `parts` ("vae", "text_encoder", "tokenizer", …) of `base` do, sorted."""
    if base.is_file():
        return [base]
    return sorted(path for part in parts for path in (base / part).iterdir() if path.is_file())


@contextmanager
def config_folder(base: Path, family: str) -> Iterator[Path]:
    """Configurations and tokenizers of `base`: a folder has its own; a single file those in the folder of the same name
    without the suffix where it is there, else those of the true architecture, written to a temporary folder."""
    if not base.is_file():
        yield base
        return
    beside = base.with_suffix("")
    if beside.is_dir():
        yield beside
        return
    from sticker_pipeline.training.architectures import write_config_folder

    with tempfile.TemporaryDirectory() as temporary:
        with writing(Path(temporary)):
            written = write_config_folder(family, Path(temporary) / family)
        yield written


def open_base(base: Path, family: str, dtype: "torch.dtype", vae_dtype: "torch.dtype") -> Any:
    """The diffusers pipeline of `base` on the CPU, from local safetensors only; the VAE gets `vae_dtype`.

    The scheduler's configuration holds the prediction type; a single file states v-prediction by a tensor named
    `v_pred`, and zero terminal SNR by one named `ztsnr`, as clients read it. Raises BaseModelError for a tokenizer that
    does not fit its text encoder and for an unknown prediction type.
    """
    with _quiet_loading():
        opened = _from_file if base.is_file() else _from_folder
        pipeline = opened(base, family, dtype, vae_dtype)
    for encoder in FAMILIES[family].text_encoders:
        check_tokenizer(base, getattr(pipeline, encoder.tokenizer), getattr(pipeline, encoder.folder))
    prediction = pipeline.scheduler.config.prediction_type
    if prediction not in PREDICTION_TYPES:
        raise BaseModelError(f"{base}: prediction type {prediction!r} is none of {', '.join(PREDICTION_TYPES)}.")
    return pipeline


def _options(family: str) -> dict[str, Any]:
    """No safety checker: it is no part of the model, and lies in a pickle in many folders."""
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
        pipeline = getattr(diffusers, FAMILIES[family].pipeline).from_single_file(
            str(base), config=str(configs), vae=vae, dtype=dtype, **_options(family)
        )
    names = tensor_names(base)
    stated = {"prediction_type": "v_prediction"} if "v_pred" in names else {}
    zero = {"rescale_betas_zero_snr": True} if "ztsnr" in names else {}
    # Not register_to_config: it leaves the old values on the list of defaults, which other samplers then take.
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **stated, **zero)
    return pipeline


def check_tokenizer(base: Path, tokenizer: Any, text_encoder: Any) -> None:
    """Raise BaseModelError unless the tokenizer fits the text encoder and knows letters.

    transformers builds an empty tokenizer out of missing files without complaint: every prompt then reads the same.
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
    """No "Loading weights" bars while a model opens: they would garble the caller's own progress."""
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
