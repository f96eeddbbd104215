"""Pictures that were drawn before, found again by everything that decides them: only what is new is generated.

How a picture is made stands in generate.py. The cache is a folder of PNG files, which may be deleted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.storage import atomic_file, content_hash

VERSION = 2  # raise it whenever generate.py makes other pictures of the same request


def decisive(
    base: str, loras: Sequence[tuple[str, float]], settings: GenerationSettings, resolution: int
) -> dict[str, Any]:
    """All that decides a picture beside its request. `base`: hash of the files' contents; `loras`: the same of each
    LoRA, with its strength, in the order in which they are applied.

    The batch size is not among it: it changes pictures by rounding only. What one LoRA drew, or none, is found by the
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
    }


def drawn(
    requests: Sequence[Request],
    decided: Mapping[str, Any],
    cache: Path,
    draw: Callable[[Sequence[Request]], Iterator[Image.Image]],
) -> list[Image.Image]:
    """One RGB picture for each of `requests`, in order: from the folder `cache`, else from `draw`.

    `draw` is called once, with those that are missing, and not at all where there are none. Each is kept as soon as it
    is drawn.
    """
    paths = [_entry(cache, decided, request) for request in requests]
    missing = {path: request for path, request in zip(paths, requests, strict=True) if not path.is_file()}
    if missing:
        for path, image in zip(missing, draw(list(missing.values())), strict=True):
            with atomic_file(path) as staging:
                image.save(staging, "PNG")
    return [_read(path) for path in paths]


def _entry(cache: Path, decided: Mapping[str, Any], request: Request) -> Path:
    name = content_hash({**decided, "prompt": request.prompt, "seed": request.seed})
    return cache / name[:2] / f"{name}.png"


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
