"""A month in which everything happens, and what is requested on which day, exactly."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

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

pytestmark = pytest.mark.skipif(RETRAIN_AT != NIGHTLY, reason="STICKER_RETRAIN is set: the nights are others")


class Month:
    """The days of a world. What was requested is a line for each look: each asset with its characters."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.day = 1

    def noon(self, day: int) -> None:
        """Go on to noon of `day`; in the nights between, nothing but the heartbeat was requested."""
        while self.day < day:
            assert self.night() == ([HEARTBEAT] if ("leaderboard", None) in self.world.made else []), self.day
        self.world.now = FIRST + timedelta(days=day - 1, hours=12)

    def night(self) -> list[str]:
        """What the tick brings at three in the night after this day."""
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
    """What is requested when all `parts` go on side by side, each a list of lines that begin at the same look."""
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


@pytest.mark.timeout(1800)  # two minutes; on a busy machine many more
def test_a_month(world: World) -> None:
    month = Month(world)
    month.noon(1)
    assert month.settled() == []
    world.warned.add("bo")  # of which a blocking check warns, which stops nothing, all month
    world.add("ada", "bo")  # two characters: their datasets by day, all else by night
    assert month.settled() == of("ada,bo", DATASET)
    assert month.night() == of("ada,bo", TRAINED + RELEASED)

    month.noon(3)  # one gets another GIF, the other a text file, which changes no frame
    world.edit("ada", "media", "second")
    world.edit("bo", "media", "first + a text file")
    assert month.settled() == both(of("ada", DATASET), of("bo", ["raw_media", "frames", "curated_tags"]))
    assert month.night() == both([HEARTBEAT], of("ada", TRAINED + RELEASED))

    month.noon(5)  # an edit of captions; and a GIF that is taken back before the night, which trains nothing
    world.edit("bo", "curation", "no smiles")
    world.edit("ada", "media", "oops")
    assert month.settled() == both(of("ada", DATASET), of("bo", ["curated_tags", "training_set"]))
    world.edit("ada", "media", "second")
    assert month.settled() == of("ada", DATASET)
    assert month.night() == both([HEARTBEAT], of("bo", TRAINED + RELEASED))

    month.noon(7)  # an edit of what is measured: by day, and without a training
    world.edit("ada", "benchmark", "more samples")
    assert month.settled() == of("ada", TRAINED[1:] + RELEASED)

    month.noon(8)  # a sweep recommends something for the LoRA, which is released: by day, and without a training
    world.edit("ada", "recommended", "in 4 steps")
    world.edit("ada", "recommended_release", "in 4 steps")
    assert month.settled() == both(of("ada", TRAINED[2:] + RELEASED), of("ada", ["comfyui_workflow"]))

    month.noon(9)  # both get GIFs; one LoRA comes out bad, the training of the other crashes
    world.edit("ada", "media", "third")
    world.edit("bo", "media", "second")
    assert month.settled() == of("ada,bo", DATASET)
    world.bad.add("ada")
    world.broken.add(("lora", "bo"))
    released = world.made["released_lora", "ada"]
    assert month.night() == both([HEARTBEAT], of("ada", TRAINED + REFUSED), ["lora:bo"])
    assert world.made["released_lora", "ada"] == released
    world.broken.clear()
    month.noon(10)
    assert month.settled() == []  # what failed waits for the next night
    assert month.night() == both([HEARTBEAT], of("bo", TRAINED + RELEASED))

    month.noon(12)  # the bad one gets better; a new character has too few images
    world.bad.clear()
    world.few.add("cleo")
    world.edit("ada", "media", "fourth")
    world.add("cleo")
    assert month.settled() == both(of("ada,cleo", DATASET), REFUSED)
    assert month.night() == both([HEARTBEAT], of("ada", TRAINED + RELEASED))

    month.noon(14)  # it gets more, which wait for the night; the tagger fails for another, and holds only that one
    world.few.clear()
    world.edit("cleo", "media", "second")
    world.broken.add(("wd14_tags", "ada"))
    world.edit("ada", "media", "fifth")
    assert month.settled() == both(of("cleo", DATASET), of("ada", DATASET[:3]))
    assert month.night() == both([HEARTBEAT], of("cleo", TRAINED + RELEASED), ["wd14_tags:ada"])
    world.broken.clear()  # repaired: the next tick goes on where it failed, and trains
    assert month.night() == both([HEARTBEAT], of("ada", ["wd14_tags", *DATASET[3:], *TRAINED, *RELEASED]))

    month.noon(18)  # a GIF comes while the LoRA is trained without it: nothing is measured until it is trained with it
    world.edit("ada", "media", "sixth")
    assert month.settled() == of("ada", DATASET)
    world.during["lora", "ada"] = lambda: world.edit("ada", "media", "seventh")
    assert month.night() == both([HEARTBEAT], of("ada", ["lora", *DATASET]))
    assert month.night() == both([HEARTBEAT], of("ada", TRAINED + RELEASED))

    month.noon(22)  # a character is removed just before it would be trained
    world.edit("bo", "media", "third")
    assert month.settled() == of("bo", DATASET)
    world.remove("bo")
    assert month.settled() == REFUSED

    month.noon(25)  # it comes back: what was due is done, and nothing else
    world.add("bo")
    assert month.settled() == REFUSED
    assert month.night() == both([HEARTBEAT], of("bo", TRAINED + RELEASED))
    month.noon(31)


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
