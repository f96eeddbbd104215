"""Facts of a sticker's file that requirements are about, from its bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media import apng, gif, webp
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import EBML, what_is_it
from sticker_pipeline.media.png_pixels import GREY, GREY_ALPHA, RGBA, SIGNATURE, check_whole
from sticker_pipeline.packing.limits import Format
from sticker_pipeline.packing.webm import read_webm

LIMITS = MediaSettings()
INCH = Fraction(254, 10_000)  # in metres
VP9 = "V_VP9"


class NotAStickerError(MediaError):
    """A file of a format that no platform takes."""


@dataclass(frozen=True)
class FileFacts:
    """Facts of a file; sizes in pixels, delays in ms.

    `delays_ms`: one per frame, as stored; (0,) for a still. `loops`: how often it plays, 0 for ever. `alpha`: it can
    have transparent pixels. `rgb`: no grey image. `dpi`: None if not stated. `equal_frames`: all frames are stored
    with the same bytes. `total_ms`: of one loop. `codec`: of WEBM, else empty.
    """

    format: Format
    width: int
    height: int
    delays_ms: tuple[Fraction, ...]
    total_ms: Fraction
    alpha: bool
    loops: int = 0
    rgb: bool = True
    dpi: Fraction | None = None
    equal_frames: bool = False
    audio: bool = False
    codec: str = ""

    @property
    def animated(self) -> bool:
        return len(self.delays_ms) > 1 or self.format == "WEBM"

    @property
    def frames(self) -> int:
        return len(self.delays_ms)


def facts(data: bytes) -> FileFacts:
    """Read the facts of a PNG, APNG, WebP, GIF or WebM file.

    Raises NotAStickerError for other files, MediaError for damaged and cut-off ones.
    """
    if data.startswith(SIGNATURE):
        return _png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data.startswith(gif.SIGNATURES):
        return _gif(data)
    if data.startswith(EBML):
        return _webm(data)
    raise NotAStickerError(what_is_it(data))


def _png(data: bytes) -> FileFacts:
    png = apng.read_png(data, LIMITS)
    _check_note(png.note)
    header = png.rules.header
    images = png.images or (apng.SubImage(png.width, png.height, 0, 0, 0, 0, 0, spans=list(png.spans)),)
    for image in images:
        check_whole(data, image.spans, image.width, image.height, header)
    delays = tuple(image.delay_ms for image in images)
    dots = png.dots_per_metre
    return FileFacts(
        "APNG" if png.images else "PNG",
        png.width,
        png.height,
        delays,
        sum(delays, Fraction(0)),
        alpha=header[9] in (GREY_ALPHA, RGBA) or bool(png.rules.transparency),
        loops=png.loops,
        rgb=header[9] not in (GREY, GREY_ALPHA),
        dpi=None if dots is None else dots * INCH,
        equal_frames=len(images) > 1 and _all_equal(data, images),
    )


def _webp(data: bytes) -> FileFacts:
    found = webp.read_webp(data, LIMITS)
    delays = tuple(Fraction(delay) for delay in found.durations_ms) or (Fraction(0),)
    return FileFacts(
        "WEBP", found.width, found.height, delays, sum(delays, Fraction(0)), alpha=found.has_alpha, loops=found.loops
    )


def _gif(data: bytes) -> FileFacts:
    found = gif.read_gif(data, LIMITS)
    _check_note(found.note)
    delays = tuple(Fraction(image.control.delay_ms) for image in found.images)
    alpha = any(image.control.transparent is not None for image in found.images)
    return FileFacts("GIF", found.width, found.height, delays, sum(delays, Fraction(0)), alpha=alpha, loops=found.loops)


def _webm(data: bytes) -> FileFacts:
    found = read_webm(data, LIMITS)
    if found.doc_type != "webm":
        raise NotAStickerError(f"a Matroska file ('{found.doc_type}'): convert it to WEBM")
    ends = (*found.starts_ms[1:], found.duration_ms)
    delays = tuple(end - start for start, end in zip(found.starts_ms, ends, strict=True))
    return FileFacts(
        "WEBM",
        found.video.width,
        found.video.height,
        delays,
        found.duration_ms,
        alpha=found.has_alpha,
        audio=found.has_audio,
        codec=found.video.codec,
    )


def _all_equal(data: bytes, images: Sequence[apng.SubImage]) -> bool:
    places = {(image.left, image.top, image.width, image.height) for image in images}
    if len(places) > 1:
        return False
    first, *others = (b"".join(data[start:end] for start, end in image.spans) for image in images)
    return all(pixels == first for pixels in others)


def _check_note(note: str) -> None:
    if note:
        raise MediaError(note)
