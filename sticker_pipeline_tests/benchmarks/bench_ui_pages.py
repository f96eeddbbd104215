"""Loading time of the UI's pages by number of characters, until the main content is there.

Run: python -m sticker_pipeline_tests.benchmarks.bench_ui_pages [COUNT…]   (default: 10 and 1,000 characters)

The characters are those of bench_characters.py: everything is made, and scripted. Chromium opens each page five times,
its scripts cached; the median and the longest, in seconds. The UI is `sticker-pipeline ui --read-only`: sensors do not
run beside it.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from sticker_pipeline.definitions import defs as definitions
from sticker_pipeline_tests.benchmarks.bench_characters import look_until_quiet
from sticker_pipeline_tests.benchmarks.scripted_deployment import script_history, scripted_deployment
from sticker_pipeline_tests.ui.deployment import deployment
from sticker_pipeline_tests.ui.person import CHROMIUM, MINUTE, browser, visit

COUNTS = (10, 1_000)
VISITS = 5
TEXT = "document.body.innerText"


def main() -> None:
    if CHROMIUM is None:
        print("There is no chromium, which opens the pages: install the package of that name.")
        return
    counts = [int(argument) for argument in sys.argv[1:]] or list(COUNTS)
    columns = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            make(Path(temporary) / "made", count)
            for name, seconds in opened(Path(temporary) / "made", count).items():
                columns.setdefault((count, "median"), {})[name] = statistics.median(seconds)
                columns.setdefault((count, "longest"), {})[name] = max(seconds)
    print(pd.DataFrame(columns).round(2).to_string())


def make(root: Path, count: int) -> None:
    """Make a deployment of `count` characters in the new folder `root`, of whom everything is made."""
    root.mkdir()
    world = definitions()
    made = scripted_deployment(root, world, count)
    look_until_quiet(made)
    script_history(made, world)
    look_until_quiet(made)


def pages(count: int) -> dict[str, tuple[str, str]]:
    """Page -> its address, and JavaScript that is true once its data is there."""
    last = f"c{count - 1:04}"
    one = f"/assets/benchmark?view=partitions&partition={last}"
    return {
        "catalog": ("/assets", f"/{count:,} partitions/.test({TEXT}) && !/Loading/.test({TEXT})"),
        "lineage": ("/asset-groups", "document.querySelectorAll('svg foreignObject').length > 8"),
        "asset": ("/assets/benchmark", f"/{last}[^]*Latest check results\\s*7/.test({TEXT})"),
        "asset, partitions": ("/assets/benchmark?view=partitions", f"/Materialized \\({count}\\)/.test({TEXT})"),
        "asset, one partition": (one, f"/View all historical events \\(1\\)/.test({TEXT})"),
        "asset, events": ("/assets/benchmark?view=events", f"/Partition {last} materialized/.test({TEXT})"),
        "asset, checks": ("/assets/benchmark?view=checks", f"/Checks \\(7\\)[^]*{last}/.test({TEXT})"),
    }


def opened(root: Path, count: int) -> dict[str, list[float]]:
    """Page -> the seconds that each visit took."""
    found: dict[str, list[float]] = {}
    with deployment(root, "--read-only") as ui, browser() as chromium, visit(chromium, ui.url) as person:
        for _ in range(VISITS + 1):
            for name, (path, there) in pages(count).items():
                found.setdefault(name, []).append(seconds(person.page, ui.url + path, there))
    return {name: each[1:] for name, each in found.items()}  # the first visit has an empty cache


def seconds(page: Any, url: str, there: str) -> float:
    """Open `url`; the seconds until `there` is true."""
    page.goto("about:blank")
    start = time.monotonic()
    page.goto(url, wait_until="commit")
    page.wait_for_function(f"() => {there}", timeout=2 * MINUTE)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
