from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sticker_pipeline.tagging import wd14
from sticker_pipeline.tagging.wd14 import Label, TaggerError, open_tagger, preprocess, scores
from sticker_pipeline_tests.tagging.tiny_tagger import write_tagger

# --- labels


def test_labels_go_by_category_not_by_row(tmp_path: Path) -> None:
    rows = (("long_hair", 0), ("a_(b)", 4), ("sensitive", 9), ("1girl", 0), ("general", 9))
    labels = wd14.load_labels(write_tagger(tmp_path, rows=rows))
    assert labels == (
        Label("long hair", "general"),
        Label("a (b)", "character"),
        Label("sensitive", "rating"),
        Label("1girl", "general"),
        Label("general", "rating"),
    )
    columns = wd14.category_columns(labels)
    assert {name: list(values) for name, values in columns.items()} == {
        "general": [0, 3],
        "character": [1],
        "rating": [2, 4],
    }


KAOMOJI = "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"


@pytest.mark.parametrize("name", KAOMOJI.split(" "))
def test_kaomoji_keep_their_underscores(name: str) -> None:
    assert wd14.spelled(name) == name


def test_other_underscores_become_spaces() -> None:
    assert wd14.spelled("hand_on_own_cheek") == "hand on own cheek"
    assert wd14.spelled("o_o_(eyes)") == "o o (eyes)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tag_id,name,category\n0,a,7\n", "line 2: category '7' of 'a'"),
        ("tag_id,name\n0,a\n", "no column 'category'"),
        ("tag_id,name,category\n0,a,0\n1,a,0\n", "'a' more than once"),
        ("tag_id,name,category\n0,,0\n", "line 2: the tag has no name"),
        ("tag_id,name,category\n0,a\n", "line 2: category ''"),
    ],
)
def test_bad_labels_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "selected_tags.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TaggerError, match=r"selected_tags\.csv") as caught:
        wd14.load_labels(tmp_path)
    assert message in str(caught.value)


def test_tags_that_look_like_missing_values_stay_text(tmp_path: Path) -> None:
    rows = (("null", 0), ("nan", 0), ("none", 0), ("n/a", 0))
    assert [label.name for label in wd14.load_labels(write_tagger(tmp_path, rows=rows))] == [
        "null",
        "nan",
        "none",
        "n/a",
    ]


# --- preprocessing


def _image(*rows: list[tuple[int, int, int, int]]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


def test_channels_are_bgr_and_values_0_to_255() -> None:
    result = preprocess(_image([(10, 20, 30, 255)]), 1)
    assert result.dtype == np.float32
    assert result.tolist() == [[[30.0, 20.0, 10.0]]]


def test_alpha_is_flattened_over_white() -> None:
    image = _image([(0, 0, 0, 0), (0, 100, 200, 51)], [(0, 0, 0, 255), (255, 0, 0, 128)])
    # 51/255 = 0.2: 0.2*(0, 100, 200) + 0.8*255 = (204, 224, 244); 128/255: 255*127/255 = 127
    assert preprocess(image, 2)[:, :, ::-1].tolist() == [
        [[255, 255, 255], [204, 224, 244]],
        [[0, 0, 0], [255, 127, 127]],
    ]


@pytest.mark.parametrize(("height", "width", "top", "left"), [(1, 3, 1, 0), (3, 1, 0, 1), (1, 4, 1, 0), (5, 2, 0, 1)])
def test_white_padding_is_centred(height: int, width: int, top: int, left: int) -> None:
    side = max(height, width)
    image = np.zeros((height, width, 4), dtype=np.uint8)
    image[:, :, 3] = 255
    expected = np.full((side, side, 3), 255, dtype=np.float32)
    expected[top : top + height, left : left + width] = 0
    np.testing.assert_array_equal(preprocess(image, side), expected)


def test_no_resampling_where_the_size_already_fits() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 4), dtype=np.uint8)
    image[:, :, 3] = 255
    np.testing.assert_array_equal(preprocess(image, 24), image[:, :, 2::-1].astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 48), st.integers(0, 2**32 - 1))
def test_equals_an_independent_implementation(height: int, width: int, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    side = max(height, width)
    alpha = image[:, :, 3:].astype(np.float64) / 255
    flat = np.full((side, side, 3), 255, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    blended = np.floor(image[:, :, :3] * alpha + 255 * (1 - alpha) + 0.5 + 1e-9)
    flat[top : top + height, left : left + width] = blended
    resized = np.asarray(Image.fromarray(flat).resize((size, size), Image.Resampling.BICUBIC)) if side != size else flat
    np.testing.assert_array_equal(preprocess(image, size), resized[:, :, [2, 1, 0]].astype(np.float32))


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 4), np.float32), np.zeros((0, 2, 4), np.uint8)]
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        preprocess(image, 8)


# --- the model


def test_size_and_name_come_from_the_session(tmp_path: Path) -> None:
    tagger = open_tagger(write_tagger(tmp_path, size=40), "cpu")
    assert (tagger.size, tagger.input_name, tagger.single) == (40, "pixels", False)
    assert tagger.provider == wd14.CPU
    assert len(tagger.model_sha256) == 64


def test_scores_are_the_channel_means(tmp_path: Path) -> None:
    tagger = open_tagger(write_tagger(tmp_path))
    batch = np.stack([np.full((40, 40, 3), (51, 102, 255), np.float32), np.zeros((40, 40, 3), np.float32)])
    result = scores(tagger, batch)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[0.2, 0.4, 1.0, 0.2], [0, 0, 0, 0]], atol=1e-6)


def test_a_model_for_one_image_at_a_time_takes_batches(tmp_path: Path) -> None:
    batch = np.random.default_rng(1).uniform(0, 255, (5, 40, 40, 3)).astype(np.float32)
    one = open_tagger(write_tagger(tmp_path / "one", batch=1))
    many = open_tagger(write_tagger(tmp_path / "many"))
    assert one.single
    np.testing.assert_allclose(scores(one, batch), scores(many, batch), atol=1e-5)


@pytest.mark.parametrize(("weights", "scale"), [(None, 1.0), (-np.ones((3, 4)), 1 / 255), (np.full((3, 4), np.nan), 1)])
def test_logits_are_refused(tmp_path: Path, weights: np.ndarray | None, scale: float) -> None:
    tagger = open_tagger(write_tagger(tmp_path, weights=weights, scale=scale))
    with pytest.raises(TaggerError, match=r"model\.onnx.*logits"):
        scores(tagger, np.full((1, 40, 40, 3), 200, np.float32))


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match=r"model\.onnx is missing"):
        open_tagger(tmp_path)
    write_tagger(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\x80\x04pickle")
    with pytest.raises(TaggerError, match=r"model\.onnx cannot be opened as an ONNX model"):
        open_tagger(tmp_path)
    (tmp_path / "selected_tags.csv").unlink()
    with pytest.raises(TaggerError, match=r"selected_tags\.csv is missing"):
        open_tagger(tmp_path)


def test_the_exports_of_both_generations_are_taken(tmp_path: Path) -> None:
    """Names and first dimensions as the exports of v3 (timm) and v2 (tf2onnx, some for one image) have them."""
    for number, (name, batch) in enumerate([("input", "batch_size"), ("input_1:0", "unk__1234"), ("input_1:0", 1)]):
        tagger = open_tagger(write_tagger(tmp_path / str(number), size=448, batch=batch, input_name=name), "cpu")
        assert (tagger.input_name, tagger.size, tagger.single) == (name, 448, batch == 1)
        result = scores(tagger, np.full((2, 448, 448, 3), 51, np.float32))
        np.testing.assert_allclose(result, np.full((2, 4), 0.2), atol=1e-6)


def test_other_contracts_are_refused_when_opening(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match=r"reads one float32.*channels first \(NCHW\)"):
        open_tagger(write_tagger(tmp_path / "nchw", layout="NCHW"))
    with pytest.raises(TaggerError, match="exactly 4 images"):
        open_tagger(write_tagger(tmp_path / "four", batch=4))
    with pytest.raises(TaggerError, match=r"gives 7 scores .* has 4 labels"):
        open_tagger(write_tagger(tmp_path / "seven", weights=np.ones((3, 7))))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the providers of each opened session, with onnxruntime as if CUDA failed to start.

    It then prints a message and uses the CPU.
    """
    import onnxruntime

    true_session, asked = onnxruntime.InferenceSession, []

    def session(path: str, options: object, providers: list[str]) -> object:
        asked.append(providers)
        return true_session(path, options, providers=[wd14.CPU])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [wd14.CUDA, wd14.CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return asked


def test_auto_says_that_cuda_did_not_start(tmp_path: Path, opened: list[list[str]]) -> None:
    tagger = open_tagger(write_tagger(tmp_path))
    assert tagger.provider == wd14.CPU
    assert tagger.fallback == "CUDAExecutionProvider was offered but did not start"
    assert opened == [[wd14.CUDA, wd14.CPU], [wd14.CPU]]


def test_cuda_starts_or_is_an_error(tmp_path: Path, opened: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    with pytest.raises(TaggerError, match=r"model\.onnx: .*CUDA could not start.*provider: auto"):
        open_tagger(write_tagger(tmp_path), "cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [wd14.CPU])
    with pytest.raises(TaggerError, match=r"CPU build. Install onnxruntime-gpu"):
        open_tagger(tmp_path, "cuda")


def test_cpu_never_asks_for_cuda(tmp_path: Path, opened: list[list[str]]) -> None:
    tagger = open_tagger(write_tagger(tmp_path), "cpu")
    assert (tagger.provider, tagger.fallback, opened) == (wd14.CPU, None, [[wd14.CPU]])


@pytest.mark.parametrize("provider", ["cuda", "auto"])
def test_where_cuda_starts_a_fault_on_it_does_not_go_on_silently_on_the_cpu(
    provider: wd14.Provider, tmp_path: Path, opened: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    before = onnxruntime.InferenceSession

    def starting(*arguments: object, **named: object) -> object:
        session = before(*arguments, **named)
        monkeypatch.setattr(session, "get_providers", lambda: [wd14.CUDA, wd14.CPU])
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", starting)
    tagger = open_tagger(write_tagger(tmp_path), provider)
    assert (tagger.provider, tagger.fallback, opened) == (wd14.CUDA, None, [[wd14.CUDA, wd14.CPU]])
    assert not tagger.session._enable_fallback

    def out_of_memory(*arguments: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(tagger.session, "run", out_of_memory)
    with pytest.raises(TaggerError, match=r"failed on CUDAExecutionProvider with 2 images.*out of memory"):
        scores(tagger, np.zeros((2, 40, 40, 3), np.float32))


def test_auto_falls_back_where_opening_with_cuda_raises(
    tmp_path: Path, opened: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    before = onnxruntime.InferenceSession

    def failing(path: str, options: object, providers: list[str]) -> object:
        if wd14.CUDA in providers:
            raise RuntimeError("libcudart is too old")
        return before(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", failing)
    assert open_tagger(write_tagger(tmp_path)).fallback == "CUDAExecutionProvider was offered but did not start"
    with pytest.raises(TaggerError, match="libcudart is too old"):
        open_tagger(tmp_path, "cuda")


@pytest.mark.parametrize("gpu", [True, False])
def test_the_cpu_build_beside_a_gpu_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [wd14.CPU])
    monkeypatch.setattr(wd14, "nvidia_gpu_here", lambda: gpu)
    tagger = open_tagger(write_tagger(tmp_path))
    assert tagger.provider == wd14.CPU
    assert tagger.fallback == (wd14.CPU_BUILD if gpu else None)
    assert open_tagger(tmp_path, "cpu").fallback is None  # as asked


def test_a_gpu_is_known_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wd14, "Path", lambda _: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not wd14.nvidia_gpu_here()
    (tmp_path / "nvidia-smi").touch(0o755)
    assert wd14.nvidia_gpu_here()
    (tmp_path / "nvidia-smi").unlink()
    (tmp_path / "nvidia0").touch()
    assert wd14.nvidia_gpu_here()


def test_threads_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tagger(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert open_tagger(folder).session.get_session_options().intra_op_num_threads == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert open_tagger(folder).session.get_session_options().intra_op_num_threads == 0


def test_threads_sleep_while_they_wait(tmp_path: Path) -> None:
    options = open_tagger(write_tagger(tmp_path), "cpu").session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("images", [1, 4, 16])
def test_the_number_of_threads_changes_no_score(
    images: int, embedded_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = embedded_models / "tagger"
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{folder} is not here")
    batch = np.random.default_rng(0).integers(0, 256, (images, 96, 96, 3)).astype(np.float32)
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(scores(open_tagger(folder, "cpu"), batch))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_weights_beside_the_model_are_part_of_its_hash(tmp_path: Path) -> None:
    folder = write_tagger(tmp_path)
    alone = open_tagger(folder).model_sha256
    (folder / "model.onnx.data").write_bytes(b"1")
    first = open_tagger(folder).model_sha256
    (folder / "model.onnx.data").write_bytes(b"2")
    assert len({alone, first, open_tagger(folder).model_sha256}) == 3


def test_the_shipped_tagger_keeps_the_contract(embedded_models: Path) -> None:
    folder = embedded_models / "tagger"
    if not (folder / "model.onnx").is_file():
        pytest.skip(f"{folder} is not here")
    tagger = open_tagger(folder, "cpu")
    columns = wd14.category_columns(tagger.labels)
    assert all(len(columns[name]) for name in ("general", "character", "rating"))
    assert len(tagger.labels) >= 60
    noise = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 4), dtype=np.uint8)
    result = scores(tagger, np.stack([preprocess(one, tagger.size) for one in noise]))
    assert result.shape == (3, len(tagger.labels))
