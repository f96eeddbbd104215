from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.benchmark import embed as module
from sticker_pipeline.benchmark.embed import Embedder, EmbedderError, embed, open_embedder, prepare
from sticker_pipeline.threads import waiting_asleep
from sticker_pipeline_tests.tiny_models import build_tiny_clip


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def embedder(tiny_clip: Path) -> Embedder:
    return open_embedder(tiny_clip, resolution=48, background="white")


def pictures(n: int, mode: str = "RGB") -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).convert(mode) for _ in range(n)]


def test_embeddings_are_unit_rows_whatever_the_batch(embedder: Embedder) -> None:
    rows = embed(embedder, pictures(5), batch_size=2)
    assert rows.shape == (5, 16) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows, embed(embedder, iter(pictures(5))), atol=1e-6)
    np.testing.assert_allclose(rows[::-1], embed(embedder, pictures(5)[::-1], batch_size=1), atol=1e-6)


def test_embeddings_are_those_of_open_clip_itself(embedder: Embedder, tiny_clip: Path) -> None:
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    square = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = model.eval().encode_image(preprocess(square)[None])[0].numpy()
    np.testing.assert_allclose(embed(embedder, [square])[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_no_pictures_give_no_rows(embedder: Embedder) -> None:
    assert embed(embedder, []).shape == (0, 16)


def test_transparency_and_margins_become_background() -> None:
    rgba = np.zeros((24, 48, 4), dtype=np.uint8)
    rgba[..., 0] = 255  # red that nobody sees
    rgba[8:16, 16:32] = (0, 0, 255, 255)
    square = prepare(Image.fromarray(rgba), 48, "lime")
    assert square.shape == (48, 48, 3)
    assert square[0, 0].tolist() == square[24, 4].tolist() == [0, 255, 0]
    assert square[24, 24].tolist() == [0, 0, 255]


def test_a_palette_picture_equals_the_same_in_rgba(embedder: Embedder) -> None:
    picture = pictures(1, "P")[0]
    np.testing.assert_array_equal(embed(embedder, [picture]), embed(embedder, [picture.convert("RGBA")]))


def test_only_new_pictures_reach_the_model(embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = replace(embedder, cache=tmp_path)
    runs: list[int] = []
    run = module._run

    def counted(embedder: Embedder, squares: Any) -> np.ndarray:
        runs.append(len(squares))
        return run(embedder, squares)

    monkeypatch.setattr(module, "_run", counted)
    first = embed(cached, [*pictures(3), pictures(1)[0]])
    assert runs == [3]
    np.testing.assert_array_equal(first[0], first[3])
    np.testing.assert_array_equal(embed(cached, pictures(4))[:3], first[:3])
    assert runs == [3, 1]
    np.testing.assert_array_equal(embed(cached, pictures(4)), embed(cached, pictures(4)))
    assert runs == [3, 1]
    embed(replace(cached, key="another model"), pictures(1))
    assert runs == [3, 1, 1]


def test_the_key_changes_with_the_weights(embedder: Embedder, tmp_path: Path) -> None:
    other = open_embedder(build_tiny_clip(tmp_path / "clip", seed=1), resolution=48, background="white")
    assert other.key != embedder.key


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(EmbedderError, match=r"open_clip_model\.safetensors is missing"):
        open_embedder(tmp_path, resolution=48, background="white")


def test_a_busy_machine_does_not_change_an_embedding(embedder: Embedder) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = embed(embedder, pictures(3))
        with waiting_asleep(2, 2):
            shared = embed(embedder, pictures(3))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(alone, shared)
