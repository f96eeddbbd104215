"""Cost of automation by number of characters: folder sensor, one evaluation, and `update`, nothing to do.

Run: python -m sticker_pipeline_tests.benchmarks.bench_characters [COUNT…]   (default: 10, 100 and 1,000 characters)

Each character has one image; its assets and checks are all made: scripted, in files and in Dagster's history as the
steps leave them. CPU seconds. The last column is the cost of one character at the largest count over that at the
smallest.
"""

import time
from pathlib import Path

import dagster as dg
from rich.console import Console

from sticker_pipeline.cli.update import update
from sticker_pipeline.dagster_kit.history import remembered_partitions
from sticker_pipeline.definitions import defs as definitions
from sticker_pipeline_tests.benchmarks.by_count import print_costs, timer
from sticker_pipeline_tests.benchmarks.scripted_deployment import Deployment, script_history, scripted_deployment
from sticker_pipeline_tests.defs import sensor_look

COUNTS = (10, 100, 1_000)


def main() -> None:
    print_costs(costs, COUNTS)


def costs(root: Path, count: int) -> dict[str, float]:
    """Return measured item -> CPU seconds, with `count` characters."""
    found: dict[str, float] = {}
    timed = timer(found, count)
    world = definitions()
    deployment = timed("(scripting the files)", lambda: scripted_deployment(root, world, count))
    looks = timed("sensor, first looks", lambda: look_until_quiet(deployment))
    print(f"{count:6} {len(looks)} looks; the longest took {max(looks):.1f} s", flush=True)
    timed("(scripting the history)", lambda: script_history(deployment, world))
    look_until_quiet(deployment)
    timed("sensor, nothing changed", lambda: look(deployment))
    first = timed("automation, first look", lambda: automation_look(deployment, world, None))
    timed("automation, nothing changed", lambda: automation_look(deployment, world, first))
    deployment.add_image("c0000")
    timed("sensor, one new image", lambda: look(deployment))
    timed("update, nothing to do", lambda: update_all(deployment, world))
    return found


def look(deployment: Deployment) -> int:
    """One look of the folder sensor, its events stored; returns their number."""
    result, reported = sensor_look.look(deployment.instance, deployment.workspace, deployment.cursor)
    if isinstance(result, dg.SkipReason):
        return 0
    assert isinstance(result, dg.SensorResult)
    deployment.cursor = result.cursor
    for request in result.dynamic_partitions_requests or []:
        assert isinstance(request, dg.AddDynamicPartitionsRequest), request
        deployment.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return len(reported)


def look_until_quiet(deployment: Deployment) -> list[float]:
    """Look until nothing is new; returns the seconds of each look, as a clock on the wall has them."""
    seconds = []
    events = 1
    while events:
        start = time.perf_counter()
        events = look(deployment)
        seconds.append(time.perf_counter() - start)
    return seconds


def automation_look(deployment: Deployment, world: dg.Definitions, cursor: object) -> object:
    """One look of the automation; only what is about all characters may be requested, by a first look."""
    graph = world.resolve_asset_graph()
    with remembered_partitions(deployment.instance):
        result = dg.evaluate_automation_conditions(world, deployment.instance, cursor=cursor)
    requested = {asset for asset in graph.materializable_asset_keys if result.get_num_requested(asset)}
    assert requested <= {dg.AssetKey("leaderboard"), dg.AssetKey("report")}, requested
    return result.cursor


def update_all(deployment: Deployment, world: dg.Definitions) -> None:
    chosen, problems = deployment.workspace.valid_characters()
    assert not problems, problems[:3]
    update(world, deployment.instance, deployment.workspace, chosen[1:], Console(quiet=True))


if __name__ == "__main__":
    main()
