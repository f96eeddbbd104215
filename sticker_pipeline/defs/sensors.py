"""The folder sensor: a folder with a valid character.yaml is a character, and what changed in it is observed; a style
that characters name is observed too, once two of them have a dataset."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import dagster as dg

from sticker_pipeline.character import FILE_NAME, Character
from sticker_pipeline.defs.across import DESCRIPTIONS, across_observations
from sticker_pipeline.defs.observed import observations
from sticker_pipeline.defs.partitions import CHARACTERS, STYLES
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.style_making import Style, named_styles, ready_styles, style_observations
from sticker_pipeline.places import places_problem
from sticker_pipeline.profile import Profile
from sticker_pipeline.storage import StorageError


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds a partition for each folder with a valid character.yaml, and for each style that characters with "
    "datasets name; removes those whose folder is gone, or that nobody names any more; and observes files and "
    "settings, so that exactly what they change is shown as stale.",
)
def character_folders(context: dg.SensorEvaluationContext, workspace: Workspace) -> dg.SensorResult | dg.SkipReason:
    root = workspace.characters_folder
    if problem := unreadable(root) or places_problem(workspace.places):
        context.log.error(problem)
        return dg.SkipReason(problem)
    valid, problems = workspace.valid_characters()
    known = versions_in(context.cursor)
    partitions = set(context.instance.get_dynamic_partitions(str(CHARACTERS.name)))
    names = sorted(character.name for character, _ in valid)
    new, removed = sorted(set(names) - partitions), gone(root, partitions)
    styles, in_the_way = ready_styles(workspace, valid)
    known_styles = set(context.instance.get_dynamic_partitions(str(STYLES.name)))
    new_styles = sorted({style.name for style in styles} - known_styles)
    # A character that cannot be read now, which is not gone, may name any style: nothing is removed meanwhile.
    unread = partitions - set(names) - set(removed)
    removed_styles = [] if unread else sorted(known_styles - named_styles(valid).keys())
    problems += in_the_way
    # What is forgotten here is observed again when the character or style comes back. Artifacts and history stay.
    forgotten = {*removed, *removed_styles}
    seen = {name: version for name, version in known.items() if name.partition("|")[2] not in forgotten}
    events: list[dg.AssetObservation] = []
    for who, look in _roots(workspace, valid, styles):
        versions = dict(seen)
        try:
            changes = list(look(versions))
        except (OSError, StorageError) as error:  # of one's files: all others are observed all the same
            problems.append(f"{who}: {error}")
        else:
            seen = versions
            events += changes
    for problem in problems:
        context.log.error(problem)
    if not new and not removed and not new_styles and not removed_styles and seen == known:
        return dg.SkipReason("\n".join(problems) if problems else "No character changed.")
    told = [f"{len(new)} new characters, {len(removed)} removed, {len(events)} changes observed."]
    if new_styles or removed_styles:
        told.append(f"{len(new_styles)} new styles, {len(removed_styles)} removed.")
    return dg.SensorResult(
        skip_reason="\n".join([*told, *problems]),
        dynamic_partitions_requests=[
            *([CHARACTERS.build_add_request(new)] if new else []),
            *([CHARACTERS.build_delete_request(removed)] if removed else []),
            *([STYLES.build_add_request(new_styles)] if new_styles else []),
            *([STYLES.build_delete_request(removed_styles)] if removed_styles else []),
        ],
        asset_events=events,
        cursor=json.dumps(seen, sort_keys=True),
    )


def versions_in(cursor: str | None) -> dict[str, str]:
    """The versions that were observed until now; none where the cursor is damaged: all are observed again."""
    try:
        known = json.loads(cursor or "{}")
    except (ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def unreadable(root: Path) -> str | None:
    """Why nothing can be said about which characters there are; None if it can. An empty folder looks like a disk that
    is not mounted: it removes nobody."""
    try:
        is_empty = all(path.name.startswith(".") for path in root.iterdir())
    except OSError as error:
        return f"{root} cannot be read: {error.strerror}. No character is removed."
    return f"{root} is empty. No character is removed." if is_empty else None


def gone(root: Path, names: Iterable[str]) -> list[str]:
    """Those of `names`, sorted, that have no folder under `root`, or one without a character.yaml. What cannot be read,
    such as a link to a disk that is not mounted, is not gone."""
    return sorted(name for name in names if _is_missing(root / name) or _is_missing(root / name / FILE_NAME))


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return path.parent.is_dir()
    except OSError:
        return False
    return False


def _roots(
    workspace: Workspace, valid: Sequence[tuple[Character, Profile]], styles: Sequence[Style]
) -> Iterator[tuple[str, Callable[[dict[str, str]], Iterator[dg.AssetObservation]]]]:
    """Whose roots there are, and what observes them, given the versions that are `known`."""
    store = workspace.store
    for character, profile in valid:
        yield character.name, partial(observations, character, profile, store)
    for style in styles:
        yield f"style {style.name}", partial(style_observations, style, store)
    for section in DESCRIPTIONS:
        yield f"character/{section}", partial(across_observations, section, valid, store)
