"""Style, character and LCM-LoRA together: seven statements, tested with three training seeds.

    python -m sticker_pipeline_tests.experiments.lora_composition [--processes 2] [--work FOLDER] [--page FILE]

Five of the statements are common opinions. Each seed has a workspace with the demo characters in a thick frame, the
style that they share (a manner that the base model lacks), and another of them as the character. Its LoRAs are made by
the assets that a user materializes; then every arm generates the same requests. Finished workspaces and arms are kept
in the work folder: interrupt at will. This module decides the images; composition_page.py evaluates and shows them.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import click
import numpy as np
from PIL import Image

from sticker_pipeline.core.character import character_folders
from sticker_pipeline.core.profile import PROFILES
from sticker_pipeline_tests.experiments import studio
from sticker_pipeline_tests.experiments.style import DEMO, STYLE, copy_character

HOME = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)
PROMPTS, NOISES = 6, 4  # images of an arm: of each prompt so many
STEPS = (2, 4, 8, 16)
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Arm:
    """One setting of generating the character.

    `lcm`: weight of an LCM-LoRA, which has the LCM sampler; None for neither. `own`: the one tuned on the character.
    Steps and guidance: None for the profile's.
    """

    character: float = 0.0
    style: float = 0.0
    lcm: float | None = None
    own: bool = False
    steps: int | None = None
    guidance: float | None = None

    @property
    def name(self) -> str:
        return "_".join(f"{key}-{value}" for key, value in vars(self).items())


def mixed(lcm: float, steps: int, *, style: float = 0.0, own: bool = False, guidance: float = 1.0) -> Arm:
    """The character with an LCM-LoRA."""
    return Arm(1.0, style, lcm, own, steps, guidance)


ALONE, BOTH = Arm(1.0), Arm(1.0, 1.0)
TOGETHER = [Arm(), ALONE, Arm(1.0, 0.5), BOTH, Arm(0.7, 0.7), mixed(1.0, 4), mixed(1.0, 4, style=1.0)]
SHIFTED_ALONE = [Arm(1.0, steps=4), *(mixed(1.0, steps) for steps in (4, 8))]
SHIFTED = [Arm(1.0, 1.0, steps=4), *(mixed(1.0, steps, style=1.0) for steps in (4, 8))]
FEW = [mixed(weight, steps) for weight, steps in product(WEIGHTS, STEPS)]
PLAIN_FEW = [Arm(1.0, steps=steps) for steps in STEPS]
GUIDED = [mixed(weight, 4, guidance=scale) for weight, scale in product((0.25, 0.5, 1.0), (1.5, 2.0, 4.0))]
OWN = [mixed(weight, steps, own=True) for weight, steps in product((0.25, 0.5, 1.0), STEPS)]
ARMS = list(dict.fromkeys([*TOGETHER, *SHIFTED_ALONE, *SHIFTED, *FEW, *PLAIN_FEW, *GUIDED, *OWN]))


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path(".build/composition"), show_default=True)
@click.option(
    "--page",
    "target",
    type=click.Path(path_type=Path),
    default=HOME / "docs" / "results" / "composition.md",
    show_default=True,
)
@click.option("--processes", type=click.IntRange(1), default=os.cpu_count(), show_default=True)
def main(work: Path, target: Path, processes: int) -> None:
    """Train and draw what is missing, and write the page."""
    from sticker_pipeline_tests.experiments.composition_page import write_page

    work = work.absolute() / studio.models_key()
    with multiprocessing.get_context("spawn").Pool(min(processes, len(SEEDS))) as pool:
        for done in pool.imap_unordered(run_seed, [(seed, work) for seed in SEEDS], chunksize=1):
            click.echo(done)
    write_page(work, target)
    click.echo(f"wrote {target}")


def seed_folder(work: Path, seed: int) -> Path:
    return work / f"seed_{seed}"


def run_seed(task: tuple[int, Path]) -> str:
    """Make the LoRAs of one seed, and draw and measure every arm that is not kept yet."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the trainings, which are processes of their own
    import torch

    torch.set_num_threads(1)
    seed, work = task
    started = time.monotonic()
    folder = seed_folder(work, seed)
    make_loras(seed, folder)
    missing = [arm for arm in ARMS if not (folder / "arms" / f"{arm.name}.npz").is_file()]
    if missing:
        draw_arms(seed, folder, missing)
    return f"seed {seed}: {(time.monotonic() - started) / 60:.1f} min"


def character_of(seed: int) -> str:
    """The demo character that is drawn with this seed."""
    names = [folder.name for folder in character_folders(DEMO)]
    return names[seed % len(names)]


def make_loras(seed: int, folder: Path) -> None:
    """Materialize what the arms draw with in a workspace of its own, where it is missing."""
    import dagster as dg
    from rich.console import Console

    from sticker_pipeline.cli.update import update
    from sticker_pipeline.definitions import defs
    from sticker_pipeline.defs.resources import workspace_from_environment

    for section in ("training", "lcm"):
        PROFILES["embedded"][section] = {**PROFILES["embedded"][section], "seed": seed}
    for source in character_folders(DEMO):
        copy_character(source, folder / "characters" / source.name, framed=True)
    os.environ["STICKER_CHARACTERS"] = str(folder / "characters")
    os.environ["STICKER_ARTIFACTS"] = str(folder / "artifacts")
    os.environ["STICKER_MODELS"] = str(studio.MODELS)
    workspace, definitions = workspace_from_environment(), defs()
    made = [  # (scope in the store, partition, assets)
        (character_of(seed), character_of(seed), ["lora", "selected_lora"]),
        ("_profiles/embedded", "embedded", ["profile/lcm_lora"]),
        (character_of(seed), character_of(seed), ["character_lcm_lora"]),
    ]
    quiet = {"python_logs": {"python_log_level": "WARNING"}}
    with dg.DagsterInstance.ephemeral(settings=quiet) as instance:
        characters = workspace.valid_characters()[0]
        jobs = ("dataset_line", "style_line")
        if update(definitions, instance, workspace, characters, Console(quiet=True), jobs=jobs).failed:
            raise RuntimeError(f"seed {seed}: a dataset or the style failed")
        for scope, partition, names in made:
            missing = [name for name in names if workspace.store.find(scope, name.rpartition("/")[2]) is None]
            assets = [definitions.resolve_assets_def(dg.AssetKey.from_user_string(name)) for name in missing]
            if assets and not dg.materialize(assets, partition_key=partition, instance=instance).success:
                raise RuntimeError(f"seed {seed}: {', '.join(missing)} failed")


def draw_arms(seed: int, folder: Path, arms: list[Arm]) -> None:
    """Draw the same requests with each arm, and keep what is seen on the images, and the images themselves."""
    from sticker_pipeline.benchmark.embed import embed
    from sticker_pipeline.benchmark.features import embedder_of, tags_found_in
    from sticker_pipeline.benchmark.fidelity import found_shares
    from sticker_pipeline.benchmark.tone import tones
    from sticker_pipeline.defs.resources import workspace_from_environment
    from sticker_pipeline.generation.generate import generate, pipelines, with_loras
    from sticker_pipeline.generation.prompts import benchmark_prompts, requests_for
    from sticker_pipeline.tagging.wd14 import open_tagger

    workspace = workspace_from_environment()
    character = workspace.character(character_of(seed))
    profile, store = workspace.profile(character), workspace.store
    prompts = [one for one in benchmark_prompts(character, profile) if one.medium == "sticker"][:PROMPTS]
    requests = requests_for(prompts, NOISES, "mixture")
    loras = {
        "character": store.folder(character.name, "selected_lora"),
        "style": store.folder(f"_styles/{STYLE}", "selected_style_lora"),
        "lcm": store.folder("_profiles/embedded", "lcm_lora"),
        "own": store.folder(character.name, "character_lcm_lora"),
    }
    files = {name: path / "lora.safetensors" for name, path in loras.items()}
    embedder, tagger = embedder_of(profile, store), open_tagger(profile.tagger, profile.tagging.provider)
    names = [label.name for label in tagger.labels]
    opened = pipelines(profile)
    for arm in arms:
        settings = profile.generation.model_copy(
            update={
                "steps": arm.steps or profile.generation.steps,
                "guidance_scale": arm.guidance or profile.generation.guidance_scale,
                "scheduler": profile.generation.scheduler if arm.lcm is None else "lcm",
            }
        )
        pipeline = opened(settings.scheduler)
        weights = [("character", arm.character), ("style", arm.style), ("own" if arm.own else "lcm", arm.lcm or 0.0)]
        used = [(files[name], weight) for name, weight in weights if weight]
        with with_loras(pipeline, used) as model:
            images = list(generate(model, requests, settings, profile.resolution))
        kept = folder / "images" / arm.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(kept / f"{number:02d}.png")
        found = tags_found_in(tagger, profile, store, kept, [f"{number:02d}.png" for number in range(len(images))])
        attributes = [prompt.attributes for prompt in prompts for _ in range(NOISES)]
        target = folder / "arms" / f"{arm.name}.npz"
        target.parent.mkdir(exist_ok=True)
        np.savez(
            target.with_suffix(".tmp.npz"),
            embeddings=embed(embedder, [Image.open(kept / f"{n:02d}.png") for n in range(len(images))]),
            fidelity=found_shares(found, names, attributes),
            **vars(tones(images)),
        )
        target.with_suffix(".tmp.npz").rename(target)


if __name__ == "__main__":
    main()
