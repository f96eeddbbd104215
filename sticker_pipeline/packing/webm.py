"""WebM: EBML walk for tracks, alpha and block times, without decoding.

Sources: RFC 8794 (EBML), RFC 9559 (Matroska), WebM container guidelines.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.limits import check_frames, check_pixels

EBML, DOC_TYPE = 0x1A45DFA3, 0x4282
SEGMENT, CLUSTER, INFO, TRACKS = 0x18538067, 0x1F43B675, 0x1549A966, 0x1654AE6B
TIMESTAMP_SCALE, DURATION = 0x2AD7B1, 0x4489
TRACK, NUMBER, TRACK_TYPE, CODEC, DEFAULT_DURATION = 0xAE, 0xD7, 0x83, 0x86, 0x23E383
VIDEO, PIXEL_WIDTH, PIXEL_HEIGHT, ALPHA_MODE = 0xE0, 0xB0, 0xBA, 0x53C0
CLUSTER_TIME, SIMPLE_BLOCK, BLOCK_GROUP, BLOCK = 0xE7, 0xA3, 0xA0, 0xA1
BLOCK_ADDITIONS, BLOCK_MORE, BLOCK_ADDITIONAL = 0x75A1, 0xA6, 0xA5
VIDEO_TRACK, AUDIO_TRACK = 1, 2
LACING = 0x06
UNKNOWN = -1  # size of an element that ends where its parent does
NS_PER_MS = 1_000_000
Element = tuple[int, int, int]  # ID, start and end of the content


@dataclass(frozen=True)
class Track:
    """One track: `kind` 1 is video, 2 audio; sizes in pixels.

    `frame_ms`: stated duration of a frame; 0: not stated. `alpha_mode`: of the header, not of the blocks.
    """

    number: int = 0
    kind: int = 0
    codec: str = ""
    width: int = 0
    height: int = 0
    alpha_mode: bool = False
    frame_ms: Fraction = Fraction(0)


@dataclass(frozen=True)
class Webm:
    """Tracks, and the frames of the first video track.

    `starts_ms`: one for each frame, ascending. `has_alpha`: the track is declared with alpha, and every frame has it.
    `duration_ms`: as stated; else, or if frames begin later, the end of the last frame.
    """

    doc_type: str
    tracks: tuple[Track, ...]
    video: Track
    starts_ms: tuple[Fraction, ...]
    has_alpha: bool
    duration_ms: Fraction

    @property
    def has_audio(self) -> bool:
        return any(track.kind == AUDIO_TRACK for track in self.tracks)


def read_webm(data: bytes, limits: MediaSettings) -> Webm:
    """Read the elements of a WebM or Matroska file.

    Raises MediaError if damaged, cut off, without video, or beyond `limits`.
    """
    elements = _top_level(data)
    header = next(elements, None)
    if header is None or header[0] != EBML:
        raise MediaError("the WebM does not begin with its header")
    doc_type = _text(data, _first(data, header, DOC_TYPE))
    scale, stated = 1_000_000, Fraction(0)
    tracks: list[Track] = []
    blocks: list[tuple[int, int, bool]] = []  # track, time in units of the scale, has alpha
    cluster = 0
    for element in elements:
        kind, start, end = element
        if kind == INFO:
            scale, stated = _info(data, element, scale, stated)
        elif kind == TRACKS:
            tracks += [_track(data, one) for one in _children(data, start, end) if one[0] == TRACK]
        elif kind == CLUSTER_TIME:
            cluster = _unsigned(data, element)
        elif kind in (SIMPLE_BLOCK, BLOCK_GROUP):
            blocks.append(_block(data, element, cluster))
            check_frames(len(blocks), limits)
    return _webm(doc_type, tracks, blocks, Fraction(scale, NS_PER_MS), stated, limits)


def _webm(
    doc_type: str,
    tracks: list[Track],
    blocks: list[tuple[int, int, bool]],
    unit_ms: Fraction,
    stated: Fraction,
    limits: MediaSettings,
) -> Webm:
    video = next((track for track in tracks if track.kind == VIDEO_TRACK), None)
    if video is None or not video.width or not video.height:
        raise MediaError("the WebM has no video track")
    check_pixels(video.width, video.height, limits)
    own = [(time, alpha) for number, time, alpha in blocks if number == video.number]
    if not own:
        raise MediaError("the WebM has no frame")
    starts = tuple(sorted(time * unit_ms for time, _ in own))
    has_alpha = video.alpha_mode and all(alpha for _, alpha in own)
    # Start and duration of the last frame are rounded: the stated duration is more exact.
    duration = stated * unit_ms if stated * unit_ms > starts[-1] else starts[-1] + video.frame_ms
    return Webm(doc_type, tuple(tracks), video, starts, has_alpha, duration)


def _top_level(data: bytes) -> Iterator[Element]:
    """Yield the file's elements; segments and clusters are replaced by their own."""
    at = 0
    while at < len(data):
        kind, start, size = _head(data, at, len(data))
        if kind in (SEGMENT, CLUSTER):
            if size != UNKNOWN and start + size > len(data):
                raise MediaError("the WebM is cut off")
            at = start
            continue
        at = _end(start, size, len(data))
        yield kind, start, at


def _children(data: bytes, start: int, end: int) -> Iterator[Element]:
    while start < end:
        kind, content, size = _head(data, start, end)
        start = _end(content, size, end)
        yield kind, content, start


def _end(start: int, size: int, parent_end: int) -> int:
    if size == UNKNOWN:
        raise MediaError("the WebM is damaged (an element of unknown size)")
    if start + size > parent_end:
        raise MediaError("the WebM is cut off or damaged (an element reaches beyond its parent)")
    return start + size


def _head(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Return ID, start of content, and size of an element."""
    id_length = _length(data, at, end, 4)
    kind = int.from_bytes(data[at : at + id_length], "big")
    size, start = _number(data, at + id_length, end)
    return kind, start, size


def _number(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a variable-size integer and the place after it."""
    length = _length(data, at, end, 8)
    bits = 7 * length
    value = int.from_bytes(data[at : at + length], "big") & ((1 << bits) - 1)
    return UNKNOWN if value == (1 << bits) - 1 else value, at + length


def _length(data: bytes, at: int, end: int, most: int) -> int:
    length = 9 - data[at].bit_length() if at < end else 9
    if length > most or at + length > end:
        raise MediaError("the WebM is cut off or damaged (an element without ID or size)")
    return length


def _first(data: bytes, parent: Element, kind: int) -> Element | None:
    return next((one for one in _children(data, parent[1], parent[2]) if one[0] == kind), None)


def _info(data: bytes, element: Element, scale: int, stated: Fraction) -> tuple[int, Fraction]:
    for child in _children(data, element[1], element[2]):
        if child[0] == TIMESTAMP_SCALE:
            scale = _unsigned(data, child)
        elif child[0] == DURATION:
            stated = _real(data, child)
    return scale, stated


def _track(data: bytes, element: Element) -> Track:
    track = Track()
    for child in _children(data, element[1], element[2]):
        kind = child[0]
        if kind == NUMBER:
            track = replace(track, number=_unsigned(data, child))
        elif kind == TRACK_TYPE:
            track = replace(track, kind=_unsigned(data, child))
        elif kind == CODEC:
            track = replace(track, codec=_text(data, child))
        elif kind == DEFAULT_DURATION:
            track = replace(track, frame_ms=Fraction(_unsigned(data, child), NS_PER_MS))
        elif kind == VIDEO:
            track = _with_video(data, child, track)
    return track


def _with_video(data: bytes, element: Element, track: Track) -> Track:
    for child in _children(data, element[1], element[2]):
        if child[0] == PIXEL_WIDTH:
            track = replace(track, width=_unsigned(data, child))
        elif child[0] == PIXEL_HEIGHT:
            track = replace(track, height=_unsigned(data, child))
        elif child[0] == ALPHA_MODE:
            track = replace(track, alpha_mode=_unsigned(data, child) == 1)
    return track


def _block(data: bytes, element: Element, cluster: int) -> tuple[int, int, bool]:
    """Return track, time and alpha of a SimpleBlock or BlockGroup."""
    kind, start, end = element
    alpha = False
    if kind == BLOCK_GROUP:
        block = _first(data, element, BLOCK)
        if block is None:
            raise MediaError("the WebM is damaged (a group without block)")
        additions = _first(data, element, BLOCK_ADDITIONS)
        more = _first(data, additions, BLOCK_MORE) if additions else None
        alpha = more is not None and _first(data, more, BLOCK_ADDITIONAL) is not None
        start, end = block[1], block[2]
    track, at = _number(data, start, end)
    if at + 3 >= end:
        raise MediaError("the WebM is damaged (an empty block)")
    if data[at + 2] & LACING:
        raise MediaError("the WebM is damaged (a block of video with several frames)")
    return track, cluster + int.from_bytes(data[at : at + 2], "big", signed=True), alpha


def _unsigned(data: bytes, element: Element) -> int:
    if element[2] - element[1] > 8:
        raise MediaError("the WebM is damaged (a number of more than 8 bytes)")
    return int.from_bytes(data[element[1] : element[2]], "big")


def _real(data: bytes, element: Element) -> Fraction:
    content = data[element[1] : element[2]]
    if len(content) not in (0, 4, 8):
        raise MediaError("the WebM is damaged (a number of the wrong size)")
    value = struct.unpack(">f" if len(content) == 4 else ">d", content)[0] if content else 0.0
    if not 0 <= value < float("inf"):
        raise MediaError("the WebM is damaged (a duration that is no number)")
    return Fraction(value)


def _text(data: bytes, element: Element | None) -> str:
    return data[element[1] : element[2]].rstrip(b"\0").decode("ascii", "replace") if element else ""
