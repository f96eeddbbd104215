"""Video in MP4/MOV and WebM/Matroska: pass over the packets, and frames.

Both use imageio-ffmpeg's ffmpeg, without shell, network or files but its standard input.
"""

import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, TypeVar

import numpy as np

from sticker_pipeline.core.files.space import writing
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import counted
from sticker_pipeline.media.frame import MediaError, clear_hidden_colour, partly_whole
from sticker_pipeline.media.limits import check_frames, check_pixels, check_seconds
from sticker_pipeline.media.video_colour import MOST_STRETCHED, Canvas, VideoColours, filters, stated_colours

Demuxer = Literal["mov", "matroska"]
Result = TypeVar("Result")

# Longest decoding: SILENCE_S, plus a second per this many pixels of all frames and per this many bytes of the file.
# Measured on one core (12 frames of noise, 1024²), million pixels a second: H.264 62.6, in HDR 5.7, lossless VP9 1.7
# (5.4 million bytes).
SLOW_PIXELS, SLOW_BYTES = 2_000_000, 500_000
SILENCE_S = 30.0  # the longest wait for one frame or all packets; then ffmpeg is killed
# ffmpeg's own decoders of these omit a WebM sticker's alpha; libvpx's return it.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Packet flags in framecrc: AV_PKT_FLAG_CORRUPT (cut off), AV_PKT_FLAG_DISCARD (decoded, never shown).
CORRUPT, DISCARD = 0x2, 0x4
# Memory of an ffmpeg in bytes: its own, and per pixel of the largest allowed frame (reading packets) or of the stream's
# frame (decoding: some thirty for H.264 in 8 bits, twice that in 10).
OWN_MEMORY, WALKING_MEMORY, DECODING_MEMORY = 384_000_000, 16, 96
# And of one block, such as the index of a file that claims millions of packets.
OWN_BLOCK, BLOCK_PER_PIXEL = 64_000_000, 4
KEPT_COMPLAINTS = 50

STREAM_FACT = re.compile(r"#(tb|codec_id|dimensions|sar) 0: (.*)")
TIME = re.compile(r"<time (-?\d+) (\d+)/(\d+)>\n?")
CROPPING = re.compile(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$")  # left, right, top, bottom
ROTATION = re.compile(r"display ?matrix: rotation of (-?[\d.]+) degrees$", re.IGNORECASE)
COMPLAINT = re.compile(
    r"^(?:\[[^]]* @ 0x[0-9a-f]+\] )*(?:\[(?:error|fatal|panic)\] |\[warning\] (?=Packet corrupt))(.*)$"
)
TOO_LARGE = re.compile(r"Picture size (\d+)x(\d+) exceeds specified max pixel count")
# Messages of ffmpeg's demuxers for faults after the first packets.
CUT_OFF = "the video is cut off"
FAULTS = {
    "partial file": CUT_OFF,
    "ended prematurely": CUT_OFF,
    "Packet corrupt": CUT_OFF,  # a warning: ffmpeg drops it
    "exceeds containing master element": "the video is damaged",
}
INDEX, FRAGMENT = b"moov", b"moof"  # boxes with positions of packets
UNCROPPED = (0, 0, 0, 0)
NO_TIME = -(1 << 63)  # AV_NOPTS_VALUE


@dataclass(frozen=True)
class Video:
    """Everything in the file but the pixels.

    `width` and `height` are the canvas's: the upright frame as in players, cropped, with square pixels. `starts_ms`:
    starts of shown frames, ascending from 0; the last ends at `end_ms`. `origin_s`: the first frame's time in the file.
    `note`: empty for a whole file.
    """

    demuxer: Demuxer
    codec: str
    canvas: Canvas
    colours: VideoColours
    origin_s: Fraction
    starts_ms: tuple[int, ...]
    end_ms: int
    note: str

    @property
    def width(self) -> int:
        return self.canvas.width

    @property
    def height(self) -> int:
        return self.canvas.height


def read_video(data: bytes, demuxer: Demuxer, limits: MediaSettings) -> Video:
    """Read the packets of a video file without decoding them.

    A cut-off file keeps its whole frames. Raises MediaError for no video, no whole frame, and anything beyond `limits`.
    """
    arguments = [*_input(demuxer, limits), "-map", "0:V:0", "-c", "copy", "-f", "framecrc", "pipe:1"]
    memory = OWN_MEMORY + WALKING_MEMORY * limits.max_pixels
    with _ffmpeg(data, arguments, "level+info", memory, 2 * SILENCE_S) as ffmpeg:
        stream = _within(ffmpeg, lambda: _read_packets(ffmpeg.output, limits))
        ffmpeg.listen_to_the_end()
        _within(ffmpeg, ffmpeg.process.wait)
    cut_box = _cut_box(data) if demuxer == "mov" else b""
    if not stream.packets or not stream.width or not stream.height:
        _refuse(ffmpeg.complaints, cut_box, limits)
    if stream.codec == "vp8":
        stream.packets = _shown_vp8(data, demuxer, stream.packets, limits)
    return _video(demuxer, stream, ffmpeg, _fault(ffmpeg, cut_box), limits)


def video_frames(
    data: bytes, video: Video, limits: MediaSettings
) -> Generator[tuple[np.ndarray, int, int], None, None]:
    """Yield each frame: sRGB uint8 [H,W,4], start in ms, duration in ms.

    One is in memory at a time. Closing the generator ends ffmpeg. Raises MediaError at the first damaged frame, and
    beyond `limits`, whatever the container states.
    """
    decoder = ["-c:v", ALPHA_DECODERS[video.codec]] if video.codec in ALPHA_DECODERS else []
    arguments = [*decoder, "-xerror", *_input(video.demuxer, limits), "-map", "0:V:0", *_as_rgba(video), "pipe:1"]
    memory = OWN_MEMORY + DECODING_MEMORY * video.width * video.height
    pixels = len(video.starts_ms) * video.width * video.height
    patience = SILENCE_S + pixels / SLOW_PIXELS + len(data) / SLOW_BYTES
    count = start = 0
    with _ffmpeg(data, arguments, "level+error", memory, patience) as ffmpeg:
        while (rgba := _within(ffmpeg, lambda: _read_frame(ffmpeg.output, video))) is not None:
            start = _start_ms(ffmpeg.times, video, start)
            check_frames(count + 1, limits)
            check_seconds(start, limits)
            yield clear_hidden_colour(rgba), start, _duration_ms(start, video)
            count += 1
        ffmpeg.listen_to_the_end()
        if _within(ffmpeg, ffmpeg.process.wait):
            _check_stated_size(ffmpeg.complaints, limits)
            _check_filters(ffmpeg.complaints)
            raise MediaError(f"frame {count} of the video is damaged ({_cause(ffmpeg.complaints)})")
    if count < len(video.starts_ms):
        raise MediaError(f"only {count} of the video's {counted(len(video.starts_ms), 'frame')} can be decoded")


@dataclass(frozen=True)
class _Packet:
    """Times in units of the stream's time base."""

    start: int
    duration: int


@dataclass
class _Stream:
    """Result of the pass over the packets.

    The size is as stored, before cropping and rotation; pixels are `pixel_aspect` times as wide as high.
    """

    codec: str = ""
    time_base: Fraction = Fraction(1)
    width: int = 0
    height: int = 0
    pixel_aspect: Fraction = Fraction(1)
    packets: list[_Packet] = field(default_factory=list)


@dataclass
class _Running:
    """A running ffmpeg, its messages read by a thread."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]
    patience: float  # remaining seconds of waiting
    listener: threading.Thread = field(init=False)
    times: "queue.SimpleQueue[Fraction | None]" = field(default_factory=queue.SimpleQueue)
    complaints: list[str] = field(default_factory=list)
    rotation: float = 0.0
    cropping: tuple[int, int, int, int] = UNCROPPED
    colours: VideoColours = field(default_factory=VideoColours)

    def listen_to_the_end(self) -> None:
        """Wait for all messages, after the output has ended."""
        _within(self, self.listener.join)


def _input(demuxer: Demuxer, limits: MediaSettings) -> list[str]:
    """Return input arguments: standard input is a file, so seekable."""
    block = OWN_BLOCK + BLOCK_PER_PIXEL * limits.max_pixels
    return [
        *("-max_alloc", str(block), "-max_pixels:v", str(limits.max_pixels), "-threads", "1"),
        *("-fflags", "+discardcorrupt", "-protocol_whitelist", "fd,pipe", "-f", demuxer, "-fd", "0", "-i", "fd:"),
    ]


def _as_rgba(video: Video) -> list[str]:
    """Return output arguments: every frame once as RGBA, with its time.

    Frames have the canvas's size; ffmpeg turns them upright.
    """
    graph = filters(video.colours, video.canvas)
    return [
        *("-fps_mode:v", "passthrough", "-filter:v", graph, "-filter_threads", "1"),
        *("-stats_enc_pre:v", "pipe:2", "-stats_enc_pre_fmt:v", "<time {ptsi} {tbi}>"),
        *("-c:v", "rawvideo", "-f", "rawvideo"),
    ]


@contextmanager
def _ffmpeg(data: bytes, arguments: list[str], loudness: str, memory: int, patience: float) -> Iterator[_Running]:
    """Run ffmpeg on `data` within `memory` bytes and `patience` seconds of waiting.

    On exit, all its processes and its temporary file are gone.
    """
    command = [_executable(), "-nostdin", "-hide_banner", "-nostats", "-v", loudness, *arguments]
    with tempfile.TemporaryFile() as file:
        with writing(Path(tempfile.gettempdir())):
            file.write(data)
            file.seek(0)
        pipe = subprocess.PIPE
        own_group: dict[str, Any] = {} if sys.platform == "win32" else {"process_group": 0}
        with subprocess.Popen(command, stdin=file, stdout=pipe, stderr=pipe, **own_group) as process:
            assert process.stdout is not None and process.stderr is not None
            _limit(process.pid, memory, patience)
            running = _Running(process, process.stdout, patience)
            running.listener = threading.Thread(target=_listen, args=(process.stderr, running), daemon=True)
            running.listener.start()
            try:
                yield running
            finally:
                _kill(process)
                running.listener.join()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill ffmpeg and, if a script, the ffmpeg it started."""
    if sys.platform != "win32":
        with suppress(ProcessLookupError, PermissionError):  # all have ended
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _limit(pid: int, memory: int, patience: float) -> None:
    """Limit memory and CPU time on Linux; ffmpeg ends beyond them.

    The CPU limit far exceeds `patience` and holds even without this process.
    """
    if sys.platform == "linux":
        import resource

        for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, int(4 * patience) + 1)):
            hard = resource.prlimit(pid, kind)[1]
            limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.prlimit(pid, kind, (limit, limit))


def _executable() -> str:
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        return get_ffmpeg_exe()
    except RuntimeError as error:
        raise MediaError(
            f"video cannot be read on this machine: imageio-ffmpeg has no ffmpeg for it ({error})"
        ) from error


def _listen(errors: IO[bytes], running: _Running) -> None:
    for raw in errors:
        # Times may interrupt a complaint: ffmpeg writes both from different threads.
        line = raw.decode("utf-8", "replace")
        for value, numerator, denominator in TIME.findall(line):
            known = int(value) != NO_TIME and int(denominator) > 0
            running.times.put(Fraction(int(value) * int(numerator), int(denominator)) if known else None)
        line = TIME.sub("", line).rstrip()
        if "Output #0" in line:
            # Messages so far concern all streams, later ones the chosen stream.
            running.rotation, running.cropping = 0.0, UNCROPPED
        if rotation := ROTATION.search(line):
            running.rotation = float(rotation[1])
        if cropping := CROPPING.search(line):
            left, right, top, bottom = map(int, cropping.groups())
            running.cropping = (left, right, top, bottom)
        running.colours = stated_colours(line) or running.colours
        if (complaint := COMPLAINT.match(line)) and len(running.complaints) < KEPT_COMPLAINTS:
            running.complaints.append(complaint[1])


def _within(ffmpeg: _Running, wait: Callable[[], Result]) -> Result:
    """Return `wait()`; kill ffmpeg and raise MediaError after SILENCE_S or its patience."""
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(ffmpeg.process)

    began = time.monotonic()
    timer = threading.Timer(min(SILENCE_S, max(0.0, ffmpeg.patience)), end)
    timer.daemon = True
    timer.start()
    try:
        result = wait()
    finally:
        timer.cancel()
        waited = time.monotonic() - began
        ffmpeg.patience -= waited
    if late.is_set() and waited >= SILENCE_S:
        raise MediaError(f"ffmpeg gave nothing for {SILENCE_S:g} s: the video is damaged")
    if late.is_set():
        raise MediaError("ffmpeg is so slow that the video must be damaged: it was given up")
    return result


def _read_packets(lines: Iterable[bytes], limits: MediaSettings) -> _Stream:
    """Parse framecrc: stream facts, then packets.

    Packet: `stream, dts, pts, duration, size, checksum[, F=flags][, S=…]`.
    """
    stream = _Stream()
    for raw in lines:
        line = raw.decode("ascii", "replace").rstrip()
        if fact := STREAM_FACT.match(line):
            _take_fact(stream, fact[1], fact[2], limits)
        elif not line.startswith("#"):
            packet = _packet(line.split(","), stream.packets)
            if packet:
                stream.packets.append(packet)
            # At most every second packet of VP8 is not shown.
            check_frames(len(stream.packets) // (2 if stream.codec == "vp8" else 1), limits)
    return stream


def _take_fact(stream: _Stream, name: str, value: str, limits: MediaSettings) -> None:
    if name == "tb":
        stream.time_base = Fraction(value)
    elif name == "codec_id":
        stream.codec = value
    elif name == "sar":
        stream.pixel_aspect = _pixel_aspect(value)
    else:
        stream.width, stream.height = (int(side) for side in value.split("x"))
        check_pixels(stream.width, stream.height, limits)


def _pixel_aspect(value: str) -> Fraction:
    """Return the sample aspect ratio `a/b`; 1 if unknown (0/b) or absurd."""
    width, height = (int(part) for part in value.split("/"))
    plausible = 0 < width <= MOST_STRETCHED * height and height <= MOST_STRETCHED * width
    return Fraction(width, height) if plausible else Fraction(1)


def _cropped_size(stream: _Stream, cropping: tuple[int, int, int, int]) -> tuple[int, int]:
    left, right, top, bottom = cropping
    width, height = stream.width - left - right, stream.height - top - bottom
    return (width, height) if min(width, height) > 0 else (stream.width, stream.height)


def _shown_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return the size with square pixels; one side is enlarged."""
    if aspect > 1:
        return round(width * aspect), height
    return width, round(height / aspect)


def _canvas(stream: _Stream, cropping: tuple[int, int, int, int], *, sideways: bool) -> Canvas:
    stored = _cropped_size(stream, cropping)
    shown = _shown_size(*stored, stream.pixel_aspect)
    if sideways:
        return Canvas(*shown[::-1], *stored[::-1], lines=stored[1])
    return Canvas(*shown, *stored, lines=stored[1])


def _packet(columns: list[str], earlier: list[_Packet]) -> _Packet | None:
    """Parse a packet; None if not shown.

    Without a time, it follows the previous one.
    """
    flags = next((int(column.strip()[4:], 16) for column in columns[6:7] if column.strip().startswith("F=0x")), 0)
    if flags & (CORRUPT | DISCARD):
        return None
    dts, pts, duration = (column.strip() for column in columns[1:4])
    known = next((int(time) for time in (pts, dts) if time != "NOPTS"), None)
    follows = earlier[-1].start + earlier[-1].duration if earlier else 0
    return _Packet(follows if known is None else known, max(0, int(duration)))


def _shown_vp8(data: bytes, demuxer: Demuxer, packets: list[_Packet], limits: MediaSettings) -> list[_Packet]:
    """Return the packets with a shown frame.

    VP8 has packets for reference frames that are never shown; bit 4 of the first byte marks shown ones (RFC 6386, 9.1).
    """
    arguments = [*_input(demuxer, limits), "-map", "0:V:0", "-c", "copy", "-f", "ivf", "pipe:1"]
    memory = OWN_MEMORY + WALKING_MEMORY * limits.max_pixels
    with _ffmpeg(data, arguments, "level+error", memory, SILENCE_S) as ffmpeg:
        shown = _within(ffmpeg, lambda: [bool(first >> 4 & 1) for first in _first_bytes(ffmpeg.output, len(data))])
    return [packet for packet, visible in zip(packets, shown, strict=False) if visible]


def _first_bytes(ivf: IO[bytes], most: int) -> Iterator[int]:
    """Yield the first byte of each packet of an IVF stream.

    Layout: header (32 bytes); then size (4), time (8), packet.
    """
    ivf.read(32)
    while len(place := ivf.read(12)) == 12:
        size = int.from_bytes(place[:4], "little")
        packet = ivf.read(size) if 0 < size <= most else b""
        yield packet[0] if packet else 0


def _video(demuxer: Demuxer, stream: _Stream, ffmpeg: _Running, fault: str, limits: MediaSettings) -> Video:
    packets = sorted(stream.packets, key=lambda packet: packet.start)
    if not packets:
        raise MediaError("the video has no frame that is whole")
    first = packets[0].start
    starts = tuple(round(1000 * (packet.start - first) * stream.time_base) for packet in packets)
    end = round(1000 * (max(packet.start + packet.duration for packet in packets) - first) * stream.time_base)
    check_frames(len(packets), limits)
    check_seconds(end, limits)
    sideways = abs(abs(ffmpeg.rotation) % 180 - 90) < 1  # ffmpeg's rule for rotating frames
    canvas = _canvas(stream, ffmpeg.cropping, sideways=sideways)
    check_pixels(canvas.width, canvas.height, limits)
    note = partly_whole(fault, len(packets)) if fault else ""
    origin = first * stream.time_base
    return Video(demuxer, stream.codec, canvas, ffmpeg.colours, origin, starts, end, note)


def _cut_box(data: bytes) -> bytes:
    """Return the kind of a cut-off outermost box (MP4, MOV), else empty.

    Source: ISO/IEC 14496-12, 4.2.
    """
    at = 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if at + size > len(data):
            return kind
        if size < 8:  # up to the end, or damaged
            break
        at += size
    return b""


def _fault(ffmpeg: _Running, cut_box: bytes) -> str:
    said = "\n".join(ffmpeg.complaints)
    if fault := next((fault for words, fault in FAULTS.items() if words in said), ""):
        return fault
    if cut_box == FRAGMENT:
        return CUT_OFF
    return "the video is damaged" if ffmpeg.process.returncode else ""


def _refuse(complaints: list[str], cut_box: bytes, limits: MediaSettings) -> NoReturn:
    """Raise MediaError with the reason why no packets are found."""
    _check_stated_size(complaints, limits)
    if cut_box == INDEX:
        raise MediaError("the video is cut off inside its index (the moov box)")
    everything = "\n".join(complaints)
    if "matches no streams" in everything:
        raise MediaError("it holds no video, only sound or text")
    if "moov atom not found" in everything:
        raise MediaError("the video is cut off: its index (the moov box) is missing")
    raise MediaError(f"the video is damaged or cut off ({_cause(complaints)})")


def _check_stated_size(complaints: list[str], limits: MediaSettings) -> None:
    """Raise MediaError if ffmpeg refused a size stated only within pixels."""
    if size := TOO_LARGE.search("\n".join(complaints)):
        check_pixels(int(size[1]), int(size[2]), limits)


def _check_filters(complaints: list[str]) -> None:
    if "No such filter" in "\n".join(complaints):
        raise MediaError(
            "a video of high dynamic range or of wide colours, which the ffmpeg here cannot convert: convert it to SDR"
        )


def _cause(complaints: list[str]) -> str:
    return complaints[0] if complaints else "ffmpeg gives no reason"


def _read_frame(output: IO[bytes], video: Video) -> np.ndarray | None:
    """Return the next frame, uint8 [H,W,4]; None at the end."""
    rgba = np.empty((video.height, video.width, 4), dtype=np.uint8)
    return rgba if output.readinto(rgba.data.cast("B")) == rgba.nbytes else None  # type: ignore[attr-defined]


def _start_ms(times: "queue.SimpleQueue[Fraction | None]", video: Video, previous: int) -> int:
    """Return the read frame's start, reported by ffmpeg before the frame."""
    try:
        time = times.get(timeout=SILENCE_S)
    except queue.Empty:
        raise MediaError("ffmpeg gives no time for a frame of the video") from None
    return max(previous, round(1000 * (time - video.origin_s))) if time is not None else previous


def _duration_ms(start: int, video: Video) -> int:
    """Return the time to the next frame, by packets."""
    following = bisect_right(video.starts_ms, start)
    end = video.starts_ms[following] if following < len(video.starts_ms) else video.end_ms
    return max(0, end - start)
