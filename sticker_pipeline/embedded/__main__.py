"""The command `python -m sticker_pipeline.embedded`: draws, trains and measures the models.

`embedded/build.py` has its parts.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from sticker_pipeline.core.process.quiet import quiet
from sticker_pipeline.embedded.build import PARTS, Workshop, build


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {line}")


def _parts(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in value.split(","))
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise click.BadParameter(f"unknown part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    return parts


@click.command()
@click.option("--only", "parts", default=",".join(PARTS), callback=_parts, help="Parts to run, comma-separated.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/models/embedded"), show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path(".build/embedded"), show_default=True)
@click.option("--characters", type=click.Path(path_type=Path), default=Path("data/characters"), show_default=True)
def main(parts: tuple[str, ...], out: Path, work: Path, characters: Path) -> None:
    """Draw and train the embedded models (hours on a CPU).

    Interrupt at will: the same command resumes.
    """
    quiet()
    try:
        build(Workshop(work=work, out=out, characters=characters, say=_say), parts)
    except KeyboardInterrupt as stopped:
        raise click.ClickException(str(stopped) or "interrupted; run the same command again to go on") from stopped


if __name__ == "__main__":
    main()
