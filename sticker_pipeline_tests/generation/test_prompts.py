from pathlib import Path

import pytest

from sticker_pipeline.core.character import Character, Group, Settings
from sticker_pipeline.core.profile import Profile, load_profile
from sticker_pipeline.core.settings import BenchmarkSettings
from sticker_pipeline.generation.prompts import (
    Prompt,
    PromptError,
    Request,
    beginnings,
    benchmark_prompts,
    join_tags,
    prompts_beginning,
    prompts_of_words,
    request_seed,
    requests_for,
)


def make_profile(prompts: dict[str, list[str]], medium_tags: dict[str, str]) -> Profile:
    benchmark = BenchmarkSettings(prompts=prompts, medium_tags=medium_tags)
    return load_profile("embedded", Path("models")).model_copy(update={"benchmark": benchmark})


def make_character(groups: dict[str, Group], own: list[str] | None = None) -> Character:
    settings = Settings.model_validate({"trigger": "hsr_x", "benchmark": {"prompts": own or []}})
    return Character("x", Path("x"), settings, groups)


BOTH = make_profile({"sticker": ["smile", "waving"], "art": ["angry"]}, {"sticker": "chibi, sticker", "art": "art"})


def test_prompts_name_trigger_learned_tags_medium_and_attributes_in_this_order() -> None:
    groups = {
        "gifs": Group(learned=["x_sticker"]),
        "scenes": Group(learned=["x_scene"], medium="art"),
        "stickers": Group(learned=["x_sticker", "x_flat"]),
    }
    assert benchmark_prompts(make_character(groups), BOTH) == [
        Prompt("art", "hsr_x, x_scene, art, angry", "angry"),
        Prompt("sticker", "hsr_x, x_sticker, x_flat, chibi, sticker, smile", "smile"),
        Prompt("sticker", "hsr_x, x_sticker, x_flat, chibi, sticker, waving", "waving"),
    ]


def test_others_are_asked_for_the_same_in_their_own_words() -> None:
    groups = {"gifs": Group(learned=["x_sticker"]), "scenes": Group(learned=["x_scene"], medium="art")}
    character = make_character(groups)
    assert beginnings(character) == {"art": ["hsr_x", "x_scene"], "sticker": ["hsr_x", "x_sticker"]}
    assert prompts_beginning(character, BOTH, beginnings(character)) == benchmark_prompts(character, BOTH)
    assert prompts_beginning(character, BOTH, {"art": ["old_x"]}, otherwise=["nova, blue hair"]) == [
        Prompt("art", "old_x, art, angry", "angry"),
        Prompt("sticker", "nova, blue hair, chibi, sticker, smile", "smile"),
        Prompt("sticker", "nova, blue hair, chibi, sticker, waving", "waving"),
    ]
    assert [prompt.text for prompt in prompts_beginning(character, BOTH, {})] == [
        "art, angry",
        "chibi, sticker, smile",
        "chibi, sticker, waving",
    ]


def test_own_prompts_replace_those_of_the_profile_in_every_medium() -> None:
    groups = {"a": Group(), "b": Group(medium="art")}
    prompts = benchmark_prompts(make_character(groups, ["arms up, smile"]), BOTH)
    assert [prompt.text for prompt in prompts] == [
        "hsr_x, art, arms up, smile",
        "hsr_x, chibi, sticker, arms up, smile",
    ]


def test_only_mediums_that_the_character_has() -> None:
    assert {prompt.medium for prompt in benchmark_prompts(make_character({"a": Group()}), BOTH)} == {"sticker"}


@pytest.mark.parametrize(
    ("prompts", "tags", "key"), [({}, {"art": "art"}, "prompts"), ({"art": ["x"]}, {}, "medium_tags")]
)
def test_a_medium_unknown_to_the_profile_is_an_error(
    prompts: dict[str, list[str]], tags: dict[str, str], key: str
) -> None:
    with pytest.raises(PromptError, match=f"benchmark.{key} for the medium 'art'"):
        benchmark_prompts(make_character({"a": Group(medium="art")}), make_profile(prompts, tags))


def test_join_tags_says_each_tag_once() -> None:
    assert join_tags(["a", "b, a", "", " c ,, b"]) == "a, b, c"


def test_requests_pair_prompts_and_seeds_and_repeat() -> None:
    prompts = [Prompt("art", "p", ""), Prompt("art", "q", ""), Prompt("sticker", "r", "")]
    requests = requests_for(prompts, 2)
    assert [(request.medium, request.prompt) for request in requests] == [
        ("art", "p"), ("art", "p"), ("art", "q"), ("art", "q"), ("sticker", "r"), ("sticker", "r"),
    ]  # fmt: skip
    assert requests == requests_for(prompts, 2)
    assert len({request.seed for request in requests}) == 6
    assert requests[4] == Request("sticker", "r", request_seed("benchmark", "sticker", 0, 0))


def test_another_medium_or_more_seeds_move_no_seed() -> None:
    alone = requests_for([Prompt("sticker", "r", "")], 2)
    beside = requests_for([Prompt("art", "p", ""), Prompt("sticker", "r", "")], 3)
    assert [request for request in beside if request.medium == "sticker"][:2] == alone


def test_choosing_and_judging_never_share_a_seed() -> None:
    prompts = [Prompt(medium, str(number), "") for medium in ("art", "sticker") for number in range(8)]
    seeds = [{request.seed for request in requests_for(prompts, 8, purpose)} for purpose in ("benchmark", "selection")]
    assert not seeds[0] & seeds[1]
    assert all(0 <= seed < 2**31 for seed in seeds[0])


def test_prompts_of_words_follow_from_the_seed_and_keep_the_order_of_the_lists() -> None:
    words = [["1girl", "1boy"], ["red hair", "blue hair, long hair"], ["smile", "angry", "crying"]]
    prompts = prompts_of_words(words, 0.0, 8, seed=3)
    assert len(set(prompts)) == 8 and prompts == prompts_of_words(words, 0.0, 12, seed=3)[:8]
    assert prompts != prompts_of_words(words, 0.0, 8, seed=4)
    everything = {f"{who}, {hair}, {face}" for who in words[0] for hair in words[1] for face in words[2]}
    assert set(prompts_of_words(words, 0.0, 12, seed=0)) == everything
    lengths = {len(prompt.split(", ")) for prompt in prompts_of_words(words, 0.5, 20, seed=0)}
    assert lengths == {1, 2, 3, 4}
    with pytest.raises(PromptError, match="do not give 13 different prompts"):
        prompts_of_words(words, 0.0, 13, seed=0)
