"""Requirements of platforms: read strictly, with sources; sets of accepted numbers."""

import re
from dataclasses import dataclass
from datetime import date
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.packing.limits import FileLimits
from sticker_pipeline.packing.platforms import (
    Count,
    PlatformError,
    kinds_in,
    platform_kind,
    platform_kinds,
    set_sizes,
    split,
    text_length,
    text_within,
)

TEXT = files("sticker_pipeline.packing").joinpath("platforms.yaml").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Thing:
    number: int
    animated: bool


def things(count, animated=False):
    return [Thing(number, animated) for number in range(count)]


def test_all_wanted_platforms_are_there():
    assert {
        *(("telegram", kind) for kind in ("static", "video", "emoji")),
        *(("whatsapp", kind) for kind in ("static", "animated", "tray")),
        *(("line", kind) for kind in ("static", "animated", "main", "animated_main", "tab")),
        *(("discord", kind) for kind in ("sticker", "emoji")),
        *(("signal", kind) for kind in ("static", "animated")),
        ("imessage", "sticker"),
        ("slack", "emoji"),
        *(("matrix", kind) for kind in ("sticker", "emoticon")),
        ("mastodon", "emoji"),
        ("misskey", "emoji"),
        *(("kakao", kind) for kind in ("static", "animated")),
    } == set(platform_kinds())


@pytest.mark.parametrize("name", platform_kinds())
def test_each_kind_is_complete(name):
    kind = platform_kinds()[name]
    assert kind.takes_stills or kind.takes_animations
    assert kind.handing_over.strip()
    for animated, formats in ((False, kind.rules.stills), (True, kind.rules.animations)):
        for one in formats.value:
            assert kind.limits(one, animated=animated).format == one
    source = kind.source(kind.rules.canvas)
    assert source.url
    assert source.checked is None or date(2026, 1, 1) <= source.checked <= date(2100, 1, 1)
    assert source.confidence in str(source)


def test_limits_of_files_follow_the_rules():
    assert platform_kind("whatsapp", "animated").limits("WEBP", animated=True) == FileLimits(
        "WEBP", 512_000, max_ms=10_000, min_frame_ms=8
    )
    assert platform_kind("line", "animated").limits("APNG", animated=True) == FileLimits(
        "APNG", 300_000, max_ms=4_000, min_frames=5, max_frames=20, max_loops=4, whole_seconds=True
    )
    # At most 30 frames a second: 33 ms would be 30.3.
    assert platform_kind("telegram", "video").limits("WEBM", animated=True).min_frame_ms == 34
    emoji = platform_kind("telegram", "emoji")
    assert emoji.limits("PNG", animated=False) == FileLimits("PNG", 524_288)
    assert emoji.limits("WEBM", animated=True).max_bytes == 256_000


def test_canvas_and_margin():
    line, slack = platform_kind("line", "static"), platform_kind("slack", "emoji")
    assert (line.canvas.fit, line.canvas.width, line.canvas.height, line.canvas.even) == ("within", 370, 320, True)
    assert (line.margin, slack.margin) == (10, 0)


@pytest.mark.parametrize(("animated", "what"), [(True, "an animation"), (False, "a still")])
def test_format_that_is_not_accepted_is_refused(animated, what):
    with pytest.raises(PlatformError, match=f"discord sticker takes no WEBM as {what}"):
        platform_kind("discord", "sticker").limits("WEBM", animated=animated)


def test_confidence_of_a_rule_replaces_that_of_its_source():
    signal = platform_kind("signal", "animated")
    assert signal.source(signal.rules.max_bytes).confidence == "official"
    assert signal.source(signal.rules.max_ms).confidence == "unverified"


def test_source_that_was_not_read_says_so():
    line = platform_kind("line", "static")
    assert str(line.source(line.rules.policy)).endswith("(unverified, not read)")


def test_generated_art_is_an_error_on_kakao_alone():
    levels = {name: kind.rules.policy.value.level for name, kind in platform_kinds().items()}
    assert {name for name, level in levels.items() if level == "error"} == {("kakao", "static"), ("kakao", "animated")}


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("max_loops: {value: 4,", "max_loop: {value: 4,", "max_loop'. Did you mean 'max_loops'"),
        ("max_loops: {value: 4,", "max_loops: {value: four,", "rules.max_loops.value' = 'four'"),
        ("min: 5, max: 20", "min: 5, max: 4", "'max' is smaller than 'min'"),
        ("fit: within, width: 370", "fit: inside, width: 370", "canvas.value.fit' = 'inside'"),
        ("width: 370, ", "", "canvas.value.width' is missing"),
        ("animations: {value: [WEBM]", "animations: {value: [MP4]", "rules.animations.value.0' = 'MP4'"),
        ("max_bytes: {value: 307200, source: signal}", "max_bytes: {value: 307200, source: signals}", "'signals'"),
        ("telegram-api: {url:", "telegram-api: {uri:", "unknown key 'sources.telegram-api.uri'"),
        ("checked: 2026-12-01", "checked: yesterday", "checked' = 'yesterday'"),
        ("checked: 2026-12-01", "checked: null", "was not read, and is official"),
    ],
)
def test_wrong_requirements_are_named(old, new, key):
    assert old in TEXT
    with pytest.raises(PlatformError, match=r"mine\.yaml") as refused:
        kinds_in(TEXT.replace(old, new, 1), "mine.yaml")
    assert key in str(refused.value)


def test_other_files_are_refused():
    with pytest.raises(PlatformError, match=r"mine\.yaml is not valid YAML"):
        kinds_in("{", "mine.yaml")


def test_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(PlatformError, match="Did you mean 'telegram static'"):
        platform_kind("telegram", "statics")


@pytest.mark.parametrize(
    ("stickers", "sizes"),
    [(0, ()), (7, ()), (8, (8,)), (15, (8,)), (39, (32,)), (40, (40,)), (47, (40,)), (50, (24, 24)), (100, (32,) * 3)],
)
def test_line_numbers_are_rounded_down(stickers, sizes):
    assert set_sizes(stickers, platform_kind("line", "static").rules.count.value) == sizes


@pytest.mark.parametrize(
    ("stickers", "sizes"), [(0, ()), (2, ()), (3, (3,)), (30, (30,)), (31, (16, 15)), (61, (21, 20, 20))]
)
def test_whatsapp_sets_are_balanced(stickers, sizes):
    assert set_sizes(stickers, platform_kind("whatsapp", "static").rules.count.value) == sizes


@given(st.integers(0, 300), st.sets(st.integers(1, 40), min_size=1, max_size=4))
@settings(max_examples=60)
def test_allowed_numbers_hold_as_many_as_possible(stickers, allowed):
    sizes = set_sizes(stickers, Count(allowed=tuple(allowed)))
    assert set(sizes) <= allowed
    reachable = {0}
    for total in range(1, stickers + 1):
        reachable |= {total for size in allowed if total - size in reachable}
    assert sum(sizes) == max(reachable)


@given(st.integers(0, 500), st.integers(1, 20), st.integers(40, 60))
@settings(max_examples=60)
def test_sets_keep_the_range_and_differ_by_one(stickers, least, most):
    sizes = set_sizes(stickers, Count(min=least, max=most))
    assert sum(sizes) == (stickers if stickers >= least else 0)
    assert all(least <= size <= most for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_split_keeps_order_and_says_what_is_left_out():
    found = split(things(10), platform_kind("line", "static"))
    assert [[one.number for one in each] for each in found.sets] == [list(range(8))]
    assert [(one.number, reason) for one, reason in found.left_out] == [
        (number, "a set has 8/16/24/32/40 stickers, and there are 10") for number in (8, 9)
    ]


def test_animations_and_stills_are_apart_where_the_platform_wants_it():
    mixed = [Thing(number, number % 2 == 1) for number in range(8)]
    emoji = split(mixed, platform_kind("telegram", "emoji"))
    assert [[one.animated for one in each] for each in emoji.sets] == [[False] * 4, [True] * 4]
    stills = split(mixed, platform_kind("whatsapp", "static"))
    assert [len(each) for each in stills.sets] == [4]
    assert {reason for _, reason in stills.left_out} == {"whatsapp static takes no animations"}
    assert split(mixed, platform_kind("discord", "sticker")).sets == (tuple(mixed),)


def test_too_few_are_left_out_with_the_reason():
    found = split(things(2), platform_kind("whatsapp", "static"))
    assert not found.sets
    assert {reason for _, reason in found.left_out} == {"a set has at least 3 stickers, and there are 2"}


@pytest.mark.parametrize(
    ("text", "unit", "length"),
    [
        ("abc", "characters", 3),
        ("漢字", "characters", 2),
        ("漢字", "bytes", 6),
        ("漢字", "east_asian", 4),
        ("ｱｲ", "east_asian", 2),  # half-width
        ("ＡＢ", "east_asian", 4),  # full-width
        ("한국", "east_asian", 4),
        ("é", "east_asian", 2),  # ambiguous: counted as 2, to be safe
        ("", "bytes", 0),
        ("😀", "bytes", 4),
    ],
)
def test_lengths_of_texts(text, unit, length):
    assert text_length(text, unit) == length
    assert text_within(text, length, unit)
    assert length == 0 or not text_within(text, length - 1, unit)


def test_patterns_of_texts_compile_and_fit_good_names():
    patterns = {
        (*name, key): rule.value.pattern
        for name, kind in platform_kinds().items()
        for key, rule in kind.rules.texts.items()
        if rule.value.pattern
    }
    assert {name for name, pattern in patterns.items() if not re.fullmatch(pattern, "nyx_1")} == set()
    assert not re.fullmatch(patterns["telegram", "static", "name"], "nyx__1")
    assert not re.fullmatch(patterns["telegram", "static", "name"], "1nyx")
    assert not re.fullmatch(patterns["telegram", "static", "name"], "nyx_")
