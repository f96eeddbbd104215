"""Colours of a video: what its stream states, and the ffmpeg filters that make sRGB of them.

High dynamic range (PQ, HLG) is shown with white at 203 nits, the level that ITU-R BT.2408 gives to diffuse white;
brighter light is white. What nothing is stated of is taken as browsers take it: BT.709 from 720 lines on, else BT.601.
"""

import re
from dataclasses import dataclass

WHITE_NITS = 203  # ITU-R BT.2408, table 1
HD_LINES = 720  # as Chromium guesses
HDR_TRANSFERS = ("smpte2084", "arib-std-b67")  # PQ and HLG
WIDE_PRIMARIES = ("bt2020", "smpte431", "smpte432")  # the last two are DCI-P3 and Display P3
# The stream's matrix, as ffmpeg prints it -> its name in the scale filter.
MATRICES = {
    "bt709": "bt709",
    "fcc": "fcc",
    "bt470bg": "bt601",
    "smpte170m": "bt601",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
}
UNKNOWN = "unknown"
SRGB = "iec61966-2-1"  # a transfer
HDR_FILTER = "zscale"  # of zimg, which not every build of ffmpeg has
# In `Stream #0:0: Video: hevc (Main 10), yuv420p10le(tv, bt2020nc/bt2020/smpte2084, progressive), 512x64`.
PIXELS = re.compile(r": Video: .*?, (?P<format>\w+)(?:\((?P<facts>[^)]*)\))?, \d+x\d+")


@dataclass(frozen=True)
class VideoColours:
    """Names as ffmpeg prints them, "unknown" where the stream states none. `is_yuv`: luma and chroma, no RGB."""

    matrix: str = UNKNOWN
    primaries: str = UNKNOWN
    transfer: str = UNKNOWN
    is_yuv: bool = False


def stated_colours(line: str) -> VideoColours | None:
    """What a line of ffmpeg's about a video stream states; None for any other line."""
    found = PIXELS.search(line)
    if not found:
        return None
    is_yuv = found["format"].startswith("yuv")
    for fact in (found["facts"] or "").split(", "):
        if fact in MATRICES:  # one name that stands for all three
            return VideoColours(fact, fact, fact, is_yuv)
        if fact.count("/") == 2:
            matrix, primaries, transfer = fact.split("/")
            return VideoColours(matrix, primaries, transfer, is_yuv)
    return VideoColours(is_yuv=is_yuv)


def filters(colours: VideoColours, stored_height: int, width: int, height: int) -> str:
    """A filter graph of ffmpeg's that gives upright RGBA frames of `width`×`height` in sRGB.

    `stored_height`: lines of the stream, before rotation.
    """
    scale = f"scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int+bitexact"
    if not colours.is_yuv:
        return f"{scale},format=rgba"
    matrix = colours.matrix if colours.matrix in MATRICES else _likely_matrix(colours, stored_height)
    if colours.transfer not in HDR_TRANSFERS and colours.primaries not in WIDE_PRIMARIES:
        return f"{scale}:in_color_matrix={MATRICES[matrix]},format=rgba"
    return f"{_to_srgb(colours, matrix)},{scale},format=rgba"


def _likely_matrix(colours: VideoColours, stored_height: int) -> str:
    if colours.primaries == "bt2020":
        return "bt2020nc"
    return "bt709" if stored_height >= HD_LINES else "smpte170m"


def _to_srgb(colours: VideoColours, matrix: str) -> str:
    """Filters to sRGB by way of linear light. A transfer that is none of HDR's counts as sRGB's, as in browsers."""
    primaries = colours.primaries if colours.primaries in (*WIDE_PRIMARIES, "bt709") else "bt2020"
    transfer = colours.transfer if colours.transfer in HDR_TRANSFERS else SRGB
    exact = "agamma=0"  # no approximate tables
    return (
        f"{HDR_FILTER}=min={matrix}:pin={primaries}:tin={transfer}:t=linear:npl={WHITE_NITS}:{exact},format=gbrpf32le,"
        f"{HDR_FILTER}=p=bt709:{exact},{HDR_FILTER}=t={SRGB}:m=gbr:r=full:{exact},format=gbrp"
    )
