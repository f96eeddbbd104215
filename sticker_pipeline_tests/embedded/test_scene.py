"""Words of a scene: their tags, allowed combinations, and sampling."""

from dataclasses import replace

import numpy as np
import pytest

from sticker_pipeline.embedded.roster import demo_characters, heldout_identity, known_characters, training_identity
from sticker_pipeline.embedded.scene import (
    ACCESSORY_SLOTS,
    RESERVED_LOOKS,
    STYLES,
    VOCABULARY,
    Identity,
    Scene,
    full_prompt,
    look,
    random_identity,
    random_scene,
    scene_tags,
)

SEVERAL = {"count", "accessory", "style"}
GIRL = Identity("1girl", "bob cut", "red hair", "blue eyes", "dress", "pink", ("glasses", "scarf"), "freckles")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(11)
    return [random_scene(rng, random_identity(rng), STYLES[index % 2]) for index in range(6000)]


def test_every_tag_of_the_vocabulary_can_be_drawn_and_nothing_else(scenes: list[Scene]) -> None:
    seen = {tag for scene in scenes for tag in scene_tags(scene)}
    assert seen == set(VOCABULARY)
    assert len(VOCABULARY) >= 70


def test_kinds_are_exclusive_and_tags_stand_in_the_order_of_the_vocabulary(scenes: list[Scene]) -> None:
    order = {tag: place for place, tag in enumerate(VOCABULARY)}
    for scene in scenes:
        tags = scene_tags(scene)
        kinds = [VOCABULARY[tag] for tag in tags if VOCABULARY[tag] not in SEVERAL]
        assert len(kinds) == len(set(kinds)), tags
        assert [order[tag] for tag in tags] == sorted(order[tag] for tag in tags)


def test_captions_fit_into_clip(scenes: list[Scene]) -> None:
    """77 tokens, two of them the ends; a tag has at most its words and a comma if every word is one token."""
    assert max(len(full_prompt(scene).replace(",", " ,").split()) for scene in scenes) <= 75


def test_tags_of_one_scene() -> None:
    scene = Scene(GIRL, "crying", "holding", "full body", prop="cup", background="ocean", style="art")
    assert full_prompt(scene) == (
        "1girl, solo, chibi, bob cut, red hair, blue eyes, dress, pink dress, glasses, scarf, freckles, crying, "
        "looking at viewer, holding, full body, cup, ocean, scenery"
    )


def test_what_cannot_be_seen_is_not_tagged() -> None:
    asleep = Scene(GIRL, "closed eyes", "crossed arms", "portrait")
    assert not {"blue eyes", "looking at viewer", "crossed arms"} & set(scene_tags(asleep))
    assert "crossed arms" in scene_tags(replace(asleep, view="upper body"))
    assert "blue eyes" not in scene_tags(Scene(GIRL, blink=0.9))
    patched = replace(GIRL, mark="eyepatch")
    assert "blue eyes" in scene_tags(Scene(patched))
    assert "blue eyes" not in scene_tags(Scene(patched, "one eye closed"))


def test_a_smile_that_speaks_is_an_open_mouth() -> None:
    tags = scene_tags(Scene(GIRL, "smile", mouth_open=0.8))
    assert "open mouth" in tags and "smile" not in tags


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"hair_style": "mohawk"}, "mohawk"),
        ({"gender": "1boy"}, "bob cut"),
        ({"accessories": ("beret", "crown")}, "same place"),
        ({"mark": "tattoo"}, "tattoo"),
    ],
)
def test_identities_check_their_words(change: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(GIRL, **change)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"pose": "waving", "prop": "cup"}, "holding"),
        ({"pose": "holding"}, "holding"),
        ({"background": "ocean"}, "transparent"),
        ({"style": "oil"}, "oil"),
    ],
)
def test_scenes_check_their_words(change: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Scene(GIRL, **change)


def test_sampling_follows_the_seed() -> None:
    assert training_identity(5) == training_identity(5)
    assert training_identity(5) != training_identity(6)
    assert training_identity(5) != heldout_identity(5)
    drawn = [random_scene(np.random.default_rng(3), GIRL, "art") for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_nobody_sampled_or_known_looks_like_a_demo_character(scenes: list[Scene]) -> None:
    demo = {look(identity) for identity in demo_characters().values()}
    assert demo == set(RESERVED_LOOKS)
    assert len(demo) == 3
    others = [scene.identity for scene in scenes] + list(known_characters().values())
    assert not demo & {look(identity) for identity in others}


def test_known_characters_are_six_different_people() -> None:
    assert len(known_characters()) == len({look(identity) for identity in known_characters().values()}) == 6


def test_accessories_never_share_a_place(scenes: list[Scene]) -> None:
    for scene in scenes:
        slots = [ACCESSORY_SLOTS[accessory] for accessory in scene.identity.accessories]
        assert len(slots) == len(set(slots)) <= 2
