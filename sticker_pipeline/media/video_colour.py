"""Stated colours and shapes of a video, and ffmpeg filters to sRGB.

HDR (PQ, HLG) has white at 203 nits, diffuse white of ITU-R BT.2408; brighter light is white. Unstated colours, as in
browsers: BT.709 from 720 lines, else BT.601.
"""

import re
from dataclasses import dataclass

WHITE_NITS = 203  # ITU-R BT.2408, table 1
HD_LINES = 720  # as Chromium guesses
HDR_TRANSFERS = ("smpte2084", "arib-std-b67")  # PQ and HLG
WIDE_PRIMARIES = ("bt2020", "smpte431", "smpte432")  # the last two are DCI-P3 and Display P3
# The stream's matrix in ffmpeg's output -> its name in the scale filter.
MATRICES = {
    "bt709": "bt709",
    "fcc": "fcc",
    "bt470bg": "bt601",
    "smpte170m": "bt601",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
}
MOST_STRETCHED = 4  # longer : shorter side of a pixel; players ignore more as a mistake
SAME_SHAPE = 0.02  # largest relative difference of aspect ratios of one shape: sides are rounded
UNKNOWN = "unknown"
SRGB = "iec61966-2-1"  # a transfer
HDR_FILTER = "zscale"  # of zimg, not in every build of ffmpeg
# In `Stream #0:0: Video: hevc (Main 10), yuv420p10le(tv, bt2020nc/bt2020/smpte2084, progressive), 512x64`.
PIXELS = re.compile(r": Video: .*?, (?P<format>\w+)(?:\((?P<facts>[^)]*)\))?, \d+x\d+")


@dataclass(frozen=True)
class VideoColours:
    """Names as ffmpeg prints them; "unknown" if unstated.

    `is_yuv`: luma and chroma, not RGB.
    """

    matrix: str = UNKNOWN
    primaries: str = UNKNOWN
    transfer: str = UNKNOWN
    is_yuv: bool = False


@dataclass(frozen=True)
class Canvas:
    """`width` and `height` of shown frames in square pixels.

    `frame_width`, `frame_height`: the first frame's, upright; `lines`: its height before rotation.
    """

    width: int
    height: int
    frame_width: int
    frame_height: int
    lines: int


def stated_colours(line: str) -> VideoColours | None:
    """Parse an ffmpeg line on a video stream; None for other lines."""
    found = PIXELS.search(line)
    if not found:
        return None
    is_yuv = found["format"].startswith("yuv")
    for fact in (found["facts"] or "").split(", "):
        if fact in MATRICES:  # one name for all three
            return VideoColours(fact, fact, fact, is_yuv)
        if fact.count("/") == 2:
            matrix, primaries, transfer = fact.split("/")
            return VideoColours(matrix, primaries, transfer, is_yuv)
    return VideoColours(is_yuv=is_yuv)


def filters(colours: VideoColours, canvas: Canvas) -> str:
    """Return an ffmpeg filter graph: upright sRGB RGBA frames of canvas size."""
    width, height = _fitted(canvas)
    scale = f"scale=w='{width}':h='{height}':flags=bicubic+accurate_rnd+full_chroma_int+bitexact"
    shown = f"format=rgba,pad={canvas.width}:{canvas.height}:-1:-1:color=black@0"
    if not colours.is_yuv:
        return f"{scale},{shown}"
    matrix = colours.matrix if colours.matrix in MATRICES else _likely_matrix(colours, canvas.lines)
    if colours.transfer not in HDR_TRANSFERS and colours.primaries not in WIDE_PRIMARIES:
        return f"{scale}:in_color_matrix={MATRICES[matrix]},{shown}"
    return f"{_to_srgb(colours, matrix)},{scale},{shown}"


def _fitted(canvas: Canvas) -> tuple[str, str]:
    """Return ffmpeg expressions for a frame's width and height on the canvas.

    A frame of another size fills the canvas too; of another shape, it is the largest that fits.
    """
    shape = f"(iw/ih*if(between(sar,{1 / MOST_STRETCHED},{MOST_STRETCHED}),sar,1))"
    usual = f"eq(iw,{canvas.frame_width})*eq(ih,{canvas.frame_height})"
    is_alike = f"{usual}+lt(abs({shape}*{canvas.height}/{canvas.width}-1),{SAME_SHAPE})"
    return (
        f"if({is_alike},{canvas.width},clip(round({canvas.height}*{shape}),1,{canvas.width}))",
        f"if({is_alike},{canvas.height},clip(round({canvas.width}/{shape}),1,{canvas.height}))",
    )


def _likely_matrix(colours: VideoColours, lines: int) -> str:
    if colours.primaries == "bt2020":
        return "bt2020nc"
    return "bt709" if lines >= HD_LINES else "smpte170m"


def _to_srgb(colours: VideoColours, matrix: str) -> str:
    """Return filters to sRGB through linear light.

    As in browsers, non-HDR transfers count as sRGB's.
    """
    primaries = colours.primaries if colours.primaries in (*WIDE_PRIMARIES, "bt709") else "bt2020"
    transfer = colours.transfer if colours.transfer in HDR_TRANSFERS else SRGB
    exact = "agamma=0"  # no approximate tables
    return (
        f"{HDR_FILTER}=min={matrix}:pin={primaries}:tin={transfer}:t=linear:npl={WHITE_NITS}:{exact},format=gbrpf32le,"
        f"{HDR_FILTER}=p=bt709:{exact},{HDR_FILTER}=t={SRGB}:m=gbr:r=full:{exact},format=gbrp"
    )
