"""A style of the demo characters, trained in a temporary workspace and measured on invented characters.

`--framed`: the characters' images get a thick frame first, a manner that the base model lacks.

    python -m sticker_pipeline_tests.experiments.style [--framed] [--draws 1440] [WORK]
"""

import os
import shutil
from pathlib import Path

import click
import pandas as pd
from PIL import Image, ImageDraw, ImageSequence

from sticker_pipeline.core.character import character_folders
from sticker_pipeline.core.profile import PROFILES
from sticker_pipeline_tests.experiments import studio

DEMO = studio.MODELS.parent / "characters"
STYLE = "demo"
FRAME = (20, 110, 120)  # dark teal, which no drawing of the base model has around it
FRAME_WIDTH = 0.1  # of the longer side


@click.command()
@click.option("--framed", is_flag=True, help="Every image gets a thick frame: a manner the base model has not.")
@click.option("--draws", type=int, help="Images that the training draws, over 6 epochs. Default: the profile's way.")
@click.argument("work", type=click.Path(path_type=Path), default=Path("style_trial"))
def main(framed: bool, draws: int | None, work: Path) -> None:
    """Give the demo characters one style in the folder WORK, train it there, and print the figures."""
    import dagster as dg
    from rich.console import Console

    from sticker_pipeline.cli.update import update
    from sticker_pipeline.definitions import defs
    from sticker_pipeline.defs.resources import workspace_from_environment

    if draws:
        PROFILES["embedded"]["style"] = {"training": {"epochs": 6, "samples_per_epoch": draws // 6}}
    for folder in character_folders(DEMO):
        copy_character(folder, work / "characters" / folder.name, framed=framed)
    os.environ["STICKER_CHARACTERS"] = str(work / "characters")
    os.environ["STICKER_ARTIFACTS"] = str(work / "artifacts")
    os.environ["STICKER_MODELS"] = str(studio.MODELS)
    workspace = workspace_from_environment()
    with dg.DagsterInstance.ephemeral() as instance:
        characters = workspace.valid_characters()[0]
        jobs = ("dataset_line", "style_line")
        if update(defs(), instance, workspace, characters, Console(), jobs=jobs).failed:
            raise click.ClickException("something failed; the reason stands above")
    chosen = workspace.store.read(f"_styles/{STYLE}", "selected_style_lora")
    with pd.option_context("display.width", 200, "display.max_colwidth", 160, "display.float_format", "{:.3f}".format):
        click.echo(chosen.table().drop(columns="reason").to_string(index=False))
        click.echo("\n".join(f"epoch {row.epoch} {row.reason}" for row in chosen.table().itertuples()))
        click.echo(chosen.table("goal.parquet").to_string(index=False))
    click.echo(f"Images: {chosen.folder}/by_epoch.png and goal.png")


def copy_character(source: Path, target: Path, *, framed: bool) -> None:
    """The character of the folder `source` as `target`, which names the style."""
    if target.exists():
        return
    shutil.copytree(source, target)
    settings = target / "character.yaml"
    settings.write_text(f"style: {STYLE}\n{settings.read_text()}")
    for path in sorted(target.rglob("*")) if framed else []:
        if path.suffix in (".png", ".gif", ".webp", ".jpg"):
            frame_file(path)


def frame_file(path: Path) -> None:
    """Draw a frame around every image of the file, on white where it is transparent."""
    with Image.open(path) as image:
        durations = [frame.info.get("duration", 100) for frame in ImageSequence.Iterator(image)]
        frames = [framed_image(frame) for frame in ImageSequence.Iterator(image)]
    if len(frames) > 1:
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    else:
        frames[0].save(path)


def framed_image(image: Image.Image) -> Image.Image:
    """The image as RGB on white with a frame drawn over its edges."""
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", rgba.size, "white")
    flat.paste(rgba, (0, 0), rgba)
    width = round(max(flat.size) * FRAME_WIDTH)
    ImageDraw.Draw(flat).rectangle((0, 0, flat.width - 1, flat.height - 1), outline=FRAME, width=width)
    return flat


if __name__ == "__main__":
    main()
