"""Covers of sets: WhatsApp's tray, LINE's main and tab images."""

from collections.abc import Sequence
from dataclasses import replace

from sticker_pipeline.core.texts import UserError
from sticker_pipeline.packing.build import Sticker
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.finish import Look, renderer, sides
from sticker_pipeline.packing.fit import fit
from sticker_pipeline.packing.platforms import platform_kinds


def part_files(platform: str, stickers: Sequence[Sticker], look: Look) -> dict[str, bytes]:
    """Return the platform's covers by kind.

    Each is of the first sticker that can be one. An animated cover is of the first animation; without any, it is left
    out. Raises PackError for one that fits no limit.
    """
    found = {}
    for (name, _), kind in platform_kinds().items():
        if name != platform or not kind.part:
            continue
        moves = not kind.takes_stills
        fitting = [one for one in stickers if one.animated or not moves]
        if not fitting:
            continue
        master = replace(fitting[0], animated=moves).master()
        formats = (kind.rules.animations if moves else kind.rules.stills).value
        limits = kind.limits(formats[0], animated=moves)
        try:
            found[kind.kind] = fit(renderer(master, kind, look), sides(kind, moves), limits).data
        except UserError as error:
            raise PackError(f"{platform} has no set, since its {kind.kind} cannot be made: {error}") from error
    return found
