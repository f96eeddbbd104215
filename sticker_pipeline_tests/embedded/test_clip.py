"""CLIP: AUC by hand, pairs, and the shipped folder in open_clip's own loader."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.embedded import clip, dataset
from sticker_pipeline.embedded.tokenizer import new_tokenizer

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded" / "clip"


@given(
    positive=st.lists(st.integers(-4, 4), min_size=1, max_size=12),
    negative=st.lists(st.integers(-4, 4), min_size=1, max_size=12),
)
def test_auc_is_the_share_of_pairs_in_order(positive: list[int], negative: list[int]) -> None:
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert clip.auc(np.array(positive, float), np.array(negative, float)) == pytest.approx(sum(pairs) / len(pairs))


def test_separation_of_perfect_embeddings() -> None:
    embeddings = np.eye(3)[[0, 0, 0, 0, 1, 1, 1, 1]]
    identity = [0] * 4 + [1] * 4
    found = clip.separation(embeddings, identity, np.array([True, True, False, False] * 2))
    assert (found.auc, found.auc_sticker, found.auc_art, found.auc_across) == (1.0, 1.0, 1.0, 1.0)
    assert (found.images, found.identities) == (8, 2)


def test_pairs_are_two_drawings_of_one_identity_each_identity_once() -> None:
    identity = np.repeat([5, -1, 7, -1, 9], dataset.PER_IDENTITY)  # a known character comes back
    first, second = clip.pair_rows(identity, 4, np.random.default_rng(0))
    assert (identity[first] == identity[second]).all()
    assert (first != second).all()
    assert len(set(identity[first].tolist())) == 4


def test_two_steps_of_training_load_in_open_clip(tmp_path: Path) -> None:
    import open_clip
    import torch

    drawings = dataset.fresh_drawings(12, seed=1)
    words = new_tokenizer(["blue hair, smile"])
    plan = replace(clip.PLAN, steps=2, batch=4)
    clip.train(
        drawings,
        words,
        plan,
        tmp_path / "s.safetensors",
        lambda model: clip.save_clip(tmp_path, model, words),
        lambda _: None,
    )
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    assert model.visual.image_size in (64, (64, 64))
    assert type(model.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["blue hair"])
    assert ids.shape == (1, 77)
    assert int(ids.max()) == len(words) - 1
    with torch.no_grad():
        assert model.encode_text(ids).shape == (1, 128)


def test_training_and_shipped_preprocessing_agree() -> None:
    import open_clip
    import torch
    from PIL import Image

    images = dataset.flatten(dataset.fresh_drawings(4, seed=2).pixels).astype(np.uint8)
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{SHIPPED}")
    shipped = torch.stack([preprocess(Image.fromarray(image)) for image in images])
    # Pillow rounds to whole levels between its two passes and in its weights; one level of 255 is 0.015 here
    difference = (shipped - clip.normalised(images)).abs()
    assert float(difference.mean()) < 0.01
    assert float(difference.max()) < 0.15


def test_the_shipped_clip_tells_unseen_characters_apart() -> None:
    fresh = dataset.fresh_drawings(240, seed=78)
    found = clip.separation(clip.embed(SHIPPED, dataset.flatten(fresh.pixels)), fresh.identity, fresh.sticker)
    assert found.identities == 40
    assert found.auc >= 0.99


def test_the_shipped_clip_reads_words() -> None:
    import open_clip
    import torch

    fresh = dataset.fresh_drawings(120, seed=79)
    images = clip.embed(SHIPPED, dataset.flatten(fresh.pixels))
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{SHIPPED}")
    captions = [", ".join(words) for words in fresh.identity_words[:: dataset.PER_IDENTITY]]
    ids = open_clip.get_tokenizer(f"local-dir:{SHIPPED}")(captions)
    with torch.no_grad():
        read = model.eval().encode_text(ids, normalize=True).numpy()
    nearest = (images @ read.T).argmax(axis=1)
    assert (nearest == np.arange(120) // dataset.PER_IDENTITY).mean() > 0.7
