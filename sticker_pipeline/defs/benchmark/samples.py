"""Asset of stage `generation`: images of base model, LoRA, rivals; equal seeds."""

import json
import shutil
from pathlib import Path

import dagster as dg
import pandas as pd

from sticker_pipeline.benchmark.measure import BASE, LORA, RELEASED, recommended_model
from sticker_pipeline.benchmark.releases import baseline_release, releases_folder, whole
from sticker_pipeline.core.files.space import SpaceError, refusal
from sticker_pipeline.core.markdown import bullets
from sticker_pipeline.core.profile import toy_note
from sticker_pipeline.core.storage import file_sha256, write_table
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, inline_image, note, table
from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline.dagster_kit.progress import step_count
from sticker_pipeline.dagster_kit.room import check_images
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import WHEN_STALE
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.generation.grid import grid_of_files
from sticker_pipeline.generation.jobs import (
    GenerationJob,
    generate_job,
    generate_without_trigger,
    image_count,
    open_generator,
)
from sticker_pipeline.generation.prompts import benchmark_prompts, prompts_beginning
from sticker_pipeline.generation.recommended import recommended
from sticker_pipeline.generation.rivals import is_left_out, rival_file, rival_prompts, usable_rivals, why_not_generated
from sticker_pipeline.generation.samples import SAMPLES, WITHOUT_TRIGGER
from sticker_pipeline.roots.loras import LORA_FILE, adapters_of

LEFT_OUT = "left_out.json"


@dg.asset(
    **made_from("selected_lora", uses=["generation", "release", "recommended", "rivals"]),
    partitions_def=CHARACTERS,
    code_version="6",
    automation_condition=WHEN_STALE,
    group_name="generation",
    kinds={"diffusers", "parquet"},
    metadata=columns(SAMPLES, WITHOUT_TRIGGER),
    pool=GPU,
    op_tags=gpu_request(GPU),
    description="Images of the benchmark's prompts by the base model, the LoRA, the baseline release and each rival, "
    "all from the same noise; by each LoRA without its trigger as well; and by the LoRA in each setting that the "
    "sampling grid recommends for it. Existing images are not generated again.",
)
@once
def samples(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        character, profile, staging = work.character, work.profile, work.staging
        rivals, left_out = _rivals(work)
        released, another_base = _released(work)
        left_out += [*another_base, *work.roots["recommended"]["left_out"]]
        tables: list[pd.DataFrame] = []
        plain: list[pd.DataFrame] = []
        shown: dict[str, pd.DataFrame] = {}
        jobs, seeds = [*_ours(work), *released, *rivals], profile.benchmark.seeds_per_prompt
        images = sum(image_count(job, seeds) for job in jobs)
        check_images(work, images, profile.resolution)
        generator = open_generator(profile, work.roots["generation"]["base"], work.store, step_count(context, images))
        without = prompts_beginning(character, profile, {})
        for job in jobs:
            try:
                rows = generate_job(generator, job, staging)
                bare = generate_without_trigger(generator, job, without, staging) if job.has_trigger else None
            except Exception as error:
                if job not in rivals or isinstance(error, SpaceError) or refusal(staging, error):
                    raise
                left_out.append(is_left_out(job.model, why_not_generated(error)))
                shutil.rmtree(staging / job.folder)
                continue
            tables.append(rows)
            shown[job.model] = rows
            if bare is not None:
                plain.append(bare)
                shown[f"{job.model}, no trigger"] = bare
        for sentence in left_out:
            context.log.warning(sentence)
        index = pd.concat(tables)
        write_table(index, staging, SAMPLES)
        write_table(pd.concat(plain), staging, WITHOUT_TRIGGER)
        (staging / LEFT_OUT).write_text(json.dumps(left_out), encoding="utf-8")
        prompts = benchmark_prompts(character, profile)
        labels = [f"{prompt.medium}: {prompt.attributes}" for prompt in prompts]
        files = {name: rows["file"].tolist() for name, rows in shown.items()}
        grid = grid_of_files(staging, files, labels, seeds, most=len(labels))
        return work.publish(
            {
                SUMMARY: f"{counted(len(shown[BASE]), 'image')} each of {', '.join(shown)}",
                **note(toy_note(profile)),
                "same_noise": inline_image(grid, "the same prompts and noise"),
                "prompts": table(pd.DataFrame([vars(prompt) for prompt in prompts])),
                "left_out": dg.MetadataValue.md(bullets(left_out)),
                **described(index, SAMPLES),
            }
        )


def _ours(work: CharacterStep) -> list[GenerationJob]:
    prompts, lora = benchmark_prompts(work.character, work.profile), _new_lora(work)
    adapters = adapters_of(lora, work.character, work.profile, work.store)
    found = recommended(work.roots["recommended"], adapters, 1.0, work.profile.generation)
    settings = [
        GenerationJob(recommended_model(budget), prompts, config.loras, config.settings, below=LORA)
        for budget, config in found.items()
    ]
    return [GenerationJob(BASE, prompts), GenerationJob(LORA, prompts, [(lora, 1.0)]), *settings]


def _new_lora(work: CharacterStep) -> Path:
    return work.inputs["selected_lora"].file(LORA_FILE)


def _released(work: CharacterStep) -> tuple[list[GenerationJob], list[str]]:
    """Return the baseline release's job with its own trigger, and notes.

    Both are empty without a release. A note reports a release for another family.
    """
    release = baseline_release(releases_folder(work.store, work.character.name), file_sha256(_new_lora(work)))
    if release is None:
        return [], []
    record = release.record
    if record.family != work.profile.family:
        return [], [f"Release {record.number} is left out: it is for {record.family}, not for {work.profile.family}."]
    prompts = prompts_beginning(work.character, work.profile, record.beginnings, otherwise=[record.trigger])
    return [GenerationJob(RELEASED, prompts, [(whole(work.store, release).lora, record.sampling.strength)])], []


def _rivals(work: CharacterStep) -> tuple[list[GenerationJob], list[str]]:
    """Return the usable rivals' jobs, and a sentence per unusable one."""
    character, profile = work.character, work.profile
    usable, left_out = usable_rivals(character, profile)
    jobs = [
        GenerationJob(
            each.name, rival_prompts(character, profile, each), [(rival_file(character, each), each.strength)]
        )
        for each in usable
    ]
    return jobs, left_out
