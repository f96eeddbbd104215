"""Pack of a folder of images: no character, model or Dagster."""

import json
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.files.space import writing
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.schemas import typed
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import discard, file_sha256, forget
from sticker_pipeline.core.texts import UserError, counted
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.packing.candidates import CANDIDATES, OWN
from sticker_pipeline.packing.choose import Bounds, Wishes, choose
from sticker_pipeline.packing.compose import Composed, Material, compose
from sticker_pipeline.packing.own import own_files
from sticker_pipeline.packing.pack import Origin
from sticker_pipeline.packing.picks import Picks, load_picks, overrides, stated_in_vain
from sticker_pipeline.packing.slots import known_slots

FILES = "files.json"  # SHA-256 of each file that was written here
NOTHING_ALIKE = 2.0  # cosine that no two stickers reach: without CLIP, only equal files show the same


class FolderError(UserError):
    """A folder that cannot be packed, or would be overwritten."""


def pack_folder(
    source: Path, target: Path, pack: Pack, limits: MediaSettings, cache: Path, count: Count, stop: Callable[[], None]
) -> Composed:
    """Pack all images below `source` into the new folder `target`; `pack.size` is a character's.

    Slots are those that files' names speak of, else their own names. `source`/pack/picks.yaml and override/ are read
    as a character's. A target of an earlier call is replaced if nobody changed a file in it. Raises FolderError,
    MediaError, PicksError and SpaceError.
    """
    check_target(source, target)
    inventory = scan(source, None, limits)
    accepted = inventory[inventory["status"] == "accepted"]
    problems = [
        f"{path}: {why}" for path, why in inventory[inventory["status"] == "rejected"][["path", "reason"]].values
    ]
    picks, own = load_picks(source), overrides(source)
    rows = _rows(accepted)
    if rows.empty and not own:
        raise FolderError(f"{source} has no image that can be read.{_first(problems)}")
    slots = list(known_slots().values())
    names = {*known_slots(), *rows["slot"], *rows["own_slot"]}
    problems += stated_in_vain(source, picks, own, names, set(rows["candidate"]))
    choice = _choice(rows, picks, list(own))
    files = {name: source / path for name, path in zip(rows["candidate"], rows["source"], strict=True)} | own
    chosen = choice[choice["chosen"]]
    origins = {slot: Origin(origin) for slot, origin in zip(chosen["slot"], chosen["origin"], strict=True)}
    material = Material(source.resolve().name, rows, choice, files, origins, slots, picks, pack)
    staging = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with writing(target):
            _make_folder(staging, target)
            made = compose(staging, material, limits, cache, count, problems, stop)
            if not made.stickers:
                raise FolderError(f"No sticker can be made of {source}.{_first(made.problems)}")
            _exchange(staging, target)
    finally:
        forget(staging)
    return made


def _choice(rows: pd.DataFrame, picks: Picks, own: list[str]) -> pd.DataFrame:
    apart = np.eye(max(1, len(rows)), dtype=np.float32)[: len(rows)]
    wishes = Wishes(picks.accept, picks.reject, picks.order, own)
    return choose(rows, apart, list(known_slots()), wishes, Bounds(len(rows) + len(own), NOTHING_ALIKE, "first"))


def _rows(accepted: pd.DataFrame) -> pd.DataFrame:
    """Return candidates of accepted files; equal files show the same."""
    nothing = pd.DataFrame({"frame_id": [], "path": [], "kept": [], "duplicate_of": []}).astype({"kept": bool})
    frames = dict(zip(accepted["path"], accepted["n_frames"], strict=True))
    first: dict[str, str] = {}
    rows = []
    for file in own_files(accepted, nothing, {}, list(known_slots().values())):
        twin = first.setdefault(file.sha256, file.path)
        rows.append(
            {
                "candidate": f"{file.own_slot}-{file.sha256[:8]}",
                "slot": file.slot,
                "own_slot": file.own_slot,
                "origin": OWN,
                "source": file.path,
                "twin": twin if twin != file.path else "",
                "frames": frames[file.path],
                "file": file.path,
                "reason": f"it shows the same as {twin}" if twin != file.path else "",
            }
        )
    table = pd.DataFrame(
        rows, columns=["candidate", "slot", "own_slot", "origin", "source", "twin", "frames", "file", "reason"]
    )
    unknown = float("nan")
    return typed(
        table.assign(
            prompt="", attributes="", seed=0, release=0, fidelity=unknown, likeness=unknown, nearest=unknown,
            copy_bound=unknown, nearest_character="", flat=0.0, cut_out=True, specks=0, cut_off=False,
        ),
        CANDIDATES,
    )  # fmt: skip


def _first(problems: Sequence[str]) -> str:
    more = f" ({counted(len(problems) - 1, 'further problem')})" if len(problems) > 1 else ""
    return f" {problems[0]}{more}" if problems else ""


def _make_folder(staging: Path, target: Path) -> None:
    try:
        staging.mkdir(parents=True)
    except FileNotFoundError as error:  # where the system makes no folders
        raise FolderError(f"{target} cannot be made there: choose another folder with --out.") from error


def check_target(source: Path, target: Path) -> None:
    """Raise FolderError for an unsafe target.

    It is in `source`, around it, or has other files than an earlier pack's.
    """
    inside, outer = target.resolve(), source.resolve()
    if inside == outer or outer in inside.parents or inside in outer.parents:
        raise FolderError(f"{target} and {source} lie in each other: choose another folder with --out.")
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink():
        raise FolderError(f"{target} is no folder: choose another one with --out.")
    there = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    if not there:
        return
    try:
        known = json.loads((target / FILES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = None
    if not isinstance(known, dict) or not known:
        raise FolderError(f"{target} has other files than a pack of ours: choose another folder with --out.")
    for name, path in sorted(there.items()):
        if (name != FILES or len(there) == 1) and known.get(name) != file_sha256(path):
            raise FolderError(f"{path} was changed by somebody: move it away, or choose another folder with --out.")


def _exchange(staging: Path, target: Path) -> None:
    """Put the finished folder in the place of an earlier one."""
    hashes = {
        path.relative_to(staging).as_posix(): file_sha256(path) for path in sorted(staging.rglob("*")) if path.is_file()
    }
    (staging / FILES).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    if os.path.lexists(target):
        target.rename(old)
    staging.rename(target)
    if os.path.lexists(old):
        discard(old)


def target_of(source: Path) -> Path:
    """Return the default target: beside `source`."""
    return source.resolve().with_name(f"{source.resolve().name}-pack")
