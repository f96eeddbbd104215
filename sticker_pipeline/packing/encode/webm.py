"""WEBM with VP9 and alpha, through imageio's ffmpeg."""

import subprocess
import tempfile
from fractions import Fraction
from math import gcd
from pathlib import Path

import numpy as np

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.encode.bleed import bled
from sticker_pipeline.packing.encode.merge import shown_at
from sticker_pipeline.packing.encode.settings import BEST_CRF, Settings
from sticker_pipeline.packing.errors import PackError

MOST_RATE = 30  # frames a second
ALPHA_MODE = b"\x53\xc0\x81\x01"  # Matroska: element AlphaMode, one byte, 1
PATIENCE_S = 600.0


def encode(animation: Animation, settings: Settings) -> bytes:
    """Encode a VP9 video with alpha and a constant rate.

    It has at most 30 frames a second. The total
    stays; frames are shown at the nearest steps. Loops cannot be stated. Raises PackError if ffmpeg fails.
    """
    frames, rate = constant_rate(animation)
    quality = BEST_CRF if settings.quality is None else settings.quality
    width, height = animation.size
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sticker.webm"
        command = [
            *(_executable(), "-nostdin", "-hide_banner", "-v", "error", "-y"),
            *("-f", "rawvideo", "-pixel_format", "rgba", "-video_size", f"{width}x{height}"),
            *("-framerate", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0"),
            *_video_options(BEST_CRF - quality),
            *("-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1"),
            *("-an", "-f", "webm", str(target)),
        ]
        _run(command, bled(frames).tobytes())
        data = target.read_bytes()
    if ALPHA_MODE not in data[:4096]:
        raise PackError("ffmpeg wrote a WEBM without alpha: install imageio-ffmpeg with an ffmpeg that has libvpx")
    return data


def constant_rate(animation: Animation) -> tuple[np.ndarray, Fraction]:
    """Return frames at one rate, and the rate in frames a second.

    The rate is exact where all durations are multiples of a step of 1/30 s or more; otherwise each frame is the one
    shown in the middle of its step, and the total is kept.
    """
    if animation.is_still:
        return animation.frames, Fraction(MOST_RATE)
    step = gcd(*animation.durations)
    if step * MOST_RATE >= 1000:
        repeats = np.array(animation.durations) // step
        return animation.frames.repeat(repeats, axis=0), Fraction(1000, step)
    count = max(1, animation.total_ms * MOST_RATE // 1000)
    middles = (np.arange(count) + 0.5) * animation.total_ms / count
    return animation.frames[shown_at(animation.durations, middles)], Fraction(1000 * count, animation.total_ms)


def _video_options(crf: int) -> list[str]:
    """Return arguments of filter and libvpx: constant quality, one key frame.

    Alternate reference frames would lose the alpha of shown ones.
    """
    return [
        *("-vf", "scale=out_color_matrix=bt601:out_range=tv:flags=accurate_rnd+full_chroma_int+full_chroma_inp"),
        *("-pix_fmt", "yuva420p", "-c:v", "libvpx-vp9", "-crf", str(crf), "-b:v", "0"),
        *("-deadline", "good", "-cpu-used", "4", "-auto-alt-ref", "0", "-row-mt", "0", "-g", "9999"),
        *("-colorspace", "smpte170m", "-color_primaries", "bt709", "-color_trc", "iec61966-2-1", "-color_range", "tv"),
    ]


def _executable() -> str:
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        return get_ffmpeg_exe()
    except RuntimeError as error:
        raise PackError(f"WEBM cannot be written: imageio-ffmpeg has no ffmpeg for this machine ({error})") from error


def _run(command: list[str], pixels: bytes) -> None:
    try:
        subprocess.run(command, input=pixels, capture_output=True, check=True, timeout=PATIENCE_S)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        cause = said[-1] if said else "it gives no reason"
        raise PackError(f"ffmpeg could not write the WEBM ({cause}): make the sticker again") from error
    except subprocess.TimeoutExpired as error:
        raise PackError(f"ffmpeg took more than {PATIENCE_S:.0f} s for one WEBM: use fewer frames") from error
