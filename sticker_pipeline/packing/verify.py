"""Check of a sticker's file against the rules of its platform.

It reads the bytes alone, knows no encoder, and decodes no pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sticker_pipeline.core.texts import counted
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.packing.facts import VP9, FileFacts, NotAStickerError, facts
from sticker_pipeline.packing.platforms import Canvas, PlatformKind, Range, Rule, Source

ROUNDING_MS = 1  # of times in a WebM, which are whole ms


@dataclass(frozen=True)
class Fault:
    """A broken rule with the value found and the limit.

    `rule`: a key of platforms.yaml, or one of `format`, `motion`, `damaged`, `codec`, `audio`. `file`: a name in the
    set's folder; empty: the only file, or the set.
    """

    rule: str
    value: str
    limit: str
    source: Source
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file else ""
        return f"{where}{self.rule}: {self.value}, and it must be {self.limit}. Source: {self.source}."


def verify(data: bytes, kind: PlatformKind) -> list[Fault]:
    """Return the rules that a file breaks. Raises nothing."""
    accepted = kind.rules.stills if kind.takes_stills else kind.rules.animations
    formats = _formats(kind)
    try:
        found = facts(data)
    except NotAStickerError as error:
        return [Fault("format", str(error), formats, kind.source(accepted))]
    except MediaError as error:
        return [Fault("damaged", str(error), "a whole file", kind.source(accepted))]
    return [*_file_faults(found, len(data), kind), *(_motion_faults(found, kind) if found.animated else ())]


def _file_faults(found: FileFacts, size: int, kind: PlatformKind) -> Iterator[Fault]:
    rules, check = kind.rules, _Check(kind)
    accepted, others = (rules.animations, rules.stills) if found.animated else (rules.stills, rules.animations)
    if found.format not in accepted.value:
        what = "an animation" if found.animated else "a still"
        is_of_the_other = _family(found.format) in map(_family, others.value)
        if is_of_the_other and _family(found.format) not in map(_family, accepted.value):
            yield check.fault("motion", accepted, f"{what}, {found.format}", _formats(kind))
        else:
            yield check.fault("format", accepted, f"{found.format}, {what}", _formats(kind))
    key = "max_animation_bytes" if found.animated and rules.max_animation_bytes else "max_bytes"
    yield from check.most(key, size, "bytes")
    yield from _canvas_faults(rules.canvas.value, found.width, found.height, check)
    if rules.alpha and rules.alpha.value and not found.alpha:
        yield check.fault("alpha", rules.alpha, "no transparency", "able to hold transparent pixels")
    if rules.rgb and rules.rgb.value and not found.rgb:
        yield check.fault("rgb", rules.rgb, "an image in grey", "RGB")
    if rules.min_dpi and found.dpi is not None and round(found.dpi) < rules.min_dpi.value:
        yield check.fault("min_dpi", rules.min_dpi, f"{float(found.dpi):.4g} dpi", f"at least {rules.min_dpi.value}")


def _canvas_faults(canvas: Canvas, width: int, height: int, check: "_Check") -> Iterator[Fault]:
    rule, value = check.kind.rules.canvas, f"{width}×{height} px"
    if not _fits(canvas, width, height):
        yield check.fault("canvas", rule, value, canvas_text(canvas))
    elif canvas.square and width != height:
        yield check.fault("canvas.square", rule, value, "square")
    elif min(width, height) < canvas.min_side:
        yield check.fault("canvas.min_side", rule, value, f"at least {canvas.min_side} px on each side")
    elif max(width, height) < canvas.one_side_min:
        yield check.fault("canvas.one_side_min", rule, value, f"at least {canvas.one_side_min} px on one side")
    elif canvas.even and (width % 2 or height % 2):
        yield check.fault("canvas.even", rule, value, "even numbers of pixels")


def _fits(canvas: Canvas, width: int, height: int) -> bool:
    wide, high = canvas.width, canvas.height
    if canvas.fit == "exact":
        return (width, height) == (wide, high) or (width == height and width in canvas.other_sides)
    if canvas.fit == "one_side":
        return (width == wide and height <= high) or (height == high and width <= wide)
    if canvas.fit == "within":
        return width <= wide and height <= high
    return canvas.fit == "any" or (width >= wide and height >= high)


def canvas_text(canvas: Canvas) -> str:
    """Describe the accepted sizes."""
    size = f"{canvas.width}×{canvas.height} px"
    others = "".join(f" or {side}×{side} px" for side in canvas.other_sides)
    return {
        "exact": f"{size}{others}",
        "one_side": f"{canvas.width} px on one side, and not more on the other",
        "within": f"at most {size}",
        "at_least": f"at least {size}",
        "any": f"of any size; {size} is recommended",
    }[canvas.fit]


def _motion_faults(found: FileFacts, kind: PlatformKind) -> Iterator[Fault]:
    rules, check = kind.rules, _Check(kind)
    loops = found.loops if rules.max_loops and found.loops else 1
    total = found.total_ms * loops
    if found.format == "WEBM":
        if found.codec != VP9:
            yield check.fault("codec", rules.animations, found.codec, VP9)
        if found.audio:
            yield check.fault("audio", rules.animations, "a track of sound", "without sound")
    yield from check.most("max_ms", total, "ms")
    if rules.min_frame_ms and min(found.delays_ms) < rules.min_frame_ms.value:
        value = f"a frame of {_number(min(found.delays_ms))} ms"
        yield check.fault("min_frame_ms", rules.min_frame_ms, value, f"at least {rules.min_frame_ms.value} ms")
    if rules.max_fps and (rate := _rate(found)) and rate > rules.max_fps.value:
        yield check.fault("max_fps", rules.max_fps, f"{rate:.1f} frames/s", f"at most {rules.max_fps.value}")
    if rules.frames and not _in_range(found.frames, rules.frames.value):
        yield check.fault("frames", rules.frames, counted(found.frames, "frame"), range_text(rules.frames.value))
    if rules.max_loops and not 1 <= found.loops <= rules.max_loops.value:
        yield check.fault("max_loops", rules.max_loops, _loops(found), f"1 to {rules.max_loops.value} loops")
    if rules.endless and rules.endless.value and found.loops:
        yield check.fault("endless", rules.endless, _loops(found), "endless loops")
    if rules.whole_seconds and rules.whole_seconds.value and (total % 1000 or not total):
        yield check.fault("whole_seconds", rules.whole_seconds, f"{_number(total)} ms", "whole seconds")
    if rules.distinct_frames and rules.distinct_frames.value and found.equal_frames:
        yield check.fault("distinct_frames", rules.distinct_frames, "equal frames", "frames that differ")


def _rate(found: FileFacts) -> float:
    """Return the mean frames per second; rounded times do not raise it."""
    span = sum(found.delays_ms[:-1])
    return 1000 * (found.frames - 1) / float(span + ROUNDING_MS) if found.frames > 1 else 0.0


def _in_range(number: int, wanted: Range) -> bool:
    return wanted.min <= number and (wanted.max is None or number <= wanted.max)


def range_text(wanted: Range) -> str:
    """Describe a range of numbers."""
    if wanted.max is None:
        return f"at least {wanted.min}"
    return f"{wanted.min}" if wanted.min == wanted.max else f"{wanted.min} to {wanted.max}"


def _formats(kind: PlatformKind) -> str:
    """Describe the accepted formats."""
    parts = [
        f"{what}: {' or '.join(rule.value)}"
        for what, rule in (("still", kind.rules.stills), ("animation", kind.rules.animations))
        if rule.value
    ]
    return "; ".join(parts)


def _family(name: str) -> str:
    return "PNG" if name == "APNG" else name


def _loops(found: FileFacts) -> str:
    return counted(found.loops, "loop") if found.loops else "endless loops"


def _number(value: Any) -> str:
    return f"{float(value):,.6g}" if value % 1 else f"{int(value):,}"


@dataclass(frozen=True)
class _Check:
    kind: PlatformKind

    def fault(self, code: str, rule: Rule[Any], value: str, limit: str) -> Fault:
        return Fault(code, value, limit, self.kind.source(rule))

    def most(self, key: str, value: Any, unit: str) -> Iterator[Fault]:
        rule = getattr(self.kind.rules, key)
        if rule and value > rule.value:
            yield self.fault(key, rule, f"{_number(value)} {unit}", f"at most {rule.value:,}")
