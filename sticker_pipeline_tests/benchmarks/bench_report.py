"""Cost of the report by number of characters: bytes, and processor time, first and again.

Run: python -m sticker_pipeline_tests.benchmarks.bench_report [COUNT…]   (default: 10, 100 and 1,000 characters)

Every character has its own name, and the media, samples, tables, releases and checks of one demo character, made up as
in publishing/example.py. CPU seconds. The last column is the cost of one character at the largest count over that at
the smallest.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ALL, ArtifactStore
from sticker_pipeline.defs.release.report import check_specs, latest_verdicts
from sticker_pipeline.publishing.report import Check
from sticker_pipeline.publishing.report_folder import Written, report_before, write_report
from sticker_pipeline_tests.benchmarks.by_count import print_costs, timer
from sticker_pipeline_tests.publishing.example import demo_character, fill, release
from sticker_pipeline_tests.some_table import write_rows

COUNTS = (10, 100, 1_000)
DEMO = "bram_thistle"
CODE = "1"


def main() -> None:
    print_costs(costs, COUNTS)


def costs(root: Path, count: int) -> dict[str, float]:
    """Return measured item -> CPU seconds or megabytes, with `count` characters."""
    found: dict[str, float] = {}
    timed = timer(found, count)
    store, specs = ArtifactStore(root / "artifacts"), check_specs()
    characters = timed("(scripting the files), s", lambda: scripted_characters(store, count))
    names = [character.name for character, _ in characters]
    (root / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(root / "dagster")) as instance:
        timed("(scripting the history), s", lambda: pass_checks(instance, specs, names))
        checks = timed("verdicts of checks, s", lambda: latest_verdicts(instance, specs, names))
    first = timed("first, s", lambda: made(store, characters, checks))
    assert (first.made, first.taken_over) == (count, 0), first
    again = timed("nothing changed, s", lambda: made(store, characters, checks))
    assert (again.made, again.taken_over) == (0, count), again
    change(store, names[0])
    one = timed("one changed, s", lambda: made(store, characters, checks))
    assert (one.made, one.taken_over) == (1, count - 1), one
    pages = [path.stat().st_size for path in (store.folder(ALL, "report") / "characters").iterdir()]
    return found | {"index, MB": one.index_bytes / 1e6, "all pages, MB": sum(pages) / 1e6}


def scripted_characters(store: ArtifactStore, count: int) -> list[tuple[Character, Profile]]:
    """Characters c0000 and so on, whose artifacts are links to those of one."""
    character, profile = demo_character(DEMO, "chibi")
    fill(store, character, profile)
    release(store, DEMO, 2)
    characters = [replace(character, name=f"c{number:04}") for number in range(count)]
    for one in characters:
        (store.root / one.name).symlink_to(store.root / DEMO)
    return [(one, profile) for one in characters]


def pass_checks(instance: dg.DagsterInstance, specs: Sequence[dg.AssetCheckSpec], names: Iterable[str]) -> None:
    """Note that every check of every character has passed."""
    for name in names:
        for spec in specs:
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    spec.asset_key, spec.name, True, description="as it should be", partition=name,
                    blocking=spec.blocking,
                )
            )  # fmt: skip


def made(
    store: ArtifactStore, characters: Sequence[tuple[Character, Profile]], checks: dict[str, list[Check]]
) -> Written:
    """Publish the report, as its asset does."""
    before = report_before(store.find(ALL, "report"), CODE)
    with store.writing(ALL, "report") as staging:
        written = write_report(store, staging, characters, checks=checks, before=before)
        store.publish(staging, ALL, "report", code_version=CODE, inputs={}, settings={})
    return written


def change(store: ArtifactStore, name: str) -> None:
    """Give the character artifacts of its own, of which the weights are others."""
    (store.root / name).unlink()
    shutil.copytree(store.root / DEMO, store.root / name)
    table = store.read(name, "frame_weights").table()
    with store.writing(name, "frame_weights") as staging:
        write_rows(table.iloc[::-1], staging)
        store.publish(staging, name, "frame_weights", code_version="1", inputs={}, settings={})


if __name__ == "__main__":
    main()
