"""Search for the encoding with the least error at chat size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log

import numpy as np

from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.packing.animation import Animation, animation
from sticker_pipeline.packing.encode.formats import ENCODERS
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.encode.webm import MOST_RATE
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.limits import FileLimits, Format
from sticker_pipeline.packing.place import scaled
from sticker_pipeline.packing.quality import CHAT_SIDE, MAX_LOOP_GAP, chat_error_db, loop_gap
from sticker_pipeline.packing.timing import Reductions, Timeline, frame_distances, on_grid, reductions, within_time

Render = Callable[[int], Animation]

_COLOURS = (None, 256, 208, 160, 128, 104, 80, 64, 52, 40, 32, 26, 20, 16, 13, 10, 8, 6, 4)
_PALETTES = tuple(Settings(colours=colours) for colours in _COLOURS)
LADDERS: Mapping[Format, tuple[tuple[Settings, ...], ...]] = {
    "PNG": (_PALETTES,),
    "APNG": (_PALETTES,),
    "GIF": (_PALETTES,),
    "WEBP": (_PALETTES, tuple(Settings(quality=quality) for quality in (*range(96, 60, -4), *range(60, -1, -10)))),
    "WEBM": (tuple(Settings(quality=quality) for quality in range(57, -1, -4)),),
}
"""Settings of each format from best to worst, a ladder for each kind of loss."""

PROBED = 5  # frames of an animation that stand for all in the search
PROBED_LEVEL = 6  # of zlib
INDEPENDENT: tuple[Format, ...] = ("PNG", "APNG")  # frames do not refer to others, so that any can be probed
STEPS = (2, 1)  # rungs or sizes at a time
STARTS = 2  # sizes from which the search climbs, beside the likely one
PER_RUNG = 0.89  # bytes of a rung, as a share of those of the rung above: measured 0.84–0.95
FULL = 0.99  # of the limit, aimed at
MOST_ENCODINGS = 8  # of the whole animation
UNSEEN = 1e-6  # mean squared error (60 dB): less makes no difference, and the larger size is taken
GOOD = 1e-4  # of the squared error, 40 dB: other sizes are not looked for
NOTABLE = 0.98  # of the squared error: 0.1 dB less is worth another encoding
FINE_SIDE = 2 * CHAT_SIDE  # larger originals look the same at chat size


@dataclass(frozen=True)
class Fitted:
    """A file within its limits.

    `animation`: as decoded. `settings`: size, colours or quality, frames, fps and loops. `error_db`: of
    `chat_error_db`, against the original at the same speed.
    """

    data: bytes
    animation: Animation
    settings: dict[str, object]
    error_db: float


def fit(
    render: Render,
    sizes: Sequence[int],
    limits: FileLimits,
    count: Count = lambda *_: None,
    original: Animation | None = None,
) -> Fitted:
    """Encode within `limits` with the least error at chat size.

    `render`: makes the animation at a side in pixels. `sizes`: allowed sides. First the times are brought
    within limits, then size, colours or quality, and the number of frames are searched together, by encodings of a few
    frames; few whole encodings follow. `original`: what errors are measured against, of the same frames and shape;
    without it, the animation at the smallest of `sizes` from FINE_SIDE up. A PNG shows frame 1. Raises PackError if
    nothing fits.
    """
    if limits.format == "PNG":
        render, original = _first_frames(render), original and _first_frame(original)
    side = min((side for side in sizes if side >= FINE_SIDE), default=max(sizes))
    rendered = {} if original else {side: render(side)}
    search = _search(render, sizes, limits, count, original or rendered[side], rendered)
    for ladder in LADDERS[limits.format]:
        search.climb(ladder)
    return _encoded(search)


@dataclass(frozen=True)
class _Choice:
    side: int
    settings: Settings


@dataclass(frozen=True)
class _Probe:
    """Estimates from a few encoded frames.

    Bytes of the first frame and of each other one; mean squared error, 0..1.
    """

    first: float
    each: float
    error: float


@dataclass
class _Search:
    render: Render
    sizes: tuple[int, ...]
    limits: FileLimits
    count: Count
    timeline: Timeline
    reduced: Reductions
    original: Animation
    """All frames of the source; `small` is at chat size."""
    small: Animation
    rendered: dict[int, Animation]
    probes: dict[_Choice, _Probe] = field(default_factory=dict)
    corrections: dict[bool, float] = field(default_factory=lambda: {True: 1.0, False: 1.0})
    """Whole bytes relative to those that probes promise, of lossless and of lossy settings."""

    def at(self, side: int) -> Animation:
        if side not in self.rendered:
            self.rendered[side] = self.render(side)
        return self.rendered[side]

    def probe(self, choice: _Choice) -> _Probe:
        if choice not in self.probes:
            self.probes[choice] = _probed(self, choice)
            self.count("encodings tried", len(self.probes), len(self.probes) + 1)
        return self.probes[choice]

    def frames(self, choice: _Choice) -> int:
        """Return how many frames fit within the bytes; may be 0."""
        probe = self.probe(choice)
        room = FULL * self.limits.max_bytes / self.corrections[_lossless(choice)] - probe.first
        most = self.reduced.most()
        return int(min(most, 1 + room // probe.each if probe.each else most)) if room >= 0 else 0

    def error(self, choice: _Choice) -> float:
        """Return the expected squared error; above 1: it does not fit."""
        probe, fitting = self.probe(choice), self.frames(choice)
        time_error = float(self.reduced.errors[:fitting].min()) if fitting else np.inf
        if np.isfinite(time_error):
            return max(UNSEEN, probe.error + time_error)
        return 1 + (probe.first + probe.each * self.reduced.most()) / self.limits.max_bytes

    def promising(self) -> _Choice:
        """Return the choice with the least expected error; the largest of equals."""
        return min(self.probes, key=lambda choice: (self.error(choice), -choice.side))

    def least_error(self) -> float:
        """Return the least expected error of all choices so far."""
        return min(self.error(choice) for choice in self.probes)

    def climb(self, ladder: tuple[Settings, ...]) -> None:
        """Probe along sizes and rungs until no neighbour is better.

        Not where lossless is possible, or where the best rung is worse than another ladder's choice.
        """
        unscaled = max(self.original.size)
        for side in dict.fromkeys((self.sizes[0], unscaled if unscaled in self.sizes else self.sizes[0])):
            best = _Choice(side, ladder[0])
            if self.frames(best) == self.reduced.most() and self.error(best) <= self.least_error():
                return
        if len(self.sizes) > 1 or self.probe(_Choice(self.sizes[0], ladder[0])).error < self.least_error():
            likely = self.likely(ladder)
            self.climb_from(likely, ladder, STEPS)
            if self.least_error() > GOOD:
                self.climb_elsewhere(likely, ladder)

    def climb_elsewhere(self, likely: tuple[int, int], ladder: tuple[Settings, ...]) -> None:
        """Climb from the best of all sizes with about as many bytes."""
        places = self.other_sizes(likely, ladder)
        places.sort(key=lambda at: self.error(_Choice(self.sizes[at[0]], ladder[at[1]])))
        for place in places[:STARTS]:
            self.climb_from(place, ladder, STEPS)

    def other_sizes(self, place: tuple[int, int], ladder: tuple[Settings, ...]) -> list[tuple[int, int]]:
        """Return the places of all sizes with about as many bytes."""
        size, rung = place
        shifts = [round(2 * log(side / self.sizes[size]) / -log(PER_RUNG)) for side in self.sizes]
        return [(other, min(max(0, rung + shift), len(ladder) - 1)) for other, shift in enumerate(shifts)]

    def climb_again(self, choice: _Choice) -> None:
        """Probe around `choice`, after corrections."""
        ladder = next(ladder for ladder in LADDERS[self.limits.format] if choice.settings in ladder)
        self.climb_from((self.sizes.index(choice.side), ladder.index(choice.settings)), ladder, STEPS[-1:])

    def climb_from(self, place: tuple[int, int], ladder: tuple[Settings, ...], steps: Sequence[int]) -> None:
        for step in steps:
            while (best := self.better(place, step, ladder)) != place:
                place = best

    def better(self, place: tuple[int, int], step: int, ladder: tuple[Settings, ...]) -> tuple[int, int]:
        """Return the best of a place and its neighbours.

        Those are of more bytes if all frames fit, else of fewer.
        """
        fits = self.frames(_Choice(self.sizes[place[0]], ladder[place[1]])) == self.reduced.most()
        moves = ((0, -1), (-1, 0), (-1, 1), (1, -1)) if fits else ((0, 1), (1, 0))
        moved = [(place[0] + step * by_size, place[1] + step * by_rung) for by_size, by_rung in moves]
        inside = [(size, rung) for size, rung in moved if 0 <= size < len(self.sizes) and 0 <= rung < len(ladder)]
        return min([place, *inside], key=lambda at: (self.error(_Choice(self.sizes[at[0]], ladder[at[1]])), at))

    def likely(self, ladder: tuple[Settings, ...]) -> tuple[int, int]:
        """Return the largest size that holds all frames, and its rung.

        One choice is probed: bytes grow with the area, and by about 1 / PER_RUNG with each rung.
        """
        side, rung = min(self.sizes, key=lambda side: abs(side - 1.3 * CHAT_SIDE)), len(ladder) // 3
        probe = self.probe(_Choice(side, ladder[rung]))
        share = (probe.first + probe.each * (self.reduced.most() - 1)) / self.limits.max_bytes
        most = side / share**0.5
        place = next((place for place, one in enumerate(self.sizes) if one <= most), len(self.sizes) - 1)
        share *= (self.sizes[place] / side) ** 2
        lower = round(log(share) / -log(PER_RUNG))
        return place, min(max(1, rung + lower), len(ladder) - 1)


def _first_frames(render: Render) -> Render:
    return lambda side: _first_frame(render(side))


def _first_frame(shown: Animation) -> Animation:
    return Animation(shown.frames[:1], (0,))


def _search(
    render: Render,
    sizes: Sequence[int],
    limits: FileLimits,
    count: Count,
    source: Animation,
    rendered: dict[int, Animation],
) -> _Search:
    timeline = within_time(source, limits)
    distance = frame_distances(source)
    stepped = on_grid(timeline, distance, MOST_RATE) if limits.format == "WEBM" else timeline
    finer = replace(limits, min_frame_ms=1) if stepped is not timeline else limits
    reduced = reductions(stepped, distance, finer)
    scale = min(1.0, CHAT_SIDE / max(source.size))
    small = scaled(source, (max(1, round(source.size[0] * scale)), max(1, round(source.size[1] * scale))))
    return _Search(
        render, tuple(sorted(set(sizes), reverse=True)), limits, count, timeline, reduced, source, small, rendered
    )


def _probed(search: _Search, choice: _Choice) -> _Probe:
    """Encode a few frames, evenly spread or consecutive, and decode them."""
    timeline = search.reduced.with_frames(search.reduced.most())
    few = _few(timeline, search.limits.format in INDEPENDENT)
    shown, original = few.of(search.at(choice.side)), few.of(search.small)
    encode = ENCODERS[search.limits.format]
    settings = replace(choice.settings, level=PROBED_LEVEL)
    data = encode(shown, settings)
    found = _decoded(data, few)
    error = 10 ** (-chat_error_db(original, found) / 10)
    if len(few.frames) == 1:
        return _Probe(len(data), 0, error)
    if search.limits.format in INDEPENDENT:
        return _Probe(len(data) / len(few.frames), len(data) / len(few.frames), error)
    first = len(encode(replace(shown, frames=shown.frames[:1], durations=(0,)), settings))
    return _Probe(first, max(0, len(data) - first) / (len(few.frames) - 1), error)


def _few(timeline: Timeline, spread_out: bool) -> Timeline:
    """Return up to PROBED of the frames, each shown as long."""
    total = len(timeline.frames)
    number = min(PROBED, total)
    places = np.arange(number) * total // number if spread_out else np.arange(number) + (total - number) // 2
    return Timeline(tuple(timeline.frames[place] for place in places), (100,) * number)


def _decoded(data: bytes, timeline: Timeline) -> Animation:
    """Decode a file; it has the loops of `timeline`."""
    frames = list(decode_bytes(data, MediaSettings()))
    return animation([frame.rgba for frame in frames], [max(1, frame.duration_ms) for frame in frames], timeline.loops)


def _encoded(search: _Search) -> Fitted:
    """Encode the whole animation as the probes advise; each result corrects them."""
    tried: set[tuple[_Choice, int]] = set()
    best: tuple[float, bytes, _Choice, Timeline] | None = None
    for _ in range(MOST_ENCODINGS):
        pick = search.promising()
        error = search.error(pick)
        if error > 1 or (best and error >= NOTABLE * best[0]):
            break
        number = int(np.argmin(search.reduced.errors[: search.frames(pick)])) + 1
        if (pick, number) in tried:
            break
        tried.add((pick, number))
        timeline = search.reduced.with_frames(number)
        data = ENCODERS[search.limits.format](timeline.of(search.at(pick.side)), pick.settings)
        search.count("encodings tried", len(search.probes) + len(tried), len(search.probes) + MOST_ENCODINGS)
        probe = search.probes[pick]
        search.corrections[_lossless(pick)] = len(data) / (probe.first + probe.each * (number - 1))
        if len(data) <= search.limits.max_bytes:
            best = (error, data, pick, timeline)
        else:
            search.climb_again(pick)
    if best is None:
        raise PackError(
            f"no encoding as {search.limits.format} has at most {search.limits.max_bytes:,} bytes, even with "
            f"{search.sizes[-1]} px: use fewer frames or plainer motion"
        )
    return _fitted(search, *best[1:])


def _lossless(choice: _Choice) -> bool:
    return choice.settings.quality is None


def _fitted(search: _Search, data: bytes, choice: _Choice, timeline: Timeline) -> Fitted:
    shown = _decoded(data, timeline)
    error_db = chat_error_db(search.timeline.of(search.original), shown)
    settings: dict[str, object] = {"size": choice.side, "frames": len(timeline.frames), "loops": timeline.loops}
    if sum(timeline.durations):
        settings["fps"] = round(1000 * len(timeline.frames) / sum(timeline.durations), 2)
    if choice.settings.quality is None:
        settings["colours"] = choice.settings.colours
    else:
        settings["quality"] = choice.settings.quality
    return Fitted(data, shown, settings, error_db)


def rotated(shown: Animation) -> Animation:
    """Rotate a loop so that frame 1 is the best still.

    It has the least squared distance to all frames over time, so that a pose that is held wins. Only loops that close
    (`loop_gap` at most MAX_LOOP_GAP) are rotated.
    """
    if shown.is_still or loop_gap(shown) > MAX_LOOP_GAP:
        return shown
    distances = frame_distances(shown) @ np.array(shown.durations)
    best = int(distances.argmin())
    if distances[0] <= distances[best] * (1 + 1e-6):
        return shown
    order = [*range(best, len(shown.frames)), *range(best)]
    return Animation(shown.frames[order], tuple(shown.durations[place] for place in order), shown.loops)
