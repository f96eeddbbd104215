"""A month of events, week by week, with the exact requests of each day.

Each week begins at noon of the third day of one deployment, made once: `ada` and `bo` are made and released, and a
blocking check warns of `bo`, which stops nothing.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.benchmark.gate import CHECKS
from sticker_pipeline.dagster_kit.scope import observation
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.automation import NIGHTLY, RETRAIN_AT, ScheduleError, automation, longest_gap, schedule
from sticker_pipeline.defs.scopes import ALL_ROOTS
from sticker_pipeline_tests.defs.scripted_world import Requested, World

FIRST = datetime(2031, 3, 1, tzinfo=UTC)
SHARED = ALL_ROOTS[1].key
HEARTBEAT = "leaderboard report"
DATASET = ["raw_media", "frames", "frame_weights wd14_tags", "curated_tags", "training_set"]
TRAINED = ["lora", "selected_lora", "samples", "benchmark"]
RELEASED = ["leaderboard released_lora", "comfyui_workflow report"]
REFUSED = ["leaderboard", "report"]
PACK = ["pack_candidates", "sticker_pack"]

pytestmark = pytest.mark.skipif(RETRAIN_AT != NIGHTLY, reason="STICKER_RETRAIN is set: the nights are others")


class Month:
    """The days of a world. What was requested is a line for each look: each asset with its characters."""

    def __init__(self, world: World, day: int = 1) -> None:
        self.world = world
        self.day = day

    def noon(self, day: int) -> None:
        """Go on to noon of `day`; in the nights between, nothing but the heartbeat was requested."""
        while self.day < day:
            assert self.night() == ([HEARTBEAT] if ("leaderboard", None) in self.world.made else []), self.day
        self.world.now = FIRST + timedelta(days=day - 1, hours=12)

    def night(self) -> list[str]:
        """Return the requests of the tick at three in the night after this day."""
        self.world.now = FIRST + timedelta(days=self.day, hours=2, minutes=59, seconds=50)
        self.day += 1
        return self.settled()

    def settled(self) -> list[str]:
        return [_line(requested) for requested in self.world.settle()]


def _line(requested: Requested) -> str:
    assets = {asset: sorted(who for name, who in requested if name == asset and who) for asset, _ in requested}
    return " ".join(f"{asset}:{','.join(names)}" if names else asset for asset, names in sorted(assets.items()))


def of(names: str, lines: list[str]) -> list[str]:
    """`lines` with the assets that are made for each character requested for `names`."""
    across = HEARTBEAT.split()
    return [" ".join(word if word in across else f"{word}:{names}" for word in line.split()) for line in lines]


def both(*parts: list[str]) -> list[str]:
    """Return the requests of all `parts` side by side, each a list of lines with the same first evaluation."""
    merged: list[dict[str, set[str]]] = [{} for _ in range(max(map(len, parts)))]
    for lines in parts:
        for look, line in zip(merged, lines, strict=False):
            for word in line.split():
                asset, _, names = word.partition(":")
                look.setdefault(asset, set()).update(filter(None, names.split(",")))
    return [_line({(asset, who) for asset, names in look.items() for who in names or {None}}) for look in merged]


@pytest.fixture
def world() -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(defs(), instance, FIRST)


@pytest.fixture(scope="module")
def begun() -> Iterator[tuple[World, list[list[str]]]]:
    """The world at noon of the third day, and what was requested until then."""
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(defs(), instance, FIRST)
        month = Month(world)
        month.noon(1)
        empty = month.settled()
        world.warned.add("bo")  # all month
        world.add("ada", "bo")
        requested = [empty, month.settled(), month.night(), month.night()]
        month.noon(3)
        yield world, requested


@pytest.fixture
def week(begun: tuple[World, list[list[str]]]) -> Iterator[Month]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Month(begun[0].copied(instance), day=3)


def test_the_first_days_make_datasets_by_day_and_all_else_by_night(begun: tuple[World, list[list[str]]]) -> None:
    nothing, by_day, by_night, next_night = begun[1]
    assert nothing == []
    assert by_day == of("ada,bo", DATASET)
    assert by_night == of("ada,bo", TRAINED + RELEASED)
    assert next_night == [HEARTBEAT]


def test_a_week_of_edits(week: Month) -> None:
    world = week.world
    week.noon(3)  # one gets another GIF, the other a text file, which changes no frame
    world.edit("ada", "media", "second")
    world.edit("bo", "media", "first + a text file")
    assert week.settled() == both(of("ada", DATASET), of("bo", ["raw_media", "frames", "curated_tags"]))
    assert week.night() == both([HEARTBEAT], of("ada", TRAINED + RELEASED))

    week.noon(5)  # an edit of captions; and a GIF that is taken back before the night, which trains nothing
    world.edit("bo", "curation", "no smiles")
    world.edit("ada", "media", "oops")
    assert week.settled() == both(of("ada", DATASET), of("bo", ["curated_tags", "training_set"]))
    world.edit("ada", "media", "second")
    assert week.settled() == of("ada", DATASET)
    assert week.night() == both([HEARTBEAT], of("bo", TRAINED + RELEASED))

    week.noon(7)  # an edit of what is measured: by day, and without a training
    world.edit("ada", "benchmark", "more samples")
    assert week.settled() == of("ada", TRAINED[1:] + RELEASED)

    week.noon(
        8
    )  # the sampling grid recommends something for the LoRA, which is released: by day, and without a training
    world.edit("ada", "recommended", "in 4 steps")
    world.edit("ada", "recommended_release", "in 4 steps")
    assert week.settled() == both(of("ada", TRAINED[2:] + RELEASED), of("ada", ["comfyui_workflow"]))
    week.noon(9)


def test_a_week_of_bad_and_broken_trainings(week: Month) -> None:
    world = week.world
    week.noon(3)  # both get GIFs; one LoRA comes out bad, the training of the other crashes
    world.edit("ada", "media", "second")
    world.edit("bo", "media", "second")
    assert week.settled() == of("ada,bo", DATASET)
    world.bad.add("ada")
    world.broken.add(("lora", "bo"))
    released = world.made["released_lora", "ada"]
    assert week.night() == both([HEARTBEAT], of("ada", TRAINED + REFUSED), ["lora:bo"])
    assert world.made["released_lora", "ada"] == released
    world.broken.clear()
    week.noon(4)
    assert week.settled() == []  # what failed waits for the next night
    assert week.night() == both([HEARTBEAT], of("bo", TRAINED + RELEASED))

    week.noon(6)  # the bad one gets better; a new character has too few images
    world.bad.clear()
    world.few.add("cleo")
    world.edit("ada", "media", "third")
    world.add("cleo")
    assert week.settled() == both(of("ada,cleo", DATASET), REFUSED)
    assert week.night() == both([HEARTBEAT], of("ada", TRAINED + RELEASED))
    week.noon(8)


def test_a_week_of_a_character_that_had_too_few_images(week: Month) -> None:
    world = week.world
    week.noon(3)
    world.few.add("cleo")
    world.add("cleo")
    assert week.settled() == both(of("cleo", DATASET), REFUSED)
    assert week.night() == [HEARTBEAT]

    week.noon(4)  # it gets more, which wait for the night; the tagger fails for another, and holds only that one
    world.few.clear()
    world.edit("cleo", "media", "second")
    world.broken.add(("wd14_tags", "ada"))
    world.edit("ada", "media", "second")
    assert week.settled() == both(of("cleo", DATASET), of("ada", DATASET[:3]))
    assert week.night() == both([HEARTBEAT], of("cleo", TRAINED + RELEASED), ["wd14_tags:ada"])
    world.broken.clear()  # repaired: the next tick goes on where it failed, and trains
    assert week.night() == both([HEARTBEAT], of("ada", ["wd14_tags", *DATASET[3:], *TRAINED, *RELEASED]))
    week.noon(8)


def test_a_week_of_a_change_during_a_training(week: Month) -> None:
    world = week.world
    week.noon(3)  # a GIF comes while the LoRA is trained without it: nothing is measured until it is trained with it
    world.edit("ada", "media", "second")
    assert week.settled() == of("ada", DATASET)
    world.during["lora", "ada"] = lambda: world.edit("ada", "media", "third")
    assert week.night() == both([HEARTBEAT], of("ada", ["lora", *DATASET]))
    assert week.night() == both([HEARTBEAT], of("ada", TRAINED + RELEASED))
    week.noon(7)


def test_a_week_of_a_character_that_goes_and_comes_back(week: Month) -> None:
    world = week.world
    week.noon(3)  # a character is removed just before it would be trained
    world.edit("bo", "media", "second")
    assert week.settled() == of("bo", DATASET)
    world.remove("bo")
    assert week.settled() == REFUSED

    week.noon(6)  # it comes back: what was due is done, and nothing else
    world.add("bo")
    assert week.settled() == REFUSED
    assert week.night() == both([HEARTBEAT], of("bo", TRAINED + RELEASED))
    week.noon(12)


def test_a_week_of_edits_of_parts_of_roots(week: Month) -> None:
    """An asset that does not use the part is left unchanged, with its verdicts, though its root has changed."""
    world = week.world
    week.noon(3)  # of the root `training`: what a dataset does not use waits for the night
    world.edit("ada", "training", "more epochs")
    world.edit("bo", "dataset", "other crops")
    assert week.settled() == ["training_set:bo"]
    assert week.night() == both([HEARTBEAT], of("ada,bo", TRAINED + RELEASED))

    week.noon(4)
    world.edit("ada", "sampling", "more of art")
    assert week.settled() == of("ada", ["frame_weights", "training_set"])
    assert week.night() == both([HEARTBEAT], of("ada", TRAINED + RELEASED))

    week.noon(5)  # of the root `evaluation`: what only a person asks for
    world.edit("ada", "sampling_grid", "a finer grid")
    world.edit("ada", "lcm", "more steps")
    assert week.settled() == []

    week.noon(6)  # of the root `release`: limits of the gate for one, and a release to go back to for the other
    world.edit("ada", "gate", "stricter")
    world.edit("bo", "roll_backs", "the first")
    assert week.settled() == both(
        of("ada", TRAINED[3:] + RELEASED), of("bo", ["released_lora", "comfyui_workflow report"])
    )

    week.noon(7)  # of the root `generation`: what is measured beside the LoRA
    world.edit("ada", "rivals", "another's")
    assert week.settled() == of("ada", TRAINED[2:] + RELEASED)
    week.noon(8)


def test_a_week_after_the_history_was_deleted(week: Month) -> None:
    """Artifacts count as made. Only verdicts are missing: assets with blocking checks are checked again, once."""
    world = week.world
    week.noon(3)
    world.broken.add(("training_set", "bo"))
    with dg.DagsterInstance.ephemeral() as instance:
        world.lose_history(instance)
        assert week.settled() == both([HEARTBEAT, "report"], of("ada,bo", ["benchmark training_set"]))
        world.broken.clear()
        week.noon(3)
        assert week.settled() == []  # what failed waits for the night
        assert week.night() == both([HEARTBEAT], of("bo", ["benchmark training_set"]))

        week.noon(5)  # so no release and no training waits for a verdict that nobody makes
        world.edit("ada", "roll_backs", "the first")
        world.edit("bo", "training", "more epochs")
        assert week.settled() == of("ada", ["released_lora", "comfyui_workflow report"])
        assert week.night() == both([HEARTBEAT], of("bo", TRAINED + RELEASED))
        week.noon(8)


def test_a_week_in_which_artifacts_are_deleted(week: Month) -> None:
    """They, and they only, are made again: their content is what it was."""
    world = week.world
    artifacts = dict(world.artifacts)
    week.noon(3)
    for name, asset in [("ada", "frames"), ("bo", "lora")]:
        del world.artifacts[name, asset]
        world.observe(name)
    assert week.settled() == ["frames:ada"]
    assert week.night() == both([HEARTBEAT], ["lora:bo"])

    week.noon(5)  # while it is gone, the page is without it
    del world.artifacts["ada", "benchmark"]
    world.observe("ada")
    assert week.settled() == ["benchmark:ada leaderboard", "leaderboard"]
    assert world.artifacts == artifacts
    week.noon(7)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all characters; the automation reads there who asks for a pack."""
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path))
    return tmp_path


def write(settings: Path, name: str, text: str = "") -> Path:
    (settings / name).mkdir(exist_ok=True)
    path = settings / name / "character.yaml"
    path.write_text(f"trigger: skv_{name}\n{text}", encoding="utf-8")
    return path


def test_a_week_of_packs(week: Month, settings: Path) -> None:
    """Only for who asks: at once, once for each change, and again for picks and for a release."""
    world = week.world
    write(settings, "ada")
    write(settings, "bo")
    week.noon(3)
    assert week.settled() == [], "nobody asks"
    write(settings, "ada", "pack: {}\n")
    world.edit("ada", "pack", "asked for")
    assert week.settled() == of("ada", PACK)

    week.noon(4)
    world.edit("ada", "pack", "picks.yaml")
    assert week.settled() == of("ada", PACK[1:])
    world.edit("ada", "pack_candidates", "other slots")
    assert week.settled() == of("ada", PACK)
    world.edit("bo", "pack", "picks.yaml")
    world.edit("bo", "pack_candidates", "other slots")
    assert week.settled() == [], "bo does not ask"

    week.noon(5)  # a GIF: a pack with it by day, once the dataset is there, and one with the next release
    world.edit("ada", "media", "second")
    world.edit("bo", "media", "second")
    assert week.settled() == both(of("ada", DATASET + PACK), of("bo", DATASET))
    after_the_release = [""] * len([*TRAINED, "released_lora"]) + of("ada", PACK)
    assert week.night() == both([HEARTBEAT], of("ada,bo", TRAINED + RELEASED), after_the_release)

    week.noon(6)  # a character with too few images for a LoRA gets a pack of its own files
    write(settings, "cleo", "pack: {}\n")
    world.few.add("cleo")
    world.add("cleo")
    assert week.settled() == both(of("cleo", DATASET + PACK), REFUSED)

    week.noon(7)  # nobody asks any more
    write(settings, "cleo")
    write(settings, "ada")
    for name in ("ada", "cleo"):
        world.edit(name, "pack", "asked for no more")
        world.edit(name, "pack_candidates", "other slots again")
    assert week.settled() == []
    week.noon(8)


def test_a_pack_that_fails_is_tried_again_when_something_changes_or_at_night(week: Month, settings: Path) -> None:
    world = week.world
    write(settings, "ada", "pack: {}\n")
    week.noon(3)
    world.broken.add(("pack_candidates", "ada"))
    world.edit("ada", "pack", "asked for")
    assert week.settled() == of("ada", PACK[:1])
    assert week.night() == both([HEARTBEAT], of("ada", PACK[:1]))
    world.broken.clear()
    world.edit("ada", "pack_candidates", "fewer seeds")
    assert week.settled() == of("ada", PACK)


def test_only_verdicts_on_the_latest_benchmark_count(world: World) -> None:
    """All checks passed on one benchmark; of the next ones not all have run, or not all have passed."""
    month = Month(world)
    world.add("ada")
    month.settled()
    assert month.night() == of("ada", TRAINED + RELEASED)
    for case, judged, bad, released in [
        ("none has run", [], False, False),
        ("one has not run", list(CHECKS)[:-1], False, False),
        ("failed", CHECKS, True, False),
        ("none has run again", [], False, False),
        ("passed", CHECKS, False, True),
    ]:
        world.made["samples", "ada"] = case  # so the benchmark comes out different
        world.bad = {"ada"} if bad else set()
        world.run("ada", ["benchmark"], {"benchmark": judged})
        assert (("released_lora", "ada") in world.requested()) == released, case


def test_the_sensor_requests_a_run_for_each_character_with_its_checks(world: World) -> None:
    """So a run that fails is that of one character, and what is made is judged in the same run."""
    world.add("ada", "bo")
    repository = world.real.get_repository_def()
    with dg.build_sensor_context(instance=world.instance, repository_def=repository) as context:
        requests = automation.evaluate_tick(context).run_requests
    checks = [dg.AssetCheckKey(dg.AssetKey("raw_media"), "rejected_files")]
    assert [(run.partition_key, run.asset_selection, run.asset_check_keys) for run in requests or []] == [
        (name, [dg.AssetKey("raw_media")], checks) for name in ("ada", "bo")
    ]


def test_what_is_in_progress_is_not_requested_again(world: World) -> None:
    month = Month(world)
    world.add("ada", "bo")
    month.settled()
    run = world.instance.create_run_for_job(
        world.job.get_subset(asset_selection={dg.AssetKey("lora")}),
        asset_selection=frozenset({dg.AssetKey("lora")}),
        tags={"dagster/partition": "ada"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert month.night() == of("bo", TRAINED + RELEASED)
    world.instance.report_run_failed(run)
    assert month.night() == both([HEARTBEAT], of("ada", TRAINED + RELEASED))


def test_an_lcm_lora_is_put_on_the_page_once_there_are_characters_on_it(world: World) -> None:
    def distilled(version: str) -> None:
        world.instance.report_runless_asset_event(observation(SHARED, None, {"shared": {"embedded/lcm_lora": version}}))

    month = Month(world)
    distilled("one")
    assert month.settled() == [], "the page needs a leaderboard"
    world.add("ada")
    month.settled()
    month.night()
    distilled("two")
    assert month.settled() == ["report"]
    assert month.settled() == []


@pytest.mark.parametrize(
    ("cron", "gap"),
    [("0 3 * * *", 24), ("0 3 * * 1", 24 * 7), ("0 3 * * 1-5", 24 * 3), ("0 */6 * * *", 6), ("0 3 1 * *", 24 * 31)],
)
def test_the_longest_gap_of_a_schedule(cron: str, gap: int) -> None:
    assert longest_gap(cron) == timedelta(hours=gap)


def test_a_wrong_schedule_says_what_to_write() -> None:
    assert schedule({}) == "0 3 * * *"
    assert schedule({"STICKER_RETRAIN": "0 1 * * 6"}) == "0 1 * * 6"
    with pytest.raises(ScheduleError, match="STICKER_RETRAIN is 'nightly', which is no cron schedule"):
        schedule({"STICKER_RETRAIN": "nightly"})
