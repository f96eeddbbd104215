"""Images that were drawn before, found again by everything that decides them: only what is new is generated.

How an image is made stands in generate.py. The cache is a folder of PNG files, which may be deleted.
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

VERSION = 2  # raise it whenever generate.py makes other images of the same request
GRAMMAR = 1  # the same, of a request with weights


def decisive(
    base: str,
    loras: Sequence[tuple[str, float]],
    settings: GenerationSettings,
    resolution: int,
    trained: TrainedFor,
) -> dict[str, Any]:
    """All that decides an image beside its request. `base`: hash of the files' contents; `loras`: the same of each
    LoRA, with its strength, in the order in which they are applied; `trained`: what they were trained for.

    The batch size is not among it: it changes images by rounding only. What one LoRA drew, or none, is found by the
    same name as before there could be several.
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


def drawn(
    requests: Sequence[Request],
    decided: Mapping[str, Any],
    cache: Path,
    draw: Callable[[Sequence[Request]], Iterator[Image.Image]],
    batch_size: int,
) -> list[Image.Image]:
    """One RGB image for each of `requests`, in order: from the folder `cache`, else from `draw`.

    `draw` is called once, with those that are missing, and not at all where there are none. It draws `batch_size` at a
    time, which are kept together as soon as they are drawn: an interrupted run goes on with the same batches.
    """
    paths = [_entry(cache, decided, request) for request in requests]
    found = {path: _read(path) for path in paths}
    missing = {path: request for path, request in zip(paths, requests, strict=True) if found[path] is None}
    if missing:
        images, names = draw(list(missing.values())), list(missing)
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            with atomic_files(batch) as stagings:
                for path, staging, image in zip(batch, stagings, islice(images, len(batch)), strict=True):
                    image.save(staging, "PNG")
                    found[path] = image.convert("RGB")
        next(images, None)  # what `draw` does after its last image, such as saying that it is done
    return [kept for path in paths if (kept := found[path]) is not None]


def _entry(cache: Path, decided: Mapping[str, Any], request: Request) -> Path:
    name = content_hash({**decided, **_grammar(request.prompt), "prompt": request.prompt, "seed": request.seed})
    return cache / name[:2] / f"{name}.png"


def _grammar(prompt: str) -> dict[str, int]:
    """The version of what weights and escapes do, where a prompt has them."""
    return {"grammar": GRAMMAR} if is_weighted(prompt) else {}


def _read(path: Path) -> Image.Image | None:
    """The image that is cached there; None for none, or a damaged one."""
    return read_entry(path, lambda entry: read_png(entry).convert("RGB"))
