"""Folder sensor: finds characters and styles, and observes their roots.

A folder with a valid character.yaml is a character. A style needs two characters with a dataset.
"""

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import dagster as dg

from sticker_pipeline.core.character import FILE_NAME, Character
from sticker_pipeline.core.files.places import places_problem
from sticker_pipeline.core.profile import PROFILES, Profile
from sticker_pipeline.core.storage import ArtifactStore, StorageError, content_hash, profile_scope
from sticker_pipeline.core.texts import MOST_NAMED, listed
from sticker_pipeline.dagster_kit.compat import asset_specs, keep_text, kept_text
from sticker_pipeline.dagster_kit.history import History
from sticker_pipeline.dagster_kit.noticed import described
from sticker_pipeline.dagster_kit.restored import observe_and_restore
from sticker_pipeline.dagster_kit.scope import Scope
from sticker_pipeline.defs.partitions import CHARACTERS, STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import EVERYBODY, OneCharacter, of_all, of_character, of_profile, of_style
from sticker_pipeline.roots.across import LCM_LORA, AllCharacters, profiles_of
from sticker_pipeline.roots.style import Style, named_styles, ready_styles

EVENTS_A_LOOK = 1500  # stored one by one, 3 to 8 ms each; Dagster ends a sensor after 60 s
SECONDS_A_LOOK = 15.0  # for files not read before, from the start of the tick
NOTHING = "No character changed."
SECONDS_AT_LEAST = 5.0  # so that a look advances even if settings alone take SECONDS_A_LOOK


STATE = "sticker/character_folders"  # key of State in the history
DIGITS = 16  # of the cursor, hexadecimal


@dataclass(frozen=True)
class State:
    """Sensor state: a hash per scope, and the scope to continue with.

    A hash covers roots and the publication times of artifacts. The history keeps the state. Dagster's cursor, which
    each tick stores anew, is its digest.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    go_on: str = ""

    def without(self, gone: Collection[str]) -> "State":
        """Return the state without these scopes.

        If they return, they are compared with the history.
        """
        return State({name: version for name, version in self.hashes.items() if name not in gone}, self.go_on)

    @property
    def text(self) -> str:
        return json.dumps(vars(self), sort_keys=True)


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds a partition for each folder with a valid character.yaml, and for each style that characters with "
    "datasets name; removes those whose folder is gone, or that no character names any more; and observes files "
    "and settings, so that exactly the assets that they change are shown as stale.",
)
def character_folders(context: dg.SensorEvaluationContext, workspace: Workspace) -> dg.SensorResult | dg.SkipReason:
    start = time.monotonic()
    root = workspace.characters_folder
    if problem := unreadable(root) or places_problem(workspace.places):
        context.log.error(problem)
        return dg.SkipReason(problem)
    valid, problems = workspace.valid_characters()
    before = _state(context.instance, context.cursor)
    partitions = set(context.instance.get_dynamic_partitions(str(CHARACTERS.name)))
    names = {character.name for character, _ in valid}
    removed = gone(root, partitions)
    styles, in_the_way = ready_styles(valid, workspace.store, workspace.models_folder)
    known_styles = set(context.instance.get_dynamic_partitions(str(STYLES.name)))
    # An unreadable character still exists and may name any style: no style is removed.
    unread = partitions - names - set(removed)
    removed_styles = [] if unread else sorted(known_styles - named_styles(valid).keys())
    scopes = _scopes(workspace, valid, problems, styles)
    assert context.repository_def is not None
    history = History(context.instance, context.repository_def.asset_graph)
    end = max(start + SECONDS_A_LOOK, time.monotonic() + SECONDS_AT_LEAST)
    fresh = {scope.name for scope in scopes if scope.partition not in {*partitions, *known_styles, *PROFILES, None}}
    look = _look(scopes, workspace.store.snapshot(), before, history, fresh, end=end)
    problems = [*problems, *in_the_way, *look.problems]
    for problem in problems:
        context.log.error(problem)
    new = sorted(names - partitions - look.left)
    looked_at = {style.name for style in styles if of_style(workspace, style.name).name not in look.left}
    new_styles = sorted(looked_at - known_styles)
    after = look.state.without({*removed, *(of_style(workspace, style).name for style in removed_styles)})
    if not new and not removed and not new_styles and not removed_styles and after == before:
        return dg.SkipReason("\n".join(_first(problems) or [NOTHING]))
    by_kind = {"New": new, "Removed": removed, "New style": new_styles, "Removed style": removed_styles}
    keep_text(context.instance, STATE, after.text)
    return dg.SensorResult(
        skip_reason="\n".join([*(_told(by_kind, look) or [NOTHING]), *_first(problems)]),
        dynamic_partitions_requests=[
            *_requests(CHARACTERS, new, removed),
            *_requests(STYLES, new_styles, removed_styles),
        ],
        cursor=_digest(after.text),
    )


def _scopes(
    workspace: Workspace, valid: Sequence[tuple[Character, Profile]], problems: Sequence[str], styles: Sequence[Style]
) -> list[Scope[Any]]:
    """Return the loaded scopes whose roots are observed."""
    return [
        *(of_character(workspace, each[0].name).loaded(OneCharacter(*each)) for each in valid),
        *(of_style(workspace, style.name).loaded(style) for style in styles),
        *(of_profile(workspace, name) for name in profiles_of(valid) if _has_lcm_lora(workspace, name)),
        of_all(workspace).loaded(AllCharacters(list(valid), list(problems))),
    ]


def _first(problems: Sequence[str]) -> list[str]:
    """Return the first MOST_NAMED problems, and the number of others."""
    more = len(problems) - MOST_NAMED
    return [*problems[:MOST_NAMED], *([f"And {more:,} more: sticker-pipeline doctor"] if more > 0 else [])]


def _told(by_kind: Mapping[str, Sequence[str]], look: "_Look") -> list[str]:
    """Return a line per kind of names, and per changed scope."""
    lines = [f"{kind}: {listed(names)}." for kind, names in by_kind.items() if names]
    roster_is_told = {EVERYBODY} if lines else set[str]()
    lines += [f"{name}: {sentence}." for name, sentence in look.changed.items() if name not in roster_is_told]
    if look.more:
        lines.append(f"And {look.more:,} more changed.")
    if look.left:
        lines.append(f"{len(look.left):,} more {'is' if len(look.left) == 1 else 'are'} looked at next time.")
    return lines


def _has_lcm_lora(workspace: Workspace, profile: str) -> bool:
    return bool(workspace.store.stamp(profile_scope(profile), LCM_LORA))


def _requests(
    partitions: dg.DynamicPartitionsDefinition, new: Sequence[str], removed: Sequence[str]
) -> Iterator[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    if new:
        yield partitions.build_add_request(new)
    if removed:
        yield partitions.build_delete_request(removed)


def unreadable(root: Path) -> str | None:
    """Return why the characters cannot be listed, or None.

    An empty folder may be an unmounted disk: no character is removed.
    """
    try:
        is_empty = all(path.name.startswith(".") for path in root.iterdir())
    except OSError as error:
        return f"{root} cannot be read: {error.strerror}. No character is removed."
    return f"{root} is empty. No character is removed." if is_empty else None


def gone(root: Path, names: Iterable[str]) -> list[str]:
    """Return those of `names` without a folder or character.yaml, sorted.

    An unreadable one, such as a link to an unmounted disk, is not gone.
    """
    return sorted(name for name in names if _is_missing(root / name) or _is_missing(root / name / FILE_NAME))


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return path.parent.is_dir()
    except OSError:
        return False
    return False


def _state(instance: dg.DagsterInstance, cursor: str | None) -> State:
    """Return the state with the digest `cursor`; empty without one.

    Then the history decides, as after "Edit cursor" in the UI.
    """
    text = kept_text(instance, STATE)
    if not cursor or cursor != _digest(text):
        return State()
    found = json.loads(text)
    return State(found["hashes"], found["go_on"])


def _digest(text: str) -> str:
    return content_hash(text)[:DIGITS]


@dataclass(frozen=True)
class _Look:
    """Result of one evaluation.

    `changed`: scope -> sentence, of the first MOST_NAMED that are not fresh; `more`: number of others. `left`: names of
    scopes not reached.
    """

    changed: dict[str, str]
    more: int
    problems: list[str]
    left: set[str]
    state: State


def _look(
    scopes: Sequence[Scope[Any]],
    store: ArtifactStore,
    before: State,
    history: History,
    fresh: Collection[str],
    *,
    end: float,
) -> _Look:
    """Observe scopes from the last stop until EVENTS_A_LOOK or monotonic time `end`."""
    events, more, changed = 0, 0, dict[str, str]()
    problems, hashes, left = [], dict(before.hashes), list[Scope[Any]]()
    specs_of = cache(partial(asset_specs, history.graph))
    for scope in _from(before.go_on, scopes):
        if events >= EVENTS_A_LOOK or time.monotonic() > end:
            left.append(scope)
            continue
        try:
            values = scope.values(store)
            specs = specs_of(scope.partitions)
            roots = [[root.path, content_hash(value)] for root, value in values.items()]
            version = content_hash([roots, _published(scope, specs, store)])
            if hashes.get(scope.name) != version:
                noticed = observe_and_restore(history, specs, scope, store, values)
                hashes[scope.name] = version
                events += noticed.events
                if noticed.events and scope.name not in fresh:
                    more += len(changed) >= MOST_NAMED
                    if len(changed) < MOST_NAMED:
                        changed[scope.name] = described(history.instance, noticed)
        except (OSError, StorageError) as error:  # the other scopes are still observed
            problems.append(f"{scope.name}: {error}")
    go_on = left[0].name if left else ""
    return _Look(changed, more, problems, {scope.name for scope in left}, State(hashes, go_on))


def _published(scope: Scope[Any], specs: Sequence[dg.AssetSpec], store: ArtifactStore) -> list[str]:
    """Return each artifact's stamp; empty: missing."""
    return [store.stamp(scope.place, scope.artifact_name(spec.key)) for spec in specs]


def _from(name: str, scopes: Sequence[Scope[Any]]) -> Sequence[Scope[Any]]:
    """Return `scopes`, rotated to begin with this name."""
    first = next((index for index, scope in enumerate(scopes) if scope.name == name), 0)
    return [*scopes[first:], *scopes[:first]]
