"""The WD14 tagger (v2 and v3): labels, preprocessing, raw scores, device."""

import csv
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image

from sticker_pipeline.core.storage import content_hash, file_sha256
from sticker_pipeline.core.texts import UserError, counted

if TYPE_CHECKING:
    import onnxruntime

MODEL_FILE = "model.onnx"
LABELS_FILE = "selected_tags.csv"
PREPROCESSING_VERSION = 1  # raise it when `preprocess` changes its numbers: cached scores depend on it

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
Provider = Literal["auto", "cuda", "cpu"]
CPU_BUILD = "this machine has an NVIDIA GPU, but this onnxruntime is the CPU build; onnxruntime-gpu would use it"

Category = Literal["general", "character", "rating"]
# danbooru's category numbers in selected_tags.csv (9 is the taggers' own)
CATEGORY_CODES: dict[str, Category] = {"0": "general", "4": "character", "9": "rating"}

# Faces keep their underscores (WD taggers' model cards).
# fmt: off
KAOMOJI = frozenset({
    "0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o", "@_@", "^_^", "o_o",
    "u_u", "x_x", "|_|", "||_||",
})
# fmt: on


class TaggerError(UserError):
    """An unusable tagger: bad files, another contract than WD14, missing hardware."""


@dataclass(frozen=True)
class Label:
    """One output of the tagger; `name` has spaces, as in captions."""

    name: str
    category: Category


@dataclass(frozen=True)
class Tagger:
    """An opened tagger.

    `size`: side of its input in pixels; `single`: exported for one image at a time, so `scores` splits batches;
    `provider`: the one in use; `fallback`: reason for the CPU where a GPU is expected.
    """

    folder: Path
    session: "onnxruntime.InferenceSession"
    input_name: str
    size: int
    single: bool
    labels: tuple[Label, ...]
    model_sha256: str
    provider: str
    fallback: str | None = None


def spelled(name: str) -> str:
    """Turn underscores of a danbooru tag into spaces, except in kaomoji (`>_<`)."""
    return name if name in KAOMOJI else name.replace("_", " ")


def load_labels(folder: Path) -> tuple[Label, ...]:
    """Read the labels in `folder`/selected_tags.csv, in output order.

    Raises TaggerError, naming file and line, for a missing file or column (`name`, `category`), a category other than 0
    (general), 4 (character) and 9 (rating), or a repeated tag.
    """
    path = folder / LABELS_FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or []
    except FileNotFoundError as error:
        raise TaggerError(
            f"{path} is missing: a WD tagger is {MODEL_FILE} with its {LABELS_FILE} beside it."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TaggerError(f"{path} is not a CSV file in UTF-8: {error}") from error
    for column in ("name", "category"):
        if column not in columns:
            raise TaggerError(
                f"{path} has no column '{column}'; it has {str(columns)[:200]}. Take the file of the same model."
            )
    labels = tuple(_label(path, number, row) for number, row in enumerate(rows, start=2))
    repeated = [name for name, times in Counter(label.name for label in labels).items() if times > 1]
    if repeated:
        raise TaggerError(f"{path} names {repeated[0]!r} more than once.")
    return labels


def _label(path: Path, line: int, row: dict[str, str]) -> Label:
    code = (row["category"] or "").strip()
    if code not in CATEGORY_CODES:
        known = ", ".join(f"{code} {name}" for code, name in CATEGORY_CODES.items())
        raise TaggerError(f"{path}, line {line}: category {code!r} of {row['name']!r} is unknown; known: {known}.")
    if not row["name"]:
        raise TaggerError(f"{path}, line {line}: the tag has no name.")
    if not row["name"].isprintable() or "," in row["name"]:
        raise TaggerError(
            f"{path}, line {line}: {ascii(row['name'])[:100]} is no tag: it has a comma or hidden letters."
        )
    return Label(spelled(row["name"]), CATEGORY_CODES[code])


def category_columns(labels: Sequence[Label]) -> dict[Category, np.ndarray]:
    """Return the output positions (int64) of each category's labels."""
    return {
        category: np.array([i for i, label in enumerate(labels) if label.category == category], dtype=np.int64)
        for category in get_args(Category)
    }


def preprocess(rgba: np.ndarray, size: int) -> np.ndarray:
    """Return the tagger's input: float32 [size, size, 3], **BGR**, 0–255."""
    return square(rgba, size).astype(np.float32)


def square(rgba: np.ndarray, size: int) -> np.ndarray:
    """Pad and resize an image: uint8 [size, size, 3], BGR.

    `rgba` (uint8 [H, W, 4]) is flattened over white, padded with white to a centred square (of an odd margin the
    smaller half first), and, unless `size` already, resized with Pillow's bicubic filter. Raises ValueError for another
    shape or dtype.
    """
    if rgba.dtype != np.uint8 or rgba.ndim != 3 or rgba.shape[2] != 4 or 0 in rgba.shape:
        raise ValueError(f"an image must be uint8 [H, W, 4], not {rgba.dtype} {list(rgba.shape)}")
    height, width = rgba.shape[:2]
    side = max(height, width)
    canvas = Image.new("RGB", (side, side), "white")
    # channels are swapped while the image is small
    colour, alpha = Image.fromarray(rgba[:, :, 2::-1]), Image.fromarray(rgba[:, :, 3])
    canvas.paste(colour, ((side - width) // 2, (side - height) // 2), mask=alpha)
    if side != size:
        canvas = canvas.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(canvas)


def open_tagger(folder: Path, provider: Provider = "auto") -> Tagger:
    """Open the tagger in `folder` (model.onnx, selected_tags.csv).

    `provider`: `cpu`; `cuda`, which must start; `auto`: CUDA where onnxruntime offers and starts it, else the CPU, with
    the reason in `Tagger.fallback` if there is a GPU. OMP_NUM_THREADS, else onnxruntime, sets the threads, without
    effect on scores. On the CPU waiting threads sleep.

    Raises TaggerError for a missing file, a model that is not ONNX or not like WD14 v2 and v3 (float32 [N, S, S, 3] ->
    [N, tags]), other than one output per label, or `cuda` that does not start.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        raise TaggerError(f"{path} is missing: a WD tagger is {MODEL_FILE} with its {LABELS_FILE} beside it.")
    labels = load_labels(folder)
    session, fallback = _open_session(path, provider)
    name, size, single = _checked_input(path, session)
    _check_output(path, session, len(labels))
    used = session.get_providers()[0]
    return Tagger(folder, session, name, size, single, labels, _model_sha256(folder), used, fallback)


def _open_session(path: Path, provider: Provider) -> "tuple[onnxruntime.InferenceSession, str | None]":
    """Return the session, and the reason if `auto` left a GPU unused."""
    import onnxruntime

    offered = CUDA in onnxruntime.get_available_providers()
    if provider == "cpu" or (provider == "auto" and not offered):
        missed = provider == "auto" and nvidia_gpu_here()
        return _session(path, CPU), CPU_BUILD if missed else None
    if not offered:
        raise TaggerError(
            "tagging: provider is 'cuda', but this onnxruntime is the CPU build. Install onnxruntime-gpu in its place, "
            "or write `provider: auto` or `cpu`."
        )
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # PyTorch's CUDA libraries
    try:
        session = _session(path, CUDA)
        started = session.get_providers()[0] == CUDA
    except TaggerError:
        if provider == "cuda":
            raise
        started = False
    if started:
        session.disable_fallback()  # else a GPU fault would silently continue on the CPU
        return session, None
    if provider == "cuda":
        raise TaggerError(
            f"{path}: tagging: provider is 'cuda', but CUDA could not start; see onnxruntime's message above. Mend the "
            "driver or the CUDA libraries, or write `provider: auto` or `cpu`."
        )
    return _session(path, CPU), f"{CUDA} was offered but did not start"


def _session(path: Path, provider: str) -> "onnxruntime.InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        options.intra_op_num_threads = int(threads)
    if provider == CPU:  # spinning threads take cores from others (bench_threads.py)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # operators missing in CUDA run on the CPU
        return onnxruntime.InferenceSession(str(path), options, providers=list(dict.fromkeys((provider, CPU))))
    except Exception as error:  # onnxruntime's exceptions share no narrower public base
        raise TaggerError(f"{path} cannot be opened as an ONNX model: {error}") from error


def nvidia_gpu_here() -> bool:
    """Look for an NVIDIA GPU with its driver, loading no library."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None


def _checked_input(path: Path, session: "onnxruntime.InferenceSession") -> tuple[str, int, bool]:
    """Return the only input's (name, side in pixels, batch fixed at 1)."""
    inputs = session.get_inputs()
    shape = list(inputs[0].shape)
    fits = len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(shape) == 4 and shape[3] == 3
    if not fits or not isinstance(shape[1], int) or shape[1] != shape[2]:
        described = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        hint = (
            " It has channels first (NCHW): it was exported from PyTorch by somebody else." if shape[1:2] == [3] else ""
        )
        raise TaggerError(f"{path}: a WD14 tagger reads one float32 [N, S, S, 3]; this model reads {described}.{hint}")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise TaggerError(
            f"{path}: exported for exactly {counted(shape[0], 'image')} at a time; export it with a free batch size."
        )
    return inputs[0].name, shape[1], shape[0] == 1


def _check_output(path: Path, session: "onnxruntime.InferenceSession", labels: int) -> None:
    outputs = session.get_outputs()
    shape = list(outputs[0].shape)
    if len(outputs) != 1 or len(shape) != 2:
        raise TaggerError(f"{path}: a WD14 tagger gives one [N, tags]; this model gives {[o.shape for o in outputs]}.")
    if isinstance(shape[1], int) and shape[1] != labels:
        raise _label_mismatch(path, shape[1], labels)


def _label_mismatch(path: Path, outputs: int, labels: int) -> TaggerError:
    return TaggerError(
        f"{path} gives {outputs} scores for each image, but {LABELS_FILE} beside it has {labels} labels: "
        "take both files from the same model."
    )


def _model_sha256(folder: Path) -> str:
    """Hash model.onnx and weights beside it (`model.onnx.data`, `model.onnx_data`)."""
    hashes = {path.name: file_sha256(path) for path in sorted(folder.glob(f"{MODEL_FILE}*"))}
    return hashes[MODEL_FILE] if len(hashes) == 1 else content_hash(hashes)


def scores(tagger: Tagger, batch: np.ndarray) -> np.ndarray:
    """Return probabilities float32 [N, T] (0–1, T labels) of `batch`.

    `batch`: float32 [N, S, S, 3], from `preprocess`. Raises TaggerError when the model fails, or outputs other than one
    probability per label.
    """
    parts = [batch[i : i + 1] for i in range(len(batch))] if tagger.single else [batch]
    result = np.concatenate([_run(tagger, part) for part in parts])
    path = tagger.folder / MODEL_FILE
    if result.shape != (len(batch), len(tagger.labels)):
        raise _label_mismatch(path, result.shape[-1], len(tagger.labels))
    if result.size and not (result.min() >= 0 and result.max() <= 1):  # written so that NaN fails too
        raise TaggerError(
            f"{path} gives values from {result.min():.3g} to {result.max():.3g}, not probabilities: does it output "
            "logits? A WD14 model ends in a sigmoid; export it with one."
        )
    return result.astype(np.float32, copy=False)


def _run(tagger: Tagger, part: np.ndarray) -> np.ndarray:
    try:
        return tagger.session.run(None, {tagger.input_name: part})[0]
    except Exception as error:  # onnxruntime's exceptions share no narrower public base
        raise TaggerError(
            f"{tagger.folder / MODEL_FILE} failed on {tagger.provider} with {counted(len(part), 'image')} at a time: "
            f"{error}. "
            "A smaller `tagging: {batch_size: 1}` or `provider: cpu` in character.yaml may help."
        ) from error
