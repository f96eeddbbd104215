"""Asset of the stage `publishing`: a character's release for ComfyUI and A1111."""

import dagster as dg
import pandas as pd

from sticker_pipeline.benchmark.releases import RECORD, Record
from sticker_pipeline.core.markdown import bullets
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.room import check_images
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import WHEN_RELEASE_CHANGES
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import made_from, of_character
from sticker_pipeline.generation.jobs import open_generator
from sticker_pipeline.generation.prompts import prompts_beginning, requests_for
from sticker_pipeline.generation.recommended import recommended
from sticker_pipeline.publishing.base_name import base_of_profile
from sticker_pipeline.publishing.comfyui import WORKFLOWS
from sticker_pipeline.publishing.comfyui_files import (
    COLUMNS,
    WORKFLOW,
    checkpoint_hash,
    configs_table,
    how_to_open,
    published_configs,
    published_sheet,
    write_config,
)
from sticker_pipeline.roots.loras import adapters_of


@dg.asset(
    **made_from("released_lora", uses=["generation", "recommended_release"]),
    partitions_def=CHARACTERS,
    code_version="3",
    automation_condition=WHEN_RELEASE_CHANGES,
    group_name="publishing",
    kinds={"json", "png"},
    metadata=columns(WORKFLOWS),
    pool=GPU,
    op_tags=gpu_request(GPU),
    description="The release as ComfyUI and A1111 open it: a workflow for ComfyUI's browser, one for its API, and "
    "images that carry both and A1111's settings; the same for each setting that the sampling grid "
    "recommends for the release; and the LoRA files of all.",
)
@once
def comfyui_workflow(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        character, profile, store, advice = work.character, work.profile, work.store, work.roots["recommended_release"]
        record = Record.model_validate_json(work.inputs["released_lora"].content(RECORD))
        lora, strength = work.inputs["released_lora"].file(record.file), record.sampling.strength
        others = recommended(advice, adapters_of(lora, character, profile, store), strength, profile.generation)
        configs = published_configs(lora, strength, profile.generation, others.values())
        prompts = prompts_beginning(character, profile, record.beginnings, otherwise=[record.trigger])
        requests = requests_for(prompts, seeds_per_prompt=1)
        images = len(configs) * len(requests)
        check_images(work, images, profile.resolution)
        generator = open_generator(profile, work.roots["generation"]["base"], store, step_count(context, images))
        checkpoint = checkpoint_hash(profile, store)
        base = base_of_profile(profile, workspace.models_folder)
        written = [
            write_config(generator, record, config, requests, work.staging, checkpoint, base) for config in configs
        ]
        index = pd.DataFrame([row for rows, _ in written for row in rows], columns=COLUMNS)
        problems = dict.fromkeys(problem for _, found in written for problem in found)
        if index.empty:
            raise dg.Failure("\n".join(["ComfyUI can take none of the prompts.", *problems]))
        for problem in problems:
            context.log.warning(f"No image with {problem}")
        for sentence in advice["left_out"]:
            context.log.warning(sentence)
        write_table(index, work.staging, WORKFLOWS)
        return work.publish(
            {
                SUMMARY: f"release {record.number}: {counted(len(index), 'image')} with the workflow inside",
                "how_to_use": dg.MetadataValue.md(how_to_open(profile, record, base)),
                "settings": table(configs_table(record, configs), most=len(configs)),
                "left_out": dg.MetadataValue.md(bullets(advice["left_out"])),
                "images": inline_image(published_sheet(index, work.staging), "images"),
                "workflow": dg.MetadataValue.path(f"{store.uri(character.name, 'comfyui_workflow')}/{WORKFLOW}"),
                **described(index, WORKFLOWS),
            }
        )
