"""Stickers of a pack, finished, fitted and verified for each kind."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sticker_pipeline.core.caching import read_cached, read_memo, write_cached, write_memo
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.packing.animation import Animation, read_animation, read_still
from sticker_pipeline.packing.bundle import PackFile
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.finish import Look, renderer, sides
from sticker_pipeline.packing.fit import fit
from sticker_pipeline.packing.parallel import in_order
from sticker_pipeline.packing.platforms import Count as Numbers
from sticker_pipeline.packing.platforms import PlatformKind, Split, platform_kinds, set_sizes, split

VERSION = 2  # raise it when finishing, fitting or an encoder gives other bytes
ENCODERS = ("pillow", "imageio-ffmpeg")  # packages whose version affects the bytes
MASTER_LIMITS = MediaSettings()  # masters are ours, and within them
MOST_EDGE_ALPHA = 1.0  # of 255, mean of a frame: VP9 leaves up to 17 in single pixels, 0.02 on average
LEAST_ALPHA = 200  # of 255
COPIES = 6  # of an animation in memory while it is fitted: 74 frames of 618 pixels take 5 to 6 times their size
EXTRA_KINDS = ("emoji", "emoticon")  # made only where a platform has no other kind


class NoKindError(UserError):
    """A platform without a kind of sticker; the message names it."""


@dataclass(frozen=True)
class Sticker:
    """A chosen sticker, cut out and without a rim.

    `file`: its master, a PNG or APNG. `sha256`: of that file. `animated`: False uses the first frame alone.
    `generated`: made by a model.
    """

    slot: str
    candidate: str
    file: Path
    sha256: str
    animated: bool
    emoji: tuple[str, ...]
    keywords: tuple[str, ...]
    text: str
    generated: bool

    def master(self) -> Animation:
        """Read the master: pixels are held only while they are used."""
        return (read_animation if self.animated else read_still)(self.file, MASTER_LIMITS)


@dataclass(frozen=True)
class Encoded:
    """A sticker's file for one kind.

    `settings`: of the encoder. `error_db`: at chat size, against the finished sticker; None for no error at all.
    `is_cut_out`: decoded again, its edge is transparent and its subject is not.
    """

    sticker: Sticker
    kind: PlatformKind
    data: bytes
    settings: dict[str, Any]
    error_db: float | None
    is_cut_out: bool

    @property
    def file(self) -> PackFile:
        """The file as `bundle.py` takes it."""
        own = self.sticker
        return PackFile(
            slot=own.slot,
            data=self.data,
            kind=self.kind.kind,
            emoji=own.emoji,
            keywords=own.keywords,
            text=own.text,
            animated=bool(own.animated and self.kind.takes_animations),
            generated=own.generated,
        )


def main_kinds(platform: str) -> list[PlatformKind]:
    """Return the platform's kinds of stickers, without covers.

    Emoji if it has nothing else.
    """
    kinds = [kind for (name, _), kind in platform_kinds().items() if name == platform and not kind.part]
    if not kinds:
        raise NoKindError(f"platforms.yaml has no kind of sticker for {platform!r}.")
    return [kind for kind in kinds if kind.kind not in EXTRA_KINDS] or kinds[:1]


def assigned(stickers: Sequence[Sticker], platform: str) -> list[tuple[PlatformKind, Split[Sticker]]]:
    """Return the platform's sets, kind by kind, with the stickers left out.

    An animation becomes a still where too few of them make a set.
    """
    kinds = main_kinds(platform)
    moving = next((kind for kind in kinds if kind.takes_animations), None)
    resting = next((kind for kind in kinds if kind.takes_stills), None)
    animations = [one for one in stickers if one.animated]
    move = moving is not None and _makes_a_set(len(animations), moving)
    stickers = [one if move else _as_still(one) for one in stickers]
    if moving is not None and moving is resting:
        return [(moving, split(stickers, moving))]
    stills = [one for one in stickers if not one.animated]
    found = [(resting, split(stills, resting))] if resting and stills else []
    return [*found, (moving, split(animations, moving))] if moving and move else found


def _makes_a_set(animations: int, kind: PlatformKind) -> bool:
    if kind.rules.mixed and kind.rules.mixed.value:
        return True
    return bool(set_sizes(animations, kind.rules.count.value if kind.rules.count else Numbers()))


def _as_still(sticker: Sticker) -> Sticker:
    return replace(sticker, animated=False)


def encode_all(
    wanted: Sequence[tuple[Sticker, PlatformKind]],
    look: Look,
    cache: Path,
    count: Count,
    stop: Callable[[], None] = lambda: None,
) -> Iterator[Encoded | PackError]:
    """Yield each sticker's file for its kind, or why nothing fits.

    In order. Those in `cache` are not made again. `stop`: as `in_order`.
    """

    def attempt(pair: tuple[Sticker, PlatformKind]) -> Encoded | PackError:
        try:
            return encoded(*pair, look, cache)
        except PackError as error:
            return error

    for number, found in enumerate(in_order(attempt, wanted, stop, lambda pair: _held(*pair)), 1):
        count("files", number, len(wanted))
        yield found


def _held(sticker: Sticker, kind: PlatformKind) -> int:
    """Return about the bytes that fitting holds, from the master's header."""
    canvas = kind.rules.canvas.value
    with Image.open(sticker.file) as master:
        frames = getattr(master, "n_frames", 1) if sticker.animated else 1
        return COPIES * 4 * frames * max(master.width * master.height, canvas.width * canvas.height)


def encoded(sticker: Sticker, kind: PlatformKind, look: Look, cache: Path) -> Encoded:
    """Return the sticker's file for a kind, from `cache` if it is there."""
    entry = cache / key_of(sticker, kind, look)
    data, facts = read_cached(entry.with_suffix(".bin")), read_memo(entry.with_suffix(".json"))
    if data is None or facts is None:
        data, facts = _made(sticker, kind, look)
        write_cached(entry.with_suffix(".bin"), data)
        write_memo(entry.with_suffix(".json"), facts)
    return Encoded(sticker, kind, data, **facts)


def key_of(sticker: Sticker, kind: PlatformKind, look: Look) -> str:
    """Return the hash of all that decides the bytes: a cache's key."""
    decided = {
        "version": VERSION,
        "software": {name: version(name) for name in ENCODERS},
        "sticker": sticker.sha256,
        "animated": sticker.animated,
        "kind": [kind.platform, kind.kind],
        "rules": kind.rules.model_dump(mode="json"),
        "look": asdict(look),
    }
    return content_hash(decided)[:40]


def _made(sticker: Sticker, kind: PlatformKind, look: Look) -> tuple[bytes, dict[str, Any]]:
    file_format = (kind.rules.animations if sticker.animated else kind.rules.stills).value[0]
    limits = kind.limits(file_format, animated=sticker.animated)
    allowed = sides(kind, sticker.animated)
    try:
        render = renderer(sticker.master(), kind, look)
        full = render(allowed[0])  # pixel art has other proportions on smaller canvases: errors are those to this one
        found = fit(lambda side: full if side == allowed[0] else render(side), allowed, limits, original=full)
    except UserError as error:
        raise PackError(f"{sticker.slot} ({sticker.candidate}) for {kind.platform} {kind.kind}: {error}") from error
    settings = {"format": file_format, **found.settings}
    error_db = None if found.error_db == float("inf") else found.error_db
    return found.data, {"settings": settings, "error_db": error_db, "is_cut_out": is_cut_out(found.animation)}


def is_cut_out(decoded: Animation) -> bool:
    """Tell whether a transparent edge and an opaque pixel are left.

    All frames of finished stickers have such an edge, and some pixel is opaque: else an encoder, or a decoder, has lost
    the alpha channel.
    """
    alpha = decoded.frames[..., 3]
    edges = np.concatenate([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], axis=1)
    return float(edges.mean(axis=1).max()) <= MOST_EDGE_ALPHA and int(alpha.max()) >= LEAST_ALPHA
