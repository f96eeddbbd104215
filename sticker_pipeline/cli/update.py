"""Updates characters from a terminal, through Dagster, with progress.

For `make demo`, scripts and people without a browser; the Dagster UI does the same.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import dagster as dg
from rich.console import Console

from sticker_pipeline.benchmark.forecast import forewarnings
from sticker_pipeline.benchmark.gate import CHECKS
from sticker_pipeline.core.character import Character, CharacterError
from sticker_pipeline.core.files.claims import claimed
from sticker_pipeline.core.markdown import letters
from sticker_pipeline.core.process.output import tell
from sticker_pipeline.core.process.stopping import Stopped, Stopping
from sticker_pipeline.core.profile import Profile, ProfileError
from sticker_pipeline.core.storage import ArtifactStore, StorageError
from sticker_pipeline.dagster_kit.checks import cut_off
from sticker_pipeline.dagster_kit.compat import asset_specs, free_places, new_run_id
from sticker_pipeline.dagster_kit.dead_runs import UPDATE_TAG, process_tags
from sticker_pipeline.dagster_kit.history import History
from sticker_pipeline.dagster_kit.one_off import ONE_OFF
from sticker_pipeline.dagster_kit.restored import stale_now
from sticker_pipeline.dagster_kit.scope import Scope
from sticker_pipeline.defs.benchmark.checks import benchmark_checks
from sticker_pipeline.defs.partitions import CHARACTERS, STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import of_all, of_character, of_style
from sticker_pipeline.roots.across import artifacts_across
from sticker_pipeline.roots.style import named_styles, ready_styles

LORA, TRAINING_SET, PACK = (dg.AssetKey(name) for name in ("lora", "training_set", "sticker_pack"))
Outcome = Literal["made", "refused", "failed"]
BAD_INPUT = (CharacterError, ProfileError, StorageError)  # of one character; the others continue


@dataclass(frozen=True)
class Work:
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    store: ArtifactStore
    console: Console
    stopping: Stopping
    forewarned: Callable[[str], list[str]] = lambda name: []  # a character's name -> sentences before its training

    def history(self) -> History:
        return History(self.instance, self.definitions.resolve_asset_graph())

    def look(self) -> "Look":
        return Look(self.store, self.history())


@dataclass(frozen=True)
class Look:
    """The sources of staleness: store or snapshot, and run history."""

    store: ArtifactStore
    history: History


@dataclass(frozen=True)
class Updated:
    """Names of failed characters and styles, and of characters the gate refused."""

    failed: list[str]
    refused: list[str]


def update(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    workspace: Workspace,
    characters: Sequence[tuple[Character, Profile]],
    console: Console,
    jobs: Sequence[str] = ("dataset_line", "character_line", "pack_line", "style_line"),
    stopping: Stopping | None = None,
) -> Updated:
    """Materialize the stale assets of each character, their styles and the leaderboard.

    Job by job. A failed character does not stop the others; another update waits for its turn at each. Raises Stopped
    when `stopping` asks for it: the current run is cancelled, and none begins.
    """
    forewarned = partial(_forewarned, {pair[0].name: pair for pair in characters}, workspace)
    work = Work(definitions, instance, workspace.store, console, stopping or Stopping(), forewarned)
    instance.add_dynamic_partitions(str(CHARACTERS.name), [character.name for character, _ in characters])
    failed: list[str] = []
    refused: list[str] = []
    # By default datasets first: an unchanged one needs no training, and each character is compared with all others.
    for job in jobs:
        if job == "style_line":
            failed += _update_styles(work, workspace, characters)
            continue
        # A job of one character changes no other's artifacts: one snapshot of the store serves all.
        glance = Look(workspace.store.snapshot(), work.history())
        working = [character for character, _ in characters if character.name not in failed]
        names = [one.name for one in working if job != "pack_line" or one.settings.pack is not None]
        for asset in asset_specs(glance.history.graph, CHARACTERS):
            glance.history.read_noted(asset.key, names)
        for name in names:
            outcome = _brought_up_to_date(work, job, of_character(workspace, name), glance)
            if outcome != "made":
                (refused if outcome == "refused" else failed).append(name)
    if artifacts_across(workspace.characters_folder, workspace.store, "benchmark"):
        across = of_all(workspace)
        if _brought_up_to_date(work, "leaderboard_table", across, work.look()) != "made":
            failed.append("leaderboard")
    return Updated(failed, refused)


def make_pack(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    workspace: Workspace,
    character: Character,
    platforms: Sequence[str],
    console: Console,
    stopping: Stopping | None = None,
) -> bool:
    """Materialize the character's dataset and pack if stale; return True on success.

    It needs no `pack:` in character.yaml. `platforms`: in place of those of character.yaml; empty for those. Raises
    Stopped as `update` does.
    """
    work = Work(definitions, instance, workspace.store, console, stopping or Stopping())
    instance.add_dynamic_partitions(str(CHARACTERS.name), [character.name])
    scope = replace(of_character(workspace, character.name), is_wanted=lambda asset, subject: True)
    if _brought_up_to_date(work, "dataset_line", scope, work.look()) != "made":
        return False

    def stale() -> list[dg.AssetKey]:
        found = stale_assets(work, "pack_line", scope, work.look())
        again = platforms or _is_one_off(workspace.store, character.name)
        return [*found, PACK] if again and PACK not in found else found

    values = {"ops": {PACK.to_user_string(): {"config": {"platforms": list(platforms)}}}} if platforms else {}
    return _make_stale(work, "pack_line", character.name, character.name, stale, values) == "made"


def _is_one_off(store: ArtifactStore, name: str) -> bool:
    """Tell whether the pack was made with values of a launch."""
    found = store.find(name, PACK.to_user_string())
    return found is not None and ONE_OFF in found.settings


def _forewarned(characters: Mapping[str, tuple[Character, Profile]], workspace: Workspace, name: str) -> list[str]:
    """Return the failed forecasts of the character's training set."""
    return [
        verdict.summary for verdict in forewarnings(*characters[name], workspace.store).values() if not verdict.passed
    ]


def follow_roll_back(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    store: ArtifactStore,
    name: str,
    console: Console,
    stopping: Stopping | None = None,
) -> bool:
    """Materialize assets that show the current release; return True on success.

    The newest LoRA is not checked again: a roll-back holds whatever the gate's result. Raises Stopped as `update` does.
    """
    work = Work(definitions, instance, store, console, stopping or Stopping())
    assets = [dg.AssetKey("released_lora"), dg.AssetKey("comfyui_workflow")]
    return _make_stale(work, "character_line", name, name, lambda: assets) == "made"


def _update_styles(work: Work, workspace: Workspace, characters: Sequence[tuple[Character, Profile]]) -> list[str]:
    """Materialize stale assets of the styles of `characters`; return failed styles.

    Members of the styles may be outside `characters`.
    """
    wanted = named_styles(characters)
    valid = workspace.valid_characters()[0] if wanted else []
    styles, problems = ready_styles(valid, workspace.store, workspace.models_folder)
    for problem in problems:
        tell(("left out:", "red"), f" {problem}", console=work.console)
    failed = []
    for style in (style for style in styles if style.name in wanted):
        work.instance.add_dynamic_partitions(str(STYLES.name), [style.name])
        if _brought_up_to_date(work, "style_line", of_style(workspace, style.name), work.look()) != "made":
            failed.append(style.name)
    return failed


def _brought_up_to_date(work: Work, job: str, scope: Scope[Any], glance: Look) -> Outcome:
    """Materialize the job's stale assets in the scope.

    Waits for no other update if `glance` shows none.
    """
    try:
        if stale_assets(work, job, scope, glance):
            return _make_stale(
                work, job, scope.place, scope.partition, lambda: stale_assets(work, job, scope, work.look())
            )
        return _materialize(work, job, [], scope.partition)
    except (OSError, *BAD_INPUT) as error:  # changed or removed meanwhile, or a damaged artifact
        tell(("left out:", "red"), f" {scope.name}: {error}", console=work.console)
        return "failed"


def _make_stale(
    work: Work,
    job: str,
    place: str,
    partition: str | None,
    look: Callable[[], Sequence[dg.AssetKey]],
    values: Mapping[str, Any] = MappingProxyType({}),
) -> Outcome:
    work.stopping.check()
    title = f"{partition} {job}" if partition else job
    with claimed(
        work.store.claim(place, "update"),
        f"another update, {title}",
        partial(_say, work.console, title),
        work.stopping.check,
    ):
        return _materialize(work, job, look(), partition, values)


def stale_assets(work: Work, job: str, scope: Scope[Any], look: Look) -> list[dg.AssetKey]:
    """Return the scope's stale assets, in the job's order.

    Stale by the current settings, or with a check left undone by a killed run. Raises errors of loading the scope.
    """
    graph = work.definitions.resolve_job_def(job).asset_layer.asset_graph
    assets = [key for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
    unmade = cut_off(work.instance, list(graph.asset_check_keys), scope.partition) if scope.partition else set()
    chosen = {*stale_now(look.history, assets, scope, look.store), *unmade}
    return [key for key in assets if key in chosen]


def _say(console: Console, title: str, text: str) -> None:
    tell(f"{title}: {text}", console=console, style="dim")


def _materialize(
    work: Work,
    job: str,
    stale: Sequence[dg.AssetKey],
    partition: str | None,
    values: Mapping[str, Any] = MappingProxyType({}),
) -> Outcome:
    """Run the job on `stale` assets; `values`: of the run's configuration."""
    say = partial(tell, *(((partition, "bold"), f" {job}") if partition else ((job, "bold"),)), console=work.console)
    if not stale:
        say(": up to date")
        return "made"
    say(f": {', '.join(key.path[-1] for key in stale)}")
    # a run that makes the training set prints its checks
    for sentence in work.forewarned(partition) if partition and LORA in stale and TRAINING_SET not in stale else ():
        tell(("note:", "yellow"), f" {partition}: {sentence}", console=work.console)
    started, run_id = time.monotonic(), new_run_id()
    with _cancellable(work, run_id):
        result = work.definitions.resolve_job_def(job).execute_in_process(
            instance=work.instance,
            partition_key=partition,
            asset_selection=list(stale),
            raise_on_error=False,
            run_config={"loggers": {"terminal": {"config": {}}}, **values},
            run_id=run_id,
            tags={UPDATE_TAG: "true", **process_tags()},
        )
    if result.success:
        say(f": done in {time.monotonic() - started:.0f} s\n")
        return "made"
    if {event.step_key for event in result.all_node_events if event.is_step_failure} != {
        benchmark_checks.node_def.name
    }:
        return "failed"
    for check in result.get_asset_check_evaluations():
        if check.check_name in CHECKS and not check.passed:
            said = letters(check.description or "")
            say(": ", ("not released", "yellow"), f", {check.check_name}: {said}")
    return "refused"


@contextmanager
def _cancellable(work: Work, run_id: str) -> Iterator[None]:
    """Cancel the block's run on a stop here or in the UI.

    Then raises Stopped after the block. In any case the run has ended and holds no place in a pool.
    """

    def cancel() -> None:
        run = work.instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            work.instance.report_run_canceling(run, "The command that does this run was asked to stop.")

    work.stopping.first = cancel
    try:
        yield
    finally:
        work.stopping.first = None
        run = work.instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            work.instance.report_run_canceled(run, "The command that did this run was stopped.")
        free_places(work.instance, run_id)
    work.stopping.check()
    if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
        raise Stopped(signal.SIGINT)
