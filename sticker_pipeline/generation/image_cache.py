"""Cache of generated images, keyed by everything that decides them.

A folder of PNG files that may be deleted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from sticker_pipeline.core.caching import read_entry, read_png
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.core.storage import atomic_files, content_hash
from sticker_pipeline.diffusion.lora.trained_for import TrainedFor
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.tagging.captions import is_weighted

VERSION = 2  # raise it when generate.py makes other images of the same request
GRAMMAR = 1  # the same, for requests with weights


def decisive(
    base: str,
    loras: Sequence[tuple[str, float]],
    settings: GenerationSettings,
    resolution: int,
    trained: TrainedFor,
) -> dict[str, Any]:
    """Everything that decides an image beside its request.

    `base`: hash of the base model's files; `loras`: hash and strength of each LoRA, in order of application. The batch
    size is excluded: it changes images by rounding only. `more` is absent for at most one LoRA: older entries stay
    valid.
    """
    first = loras[0] if loras else (None, None)
    return {
        "version": VERSION,
        "base": base,
        "lora": first[0],
        "strength": first[1],
        **({"more": [list(each) for each in loras[1:]]} if loras[1:] else {}),
        "settings": settings.model_dump(mode="json", exclude={"batch_size"}),
        "resolution": resolution,
        **trained.differing(),
        **_grammar(settings.negative_prompt),
    }


def cached_images(
    requests: Sequence[Request],
    decided: Mapping[str, Any],
    cache: Path,
    generate: Callable[[Sequence[Request]], Iterator[Image.Image]],
    batch_size: int,
) -> list[Image.Image]:
    """RGB image per request, from `cache` or from `generate`.

    `generate` is called once with the missing requests, if any. Images are saved in groups of `batch_size` as they are
    made: an interrupted run resumes with the same batches.
    """
    paths = [_entry(cache, decided, request) for request in requests]
    found = {path: _read(path) for path in paths}
    missing = {path: request for path, request in zip(paths, requests, strict=True) if found[path] is None}
    if missing:
        images, names = generate(list(missing.values())), list(missing)
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            with atomic_files(batch) as stagings:
                for path, staging, image in zip(batch, stagings, islice(images, len(batch)), strict=True):
                    image.save(staging, "PNG")
                    found[path] = image.convert("RGB")
        next(images, None)  # lets `generate` finish, such as its last message
    return [kept for path in paths if (kept := found[path]) is not None]


def _entry(cache: Path, decided: Mapping[str, Any], request: Request) -> Path:
    name = content_hash({**decided, **_grammar(request.prompt), "prompt": request.prompt, "seed": request.seed})
    return cache / name[:2] / f"{name}.png"


def _grammar(prompt: str) -> dict[str, int]:
    """Version of weights and escapes, where a prompt has them."""
    return {"grammar": GRAMMAR} if is_weighted(prompt) else {}


def _read(path: Path) -> Image.Image | None:
    return read_entry(path, lambda entry: read_png(entry).convert("RGB"))
