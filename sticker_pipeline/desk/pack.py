"""A character's sticker pack as JSON types, and its page's files.

Both come from its artifact alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.desk.images import NoImage, artifact_file
from sticker_pipeline.packing.candidates import records
from sticker_pipeline.packing.checks import CHECKS, ERRORS, read_verdicts
from sticker_pipeline.packing.choose import CHOICE
from sticker_pipeline.packing.masters import MASTERS, file_name
from sticker_pipeline.packing.pack import VERDICTS
from sticker_pipeline.packing.pack_record import FILE_NAME, PackRecord, StickerRecord
from sticker_pipeline.packing.page import PAGE
from sticker_pipeline.packing.pages import FOLDER
from sticker_pipeline.packing.platforms import platform_kinds

ASSET = "sticker_pack"
MOST_REJECTED, MOST_EVIDENCE = 400, 100
# Its page lies at the desk's address, which its images need: the door lets no other origin have them. So nothing but
# this policy, beside the page's own, keeps a script in it from the desk: no request, form, frame, worker or window.
PAGE_POLICY = "; ".join(
    [
        "sandbox allow-scripts allow-same-origin allow-downloads allow-modals",
        "img-src 'self' data:",
        *(f"{kind} 'none'" for kind in ("connect-src", "frame-src", "worker-src", "object-src", "media-src")),
        *(f"{kind} 'none'" for kind in ("font-src", "manifest-src", "base-uri", "form-action", "frame-ancestors")),
    ]
)


def pack_of(character: Character, store: ArtifactStore) -> dict[str, Any]:
    """Return the pack; without one, `missing` says how to get it. Raises StorageError."""
    artifact = store.find(character.name, ASSET)
    if artifact is None:
        return {"missing": _how_to_get(character)}
    choice, index = artifact.table(CHOICE.file), artifact.table()
    found = read_verdicts(artifact.content(VERDICTS).decode("utf-8"))
    rejected = choice[~choice["chosen"]].sort_values(["slot", "score"], ascending=[True, False], kind="stable")
    return {
        "missing": "",
        "page": PAGE,
        "stickers": _stickers(artifact, choice, _said(artifact, index)),
        "sets": _sets(index),
        "checks": [
            {
                "name": name,
                "meaning": meaning,
                "passed": found[name].passed,
                "error": name in ERRORS,
                "summary": found[name].summary,
                "evidence": _rows(found[name].evidence),
            }
            for name, meaning in CHECKS.items()
        ],
        "gaps": found["no_gaps"].evidence.to_dict("records"),
        "rejected": [_candidate(row) for row in records(rejected.head(MOST_REJECTED))],
        "more_rejected": max(0, len(rejected) - MOST_REJECTED),
    }


def page_of(store: ArtifactStore, name: str) -> bytes:
    """Return the pack's page, as it was published. Raises NoImage, StorageError."""
    artifact = store.find(name, ASSET)
    if artifact is None or PAGE not in artifact.files:
        raise NoImage(f"{name} has no sticker pack")
    return artifact.content(PAGE)


def page_image(store: ArtifactStore, name: str, file: str) -> Path:
    """Return the path of an image of the page.

    Raises NoImage if the manifest does not name it.
    """
    if not file.startswith(f"{FOLDER}/"):
        raise NoImage(f"the page of {name}'s pack has no image {file}")
    return artifact_file(store, name, ASSET, file)


def _how_to_get(character: Character) -> str:
    if character.settings.pack is not None:
        return "There is no sticker pack yet: “Bring up to date” makes it."
    return (
        "There is no sticker pack: write “pack:” into character.yaml and bring the character up to date, or run "
        f"“sticker-pipeline pack {character.name}”."
    )


def _said(artifact: Artifact, index: pd.DataFrame) -> Mapping[str, StickerRecord]:
    """Return each slot's words, of the set with most emoji."""
    places = sorted({PurePosixPath(file).parent / FILE_NAME for file in index["file"]})
    sets = [PackRecord.model_validate_json(artifact.content(place.as_posix())) for place in places]
    stickers = [sticker for each in sets for sticker in each.stickers]
    return {one.slot: one for one in sorted(stickers, key=lambda one: (len(one.emoji), len(one.text)))}


def _stickers(artifact: Artifact, choice: pd.DataFrame, said: Mapping[str, StickerRecord]) -> list[dict[str, Any]]:
    """Return the chosen candidates in order.

    Those that could not be made are left out.
    """
    rows = [
        row
        for row in records(choice[choice["chosen"]].sort_values("position"))
        if f"{MASTERS}/{file_name(row['slot'])}" in artifact.files
    ]
    words = [said.get(row["slot"]) for row in rows]
    return [
        {**_candidate(row), "emoji": list(one.emoji) if one else [], "text": one.text if one else ""}
        for row, one in zip(rows, words, strict=True)
    ]


def _candidate(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("slot", "candidate", "origin", "reason", "image")}


def _sets(index: pd.DataFrame) -> list[dict[str, Any]]:
    groups = index.groupby(["platform", "set", "kind"], sort=False)
    return [
        {
            "title": platform_kinds()[str(platform), str(kind)].title,
            "kind": kind,
            "set": name,
            "stickers": len(rows),
            "bytes": int(rows["bytes"].sum()),
        }
        for (platform, name, kind), rows in groups
    ]


def _rows(evidence: pd.DataFrame) -> dict[str, Any]:
    """Return the columns and first rows of a table."""
    found = json.loads(evidence.head(MOST_EVIDENCE).to_json(orient="split"))
    return {"columns": found["columns"], "rows": found["data"], "all": len(evidence)}
