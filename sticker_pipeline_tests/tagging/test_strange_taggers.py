"""Other people's taggers: files outside their folder, custom operators, labels that are no tags."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sticker_pipeline.tagging.wd14 import TaggerError, open_tagger
from sticker_pipeline_tests.tagging.tiny_tagger import write_tagger

SECRET = np.full((3, 4), 0.5, np.float32).tobytes()


def beside(location: str) -> Callable[[Path], None]:
    """The weights are those in the file `location`, as seen from the tagger."""

    def change(folder: Path) -> None:
        import onnx

        model = onnx.load(str(folder / "model.onnx"))
        (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == "weights"]
        weights.ClearField("raw_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(len(SECRET)))):
            entry = weights.external_data.add()
            entry.key, entry.value = key, value
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return change


def by_link(folder: Path) -> None:
    beside("model.onnx.data")(folder)
    (folder / "model.onnx.data").symlink_to(folder.parent / "secret")


def by_pipe(folder: Path) -> None:
    beside("model.onnx.data")(folder)
    os.mkfifo(folder / "model.onnx.data")


def of_its_own(folder: Path) -> None:
    import onnx

    model = onnx.load(str(folder / "model.onnx"))
    model.graph.node[0].domain = "evil.operators"
    model.opset_import.append(onnx.helper.make_opsetid("evil.operators", 1))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


MODELS: dict[str, Callable[[Path], None]] = {
    "weights above": beside("../secret"),
    "weights at a path": beside("/etc/passwd"),
    "weights that never end": beside("/dev/zero"),
    "weights behind a link": by_link,
    "weights behind a pipe": by_pipe,
    "operators of its own": of_its_own,
}


@pytest.mark.parametrize("change", MODELS.values(), ids=MODELS)
def test_a_model_that_leads_elsewhere_is_refused(change: Callable[[Path], None], tmp_path: Path) -> None:
    folder = write_tagger(tmp_path / "tagger")
    (tmp_path / "secret").write_bytes(SECRET)
    change(folder)
    with pytest.raises(TaggerError, match=r"model\.onnx cannot be opened as an ONNX model"):
        open_tagger(folder, "cpu")


def test_weights_in_its_own_folder_are_read(tmp_path: Path) -> None:
    folder = write_tagger(tmp_path / "tagger")
    beside("model.onnx.data")(folder)
    (folder / "model.onnx.data").write_bytes(SECRET)
    assert len(open_tagger(folder, "cpu").labels) == 4


@pytest.mark.parametrize("tag", ["a\0b", '"a\nb"', "\x1b[31mred", "\u202eevil", '"a, b"', "\u200b", '"a\tb"'])
def test_a_label_that_is_no_tag_is_named_by_its_line(tag: str, tmp_path: Path) -> None:
    folder = write_tagger(tmp_path / "tagger")
    (folder / "selected_tags.csv").write_text(f"tag_id,name,category\n0,smile,0\n1,{tag},0\n2,x,9\n3,y,9\n")
    with pytest.raises(TaggerError, match=r"selected_tags\.csv, line 3: .* is no tag: it has a comma or") as error:
        open_tagger(folder, "cpu")
    assert str(error.value).isprintable()
