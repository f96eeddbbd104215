"""Asset of the stage `benchmark`: the chosen epoch of a training."""

import dagster as dg

from sticker_pipeline.benchmark.choice import (
    CHOICE,
    checkpoint_metrics,
    choice_table,
    choose_epoch,
    copies_allowed,
    evidence,
    validation_losses,
)
from sticker_pipeline.benchmark.epochs import (
    embeddings_of_epochs,
    evidence_chart,
    selection_requests,
    validation_embeddings,
)
from sticker_pipeline.benchmark.features import embedder_of, trained_images
from sticker_pipeline.core.storage import link_or_copy, write_table
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.room import check_images
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import made_from, of_character
from sticker_pipeline.generation.jobs import open_generator
from sticker_pipeline.roots.loras import LORA_FILE
from sticker_pipeline.training.logs.results import checkpoints_of
from sticker_pipeline.training.logs.tables import VALIDATION_LOSS


@dg.asset(
    **made_from("lora", "training_set", "frames", uses=["generation", "benchmark", "choice"]),
    partitions_def=CHARACTERS,
    code_version="3",
    automation_condition=WHEN_STALE,
    group_name="benchmark",
    kinds={"open-clip", "parquet"},
    metadata=columns(CHOICE),
    pool=GPU,
    op_tags=gpu_request(GPU),
    description="The epoch to use, by a stated rule: none after the loss on validation images has stopped falling, "
    "none that copies, none clearly less like the character than the best; of these the one with the lowest loss.",
)
@once
def selected_lora(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        character, profile = work.character, work.profile
        dataset = work.inputs["training_set"], work.inputs["frames"]
        checkpoints, requests = checkpoints_of(work.inputs["lora"]), selection_requests(character, profile)
        images = len(requests) * len(checkpoints)
        check_images(work, images, profile.resolution, copies=1)
        generator = open_generator(profile, work.roots["generation"]["base"], work.store, step_count(context, images))
        embedder = embedder_of(profile, work.store)
        generated = embeddings_of_epochs(generator, embedder, requests, checkpoints)
        trained = trained_images(embedder, character, *dataset)
        choice = choose_epoch(
            checkpoint_metrics(generated, validation_embeddings(embedder, character, *dataset), trained),
            validation_losses(work.inputs["lora"].table(VALIDATION_LOSS.file)),
            patience=character.settings.benchmark.patience,
            most_copies=copies_allowed(character.settings.benchmark.gate.copies, trained),
        )
        epoch = int(choice.loc[choice["chosen"], "epoch"].iloc[0])
        link_or_copy(checkpoints[epoch], work.staging / LORA_FILE)
        write_table(choice_table(choice), work.staging, CHOICE)
        shown = evidence(choice)
        return work.publish(
            {
                SUMMARY: f"epoch {epoch} of {len(checkpoints)}",
                "epoch": epoch,
                "why": str(shown.loc[shown["chosen"], "reason"].iloc[0]),
                "by_epoch": inline_image(evidence_chart(shown), "similarity by epoch"),
                "evidence": table(shown),
                "file": dg.MetadataValue.path(work.store.uri(work.character.name, "selected_lora")),
                **described(choice, CHOICE),
            }
        )
