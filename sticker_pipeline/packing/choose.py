"""Choice of a pack: a candidate for each slot, reasons for others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.similarity import cosines, source_means
from sticker_pipeline.core.schemas import Column, TableSchema
from sticker_pipeline.core.texts import counted, listed
from sticker_pipeline.packing.candidates import GENERATED, OWN, score

OVERRIDE = "override"
BY_OVERRIDE = "a file in pack/override takes the slot"
FULL, PREFERRED = "the pack is full", "is preferred"

CHOICE = TableSchema(
    "each candidate, and why it is in the pack or not",
    (
        Column("candidate", "str", "its name, as in pack_candidates; of an override, the slot"),
        Column("slot", "str", "what is said with it"),
        Column("origin", "str", "where it is from", values=(GENERATED, OWN, OVERRIDE)),
        Column("chosen", "bool", "whether it is in the pack"),
        Column("position", "int64", "its place in the pack, from 1; 0 if not chosen", low=0),
        Column("score", "float64", "fidelity plus likeness, 0–2; the best of a slot is taken", low=0, high=2),
        Column("reason", "str", "why it is chosen, or why not"),
        Column("image", "str", "its image on the page, in this artifact; empty if it cannot be shown"),
    ),
    key=("candidate", "slot", "origin"),
    file="choice.parquet",
)


@dataclass(frozen=True)
class Wishes:
    """A person's decisions: `picks.yaml` and the overrides.

    `accepted`: slot -> candidate. `rejected`: candidates. `order`: slots that come first. `overrides`: slots with a
    file of a person's.
    """

    accepted: Mapping[str, str]
    rejected: Collection[str]
    order: Sequence[str]
    overrides: Collection[str]


@dataclass(frozen=True)
class Bounds:
    """Limits of a pack.

    `size`: most stickers. `alike`: cosine above which two stickers show the same. `own`: which origin is preferred.
    """

    size: int
    alike: float
    own: Literal["first", "last", "none"]


def choose(
    rows: pd.DataFrame, vectors: np.ndarray, slots: Sequence[str], wishes: Wishes, bounds: Bounds
) -> pd.DataFrame:
    """Choose stickers for `slots`, then for those of own files.

    Returns rows of CHOICE. rows: as CANDIDATES. vectors: their embeddings, unit rows float[n, d]. An override wins,
    then an accepted candidate, then the best that can be used and is unlike all stickers chosen before it. Every row
    has a reason.
    """
    places = {name: number for number, name in enumerate(rows["candidate"])}
    worth = score(rows)
    reasons = _refused(rows, wishes, bounds)
    chosen: list[tuple[str, int | None]] = []
    order = _in_order(rows, slots, wishes)
    accepted = {slot: places[name] for slot, name in _accepted(wishes).items() if slot in order and name in places}
    for slot in order:
        taken = [at for _, at in chosen if at is not None]
        if slot in wishes.overrides:
            at, found = None, True
        elif slot in accepted and accepted[slot] not in taken:
            at, found = accepted[slot], True
        else:
            at = _best(rows, vectors, worth, slot, taken, [*accepted.values()], bounds, reasons)
            found = at is not None
        if found and len(chosen) < bounds.size:
            chosen.append((slot, at))
        elif at is not None:
            reasons[at] = FULL
    chosen += _further(rows, vectors, chosen, reasons, wishes, bounds)
    return _table(rows, worth, chosen, reasons, wishes)


def _further(
    rows: pd.DataFrame,
    vectors: np.ndarray,
    chosen: Sequence[tuple[str, int | None]],
    reasons: dict[int, str],
    wishes: Wishes,
    bounds: Bounds,
) -> list[tuple[str, int | None]]:
    """Return further own files, while there is room.

    Each is in the slot of its own name.
    """
    taken, slots = [at for _, at in chosen if at is not None], {slot for slot, _ in chosen}
    found: list[tuple[str, int | None]] = []
    for at, (own_slot, origin) in enumerate(zip(rows["own_slot"], rows["origin"], strict=True)):
        may = reasons.get(at, PREFERRED).endswith(PREFERRED)
        if origin != OWN or at in taken or own_slot in slots or not may:
            continue
        like, twin = _most_alike(vectors, at, taken)
        if len(chosen) + len(found) >= bounds.size:
            reasons[at] = FULL
        elif like > bounds.alike:
            reasons[at] = _shows_the_same(rows, twin, like, bounds)
        else:
            found.append((own_slot, at))
            taken.append(at)
    return found


def _in_order(rows: pd.DataFrame, slots: Sequence[str], wishes: Wishes) -> list[str]:
    """Return the slots in the order of choice.

    Slots that a person stated, and that nobody has, are left out: a slot is a part of files' names.
    """
    known = {*slots, *rows["slot"], *rows["own_slot"], *wishes.overrides} - {""}
    stated = [*wishes.order, *slots, *rows["slot"], *wishes.accepted, *sorted(wishes.overrides)]
    return [slot for slot in dict.fromkeys(stated) if slot in known]


def _accepted(wishes: Wishes) -> dict[str, str]:
    return {slot: name for slot, name in wishes.accepted.items() if slot not in wishes.overrides}


def _refused(rows: pd.DataFrame, wishes: Wishes, bounds: Bounds) -> dict[int, str]:
    """Return position -> reason of candidates that nothing but acceptance can choose."""
    found = {}
    for at, (name, slot, origin, why) in enumerate(
        zip(rows["candidate"], rows["slot"], rows["origin"], rows["reason"], strict=True)
    ):
        if name in wishes.rejected:
            found[at] = "rejected in picks.yaml"
        elif slot in wishes.overrides:
            found[at] = BY_OVERRIDE
        elif why:
            found[at] = why
        elif origin == OWN and bounds.own == "none":
            found[at] = "own files are left out: pack.own is none"
    return found


def _best(
    rows: pd.DataFrame,
    vectors: np.ndarray,
    worth: np.ndarray,
    slot: str,
    taken: Sequence[int],
    accepted: Collection[int],
    bounds: Bounds,
    reasons: dict[int, str],
) -> int | None:
    """Return the position of the slot's best candidate unlike `taken`.

    A file that is named exactly as the slot comes first, then animations. It notes the others' reasons. Those of
    `accepted` are another slot's.
    """
    of_slot = [
        at
        for at in np.flatnonzero((rows["slot"] == slot).to_numpy()).tolist()
        if at not in reasons and at not in accepted
    ]
    preferred = {"first": OWN, "last": GENERATED, "none": GENERATED}[bounds.own]
    names, origins, frames, own = (rows[column].tolist() for column in ("candidate", "origin", "frames", "own_slot"))
    of_slot.sort(key=lambda at: (origins[at] != preferred, own[at] != slot, -frames[at], -worth[at], at))
    best = None
    for at in of_slot:
        like, twin = _most_alike(vectors, at, taken)
        if best is not None:
            reasons[at] = f"{names[best]} {PREFERRED}"
        elif like > bounds.alike:
            reasons[at] = _shows_the_same(rows, twin, like, bounds)
        else:
            best = at
    return best


def _shows_the_same(rows: pd.DataFrame, twin: int, like: float, bounds: Bounds) -> str:
    return f"it shows the same as {rows['candidate'].iat[twin]}: {like:.3f} alike, above {bounds.alike:.3f}"


def _most_alike(vectors: np.ndarray, at: int, taken: Sequence[int]) -> tuple[float, int]:
    if not taken:
        return -1.0, -1
    alike = cosines(vectors[at : at + 1], vectors[list(taken)])[0]
    most = int(alike.argmax())
    return float(alike[most]), taken[most]


def _table(
    rows: pd.DataFrame,
    worth: np.ndarray,
    chosen: Sequence[tuple[str, int | None]],
    reasons: Mapping[int, str],
    wishes: Wishes,
) -> pd.DataFrame:
    positions = {at: number for number, (_, at) in enumerate(chosen, 1) if at is not None}
    said = {at: slot for slot, at in chosen if at is not None}
    found = [
        {
            "candidate": name,
            "slot": said.get(at, slot),
            "origin": origin,
            "chosen": at in positions,
            "position": positions.get(at, 0),
            "score": float(worth[at]),
            "reason": _why_chosen(name, slot, wishes) if at in positions else reasons.get(at, FULL),
            "image": "",
        }
        for at, (name, slot, origin) in enumerate(zip(rows["candidate"], rows["slot"], rows["origin"], strict=True))
    ]
    found += [
        {
            "candidate": slot,
            "slot": slot,
            "origin": OVERRIDE,
            "chosen": True,
            "position": number,
            "score": 0.0,
            "reason": "a person's file in pack/override",
            "image": "",
        }
        for number, (slot, at) in enumerate(chosen, 1)
        if at is None
    ]
    return pd.DataFrame(found, columns=CHOICE.names).astype({"position": "int64", "score": "float64", "chosen": "bool"})


def _why_chosen(name: str, slot: str, wishes: Wishes) -> str:
    if wishes.accepted.get(slot) != name:
        return "the best of its slot"
    others = [each for each, accepted in _accepted(wishes).items() if accepted == name and each != slot]
    return f"accepted in picks.yaml{f', not for {listed(others)} too: it is in the pack once' if others else ''}"


def gaps(choice: pd.DataFrame, slots: Sequence[str]) -> dict[str, str]:
    """Return the slots without a sticker, and why.

    An example: "no thanks: 4 candidates, the best …".
    """
    filled = set(choice[choice["chosen"]]["slot"])
    return {slot: _why_empty(choice[choice["slot"] == slot]) for slot in slots if slot not in filled}


def _why_empty(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "no candidate"
    best = rows.sort_values("score", ascending=False, kind="stable").iloc[0]
    return f"{counted(len(rows), 'candidate')}; of the best, {best['candidate']}: {best['reason']}"


def alike_of(rows: pd.DataFrame, vectors: np.ndarray) -> float:
    """Return `alike_bound` of the own files among the candidates.

    Those that show the same as another are left out.
    """
    own = ((rows["origin"] == OWN) & (rows["twin"] == "")).to_numpy()
    return alike_bound(vectors[own], rows["candidate"][own].tolist())


def alike_bound(vectors: np.ndarray, sources: Sequence[str], otherwise: float = 0.98) -> float:
    """Return the cosine above which two stickers show the same.

    The largest cosine between the means of two of the character's own sources: a person made these as different
    stickers. At most `otherwise`, which also serves for fewer than two sources.
    """
    means = source_means(vectors, sources)
    if len(means) < 2:
        return otherwise
    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    alike = units @ units.T
    return float(min(otherwise, alike[np.triu_indices(len(alike), 1)].max()))
