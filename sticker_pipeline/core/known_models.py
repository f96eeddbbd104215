"""Models that `models/fetch.py` fetches, with repositories and files (known_models.yaml)."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from sticker_pipeline.core.texts import UserError

Kind = Literal["tagger", "clip", "base", "base_sdxl"]

_PART = r"[A-Za-z0-9][\w.-]*"  # never `..`, nor hidden
REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a commit, or the SHA-256 of a single file
SAFE_NAME = re.compile(rf"{_PART}(/{_PART})*", re.ASCII)
_REPOSITORY = re.compile(rf"(?P<repo>{_PART}/(?P<name>{_PART}))(@(?P<revision>{_PART}(/{_PART})*))?", re.ASCII)


class FetchError(UserError):
    """A model that cannot be fetched or contradicts the lock file."""


@dataclass(frozen=True)
class Source:
    """The repository and files of a model.

    `name`: folder below STICKER_MODELS. `files`: paths in repository and folder alike. `revision`: requested branch,
    tag or commit; None: the newest. `file`: the same base model in one file, in the repository; "": none is known.
    """

    name: str
    repo: str
    kind: Kind
    files: tuple[str, ...]
    revision: str | None = None
    file: str = ""


@cache
def known_models() -> dict[str, Source]:
    table = _table()
    return {
        name: Source(
            name, entry["repo"], entry["kind"], tuple(table["kinds"][entry["kind"]]), file=entry.get("file", "")
        )
        for name, entry in table["models"].items()
    }


@cache
def _table() -> dict[str, Any]:
    return yaml.safe_load(files("sticker_pipeline.core").joinpath("known_models.yaml").read_text(encoding="utf-8"))


@cache
def civitai_places() -> dict[str, str]:
    """Return Civitai's `baseModel` -> the place of such a base model."""
    return {base: place for place, bases in _table()["civitai"].items() for base in bases}


def source_of(text: str) -> Source:
    """Return the source of a known model or WD14 tagger `owner/repo[@revision]`.

    Raises FetchError for other texts, and for a repository with a known model's folder.
    """
    known = known_models()
    if text in known:
        return known[text]
    match = _REPOSITORY.fullmatch(text)
    if not match:
        raise FetchError(
            f"There is no model {text!r} to fetch. Known are {', '.join(known)}; any other WD14 tagger is "
            "`owner/repo` or `owner/repo@revision`, as the hub writes them; a base model may be civitai:VERSION, an "
            "address, or the path of a .safetensors file."
        )
    repo, name, revision = match["repo"], match["name"], match["revision"]
    for source in known.values():
        if source.repo == repo:
            return Source(source.name, repo, source.kind, source.files, revision)
    if name in known:
        raise FetchError(f"{repo} would land in the folder {name!r}, which is that of {known[name].repo}.")
    return Source(name, repo, "tagger", tuple(_table()["kinds"]["tagger"]), revision)


def known_name(folder: Path) -> str | None:
    """Return the known model whose name ends the folder's path."""
    ends = (folder.parts[-count:] for count in (1, 2))
    return next((name for name in map("/".join, ends) if name in known_models()), None)
