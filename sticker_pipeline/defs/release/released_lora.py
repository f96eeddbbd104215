"""Assets of the stage `publishing` of one character: the release that counts, and what ComfyUI and A1111 open of it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.features import with_styles
from sticker_pipeline.benchmark.gate import Check, decision, may_be_released
from sticker_pipeline.benchmark.gate_checks import judged
from sticker_pipeline.benchmark.measure import at_most
from sticker_pipeline.dagster_kit.metadata import SUMMARY, columns, described, picture, table
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.step import once, open_step
from sticker_pipeline.defs.automation import FOLLOW_RELEASE, RELEASE
from sticker_pipeline.defs.benchmark.samples import draw
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.recommended import recommended
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.room import check_images, check_room
from sticker_pipeline.defs.scopes import CharacterStep, made_from, of_character
from sticker_pipeline.generation.generate import how_trained, pipelines
from sticker_pipeline.generation.prompts import (
    Request,
    beginnings,
    benchmark_prompts,
    prompts_beginning,
    requests_for,
)
from sticker_pipeline.markdown import bullets, code
from sticker_pipeline.pictures import contact_sheet
from sticker_pipeline.publishing import model_card
from sticker_pipeline.publishing.comfyui import WORKFLOWS, Lora, Workflow, WorkflowError, api_format, ui_format
from sticker_pipeline.publishing.png import png_with_workflow
from sticker_pipeline.publishing.samplers import our_sampler
from sticker_pipeline.releases import (
    RECORD,
    Candidate,
    Data,
    Drawing,
    Record,
    Release,
    all_releases,
    current,
    lineage,
    place,
    publish,
    releases_folder,
)
from sticker_pipeline.roots.hashes import file_hash
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.storage import link_or_copy, write_table
from sticker_pipeline.training.base_model import base_noise
from sticker_pipeline.training.lora_file import read_tensors
from sticker_pipeline.training.spec import FILE_NAME, load_spec, without_paths

AS_RELEASED = "as released"  # of the settings of comfyui_workflow: the release alone, as the profile draws
BESIDE_LORA = 2**20  # bytes that a release has beside its LoRA: record, spec, model card
LORAS = "loras"  # where comfyui_workflow has the files that its workflows name
COMFYUI_LATENTS = 4  # channels of the latents of every SD1.5 and SDXL model that ComfyUI and A1111 open


@dg.asset(
    **made_from(
        "benchmark", "selected_lora", "lora", "training_set", "frames", uses=["generation", "gate", "roll_backs"]
    ),
    partitions_def=CHARACTERS,
    code_version="1",
    automation_condition=RELEASE,
    group_name="publishing",
    kinds={"safetensors"},
    description="The LoRA that people get: the new one if it passes the gate, else the release before, which stays. "
    "Earlier releases are kept, and `sticker-pipeline roll-back` makes one of them count again. Not made while nothing "
    "has ever passed.",
    output_required=False,
)
def released_lora(context: dg.AssetExecutionContext, workspace: Workspace) -> Iterator[dg.MaterializeResult]:
    result = _released(context, workspace)
    if result is not None:
        yield result


@once
def _released(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult | None:
    """The release that counts from now on, published; None where there is none yet."""
    with open_step(context, workspace, of_character) as work:
        checks = judged(work.inputs["benchmark"], work.character)
        check_room(work, _lora_of(work).stat().st_size + BESIDE_LORA)
        release, outcome = _that_counts(work, checks, Path(workspace.models))
        if not may_be_released(checks):
            context.log.warning(outcome)
        if release is None:
            return None
        place(release, work.staging)
        (work.staging / model_card.FILE_NAME).write_text(model_card.model_card(release), encoding="utf-8")
        record, every = release.record, all_releases(releases_folder(work.store, work.character.name))
        return work.publish(
            {
                SUMMARY: f"release {record.number}: {outcome}",
                "how_to_use": dg.MetadataValue.md(_usage(record)),
                "file": dg.MetadataValue.path(work.store.folder(work.character.name, "released_lora") / record.file),
                "release": record.number,
                "gate": table(_gate_table(checks)),
                "releases": table(_history(every, record.number), most=100),
                "model_card": dg.MetadataValue.md(model_card.card_text(release)),
            }
        )


def _that_counts(work: CharacterStep, checks: list[Check], models: Path) -> tuple[Release | None, str]:
    """The release that counts from now on, and how it came to that. A refused LoRA changes nothing."""
    folder = releases_folder(work.store, work.character.name)
    if may_be_released(checks):
        published = publish(folder, _candidate(work, checks, models), datetime.now(UTC))
        return published.release, OUTCOMES[published.outcome]
    stays = current(folder)
    return stays, f"{'it stays' if stays else 'nothing is released yet'}: the new LoRA is {decision(checks)}"


OUTCOMES = {
    "new": "it replaces the one before",
    "again": "the same LoRA was released before, and counts again",
    "already": "the LoRA is released already",
    "withdrawn": "it stays: a person chose it, and not the new LoRA",
}


def _candidate(work: CharacterStep, checks: list[Check], models: Path) -> Candidate:
    character, profile = work.character, work.profile
    chosen = work.inputs["selected_lora"].table().query("chosen").iloc[0]
    spec = load_spec(work.inputs["lora"].file(FILE_NAME))
    generation = profile.generation
    return Candidate(
        character=character.name,
        trigger=character.trigger,
        beginnings=beginnings(character),
        lora=_lora_of(work),
        base_model=profile.base.relative_to(models.absolute()).as_posix(),
        family=profile.family,
        profile=profile.name,
        epoch=int(chosen["epoch"]),
        why_epoch=str(chosen["reason"]),
        drawing=Drawing(
            scheduler=generation.scheduler,
            steps=generation.steps,
            guidance_scale=generation.guidance_scale,
            negative_prompt=generation.negative_prompt,
            resolution=profile.resolution,
            strength=1.0,
            prompts=[prompt.text for prompt in benchmark_prompts(character, profile)],
        ),
        data=_data(work),
        inputs=lineage(work.store, character.name, ["benchmark", "lora"]),
        spec=without_paths(spec),
        metrics=work.inputs["benchmark"].table(),
        checks=checks,
    )


def _lora_of(work: CharacterStep) -> Path:
    return work.inputs["selected_lora"].file("lora.safetensors")


def _data(work: CharacterStep) -> Data:
    rows = with_styles(work.character, work.inputs["training_set"], work.inputs["frames"])
    trained, held_out = (rows[rows["split"] == split] for split in ("train", "holdout"))
    return Data(
        pictures=len(trained),
        clips=trained["clip_id"].nunique(),
        held_out_pictures=len(held_out),
        held_out_clips=held_out["clip_id"].nunique(),
    )


def _usage(record: Record) -> str:
    return (
        f"Put {code(record.file)} into ComfyUI's `models/loras` or A1111's `models/Lora`, use a base model like "
        f"{code(record.base_model)}, and begin the prompt with {code(record.trigger)}."
    )


def _gate_table(checks: list[Check]) -> pd.DataFrame:
    rows = [(check.name, check.verdict.passed, check.verdict.summary) for check in checks]
    return pd.DataFrame(rows, columns=["check", "passed", "summary"])


def _history(releases: list[Release], number: int) -> pd.DataFrame:
    rows = [
        (one.record.number, one.record.number == number, f"{one.record.published:%Y-%m-%d %H:%M}", one.record.epoch)
        for one in releases
    ]
    return pd.DataFrame(rows, columns=["release", "counts", "published", "epoch"])


@dg.asset(
    **made_from("released_lora", uses=["generation", "recommended_release"]),
    partitions_def=CHARACTERS,
    code_version="2",
    automation_condition=FOLLOW_RELEASE,
    group_name="publishing",
    kinds={"json", "png"},
    metadata=columns(WORKFLOWS),
    pool=GPU,
    description="The release as ComfyUI and A1111 open it: a workflow for ComfyUI's browser, one for its API, and "
    "pictures that carry both and A1111's settings; the same for each setting that a sweep recommends for the release; "
    "and the LoRA files of all.",
)
@once
def comfyui_workflow(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_character) as work:
        record, ways = _to_publish(work)
        prompts = prompts_beginning(work.character, work.profile, record.beginnings, otherwise=[record.trigger])
        requests, opened = requests_for(prompts, seeds_per_prompt=1), pipelines(work.profile)
        rows, problems = [], []
        check_images(work, len(ways) * len(requests))
        for way in ways:
            written, unwritable = _write_way(work, record, way, requests, opened)
            rows += written
            problems += unwritable
        if not rows:
            raise dg.Failure("\n".join(["ComfyUI can be told none of the prompts.", *dict.fromkeys(problems)]))
        for problem in dict.fromkeys(problems):
            context.log.warning(f"No picture with {problem}")
        left_out = work.roots["recommended_release"]["left_out"]
        for sentence in left_out:
            context.log.warning(sentence)
        index = pd.DataFrame(rows, columns=WORKFLOWS.names)
        write_table(index, work.staging, WORKFLOWS)
        shown = [Image.open(work.staging / name) for name in index["file"]]
        labels = index["style"].where(index["setting"] == AS_RELEASED, index["setting"])
        return work.publish(
            {
                SUMMARY: f"release {record.number}: {len(rows)} pictures that carry their workflow",
                "how_to_use": dg.MetadataValue.md(_how_to_open(work, record)),
                "settings": table(_ways_table(record, ways), most=len(ways)),
                "left_out": dg.MetadataValue.md(bullets(left_out)),
                "pictures": picture(contact_sheet(shown, labels.tolist(), columns=8, cell=96), "pictures"),
                "workflow": dg.MetadataValue.path(
                    work.store.folder(work.character.name, "comfyui_workflow") / "workflow.json"
                ),
                **described(index, WORKFLOWS),
            }
        )


@dataclass(frozen=True)
class _Way:
    """A setting that is published: what it is called, the LoRA files with their strengths, and how else it draws."""

    name: str
    loras: list[tuple[Path, float]]
    settings: GenerationSettings

    @property
    def folder(self) -> str:
        """Of its files in the artifact; the release's own lie at the top."""
        return "" if self.name == AS_RELEASED else self.name.replace(" ", "_")


def _to_publish(work: CharacterStep) -> tuple[Record, list[_Way]]:
    """The release, and the ways to draw with it: as it was released first."""
    artifact = work.inputs["released_lora"]
    record = Record.model_validate_json(artifact.content(RECORD))
    lora, strength = artifact.file(record.file), record.drawing.strength
    others = [
        _Way(at_most(each.budget), each.loras, each.settings)
        for each in recommended(work, "recommended_release", lora, strength)
    ]
    return record, [_Way(AS_RELEASED, [(lora, strength)], work.profile.generation), *others]


def _write_way(
    work: CharacterStep, record: Record, way: _Way, requests: list[Request], opened: Callable[[str], Any]
) -> tuple[list[tuple[str, str, str, str, int, str]], list[str]]:
    """The pictures with their workflow, the workflow of the first, and the LoRAs, as files. Rows of the index, and what
    ComfyUI cannot be told."""
    images = draw(work, way.name, requests, lambda: opened(way.settings.scheduler), way.loras, way.settings)
    workflow_of, checkpoint = _workflows(work, record, way), _checkpoint_hash(work)
    for path, _ in way.loras:
        if not (target := work.staging / LORAS / _lora_name(record, path)).exists():
            link_or_copy(path, target)
    folder = work.staging / way.folder
    folder.mkdir(exist_ok=True)
    rows, problems = [], []
    for number, (request, image) in enumerate(zip(requests, images, strict=True)):
        path = folder / f"{request.style}_{number:03d}.png"
        try:
            workflow = workflow_of(positive=request.prompt, seed=request.seed)
        except WorkflowError as error:
            problems.append(f"{request.prompt!r}: {error}")
            continue
        path.write_bytes(png_with_workflow(image, workflow, checkpoint))
        name = path.relative_to(work.staging).as_posix()
        rows.append((name, way.name, request.style, request.prompt, request.seed, name))
        if len(rows) == 1:
            _write_workflow(folder, workflow)
    return rows, problems


def _workflows(work: CharacterStep, record: Record, way: _Way) -> Callable[..., Workflow]:
    """Makes the workflow of a prompt (`positive`) and `seed`; all else is the same for every picture."""
    settings, base = way.settings, work.profile.base
    trained = how_trained(work.profile, way.loras)
    noise = base_noise(base)
    noise = replace(noise, zero_snr=noise.zero_snr or trained.zero_terminal_snr)
    sampler, scheduler = our_sampler(settings.scheduler, noise)
    return partial(
        Workflow,
        checkpoint=f"{base.stem if base.is_file() else base.parent.name}.safetensors",
        loras=tuple(Lora(_lora_name(record, path), strength, _lora_hash(path)) for path, strength in way.loras),
        trigger=record.trigger,
        negative=settings.negative_prompt,
        steps=settings.steps,
        cfg=settings.guidance_scale,
        sampler=sampler,
        scheduler=scheduler,
        width=work.profile.resolution,
        height=work.profile.resolution,
        family=work.profile.family,
        v_prediction=noise.v_prediction if trained.prediction is None else trained.prediction == "v_prediction",
        zero_snr=noise.zero_snr,
        clip_skip=trained.clip_skip,
        prefix=record.character,
    )


def _lora_name(record: Record, path: Path) -> str:
    """The release's own name. That of another LoRA says whose it is and what, so that those of several characters can
    lie in one folder of ComfyUI."""
    asset = path.parent
    return record.file if asset.name == "released_lora" else f"{asset.parent.name}.{asset.name}.safetensors"


def _lora_hash(path: Path) -> str | None:
    _, metadata = read_tensors(path)
    return metadata.get("sshs_model_hash")


def _checkpoint_hash(work: CharacterStep) -> str | None:
    """By which A1111 finds the base model, where it is one file."""
    return file_hash(work.profile.base, work.store) if work.profile.base.is_file() else None


def _write_workflow(folder: Path, workflow: Workflow) -> None:
    for name, content in (("workflow.json", ui_format(workflow)), ("workflow_api.json", api_format(workflow))):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _ways_table(record: Record, ways: Sequence[_Way]) -> pd.DataFrame:
    rows = [
        (
            way.name,
            ", ".join(f"{_lora_name(record, path)} {strength:g}" for path, strength in way.loras),
            way.settings.steps,
            way.settings.guidance_scale,
            way.settings.scheduler,
            f"{way.folder}/workflow.json".lstrip("/"),
        )
        for way in ways
    ]
    return pd.DataFrame(rows, columns=["setting", "loras", "steps", "cfg", "sampler", "workflow"])


def _how_to_open(work: CharacterStep, record: Record) -> str:
    channels = _latent_channels(work)
    if channels != COMFYUI_LATENTS:
        return (
            f"Open these with another base model: the one of this profile has latents of {channels} channels, and "
            f"ComfyUI and A1111 open models with {COMFYUI_LATENTS}."
        )
    return (
        "Drop `workflow.json` or a picture into ComfyUI's window, or a picture into A1111's PNG Info. "
        f"{_usage(record)} `{LORAS}/` has it, and every other LoRA that a workflow names. What a sweep recommends for "
        "so many steps has a folder `at_most_…_steps`."
    )


def _latent_channels(work: CharacterStep) -> int:
    """Of the base model, as its VAE says; single files are ComfyUI's own format."""
    config = work.profile.base / "vae" / "config.json"
    return json.loads(config.read_text(encoding="utf-8"))["latent_channels"] if config.is_file() else COMFYUI_LATENTS
