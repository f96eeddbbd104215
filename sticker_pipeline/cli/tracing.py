"""Command that traces a file by its content."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sticker_pipeline.cli.listing import share, tell_json, tell_sources, tell_table, when
from sticker_pipeline.cli.work import BadInput, check_artifacts
from sticker_pipeline.core.process.output import tell
from sticker_pipeline.core.texts import UserError, listed

if TYPE_CHECKING:
    from sticker_pipeline.benchmark.tracing import Lora, Loras, Searched, Use, Uses

REST = "--json has all"
FOUND = {
    "bytes": "{} is {}",
    "weights": "{} has the weights of {}, behind another header",
    "metadata": "{} says in its metadata that it is {}; its weights are others",
}


@click.command("trace")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as JSON.")
def trace(path: Path, as_json: bool) -> None:
    """Name the releases with an image, or the sources of a LoRA.

    FILE may lie anywhere and have any name: its content is compared with the releases of all characters, and with
    trainings that are not released. An image is found by its bytes, else by the pixels of its frames; a LoRA by its
    bytes, else by its weights, else by its metadata. If nothing has it, one sentence says so, and the exit status is 1;
    it is 2 if FILE cannot be read.
    """
    from sticker_pipeline.benchmark.tracing import Uses, traced
    from sticker_pipeline.defs.resources import workspace_from_environment

    workspace = workspace_from_environment()
    check_artifacts(workspace)
    try:
        result = traced(workspace.store, path)
    except (UserError, OSError) as error:
        raise BadInput(f"{path} cannot be traced: {getattr(error, 'strerror', None) or error}") from error
    if as_json:
        tell_json(_json(path, result))
    else:
        _tell_uses(path, result) if isinstance(result, Uses) else _tell_loras(path, result)
        _tell_left_out(result.searched)
    if not result.found:
        verb = "is in none" if isinstance(result, Uses) else "is none"
        raise click.ClickException(f"{path} {verb} of {_extent(result.searched)} in {workspace.store.address}.")


def _tell_uses(path: Path, uses: "Uses") -> None:
    if not uses.found:
        return
    by = "its bytes" if uses.how == "bytes" else "pixels of its frames; its bytes are in no release"
    tell((path.name, "bold"), f": found by {by}")
    names = ("release", "published", "split", "weight", "frames", "path then")
    tell_table(names, [_use(one) for one in uses.found], REST, right=("weight", "frames"))


def _use(use: "Use") -> tuple[str, ...]:
    number = "not released" if use.number is None else str(use.number)
    return (
        f"{use.character} {number}{' (current)' if use.is_current else ''}",
        when(use.published) if use.published else "",
        use.split,
        share(use.weight),
        f"{use.alike} of {use.frames}",
        use.path,
    )


def _tell_loras(path: Path, loras: "Loras") -> None:
    for lora in loras.found:
        tell(FOUND[loras.how].format(path.name, _described(lora)))
        if lora.why_not:
            tell(f"Its sources are not known: {lora.why_not}")
        else:
            tell_sources(lora.sources, REST)


def _described(lora: "Lora") -> str:
    if lora.published is None:
        return f"epoch {lora.epoch} of the last training of {lora.character}, not released"
    current = ", the current one" if lora.is_current else ""
    return f"release {lora.number} of {lora.character} (epoch {lora.epoch}, {when(lora.published)}{current})"


def _tell_left_out(searched: "Searched") -> None:
    if searched.not_recorded:
        tell(f"Not searched: {listed(searched.not_recorded)}")
    for problem in searched.problems:
        tell(("problem:", "red"), f" {problem}")


def _extent(searched: "Searched") -> str:
    """Return the words for all that was searched, and could not be."""
    others = f" and {_number(searched.trainings, 'training')}" if searched.trainings else ""
    characters = _number(len(searched.characters), "character")
    unknown = len(searched.not_recorded) + len(searched.problems)
    left_out = f" ({unknown} more could not be searched)" if unknown else ""
    return f"{_number(searched.releases, 'release')}{others} of {characters}{left_out}"


def _json(path: Path, result: "Uses | Loras") -> dict[str, Any]:
    """Return the result as JSON types."""
    from sticker_pipeline.benchmark.tracing import Uses

    searched = result.searched
    return {
        "file": str(path),
        "kind": "image" if isinstance(result, Uses) else "lora",
        "found_by": result.how,
        "found": [_record(one) for one in result.found],
        "searched": {
            "releases": searched.releases,
            "trainings": searched.trainings,
            "characters": sorted(searched.characters),
        },
        "not_recorded": searched.not_recorded,
        "problems": searched.problems,
    }


def _record(found: "Use | Lora") -> dict[str, Any]:
    values = dict(vars(found))
    if found.published is not None:
        values["published"] = found.published.isoformat()
    if "sources" in values:
        values["sources"] = values["sources"].to_dict(orient="records")
    return values


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
