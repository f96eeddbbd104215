"""Asset of the stage `publishing`: a character's current release."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from sticker_pipeline.benchmark.gate import may_be_released
from sticker_pipeline.benchmark.gate_checks import gate_checks
from sticker_pipeline.benchmark.releases import (
    FOLDER,
    Candidate,
    Release,
    ReleaseError,
    all_releases,
    place,
    read,
    releases_folder,
    whole,
)
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, note, table
from sticker_pipeline.dagster_kit.room import check_room
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.dataset.sources import SOURCES, by_source
from sticker_pipeline.defs.automation import WHEN_STALE_AND_CHECKED
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import made_from, of_character
from sticker_pipeline.publishing import model_card
from sticker_pipeline.publishing.base_name import base_of_release, how_to_use
from sticker_pipeline.publishing.candidate import candidate_of, gate_table, history_table, release_that_counts
from sticker_pipeline.roots.loras import LORA_FILE

BESIDE_LORA = 2**20  # bytes of a release's other small files: record, spec, model card
MOST_SOURCES = 100  # rows of the table of sources in the UI
SHOWN = ["path", "split", "frames", "weight"]


@dg.asset(
    **made_from(
        "benchmark", "selected_lora", "lora", "training_set", "frames", uses=["generation", "gate", "roll_backs"]
    ),
    partitions_def=CHARACTERS,
    code_version="2",
    automation_condition=WHEN_STALE_AND_CHECKED,
    group_name="publishing",
    kinds={"safetensors"},
    metadata=columns(SOURCES),
    description="The LoRA for users: the new one if it passes the gate, else the baseline release. Earlier releases "
    "are kept, and `sticker-pipeline roll-back` makes one of them current again. Its table has the files that it was "
    "made from. Not made before a LoRA has passed.",
    output_required=False,
)
def released_lora(context: dg.AssetExecutionContext, workspace: Workspace) -> Iterator[dg.MaterializeResult]:
    result = _released(context, workspace)
    if result is not None:
        yield result


@once
def _released(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult | None:
    with open_step(context, workspace, of_character) as work:
        character, store = work.character, work.store
        checks = gate_checks(work.inputs["benchmark"], character)
        sources = work.inputs["lora"].files.get(SOURCES.file, {"bytes": 0})["bytes"]
        check_room(work, work.inputs["selected_lora"].file(LORA_FILE).stat().st_size + sources + BESIDE_LORA)

        def candidate() -> Candidate:
            return candidate_of(character, work.profile, work.inputs, checks, workspace.models_folder, store)

        def decide(folder: Path) -> tuple[int | None, str]:
            counts, outcome = release_that_counts(folder, checks, candidate, datetime.now(UTC))
            return counts.record.number if counts else None, outcome

        number, outcome = store.change(character.name, FOLDER, decide)
        if not may_be_released(checks):
            context.log.warning(outcome)
        if number is None:
            return None
        folder = releases_folder(store, character.name)
        release = whole(store, read(folder, number))
        place(release, work.staging)
        record, every = release.record, all_releases(folder)
        base = base_of_release(record, workspace.models_folder)
        (work.staging / model_card.FILE_NAME).write_text(model_card.model_card(release, base), encoding="utf-8")
        return work.publish(
            {
                SUMMARY: f"release {record.number}: {outcome}",
                "how_to_use": dg.MetadataValue.md(how_to_use(record, base)),
                **note(base.toy),
                "file": dg.MetadataValue.path(f"{store.uri(character.name, 'released_lora')}/{record.file}"),
                "release": record.number,
                "gate": table(gate_table(checks)),
                "releases": table(history_table(every, record.number), most=100),
                "model_card": dg.MetadataValue.md(model_card.card_text(release, base)),
                **sources_shown(release),
            }
        )


def sources_shown(release: Release) -> dict[str, Any]:
    """Return metadata on the sources, or why there are none."""
    try:
        rows = release.sources()
    except ReleaseError as error:
        return {"sources": str(error)}
    return {"sources": table(by_source(rows)[SHOWN], most=MOST_SOURCES), **described(rows, SOURCES)}
