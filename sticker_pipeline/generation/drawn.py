"""Pictures that were drawn before, found again by everything that decides them: only what is new is generated.

How a picture is made stands in generate.py. The cache is a folder of PNG files, which may be deleted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.storage import atomic_files, content_hash

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
    batch_size: int,
) -> list[Image.Image]:
    """One RGB picture for each of `requests`, in order: from the folder `cache`, else from `draw`.

    `draw` is called once, with those that are missing, and not at all where there are none. It draws `batch_size` at a
    time, which are kept together as soon as they are drawn: an interrupted run goes on with the same batches.
    """
    paths = [_entry(cache, decided, request) for request in requests]
    missing = {path: request for path, request in zip(paths, requests, strict=True) if not path.is_file()}
    if missing:
        images, names = draw(list(missing.values())), list(missing)
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            with atomic_files(batch) as stagings:
                for staging, image in zip(stagings, islice(images, len(batch)), strict=True):
                    image.save(staging, "PNG")
    return [_read(path) for path in paths]


def _entry(cache: Path, decided: Mapping[str, Any], request: Request) -> Path:
    name = content_hash({**decided, "prompt": request.prompt, "seed": request.seed})
    return cache / name[:2] / f"{name}.png"


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
