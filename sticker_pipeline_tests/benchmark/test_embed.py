import json
import os
import pickle
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.benchmark import embed as module
from sticker_pipeline.benchmark.embed import Embedder, EmbedderError, embed, open_embedder, prepare
from sticker_pipeline.core.process.threads import waiting_asleep
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.tiny_models import build_tiny_clip


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def embedder(tiny_clip: Path) -> Embedder:
    return open_embedder(tiny_clip, resolution=48, background="white")


def images(n: int, mode: str = "RGB") -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).convert(mode) for _ in range(n)]


def test_embeddings_are_unit_rows_whatever_the_batch(embedder: Embedder) -> None:
    rows = embed(embedder, images(5), batch_size=2)
    assert rows.shape == (5, 16) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows, embed(embedder, iter(images(5))), atol=1e-6)
    np.testing.assert_allclose(rows[::-1], embed(embedder, images(5)[::-1], batch_size=1), atol=1e-6)


def test_an_embedding_is_the_same_to_the_last_bit_in_a_small_batch() -> None:
    """Another machine has other images in its cache, and so embeds others together."""
    embedded = open_embedder(REPOSITORY / "data" / "models" / "embedded" / "clip", resolution=48, background="white")
    together = embed(embedded, images(16), batch_size=16)
    for size in (1, 3, 7):
        np.testing.assert_array_equal(embed(embedded, images(16), batch_size=size), together)


def test_embeddings_are_those_of_open_clip_itself(embedder: Embedder, tiny_clip: Path) -> None:
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    square = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = model.eval().encode_image(preprocess(square)[None])[0].numpy()
    np.testing.assert_allclose(embed(embedder, [square])[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_no_images_give_no_rows(embedder: Embedder) -> None:
    assert embed(embedder, []).shape == (0, 16)


def test_transparency_and_margins_become_background() -> None:
    rgba = np.zeros((24, 48, 4), dtype=np.uint8)
    rgba[..., 0] = 255  # red that nobody sees
    rgba[8:16, 16:32] = (0, 0, 255, 255)
    square = prepare(Image.fromarray(rgba), 48, "lime")
    assert square.shape == (48, 48, 3)
    assert square[0, 0].tolist() == square[24, 4].tolist() == [0, 255, 0]
    assert square[24, 24].tolist() == [0, 0, 255]


def test_a_palette_image_equals_the_same_in_rgba(embedder: Embedder) -> None:
    image = images(1, "P")[0]
    np.testing.assert_array_equal(embed(embedder, [image]), embed(embedder, [image.convert("RGBA")]))


def test_only_new_images_reach_the_model(embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = replace(embedder, cache=tmp_path)
    runs: list[int] = []
    run = module._run

    def counted(embedder: Embedder, squares: Any) -> np.ndarray:
        runs.append(len(squares))
        return run(embedder, squares)

    monkeypatch.setattr(module, "_run", counted)
    first = embed(cached, [*images(3), images(1)[0]])
    assert runs == [3]
    np.testing.assert_array_equal(first[0], first[3])
    np.testing.assert_array_equal(embed(cached, images(4))[:3], first[:3])
    assert runs == [3, 1]
    np.testing.assert_array_equal(embed(cached, images(4)), embed(cached, images(4)))
    assert runs == [3, 1]
    embed(replace(cached, key="another model"), images(1))
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
        alone = embed(embedder, images(3))
        with waiting_asleep(2, 2):
            shared = embed(embedder, images(3))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(alone, shared)


def stated(section: str, **changes: Any) -> Callable[[Path], object]:
    def change(clip: Path) -> None:
        path = clip / "open_clip_config.json"
        config = json.loads(path.read_text())
        config["model_cfg"][section].update(changes)
        path.write_text(json.dumps(config))

    return change


class Touch:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch mark",)


OUTLIER_SCORE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a text tower of the hub": (stated("text_cfg", hf_model_name="evil/model"), "parts from elsewhere are never"),
    "a vision tower of the hub": (stated("vision_cfg", timm_model_name="hf-hub:evil/x"), "parts from elsewhere are"),
    "a vision tower elsewhere": (stated("vision_cfg", timm_model_name="local-dir:/tmp"), "parts from elsewhere are"),
    "a huge width": (stated("vision_cfg", width=10**7), "width 10000000, and its weights have no such side"),
    "many layers": (stated("text_cfg", layers=10**9), "layers 1000000000, and its weights have no such side"),
    "a width of text": (stated("vision_cfg", width="x"), "cannot be opened as a CLIP ("),
    "an unknown setting": (stated("vision_cfg", evil=1), "cannot be opened as a CLIP ("),
    "a list": (lambda clip: (clip / "open_clip_config.json").write_text("[]"), "is no configuration of open_clip ("),
    "deep": (lambda clip: (clip / "open_clip_config.json").write_text("[" * 10**5), "(it is nested too deep)"),
    "a pickle": (
        lambda clip: (clip / "open_clip_model.safetensors").write_bytes(pickle.dumps(Touch())),
        "is a pickle checkpoint, which can run code when loaded.",
    ),
    "another size": (stated("text_cfg", width=8), "cannot be opened as a CLIP ("),
}


@pytest.mark.parametrize(("change", "words"), OUTLIER_SCORE.values(), ids=OUTLIER_SCORE)
def test_a_strange_clip_is_one_sentence_and_asks_no_network(
    change: Callable[[Path], object], words: str, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    clip = Path(shutil.copytree(tiny_clip, tmp_path / "clip"))
    (clip / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Touch()))
    change(clip)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(EmbedderError) as error:
        open_embedder(clip, resolution=48, background="white")
    assert words in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 700
    assert not (tmp_path / "mark").exists()
