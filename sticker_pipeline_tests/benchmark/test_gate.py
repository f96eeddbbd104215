"""The gate: planted LoRAs are refused or released for the right reason, at exact limits."""

import math

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.benchmark.gate import (
    ADVICE,
    CHECKS,
    EVIDENCE,
    NO_KNOWN_TAG,
    NOTHING_HELD_OUT,
    UNCERTAIN,
    UNMEASURED,
    Check,
    copies_by_chance,
    decision,
    gate,
    may_be_released,
)
from sticker_pipeline.core.character import Gate
from sticker_pipeline_tests.benchmark import planted
from sticker_pipeline_tests.benchmark.planted import Model, World, collapsed, drawn, memorised, noise, world

GOOD = 0.45


def judged(of: World, lora: Model, released: Model | None = None, limits: Gate | None = None) -> list[Check]:
    base = drawn(of, 0.6, character=1)
    models = {"base": base, "lora": lora, **({"released": released} if released else {})}
    return gate(
        planted.table_of(of, models),
        planted.comparison(of, lora, base),
        planted.comparison(of, lora, released) if released else None,
        limits or Gate(),
    )


def failed(checks: list[Check]) -> set[str]:
    assert [check.name for check in checks] == list(CHECKS)
    assert may_be_released(checks) == all(check.verdict.passed for check in checks)
    return {check.name for check in checks if not check.verdict.passed}


@pytest.fixture(params=range(5))
def of(request: pytest.FixtureRequest) -> World:
    return world(request.param)


def test_a_good_first_lora_is_released(of: World) -> None:
    checks = judged(of, drawn(of, GOOD))
    assert failed(checks) == set()
    assert decision(checks) == (
        "may be released: every rule holds. Not checked: no_less_similar, no_more_copies, no_less_diverse."
    )


def test_noise_is_refused_since_it_is_no_character(of: World) -> None:
    """Noise may be above or below the base model, which generates another character."""
    broken = failed(judged(of, noise(of), drawn(of, GOOD)))
    assert (
        {"right_character", "no_less_similar"} <= broken <= {"right_character", "no_less_similar", "better_than_base"}
    )
    assert "right_character" in failed(judged(of, noise(of)))


def test_a_memorised_lora_is_refused_for_copying_alone(of: World) -> None:
    checks = judged(of, memorised(of))
    assert failed(checks) == {"no_copies"}
    assert "It copies its training images" in decision(checks)


def test_a_lora_collapsed_onto_a_gif_is_refused_as_collapsed(of: World) -> None:
    checks = judged(of, collapsed(of))
    assert "not_collapsed" in failed(checks) <= {"not_collapsed", "no_copies"}
    evidence = {check.name: check.verdict.evidence for check in checks}["not_collapsed"]
    assert evidence[["medium", "metric", "kept"]].to_numpy().tolist() == [
        [medium, figure, False] for medium in ("art", "sticker") for figure in ("diversity", "nearest to one source")
    ]


@pytest.mark.parametrize(
    ("base", "lora", "broken"),
    [
        (0.812, 0.062, {"follows_prompts"}),
        (0.908, 0.902, set()),
        (0.911, 0.902, set()),
        (0.898, 0.876, set()),
    ],
)
def test_a_lora_that_ignores_its_prompts_is_refused(of: World, base: float, lora: float, broken: set[str]) -> None:
    """Measured: one trained for three epochs of 90 images, and the demo characters'."""
    own, other = drawn(of, GOOD), drawn(of, 0.6, character=1)
    table = planted.table_of(of, {"base": other, "lora": own}, {"base": base, "lora": lora})
    checks = gate(table, planted.comparison(of, own, other), None, Gate())
    assert failed(checks) == broken
    assert ("It ignores its prompts: " in decision(checks)) == bool(broken)


def test_a_fault_in_one_medium_is_not_hidden_by_the_other(of: World) -> None:
    lora = {**drawn(of, GOOD), "art": memorised(of)["art"]}
    checks = judged(of, lora)
    assert failed(checks) == {"no_copies"}
    evidence = {check.name: check.verdict.evidence for check in checks}["no_copies"]
    assert evidence.set_index("medium")["kept"].to_dict() == {"art": False, "sticker": True}


def test_rows_of_recommended_settings_change_no_verdict(of: World) -> None:
    """Good or bad."""
    models = {"base": drawn(of, 0.6, character=1), "lora": drawn(of, GOOD), "released": drawn(of, 0.5)}
    settings = {"LoRA in at most 2 steps": memorised(of), "LoRA in at most 10 steps": drawn(of, 0.1)}
    over = [planted.comparison(of, models["lora"], models[other]) for other in ("base", "released")]
    without, with_settings = (
        gate(planted.table_of(of, each), *over, Gate()) for each in (models, {**models, **settings})
    )
    assert failed(with_settings) == failed(without) == set()
    for one, other in zip(without, with_settings, strict=True):
        assert one.verdict.summary == other.verdict.summary
        pd.testing.assert_frame_equal(one.verdict.evidence, other.verdict.evidence)


def test_a_better_one_is_released(of: World) -> None:
    assert failed(judged(of, drawn(of, 0.4), drawn(of, 0.5))) == set()


def test_a_slightly_worse_one_within_the_margin_is_released(of: World) -> None:
    checks = judged(of, drawn(of, 0.48), drawn(of, 0.44))
    similar = checks[list(CHECKS).index("no_less_similar")]
    assert failed(checks) == set()
    assert similar.verdict.evidence["value"].item() < 0


def test_a_clearly_worse_one_is_refused_beside_the_release_alone(of: World) -> None:
    lora = drawn(of, 0.8)
    assert failed(judged(of, lora, drawn(of, GOOD))) == {"no_less_similar"}
    assert failed(judged(of, lora)) == set()  # as a first release it would do


def test_the_lower_end_of_the_interval_decides_beside_the_release(of: World) -> None:
    table = planted.table_of(of, {"base": drawn(of, 0.6, 1), "lora": drawn(of, GOOD), "released": drawn(of, GOOD)})
    overall = table[(table["metric"] == "clip_similarity") & (table["medium"] == "all")].set_index("model")["mean"]
    margin = 0.1 * (overall["released"] - overall["base"])
    over_base = compared(0.5, 0.4, 0.6)
    for low, kept in ((-0.9 * margin, True), (-1.1 * margin, False)):
        for mean in (-0.5 * margin, 2 * margin):
            check = gate(table, over_base, compared(mean, low, 3 * margin), Gate())[
                list(CHECKS).index("no_less_similar")
            ]
            assert check.verdict.passed == kept
            assert f"must be > {-margin:.3f}" in check.verdict.summary
    table.loc[(table["model"] == "released") & (table["medium"] == "all"), "mean"] = -1.0  # it never gained anything
    for low in (-1e-9, 1e-9):
        check = gate(table, over_base, compared(0.1, low, 0.2), Gate())[list(CHECKS).index("no_less_similar")]
        assert check.verdict.passed == (low > 0)


def compared(mean: float, low: float, high: float) -> pd.DataFrame:
    return pd.DataFrame([("clip_similarity", "all", mean, low, high, 64)], columns=planted.COMPARISON)


def figures(**changes: float) -> pd.DataFrame:
    """A table of one medium in which every rule is kept at its very limit; `lora_copies=.3` changes one mean."""
    means = {
        ("base", "all", "clip_similarity"): 0.1,
        ("base", "all", "prompt_fidelity"): 0.75,
        ("lora", "all", "identity"): 0.8,
        ("lora", "all", "prompt_fidelity"): 0.375,
        ("lora", "art", "copies"): 0.2,
        ("lora", "art", "diversity"): 0.09375,
        ("lora", "art", "one_source_share"): 0.5,
        ("reference", "art", "copies"): 0.05,
        ("reference", "art", "diversity"): 0.1875,
        ("released", "all", "clip_similarity"): 0.9,
        ("released", "art", "copies"): 0.1,
        ("released", "art", "diversity"): 0.125,
    }
    rows = [
        (*key, changes.get(f"{key[0]}_{key[2]}", mean), math.nan, math.nan, 40 if key[0] == "reference" else 32)
        for key, mean in means.items()
    ]
    return pd.DataFrame(rows, columns=planted.TABLE)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, set()),
        ({"lora_copies": 0.2001}, {"no_copies", "no_more_copies"}),
        ({"reference_copies": 0.0499}, {"no_copies"}),
        ({"lora_diversity": 0.0937}, {"not_collapsed", "no_less_diverse"}),
        ({"reference_diversity": 0.1876}, {"not_collapsed"}),
        ({"lora_one_source_share": 0.501}, {"not_collapsed"}),
        ({"lora_identity": 0.799}, {"right_character"}),
        ({"lora_prompt_fidelity": 0.3749}, {"follows_prompts"}),
        ({"base_prompt_fidelity": 0.7501}, {"follows_prompts"}),
        ({"base_prompt_fidelity": 0.0, "lora_prompt_fidelity": 0.0}, set()),
        ({"released_copies": 0.0999}, {"no_more_copies"}),
        ({"released_diversity": 0.1251}, {"no_less_diverse"}),
    ],
)
def test_each_limit_holds_where_it_stands(changes: dict[str, float], broken: set[str]) -> None:
    checks = gate(figures(**changes), compared(0.5, 1e-9, 0.9), compared(0.0, -0.0799, 0.1), Gate())
    assert failed(checks) == broken
    for check in checks:
        assert check.checked
        assert list(check.verdict.evidence) == EVIDENCE
        assert check.verdict.evidence["kept"].all() == check.verdict.passed


def test_noise_that_is_a_little_nearer_than_the_base_model_is_not_enough() -> None:
    """The distance is .9 − .2 = .7 in art, .8 − .1 = .7 in stickers: a fifth of it is .14. `all` is not used."""
    of = "clip_similarity"
    rows = [("reference", "art", 0.9), ("base", "art", 0.2), ("reference", "sticker", 0.8), ("base", "sticker", 0.1)]
    rows += [("reference", "all", 1.0), ("reference", "chibi", 1.0)]
    known = pd.DataFrame([(model, medium, of, mean, 0, 1, 32) for model, medium, mean in rows], columns=planted.TABLE)
    table = pd.concat([figures(), known])
    for low, kept in ((0.1401, True), (0.1399, False)):
        check = gate(table, compared(0.5, low, 0.9), None, Gate())[0]
        assert (check.name, check.verdict.passed) == ("better_than_base", kept)
        assert "must be > 0.140" in check.verdict.summary
    assert not gate(table, compared(0.5, 0.3, 0.9), None, Gate(gain=0.5))[0].verdict.passed


def test_few_images_may_be_nearest_to_one_source_as_often_as_chance_has_it() -> None:
    by_chance = pd.DataFrame([("chance", "art", "one_source_share", 0.5, 0.25, 0.75, 4)], columns=planted.TABLE)
    for share, broken in ((0.75, set()), (0.76, {"not_collapsed"})):
        table = pd.concat([figures(lora_one_source_share=share), by_chance])
        assert failed(gate(table, compared(0.5, 0.1, 0.9), compared(0.0, 0.0, 0.1), Gate())) == broken


def test_coming_as_close_as_the_references_is_no_loss_of_diversity() -> None:
    scattered = {"released_diversity": 0.4, "lora_diversity": 0.15}
    for holdout, kept in ((0.15, True), (0.16, False)):
        table = figures(**scattered, reference_diversity=holdout)
        check = gate(table, compared(0.5, 0.1, 0.9), compared(0.0, 0.0, 0.1), Gate())[-1]
        assert (check.name, check.verdict.passed) == ("no_less_diverse", kept)


def test_the_limits_are_the_settings() -> None:
    strict = Gate(
        copies=0.1,
        diversity=0.6,
        one_source=0.4,
        identity=0.9,
        fidelity=0.51,
        loss_of_gain=0.0,
        more_copies=0,
        less_diversity=0,
    )
    checks = gate(figures(), compared(0.5, 0.1, 0.9), compared(0.0, -0.01, 0.1), strict)
    assert failed(checks) == set(CHECKS) - {"better_than_base"}
    assert checks[1].verdict.summary == (
        "art: copies too high: 0.200, must be ≤ 0.100. "
        "It copies its training images: train fewer epochs, lower the rank, or add images."
    )
    assert failed(gate(figures(), compared(0.5, 0.0, 0.9), None, Gate())) == {"better_than_base"}
    deaf = gate(figures(lora_prompt_fidelity=0.0), compared(0.5, 0.1, 0.9), None, Gate(fidelity=0.0))
    assert failed(deaf) == set()


def test_what_was_not_measured_is_said_and_refused() -> None:
    alone = figures()[lambda table: table["metric"] != "identity"]
    check = gate(alone, compared(0.5, 0.1, 0.9), None, Gate())[3]
    assert (check.verdict.passed, check.checked) == (True, False)
    assert check.verdict.summary == "not checked: there is no other character to compare with."
    for model in ("base", "lora"):
        untagged = figures()[lambda table, of=model: (table["model"] != of) | (table["metric"] != "prompt_fidelity")]
        check = gate(untagged, compared(0.5, 0.1, 0.9), None, Gate())[4]
        assert (check.name, check.verdict.passed, check.checked) == ("follows_prompts", True, False)
        assert (check.verdict.summary, check.unmeasured) == (f"not checked: {NO_KNOWN_TAG}.", (NO_KNOWN_TAG,))

    empty = figures()[:0]
    nothing = pd.DataFrame(columns=planted.COMPARISON)
    checks = gate(empty, nothing, nothing, Gate())
    assert failed(checks) == set(CHECKS)
    assert not any(check.checked or check.broken for check in checks)
    assert {check.unmeasured for check in checks} == {(NOTHING_HELD_OUT,)}
    assert {check.verdict.summary for check in checks} == {f"{NOTHING_HELD_OUT}. {UNMEASURED}"}
    first = gate(empty, nothing, None, Gate())
    assert {check.verdict.summary for check in first[5:]} == {f"not checked: {NOTHING_HELD_OUT}."}
    assert failed(gate(empty, nothing, nothing, Gate(unmeasured="release"))) == set()
    assert "better_than_base" in failed(gate(figures(), compared(0.5, math.nan, math.nan), None, Gate()))
    assert "no_copies" in failed(gate(figures(lora_copies=math.nan), compared(0.5, 0.1, 0.9), None, Gate()))


def test_a_medium_that_could_not_be_measured_is_named_beside_one_that_was() -> None:
    more = pd.DataFrame([("lora", "sticker", "copies", 0.0, 0.0, 0.0, 8)], columns=planted.TABLE)
    check = gate(pd.concat([figures(), more]), compared(0.5, 0.1, 0.9), None, Gate())[1]
    assert (check.verdict.passed, check.checked) == (True, False)
    assert check.verdict.summary == (
        "art: copies 0.200, must be ≤ 0.200. sticker: copies could not be measured, as there is no share of copies."
    )


def one_source_held_out(**changes: float) -> pd.DataFrame:
    """`figures` of a medium with one held-out source: it has no diversity."""
    table = figures(**changes)
    return table[(table["model"] != "reference") | (table["metric"] != "diversity")]


def test_a_refusal_begins_with_its_reason() -> None:
    """A metric that could not be measured is not beyond its limit, and a wide interval is not a low value."""
    unmeasured = "art: diversity could not be measured, as fewer than two of its sources are held out"
    check = gate(one_source_held_out(), compared(0.5, 0.1, 0.9), None, Gate())[2]
    assert (check.verdict.passed, check.checked, check.broken, check.unmeasured) == (False, False, False, (unmeasured,))
    assert check.verdict.summary == f"{unmeasured}. {UNMEASURED} art: nearest to one source 0.500, must be ≤ 0.500."
    accepted = gate(one_source_held_out(), compared(0.5, 0.1, 0.9), None, Gate(unmeasured="release"))[2]
    assert accepted.verdict.summary == f"art: nearest to one source 0.500, must be ≤ 0.500. {unmeasured}."
    assert (accepted.verdict.passed, accepted.unmeasured) == (True, (unmeasured,))
    both = gate(one_source_held_out(lora_one_source_share=0.6), compared(0.5, 0.1, 0.9), None, Gate())[2]
    assert both.broken and both.verdict.summary == (
        f"art: nearest to one source too high: 0.600, must be ≤ 0.500. {ADVICE['not_collapsed']} {unmeasured}. "
        f"{UNMEASURED}"
    )


@pytest.mark.parametrize(("mean", "fault"), [(0.1, "too uncertain"), (-0.1, "too low")])
def test_an_interval_too_wide_is_not_a_value_too_low(mean: float, fault: str) -> None:
    check = gate(figures(), compared(mean, -0.2, 0.2), compared(mean, -0.2, 0.2), Gate(loss_of_gain=0.0))
    for name, place in (("better_than_base", 0), ("no_less_similar", 5)):
        summary, advice = check[place].verdict.summary, (UNCERTAIN if fault == "too uncertain" else ADVICE)[name]
        assert f"{fault}: {mean:.3f} [-0.200, 0.200], must be > " in summary and summary.endswith(advice)


def test_a_decision_names_values_beyond_their_limits_first() -> None:
    said = decision(gate(one_source_held_out(lora_identity=0.5), compared(0.5, 0.1, 0.9), None, Gate()))
    assert said.startswith("refused. right_character: right character too low: 0.500")
    assert said.index("right_character") < said.index("not_collapsed")


def test_few_holdout_sources_prove_little_about_copying() -> None:
    few = figures(lora_copies=0.6, released_copies=0.6)
    for sources, kept in ((3, True), (4, False)):
        few.loc[few["model"] == "reference", "n"] = sources
        assert gate(few, compared(0.5, 0.1, 0.9), None, Gate())[1].verdict.passed == kept
    one = few[(few["model"] != "reference") | (few["metric"] != "diversity")]  # with one source there are no pairs
    assert gate(one, compared(0.5, 0.1, 0.9), None, Gate())[1].verdict.passed


@pytest.mark.parametrize("sources", [1, 2, 3, 5, 10, 30])
def test_honest_images_copy_more_than_by_chance_once_in_twenty_times(sources: int) -> None:
    """Against a simulation: the largest of `sources` uniform numbers, and the share of uniform ones above it."""
    largest = np.random.default_rng(sources).random((20_000, sources)).max(axis=1)
    assert (1 - largest > copies_by_chance(sources)).mean() == pytest.approx(0.05, abs=0.008)


def test_a_gate_is_strict_about_its_settings() -> None:
    with pytest.raises(ValueError, match="copis"):
        Gate.model_validate({"copis": 0.1})
    with pytest.raises(ValueError, match="less than or equal to 1"):
        Gate(copies=1.5)
