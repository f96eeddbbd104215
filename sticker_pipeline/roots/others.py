"""The other characters that images of one might be taken for."""

from bisect import bisect
from itertools import islice
from pathlib import Path

from sticker_pipeline.core.character import Character, character_names
from sticker_pipeline.core.storage import MANIFEST, ArtifactStore, content_hash

MOST_OTHERS = 40  # characters that one is told apart from


def other_characters(character: Character, store: ArtifactStore) -> list[str]:
    """The names of at most MOST_OTHERS other characters that have a training set, sorted.

    Of more, those that follow it on a ring of hashes: a new character changes this for MOST_OTHERS others at most. Who
    they are is part of the lineage, their images are not: a new GIF of one has none of the others measured again.
    """
    ring = store.once("ring", lambda: _ring(character.folder.parent, store))
    own = bisect(ring, _on_ring(character.name))
    most = MOST_OTHERS + 1  # with its own place
    following = dict.fromkeys(name for _, name in ring[own : own + most] + ring[:most] if name != character.name)
    return sorted(islice(following, MOST_OTHERS))


def _ring(characters: Path, store: ArtifactStore) -> list[tuple[str, str]]:
    """The characters that have a training set, as (hash, name), sorted by hash."""
    made = ("training_set", "frames")
    return sorted(
        _on_ring(name)
        for name in character_names(characters)
        if all((store.folder(name, asset) / MANIFEST).is_file() for asset in made)
    )


def _on_ring(name: str) -> tuple[str, str]:
    return content_hash(name), name
