"""Other characters for which an image could be mistaken."""

from bisect import bisect
from itertools import islice
from pathlib import Path

from sticker_pipeline.core.character import Character, character_names
from sticker_pipeline.core.storage import MANIFEST, ArtifactStore, content_hash

MOST_OTHERS = 40  # characters that one is compared with


def other_characters(character: Character, store: ArtifactStore) -> list[str]:
    """Return at most MOST_OTHERS other characters with a training set, sorted by name.

    If there are more: the next ones on a ring of hashes, so that a new character changes at most MOST_OTHERS others.
    Lineage contains their names, not their images: one character's new GIF does not repeat the others' evaluation.
    """
    ring = store.once("ring", lambda: _ring(character.folder.parent, store))
    own = bisect(ring, _on_ring(character.name))
    most = MOST_OTHERS + 1  # with its own
    following = dict.fromkeys(name for _, name in ring[own : own + most] + ring[:most] if name != character.name)
    return sorted(islice(following, MOST_OTHERS))


def _ring(characters: Path, store: ArtifactStore) -> list[tuple[str, str]]:
    """Return the characters with a training set as (hash, name), sorted by hash."""
    made = ("training_set", "frames")
    return sorted(
        _on_ring(name)
        for name in character_names(characters)
        if all((store.folder(name, asset) / MANIFEST).is_file() for asset in made)
    )


def _on_ring(name: str) -> tuple[str, str]:
    return content_hash(name), name
