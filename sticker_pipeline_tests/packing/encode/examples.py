"""Animations that tests encode, and what other decoders read in the files."""

import io
import subprocess

import numpy as np
from hypothesis import strategies as st
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.packing.animation import Animation, animation


def disc_animation(n_frames: int = 6, side: int = 64) -> Animation:
    """A disc with a soft edge and a gradient, which moves over nothing."""
    y, x = np.mgrid[:side, :side].astype(float)
    frames = []
    for number in range(n_frames):
        turn = 2 * np.pi * number / n_frames
        middle = side / 2 + side / 8 * np.cos(turn), side / 2 + side / 8 * np.sin(turn)
        distance = np.hypot(x - middle[0], y - middle[1])
        alpha = np.clip((side / 4 - distance) / 2 + 0.5, 0, 1)
        frame = np.dstack([200 + 40 * x / side, 90 + 80 * y / side, 60 + 0 * x, 255 * alpha])
        frames.append(np.rint(frame).astype(np.uint8))
    return animation(frames, [40 + 20 * (number % 2) for number in range(n_frames)])


@st.composite
def small_animations(draw: st.DrawFn, colours: int = 300, shortest: int = 1, alphas: tuple[int, ...] = ()) -> Animation:
    """Up to four small frames of random pixels, some equal, with few or many colours."""
    height, width, count = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    palette = random.integers(0, 256, (draw(st.integers(1, colours)), 4), dtype=np.uint8)
    if alphas:
        palette[:, 3] = random.choice(alphas, len(palette))
    frames = [palette[random.integers(0, len(palette), (height, width))] for _ in range(count)]
    if count > 1 and draw(st.booleans()):
        frames[1] = frames[0]
    durations = draw(st.lists(st.integers(shortest, 3000), min_size=count, max_size=count))
    return animation(frames, durations, draw(st.integers(0, 5)))


def ours(data: bytes) -> tuple[np.ndarray, list[int]]:
    """Frames and durations, read by `media`."""
    frames = list(decode_bytes(data, MediaSettings()))
    return np.stack([frame.rgba for frame in frames]), [frame.duration_ms for frame in frames]


def by_pillow(data: bytes) -> tuple[np.ndarray, list[float], int | None]:
    """Frames, durations and loops, read by Pillow; hidden colours are cleared."""
    with Image.open(io.BytesIO(data)) as image:
        loops = image.info.get("loop")
        frames, durations = [], []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            rgba = np.array(image.convert("RGBA"))
            rgba[rgba[..., 3] == 0] = 0
            frames.append(rgba)
            durations.append(image.info.get("duration", 0))
    return np.stack(frames), durations, loops


def by_libvpx(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Frames of a WEBM with alpha, decoded by ffmpeg with libvpx."""
    command = [get_ffmpeg_exe(), "-v", "error", "-c:v", "libvpx-vp9", "-i", "pipe:0"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgba", "-fps_mode", "passthrough", "pipe:1"]
    raw = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 4)


def premultiplied(frames: np.ndarray) -> np.ndarray:
    """Colour times alpha, 0–255: the colour on black."""
    return frames[..., :3] * (frames[..., 3:] / 255)
