"""Asset of the stage `packing`: candidates for the slots of a pack."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from sticker_pipeline.benchmark.features import embedder_of
from sticker_pipeline.benchmark.inputs import other_references
from sticker_pipeline.benchmark.releases import RECORD, Record
from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.images import sheet_of_files
from sticker_pipeline.core.markdown import bullets
from sticker_pipeline.core.profile import toy_note
from sticker_pipeline.core.schemas import typed
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, note, table
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.room import check_images
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.pack.asked import WHEN_ASKED_FOR, asked_for
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.generation.jobs import generated, open_generator
from sticker_pipeline.packing.candidates import CANDIDATES, summary
from sticker_pipeline.packing.gather import Models, generated_candidates, own_candidates, own_images
from sticker_pipeline.packing.generated import pack_requests
from sticker_pipeline.packing.own import own_files, sticker_files, tags_of_files
from sticker_pipeline.packing.slots import Slot, slots_of
from sticker_pipeline.tagging.wd14 import open_tagger

MOST_SHOWN = 200  # images of the sheet in the UI


@dg.asset(
    **made_from(
        "raw_media",
        "frames",
        "wd14_tags",
        "training_set",
        "released_lora",
        uses=["generation", "tagging", "benchmark", "others", "pack_candidates"],
    ),
    partitions_def=CHARACTERS,
    code_version="1",
    automation_condition=WHEN_ASKED_FOR,
    group_name="packing",
    kinds={"diffusers", "png", "parquet"},
    metadata=columns(CANDIDATES),
    pool=GPU,
    op_tags=gpu_request(GPU),
    output_required=False,
    description="Images to choose a sticker pack from: several of the release for each slot (hello, thanks, …), and "
    "the character's own stickers and GIFs; each with its measures, and the reason why it cannot be used. Made by "
    "itself for a character with `pack:` in character.yaml. Existing images are not generated again.",
)
@asked_for
@once
def pack_candidates(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character, optional=["released_lora"]) as work:
        pack = work.character.settings.pack or Pack()
        slots = slots_of(pack)
        tables: list[pd.DataFrame] = []
        problems: list[str] = []
        for rows, found in _own(work, slots) if pack.own != "none" else ():
            tables.append(rows)
            problems += found
        if pack.seeds and "released_lora" in work.inputs:
            tables.append(_generated(work, workspace, slots, pack.seeds, problems))
        for problem in problems:
            context.log.warning(problem)
        index = typed(pd.concat(tables, ignore_index=True), CANDIDATES)
        write_table(index, work.staging, CANDIDATES)
        usable = index[index["reason"] == ""]
        return work.publish(
            {
                SUMMARY: summary(index),
                **note(toy_note(work.profile) if "released_lora" in work.inputs else ""),
                "usable": inline_image(
                    sheet_of_files(work.staging, usable["file"].tolist(), MOST_SHOWN), "candidates that can be used"
                ),
                "refused": table(
                    index[index["reason"] != ""][["candidate", "origin", "source", "reason"]], most=len(index)
                ),
                "problems": dg.MetadataValue.md(bullets(problems)),
                **described(index, CANDIDATES),
            }
        )


def _own(work: CharacterStep, slots: list[Slot]) -> Iterator[tuple[pd.DataFrame, list[str]]]:
    media = sticker_files(work.inputs["raw_media"].table(), work.character.groups)
    frames = work.inputs["frames"].table()
    tags = tags_of_files(work.inputs["wd14_tags"].table(), frames)
    files = own_files(media, frames, tags, slots)
    count, n_frames = step_count(work.context), dict(zip(media["path"], media["n_frames"], strict=True))
    for number, found in enumerate(own_candidates(files, work.character, work.profile, n_frames, work.staging), 1):
        count("own files", number, len(files))
        yield found


def _generated(
    work: CharacterStep, workspace: Workspace, slots: list[Slot], seeds: int, problems: list[str]
) -> pd.DataFrame:
    character, profile, store = work.character, work.profile, work.store
    record = Record.model_validate_json(work.inputs["released_lora"].content(RECORD))
    lora = work.inputs["released_lora"].file(record.file)
    tagger = open_tagger(profile.tagger, profile.tagging.provider)
    models = Models(embedder_of(profile, store), tagger, profile, store)
    requests = pack_requests(record.beginnings, profile, slots, {label.name for label in tagger.labels}, seeds)
    work.context.log.info(f"{counted(len(requests), 'image')} for {counted(len(slots), 'slot')}")
    check_images(work, len(requests), profile.resolution)
    generator = open_generator(
        profile, work.roots["generation"]["base"], store, step_count(work.context, len(requests))
    )
    images = generated(generator, [asked.request for asked in requests], [(lora, record.sampling.strength)])
    others, _, unread = other_references(
        work.roots["others"]["characters"], workspace.character, store, models.embedder
    )
    problems += unread
    own = own_images(models, character, work.inputs["training_set"], work.inputs["frames"], others)
    return generated_candidates(requests, images, models, own, character.name, record.number, work.staging)
