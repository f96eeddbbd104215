"""Files accepted and refused by their content."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sticker_pipeline.models.content import why_not_safetensors, why_refused
from sticker_pipeline_tests.tagging.tiny_tagger import write_tagger


def test_true_files_pass(tmp_path: Path, embedded_models: Path) -> None:
    save_file({"x": torch.zeros(3)}, tmp_path / "a.safetensors")
    assert why_not_safetensors(tmp_path / "a.safetensors") is None
    folder = write_tagger(tmp_path / "tagger")
    for path in (tmp_path / "a.safetensors", folder / "model.onnx", folder / "selected_tags.csv"):
        assert why_refused(path, path.name) is None
    for path in embedded_models.rglob("*"):
        if path.is_file() and path.suffix in (".onnx", ".safetensors", ".json", ".csv", ".txt"):
            assert why_refused(path, path.name) is None


@pytest.mark.parametrize("name", ["a.safetensors", "model.onnx", "selected_tags.csv", "config.json", "merges.txt"])
@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_refused_under_any_name(tmp_path: Path, name: str, protocol: int) -> None:
    data = pickle.dumps({"a": [1, 2]}, protocol)
    (tmp_path / name).write_bytes(data)
    why = why_refused(tmp_path / name, name)
    if protocol >= 2:
        assert why is not None and "pickle checkpoint" in why
    elif name.endswith((".csv", ".txt")):
        assert why is None  # printable text, which nothing unpickles
    else:
        assert why is not None
    torch.save({"x": torch.zeros(1)}, tmp_path / name)
    assert "pickle checkpoint" in str(why_refused(tmp_path / name, name))


def test_names_that_no_model_needs_and_files_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x08")
    for name in ("x.bin", "x.ckpt", "x.pt", "x.py", "x"):
        assert "of a kind that no model here has" in str(why_refused(tmp_path / "x", name))
    (tmp_path / "x").write_bytes((1000).to_bytes(8, "little") + b'{"a":')
    assert "cut off" in str(why_refused(tmp_path / "x", "x.safetensors"))
    (tmp_path / "x").write_bytes(b"")
    for name in ("x.safetensors", "x.onnx", "x.json"):
        assert why_refused(tmp_path / "x", name) is not None
