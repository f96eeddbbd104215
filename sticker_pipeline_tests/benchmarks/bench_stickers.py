"""Stickers beside sticker-convert: `python -m sticker_pipeline_tests.benchmarks.bench_stickers`.

For real animations and platforms: the error at chat size in dB against the source, bytes, and CPU seconds, of `fit` and
of sticker-convert with its own preset. That program is under the GPL: it is installed into an environment of its own in
a temporary folder, and only started as a process. Its time to start is measured alone and taken off.

Arguments: `--most N` animations (default 5), `--platforms signal,line`, `--environment FOLDER` of sticker-convert.
"""

import argparse
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.packing.animation import Animation, read_animation
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.fit import fit
from sticker_pipeline.packing.limits import FileLimits
from sticker_pipeline.packing.place import scaled
from sticker_pipeline.packing.quality import chat_error_db
from sticker_pipeline_tests.conftest import REPOSITORY

ANIMATIONS = (
    "blobfox/gifs/ablobfoxhypercofe.png",
    "anki_tan/gifs/anki_tan_hello.png",
    "anki_tan/gifs/Anki-tan_idle_240px.png",
    "gopher/gifs/gopher-dance-long-3x.gif",
    "gopher/gifs/eyeroll-3x.gif",
    "gopher/gifs/party.gif",  # long: takes minutes
)
KB, KIB = 1000, 1024
SIGNAL_SIDES = (512, 448, 384, 320, 288, 256, 224, 192, 160, 128)
DISCORD_GIF = FileLimits("GIF", 512 * KB, 5000, min_frame_ms=20)
LINE = FileLimits("APNG", 300 * KB, 4000, min_frames=5, max_frames=20, max_loops=4, whole_seconds=True)


@dataclass(frozen=True)
class Platform:
    """Limits, largest canvas, our sides (`native`: that of the source too), and sticker-convert's preset."""

    limits: FileLimits
    canvas: tuple[int, int]
    sides: tuple[int, ...]
    native: bool
    preset: str
    options: tuple[str, ...] = ()


PLATFORMS = {
    "signal": Platform(
        FileLimits("APNG", 300 * KIB, 3000),
        (512, 512),
        (512, 448, 384, 320, 288, 256, 224, 192, 160, 128),
        True,
        "signal",
    ),
    "whatsapp": Platform(FileLimits("WEBP", 500 * KIB, 10_000, min_frame_ms=8), (512, 512), (512,), False, "whatsapp"),
    "telegram": Platform(FileLimits("WEBM", 256 * KB, 3000, min_frame_ms=33), (512, 512), (512,), False, "telegram"),
    "discord": Platform(FileLimits("APNG", 512 * KB, 5000), (320, 320), (320,), False, "discord"),
    "discord gif": Platform(
        FileLimits("GIF", 512 * KB, 5000, min_frame_ms=20),
        (320, 320),
        (320,),
        False,
        "discord",
        ("--vid-format", ".gif"),
    ),
    "line": Platform(LINE, (320, 270), (270,), False, "line"),
}
PATIENCE_S = 600
SAME_MS = 30
ROUGH = 40  # pixels
SPEEDS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)


@dataclass(frozen=True)
class Result:
    db: float
    size: int
    seconds: float
    broken: str = ""
    """A limit that the file breaks, or why there is none."""

    def text(self) -> str:
        return f"{self.db:8.2f}{self.size:12,}{self.seconds:8.1f}  {self.broken}"


def main() -> None:
    """Print the table and how many comparisons were won."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=5)
    parser.add_argument("--platforms", default=",".join(PLATFORMS))
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "sticker-convert-environment")
    arguments = parser.parse_args()
    folder = REPOSITORY.parent / "shared" / "realdata"
    if not folder.is_dir():
        sys.exit(f"{folder} is not here: the real animations are needed.")
    program = installed(arguments.environment)
    start = cpu_of([str(program), "--version"]) if program else 0.0
    if program:
        print(f"sticker-convert takes {start:.1f} s of CPU to start, which is taken off")
    print(f"{'':40}{'ours: dB':>8}{'bytes':>12}{'CPU s':>8}{'theirs: dB':>12}{'bytes':>10}{'CPU s':>8}")
    pairs = []
    for name in ANIMATIONS[: arguments.most]:
        source = read_animation(folder / name, MediaSettings())
        for platform in arguments.platforms.split(","):
            ours = fitted(source, PLATFORMS[platform])
            theirs = converted(program, folder / name, source, PLATFORMS[platform], start) if program else None
            print(f"{Path(name).stem:28}{platform:12}{ours.text()}    {theirs.text() if theirs else ''}", flush=True)
            pairs += [(ours, theirs)] if theirs and theirs.size and ours.size else []
    if pairs:
        valid = [(ours, theirs) for ours, theirs in pairs if not theirs.broken]
        better = sum(ours.db >= theirs.db for ours, theirs in valid)
        print(f"at least as many dB, where theirs is within the limits: {better} of {len(valid)}")
        print(f"CPU s in all: {sum(ours.seconds for ours, _ in pairs):.1f}, {sum(one.seconds for _, one in pairs):.1f}")


def fitted(source: Animation, platform: Platform) -> Result:
    """Encode with `fit`; scaling counts as its time."""
    native = max(source.size)

    def render(side: int) -> Animation:
        width, height = (max(1, round(length * side / native)) for length in source.size)
        return scaled(source, (width, height))

    sides = sorted({*platform.sides, *([native] if platform.native and 10 <= native <= 512 else [])}, reverse=True)
    before = cpu(resource.RUSAGE_SELF) + cpu(resource.RUSAGE_CHILDREN)
    try:
        found = fit(render, sides, platform.limits, original=source)
    except PackError as error:
        return Result(math.nan, 0, 0, str(error))
    seconds = cpu(resource.RUSAGE_SELF) + cpu(resource.RUSAGE_CHILDREN) - before
    broken = broken_limit(found.animation, len(found.data), platform)
    return Result(judged(source, found.animation), len(found.data), seconds, broken)


def converted(program: Path, path: Path, source: Animation, platform: Platform, start: float) -> Result:
    """Run sticker-convert on one file, with one process and its preset."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = Path(temporary) / "in", Path(temporary) / "out"
        for folder in folders:
            folder.mkdir()
        (folders[0] / path.name).write_bytes(path.read_bytes())
        command = [str(program), "--no-confirm", "--no-progress", "--processes", "1", "--preset", platform.preset]
        command += [*platform.options, "--input-dir", str(folders[0]), "--output-dir", str(folders[1])]
        seconds = cpu_of(command) - start
        files = sorted(file for file in folders[1].iterdir() if file.stem == path.stem)
        if not files:
            return Result(math.nan, 0, seconds, "no file")
        encoded, size = read_animation(files[0], MediaSettings()), files[0].stat().st_size
        return Result(judged(source, encoded), size, seconds, broken_limit(encoded, size, platform))


def broken_limit(encoded: Animation, size: int, platform: Platform) -> str:
    """Return the first limit that a file breaks."""
    limits = platform.limits
    if size > limits.max_bytes:
        return f"{size:,} bytes"
    if encoded.size[0] > platform.canvas[0] or encoded.size[1] > platform.canvas[1]:
        return f"{encoded.size[0]}x{encoded.size[1]} px"
    if limits.max_ms is not None and encoded.total_ms > limits.max_ms:
        return f"{encoded.total_ms} ms"
    if not limits.min_frames <= len(encoded.frames) <= (limits.max_frames or len(encoded.frames)):
        return f"{len(encoded.frames)} frames"
    if limits.whole_seconds and all(encoded.total_ms * loops % 1000 for loops in range(1, limits.max_loops + 1)):
        return f"{encoded.total_ms} ms, not whole seconds"
    return ""


def judged(source: Animation, encoded: Animation) -> float:
    """Return `chat_error_db`, against the source in the shape and times of the encoding.

    An empty margin is added if the canvas has another shape. Where a limit made the animation faster or shorter, the
    speed and the first frame that agree best are taken, of both programs alike.
    """
    width, height = source.size
    ratio = encoded.size[0] / encoded.size[1]
    if abs(encoded.size[0] * height / width - encoded.size[1]) > 2:
        across, down = max(0, round(height * ratio) - width), max(0, round(width / ratio) - height)
        margins = ((0, 0), (down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0))
        source = Animation(np.pad(source.frames, margins), source.durations, source.loops)
    try:
        return chat_error_db(aligned(source, encoded), encoded)
    except ValueError:
        return math.nan


def aligned(source: Animation, encoded: Animation) -> Animation:
    """Return the source at the speed and from the frame that agree best."""
    if abs(source.total_ms - encoded.total_ms) <= SAME_MS:
        return source
    small = [rough(one) for one in (source, encoded)]
    tried = [
        (speed, start)
        for speed in sorted({source.total_ms / encoded.total_ms, *SPEEDS})
        if speed <= max(SPEEDS)
        for start in (range(len(source.frames)) if encoded.total_ms * speed < 0.98 * source.total_ms else [0])
    ]
    best = max(tried, key=lambda one: chat_error_db(played(small[0], *one, encoded.total_ms), small[1], ROUGH))
    return played(source, *best, encoded.total_ms)


def rough(shown: Animation) -> Animation:
    width, height = (max(1, round(side * ROUGH / max(shown.size))) for side in shown.size)
    return scaled(shown, (width, height))


def played(source: Animation, speed: float, start: int, most_ms: int) -> Animation:
    """Return the source from frame `start` on, faster, for `most_ms`."""
    order = [*range(start, len(source.frames)), *range(start)]
    ends = np.rint(np.cumsum([source.durations[place] for place in order]) / speed).astype(int)
    durations = np.diff(np.minimum(ends, most_ms), prepend=0)
    kept = [place for place in range(len(order)) if durations[place] > 0]
    return Animation(source.frames[[order[place] for place in kept]], tuple(int(durations[place]) for place in kept))


def installed(environment: Path) -> Path | None:
    """Install sticker-convert into an environment of its own; say why not."""
    program = environment / "bin" / "sticker-convert"
    if program.is_file():
        return program
    commands = [
        [sys.executable, "-m", "venv", str(environment)],
        [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "sticker-convert"],
    ]
    for command in commands:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        if run.returncode:
            last = run.stderr.strip().splitlines()[-1:] or ["no reason is given"]
            print(f"sticker-convert cannot be installed ({last[0]}): only our figures follow")
            return None
    return program


def cpu_of(command: Sequence[str]) -> float:
    """Return the CPU seconds of a process and its children."""
    before = cpu(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
    return cpu(resource.RUSAGE_CHILDREN) - before


def cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
