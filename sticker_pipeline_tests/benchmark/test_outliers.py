import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.benchmark.embed import embed, open_embedder
from sticker_pipeline.benchmark.outliers import looked_at, outlier_score, same_character
from sticker_pipeline_tests.conftest import REPOSITORY

DEMO = REPOSITORY / "data" / "characters"


def table(sources: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "frame_id": [f"f{n}" for n in range(len(sources))],
            "path": sources,
            "frame_index": 0,
            "source_id": sources,
            "kept": True,
        }
    )


def test_frames_are_spread_over_each_source() -> None:
    frames = table(["a"] * 10 + ["b"] + ["c"] * 3 + ["d"] * 2)
    assert looked_at(frames, 3)["frame_id"].tolist() == [f"f{n}" for n in (0, 4, 7, 10, 11, 12, 13, 14, 15)]
    assert looked_at(frames.assign(kept=False)).empty


def test_the_outlier_score_by_hand() -> None:
    """Five sources of one frame along axis x, tilted a little, and one along y; the first source has two frames."""
    angles = np.radians([0, 4, 10, 20, 30, 90])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    sources = pd.Series(["a", "a", "b", "c", "d", "e"])
    means = np.array([embeddings[:2].mean(axis=0), *embeddings[2:]])
    own = [0, 0, 1, 2, 3, 4]
    mean = np.array([np.mean([e @ m for n, m in enumerate(means) if n != own[i]]) for i, e in enumerate(embeddings)])
    below = np.median(mean) - mean
    expected = below / (1.4826 * np.median(np.abs(below)))
    assert 1.4826 * np.median(np.abs(below)) > 0.05 * np.median(mean)
    assert outlier_score(embeddings, sources) == pytest.approx(expected)
    assert outlier_score(embeddings, sources).argmax() == 5


def test_among_images_that_are_nearly_alike_a_small_difference_is_not_strange() -> None:
    angles = np.radians([0, 0.1, 0.2, 0.3, 0.4, 8])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert outlier_score(embeddings, pd.Series(list("abcdef"))).max() < 1


def test_equal_images_are_no_strangers() -> None:
    assert (outlier_score(np.ones((6, 1), dtype=np.float32), pd.Series(list("abcdef"))) == 0).all()


def test_with_few_sources_nobody_is_a_stranger() -> None:
    verdict = same_character(table(["a", "b"]), np.eye(2, dtype=np.float32))
    assert verdict.passed
    assert len(verdict.evidence) == 2


@pytest.mark.parametrize("name", ["bram_thistle", "pip_comet", "velvet_moth"])
def test_images_of_somebody_else_are_found_and_nobody_is_suspected_for_nothing(name, embedded_models) -> None:
    embedder = open_embedder(embedded_models / "clip", resolution=96, background="white")
    own = sorted(path for path in (DEMO / name).rglob("*.png"))
    others = [
        next((DEMO / other / "stickers").glob("*.png"))
        for other in ("bram_thistle", "pip_comet", "velvet_moth")
        if other != name
    ]
    paths = [*own, *others]
    frames = table([path.relative_to(DEMO).as_posix() for path in paths])
    embeddings = embed(embedder, (Image.open(path) for path in paths))
    verdict = same_character(frames, embeddings)
    assert not verdict.passed
    assert set(verdict.evidence["path"][:2]) == {path.relative_to(DEMO).as_posix() for path in others}
    assert verdict.summary.startswith("2 of")
    assert same_character(frames[: len(own)], embeddings[: len(own)]).passed
