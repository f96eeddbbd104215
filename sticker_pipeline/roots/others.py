"""Other characters that images of one may resemble."""

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from sticker_pipeline.core.character import Character, character_names
from sticker_pipeline.core.storage import ArtifactStore, content_hash

MOST_OTHERS = 40  # characters that one is compared with


def other_characters(character: Character, store: ArtifactStore) -> list[str]:
    """Return at most MOST_OTHERS other characters with a training set, sorted.

    Of more, the next on a ring of hashes: a new character changes at most MOST_OTHERS others. Only names are returned:
    a new GIF of one does not repeat another's evaluation.
    """
    ring = store.once("ring", lambda: _ring(character.folder.parent, store))
    return _following(character.name, ring)


def some_others(name: str, names: Iterable[str]) -> list[str]:
    """Return at most MOST_OTHERS of `names` other than `name`, chosen as by `other_characters`."""
    return _following(name, sorted(map(_on_ring, names)))


def _following(name: str, ring: Sequence[tuple[str, str]]) -> list[str]:
    own = bisect(ring, _on_ring(name))
    most = MOST_OTHERS + 1  # with its own
    following = dict.fromkeys(other for _, other in [*ring[own : own + most], *ring[:most]] if other != name)
    return sorted(islice(following, MOST_OTHERS))


def _ring(characters: Path, store: ArtifactStore) -> list[tuple[str, str]]:
    made = ("training_set", "frames")
    return sorted(
        _on_ring(name) for name in character_names(characters) if all(store.stamp(name, asset) for asset in made)
    )


def _on_ring(name: str) -> tuple[str, str]:
    return content_hash(name), name
