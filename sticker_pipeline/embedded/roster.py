"""Identities: the tagger's known characters, the demo characters, and numbered ones.

Demo looks are reserved in `embedded/scene.py`; training and held-out identities have separate random streams.
"""

from __future__ import annotations

import numpy as np

from sticker_pipeline.embedded.scene import Details, Identity, random_identity

_TRAINING_STREAM = 1
_HELDOUT_STREAM = 2


def training_identity(seed: int) -> Identity:
    """Identity number `seed` (>= 0) of the training."""
    return random_identity(np.random.default_rng([_TRAINING_STREAM, seed]))


def heldout_identity(seed: int) -> Identity:
    """Identity number `seed` (>= 0) of the measurements, from another random stream."""
    return random_identity(np.random.default_rng([_HELDOUT_STREAM, seed]))


def known_characters() -> dict[str, Identity]:
    """Six named identities, the tagger's known characters: tag -> identity."""
    return {
        "luma (stickerverse)": Identity(
            "1girl", "long hair", "blonde hair", "blue eyes", "dress", "yellow", ("halo", "wings"), "none",
            Details(bangs=3, hair_length=0.9, outfit_light=0.8, trim=1),
        ),
        "nori (stickerverse)": Identity(
            "1girl", "bob cut", "black hair", "green eyes", "kimono", "green", ("hair flower",), "mole under eye",
            Details(bangs=0, trim=3, pattern=2),
        ),
        "kit (stickerverse)": Identity(
            "1boy", "short hair", "red hair", "yellow eyes", "jacket", "red", ("cat ears",), "bandaid on face",
            Details(bangs=4, skin=0.6, trim=2, emblem=1),
        ),
        "juno (stickerverse)": Identity(
            "1girl", "double bun", "pink hair", "purple eyes", "serafuku", "blue", ("glasses",), "freckles",
            Details(bangs=1, trim=0, shoes=1),
        ),
        "basil (stickerverse)": Identity(
            "1boy", "spiky hair", "green hair", "brown eyes", "overalls", "blue", ("scarf",), "freckles",
            Details(bangs=2, skin=0.8, trim=5, pattern=1),
        ),
        "vesper (stickerverse)": Identity(
            "1girl", "side ponytail", "white hair", "red eyes", "cape", "black", ("horns",), "streaked hair",
            Details(bangs=5, skin=0.1, trim=0, hair_volume=0.8),
        ),
    }  # fmt: skip


def demo_characters() -> dict[str, Identity]:
    """Three demo characters, absent from all training: folder name -> identity."""
    return {
        "pip_comet": Identity(
            "1girl", "bob cut", "blue hair", "yellow eyes", "hoodie", "yellow", ("headphones",), "facial mark",
            Details(bangs=2, hair_length=0.8, hair_volume=0.7, hair_hue=0.45, eye_height=0.7, trim=3, emblem=0,
                    accessory_hue=0.15, skin=0.15, shoes=2),
        ),
        "bram_thistle": Identity(
            "1boy", "spiky hair", "orange hair", "green eyes", "armor", "green", ("scarf",), "scar on cheek",
            Details(bangs=4, hair_volume=0.9, hair_length=0.7, skin=0.55, eye_height=0.4, trim=2, emblem=3,
                    accessory_hue=0.0, shoes=1),
        ),
        "velvet_moth": Identity(
            "1girl", "drill hair", "purple hair", "red eyes", "dress", "black", ("witch hat", "wings"),
            "mole under eye",
            Details(bangs=1, hair_light=0.45, hair_length=0.7, eye_slant=0.8, skin=0.05, trim=4, emblem=1,
                    accessory_hue=0.8, shoes=0),
        ),
    }  # fmt: skip
