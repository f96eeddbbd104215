"""Asset of the stage `packing`: a character's sticker pack for each platform."""

from pathlib import Path
from typing import ClassVar

import dagster as dg
import pandas as pd
from PIL import Image
from pydantic import Field

from sticker_pipeline.benchmark.features import embedder_of
from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.markdown import bullets
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, note, table
from sticker_pipeline.dagster_kit.one_off import OneOff
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.pack.asked import WHEN_ASKED_FOR, asked_for
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.packing.accepted import ACCEPTED, with_accepted, write_accepted
from sticker_pipeline.packing.choose import CHOICE, OVERRIDE, Bounds, Wishes, alike_of, choose
from sticker_pipeline.packing.compose import Composed, Material, compose
from sticker_pipeline.packing.gather import vectors_of
from sticker_pipeline.packing.pack import PACK, SHEET, Origin
from sticker_pipeline.packing.page import PAGE
from sticker_pipeline.packing.picks import Picks, load_picks, overrides, stated_in_vain
from sticker_pipeline.packing.slots import slots_of


class PackConfig(OneOff):
    """Platforms of one pack, in place of `pack.platforms` of character.yaml."""

    section: ClassVar[str] = "pack"

    platforms: list[str] | None = Field(None, description="such as telegram or line")


@dg.asset(
    **made_from("pack_candidates", uses=["pack"]),
    partitions_def=CHARACTERS,
    code_version="1",
    automation_condition=WHEN_ASKED_FOR,
    group_name="packing",
    kinds={"webp", "zip"},
    metadata=columns(PACK, CHOICE, ACCEPTED),
    output_required=False,
    description="Stickers ready to send: cut out, outlined, encoded within each platform's limits, with emoji, "
    "keywords and alternative text; archives where a platform takes one, and instructions. A candidate is chosen for "
    "each slot, and every other one has a reason. What a person accepted in pack/picks.yaml stays after a retraining.",
)
@asked_for
@once
def sticker_pack(context: dg.AssetExecutionContext, config: PackConfig, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character, config=config) as work:
        character, staging = work.character, work.staging
        pack, slots = character.settings.pack or Pack(), slots_of(character.settings.pack or Pack())
        picks, own = load_picks(character.folder, character.roots), overrides(character.folder, character.roots)
        rows, files = _candidates(work, picks)
        problems = stated_in_vain(
            character.folder, picks, own, {*(slot.name for slot in slots), *rows["slot"], *rows["own_slot"]},
            set(rows["candidate"]),
        )  # fmt: skip
        choice = _choice(work, rows, files, picks, list(own), [slot.name for slot in slots], pack)
        files |= own
        origins = _origins(rows, choice)
        material = Material(character.name, rows, choice, files, origins, slots, picks, pack)
        made = compose(
            staging, material, work.profile.media, work.store.cache("stickers"), step_count(context), problems
        )
        if not made.stickers:
            raise dg.Failure(_nothing(work, choice))
        for problem in made.problems:
            context.log.warning(problem)
        write_accepted(staging, rows, choice, files, picks)
        folder = work.store.uri(character.name, "sticker_pack")
        return work.publish(
            {
                SUMMARY: _summary(made),
                **note(_gap_note(made.gaps)),
                "sheet": inline_image(Image.open(staging / SHEET), "every sticker on a dark and a light chat"),
                "page": dg.MetadataValue.path(f"{folder}/{PAGE}"),
                "folder": dg.MetadataValue.path(folder),
                "sets": table(_sets(made.pack.index), most=100),
                "chosen": table(_shown(choice, chosen=True), most=len(choice)),
                "rejected": table(_shown(choice, chosen=False), most=200),
                "problems": dg.MetadataValue.md(bullets(made.problems)),
                **described(made.pack.index, PACK),
            }
        )


def _candidates(work: CharacterStep, picks: Picks) -> tuple[pd.DataFrame, dict[str, Path]]:
    """Return candidates, with accepted ones of before, and their images.

    The image of an own candidate is its whole file.
    """
    artifact = work.inputs["pack_candidates"]
    rows = artifact.table()
    files = {
        candidate: work.character.folder / source if source else artifact.fetched([file]) / file
        for candidate, source, file in zip(rows["candidate"], rows["source"], rows["file"], strict=True)
    }
    before = work.store.find(work.character.name, "sticker_pack")
    return with_accepted(rows, files, picks, before)


def _choice(
    work: CharacterStep,
    rows: pd.DataFrame,
    files: dict[str, Path],
    picks: Picks,
    own: list[str],
    slots: list[str],
    pack: Pack,
) -> pd.DataFrame:
    artifact = work.inputs["pack_candidates"]
    folder = artifact.fetched(file for file in rows["file"] if file in artifact.files)
    images = [
        folder / file if file in artifact.files else files[name]  # one that was accepted is in an earlier pack
        for name, file in zip(rows["candidate"], rows["file"], strict=True)
    ]
    vectors = vectors_of(images, embedder_of(work.profile, work.store))
    wishes = Wishes(picks.accept, picks.reject, picks.order, own)
    return choose(rows, vectors, slots, wishes, Bounds(pack.size, alike_of(rows, vectors), pack.own))


def _origins(rows: pd.DataFrame, choice: pd.DataFrame) -> dict[str, Origin]:
    """Return the origin of each chosen slot."""
    of_candidate = rows.set_index("candidate")
    found = {}
    for slot, candidate, origin in choice[choice["chosen"]][["slot", "candidate", "origin"]].itertuples(index=False):
        if origin == OVERRIDE:
            found[slot] = Origin(OVERRIDE)
            continue
        row = of_candidate.loc[candidate]
        found[slot] = Origin(origin, int(row["release"]), str(row["prompt"]), int(row["seed"]))
    return found


def _summary(made: Composed) -> str:
    sets = made.pack.index.groupby("platform")["set"].nunique()
    parts = ", ".join(f"{platform} {counted(number, 'set')}" for platform, number in sets.items())
    return f"{counted(len(made.stickers), 'sticker')}: {parts or 'no set'}; {counted(len(made.gaps), 'gap')}"


def _gap_note(empty: dict[str, str]) -> str:
    return f"Gaps: {', '.join(f'no {slot}' for slot in empty)}." if empty else ""


def _sets(index: pd.DataFrame) -> pd.DataFrame:
    grouped = index.groupby(["platform", "set", "kind"], sort=False)
    return grouped.agg(stickers=("file", "size"), bytes=("bytes", "sum"), lowest_db=("error_db", "min")).reset_index()


def _shown(choice: pd.DataFrame, *, chosen: bool) -> pd.DataFrame:
    rows = choice[choice["chosen"] == chosen]
    rows = rows.sort_values("position") if chosen else rows.sort_values(["slot", "score"], ascending=[True, False])
    return rows[["slot", "candidate", "origin", "score", "reason"]]


def _nothing(work: CharacterStep, choice: pd.DataFrame) -> str:
    reasons = choice["reason"].value_counts()
    why = f" Most often: {reasons.index[0]}." if len(reasons) else " There is no candidate."
    return (
        f"No sticker of {work.character.name} can be made.{why} Put stickers with a plain background into its folder, "
        "or accept a candidate in pack/picks.yaml."
    )
