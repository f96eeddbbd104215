"""Motion for stills: bounce, shake, pulse."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image

from sticker_pipeline.core.texts import counted
from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.place import premultiplied_at, straight, visible_box

Motion = Literal["bounce", "shake", "pulse"]

HOP = 0.15  # of the subject's height
HOP_TIME = 0.7  # of the loop; the subject lands and is squashed in the rest
SQUASH = 0.07
TURN = math.radians(6)
TURNS = 3  # to both sides, in one loop
SHRINK = 0.1

_PAD = 2  # transparent pixels around, so that the canvas's edge is soft too


@dataclass(frozen=True)
class Pose:
    """A subject's place at one time, about its anchor.

    `rise`: in heights of the subject. `across`, `along`: scales of width and height. `turn`: radians.
    """

    rise: float = 0.0
    across: float = 1.0
    along: float = 1.0
    turn: float = 0.0


def bounce(time: float) -> Pose:
    """Return a hop along a parabola, and a squash after landing."""
    if time < HOP_TIME:
        part = time / HOP_TIME
        return Pose(rise=HOP * 4 * part * (1 - part))
    squash = SQUASH * math.sin(math.pi * (time - HOP_TIME) / (1 - HOP_TIME))
    return Pose(across=1 + squash, along=1 - squash)


def shake(time: float) -> Pose:
    """Return turns to both sides, a sine that swells and fades."""
    return Pose(turn=TURN * math.sin(2 * math.pi * TURNS * time) * math.sin(math.pi * time) ** 2)


def pulse(time: float) -> Pose:
    """Return a subject that is smallest halfway, as a cosine."""
    scale = 1 - SHRINK * (1 - math.cos(2 * math.pi * time)) / 2
    return Pose(across=scale, along=scale)


POSES: Mapping[Motion, Callable[[float], Pose]] = MappingProxyType({"bounce": bounce, "shake": shake, "pulse": pulse})


def moved(sticker: Animation, kind: Motion, frames: int = 20, ms: int = 50) -> Animation:
    """Animate a still in a seamless loop of equal durations.

    The first frame is the subject at rest. All frames stay in the still's visible box, so its margin remains: the
    subject is made smaller by what the motion needs. Sampled bicubically with premultiplied alpha, at fractions of a
    pixel. ValueError: `sticker` moves already, or `frames` is under 2, or `ms` under 1.
    """
    if not sticker.is_still:
        raise ValueError("only stills can be set in motion.")
    if frames < 2 or ms < 1:
        raise ValueError(
            f"a motion needs at least 2 frames of 1 ms, and was asked for {counted(frames, 'frame')} of {ms} ms."
        )
    box = visible_box(sticker)
    if box is None:
        return Animation(np.repeat(sticker.frames, frames, axis=0), (ms,) * frames)
    maps = _maps([POSES[kind](number / frames) for number in range(frames)], sticker.frames[0], box)
    planes = _planes(sticker.frames[0])
    return Animation(np.stack([_sampled(planes, map_) for map_ in maps]), (ms,) * frames)


def _maps(poses: list[Pose], frame: np.ndarray, box: tuple[int, int, int, int]) -> list[np.ndarray]:
    """Return affine maps that keep all poses in `box`.

    Each maps points of the still, float64 [2, 3].
    """
    turns = any(pose.turn for pose in poses)
    anchor = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2 if turns else box[3]])
    maps = [_map(pose, anchor, box[3] - box[1]) for pose in poses]
    points = _extremes(frame)
    reached = np.concatenate([points @ map_[:, :2].T + map_[:, 2] for map_ in maps])
    low, high = reached.min(axis=0), reached.max(axis=0)
    start, size = np.array(box[:2]), np.array([box[2] - box[0], box[3] - box[1]])
    scale = min(1.0, *(size / (high - low)))
    shift = start + (size - (high - low) * scale) / 2 - low * scale
    return [np.column_stack([map_[:, :2] * scale, map_[:, 2] * scale + shift]) for map_ in maps]


def _map(pose: Pose, anchor: np.ndarray, height: int) -> np.ndarray:
    cosine, sine = math.cos(pose.turn), math.sin(pose.turn)
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([pose.across, pose.along])
    return np.column_stack([linear, anchor - linear @ anchor - [0, pose.rise * height]])


def _extremes(frame: np.ndarray) -> np.ndarray:
    """Return corners of each row's outermost visible pixels, float64 [n, 2]."""
    shown = frame[..., 3] > 0
    rows = np.flatnonzero(shown.any(axis=1))
    left = shown[rows].argmax(axis=1)
    right = shown.shape[1] - shown[rows, ::-1].argmax(axis=1)
    corners = [np.column_stack([columns, rows + below]) for columns in (left, right) for below in (0, 1)]
    return np.concatenate(corners).astype(float)


def _planes(frame: np.ndarray) -> list[Image.Image]:
    premultiplied = premultiplied_at(frame, (frame.shape[1], frame.shape[0]))
    padded = np.pad(premultiplied, ((_PAD, _PAD), (_PAD, _PAD), (0, 0)))
    return [Image.fromarray(np.ascontiguousarray(padded[..., channel])) for channel in range(4)]


def _sampled(planes: list[Image.Image], map_: np.ndarray) -> np.ndarray:
    """Return the still's frame under a map of its points.

    uint8 [h, w, 4].
    """
    inverse = np.linalg.inv(map_[:, :2])
    offset = -inverse @ map_[:, 2] + _PAD
    terms = (*inverse[0], offset[0], *inverse[1], offset[1])
    size = planes[0].width - 2 * _PAD, planes[0].height - 2 * _PAD
    sampled = [plane.transform(size, Image.Transform.AFFINE, terms, Image.Resampling.BICUBIC) for plane in planes]
    return straight(np.dstack([np.asarray(plane) for plane in sampled]))
