"""Pixels of a scene: determinism, transparency and outline, visibility of every word, smooth animation."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from sticker_pipeline.embedded import scene as words
from sticker_pipeline.embedded.drawing import draw, face_circle
from sticker_pipeline.embedded.scene import Identity, Scene, random_identity, random_scene

PLAIN = Identity("1girl", "short hair", "brown hair", "blue eyes", "shirt", "red")


def visible(first: Scene, second: Scene) -> int:
    """Pixels of 96 x 96, over white, that clearly differ (by more than 48 of 255 in a channel)."""
    images = []
    for scene in (first, second):
        rgba = draw(scene, 96).astype(np.float64)
        alpha = rgba[..., 3:] / 255
        images.append(rgba[..., :3] * alpha + 255 * (1 - alpha))
    return int((np.abs(images[0] - images[1]).max(axis=-1) > 48).sum())


@pytest.mark.parametrize("style", words.STYLES)
def test_the_same_scene_gives_the_same_bytes(style: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(5):
        scene = random_scene(rng, random_identity(rng), style)
        assert draw(scene, 64).tobytes() == draw(scene, 64).tobytes()


@pytest.mark.parametrize("size", [16, 96, 101])
def test_shape_and_type(size: int) -> None:
    image = draw(Scene(PLAIN), size)
    assert image.shape == (size, size, 4)
    assert image.dtype == np.uint8


def test_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        draw(Scene(PLAIN), 8)


def test_art_is_opaque() -> None:
    for background in words.BACKGROUNDS[1:]:
        assert (draw(Scene(PLAIN, background=background, style="art"), 48)[..., 3] == 255).all(), background


def test_stickers_have_a_white_outline_on_transparency() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        image = draw(random_scene(rng, random_identity(rng), "sticker"), 128)
        empty = image[..., 3] == 0
        assert 0.15 < empty.mean() < 0.85
        assert (image[empty] == 0).all()
        near = empty.copy()
        for _ in range(3):  # what lies within three pixels of the transparent part
            near[1:] |= near[:-1].copy()
            near[:-1] |= near[1:].copy()
            near[:, 1:] |= near[:, :-1].copy()
            near[:, :-1] |= near[:, 1:].copy()
        rim = image[near & (image[..., 3] == 255)][:, :3]
        assert np.median(rim) >= 250
        assert np.quantile(rim.min(axis=1), 0.05) > 150  # the thin edge is light grey; no dark line reaches the rim


def _identities() -> list[tuple[Identity, Identity]]:
    pairs = [(PLAIN, replace(PLAIN, hair_style=style)) for style in words.GIRL_HAIR_STYLES if style != "short hair"]
    pairs += [(PLAIN, replace(PLAIN, hair_colour=hair)) for hair in words.HAIR_COLOURS if hair != "brown hair"]
    pairs += [(PLAIN, replace(PLAIN, eye_colour=eye)) for eye in words.EYE_COLOURS if eye != "blue eyes"]
    pairs += [(PLAIN, replace(PLAIN, outfit=outfit)) for outfit in words.OUTFITS if outfit != "shirt"]
    pairs += [(PLAIN, replace(PLAIN, outfit_colour=tone)) for tone in words.OUTFIT_COLOURS if tone != "red"]
    pairs += [(PLAIN, replace(PLAIN, accessories=(accessory,))) for accessory in words.ACCESSORIES]
    pairs += [(PLAIN, replace(PLAIN, mark=mark)) for mark in words.MARKS if mark != "none"]
    return [*pairs, (PLAIN, replace(PLAIN, gender="1boy"))]


@pytest.mark.parametrize(("first", "second"), _identities())
def test_every_word_of_an_identity_is_visible(first: Identity, second: Identity) -> None:
    assert visible(Scene(first), Scene(second)) >= 8


def _scenes() -> list[tuple[Scene, Scene]]:
    rest = Scene(PLAIN)
    pairs = [(rest, replace(rest, expression=word)) for word in words.EXPRESSIONS if word != rest.expression]
    pairs += [(rest, replace(rest, pose=word)) for word in words.POSES if word not in ("holding", rest.pose)]
    pairs += [(rest, replace(rest, view=word)) for word in words.VIEWS if word != rest.view]
    pairs += [(rest, replace(rest, prop=word, pose="holding")) for word in words.HELD_PROPS]
    pairs += [(rest, replace(rest, prop=word)) for word in words.FLOATING_PROPS]
    pairs += [(rest, replace(rest, background=word, style="art")) for word in words.BACKGROUNDS[1:]]
    return [*pairs, (rest, replace(rest, gaze="looking to the side"))]


@pytest.mark.parametrize(("first", "second"), _scenes())
def test_every_word_of_a_scene_is_visible(first: Scene, second: Scene) -> None:
    assert visible(first, second) >= 12


def test_identities_with_the_same_tags_differ() -> None:
    rng = np.random.default_rng(2)
    details = [random_identity(rng).details for _ in range(4)]
    for first, second in pairwise(details):
        pair = [Scene(replace(PLAIN, details=chosen)) for chosen in (first, second)]
        assert visible(pair[0], pair[1]) >= 100


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("bob", 0.05),
        ("swing", 0.05),
        ("sway", 0.05),
        ("mouth_open", 0.02),
        ("tilt", 0.3),
        ("rotation", 0.3),
        ("x_offset", 0.002),
        ("y_offset", 0.002),
        ("scale", 0.002),
    ],
)
def test_neighbouring_frames_are_close_and_far_ones_are_not(name: str, step: float) -> None:
    rest = Scene(PLAIN, expression="open mouth", pose="arms up")
    rest = replace(rest, **{name: getattr(rest, name) + step / 2})
    image = draw(rest, 96).astype(float)
    near = draw(replace(rest, **{name: getattr(rest, name) + step}), 96).astype(float)
    far = draw(replace(rest, **{name: getattr(rest, name) + 12 * step}), 96).astype(float)
    assert 0 < np.abs(near - image).mean() < np.abs(far - image).mean()
    assert np.abs(near - image).mean() < 4


def test_a_blink_closes_the_eye_step_by_step() -> None:
    """The blue of the iris shrinks to nothing."""
    areas = []
    for blink in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        rgb = draw(Scene(PLAIN, view="portrait", blink=blink), 192)[..., :3].astype(int)
        areas.append(int(((rgb[..., 2] > rgb[..., 0] + 60) & (rgb[..., 2] > 90)).sum()))
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > 200
    assert areas[-1] == 0


@pytest.mark.parametrize("view", words.VIEWS)
def test_what_an_expression_changes_lies_in_the_face(view: str) -> None:
    side = 192
    rng = np.random.default_rng(6)
    for _ in range(6):
        smiling = replace(random_scene(rng, random_identity(rng), "sticker"), view=view, expression="smile", tilt=0.0)
        other = replace(smiling, expression="angry")
        changed = np.abs(draw(smiling, side).astype(int) - draw(other, side).astype(int)).max(axis=-1) > 24
        x, y, radius = face_circle(smiling)
        rows, columns = np.nonzero(changed)
        away = np.hypot((columns + 0.5) / side - x, (rows + 0.5) / side - y)
        assert len(away) > 50
        assert (away <= radius).mean() > 0.85
        assert (away <= 1.25 * radius).mean() > 0.97
        assert away.max() > 0.35 * radius  # and it is not far larger than the features in it
