"""Malicious LoRA files: false headers, extreme values, endless texts. Each is a LoraError, soon."""

import json
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sticker_pipeline.diffusion.lora.file import LoraError, read_lora, read_metadata
from sticker_pipeline.diffusion.lora.formats import read_any_lora

MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
DOWN, UP, ALPHA = f"{MODULE}.lora_down.weight", f"{MODULE}.lora_up.weight", f"{MODULE}.alpha"
PEFT = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
Tensor = tuple[str, list[int], bytes]


def floats(*shape: int, value: float = 1.0, kind: type = np.float32) -> bytes:
    return np.full(shape, value, kind).tobytes()


def tensors(**changes: Tensor | None) -> dict[str, Tensor]:
    """A whole LoRA of one module of rank 4, with these `down`, `up`, `alpha`; None leaves one out."""
    parts: dict[str, Tensor | None] = {
        DOWN: ("F32", [4, 320], floats(4, 320)),
        UP: ("F32", [320, 4], floats(320, 4)),
        ALPHA: ("F32", [], floats(value=4)),
    }
    parts |= {{"down": DOWN, "up": UP, "alpha": ALPHA}.get(name, name): value for name, value in changes.items()}
    return {name: value for name, value in parts.items() if value is not None}


def lied(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def file_of(
    parts: dict[str, Tensor], metadata: Any = None, edit: Callable[[dict[str, Any]], object] = lambda header: None
) -> bytes:
    """A safetensors file of these tensors, whose header is then edited."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for name, (dtype, shape, data) in parts.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    edit(header)
    return lied(json.dumps(header).encode(), body)


def stated(key: str, **changes: Any) -> bytes:
    """A whole LoRA whose header states something else about the tensor `key`."""
    return file_of(tensors(), edit=lambda header: header[key].update(changes))


def alpha(value: float, kind: type = np.float32, dtype: str = "F32") -> bytes:
    return file_of(tensors(alpha=(dtype, [], floats(value=value, kind=kind))))


def matrices(dtype: str, size: int) -> bytes:
    return file_of(tensors(up=(dtype, [320, 4], bytes(320 * 4 * size))))


FILES: dict[str, bytes] = {
    **{f"alpha {value}": alpha(value) for value in (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, 1e-45, 1e30, 1e8)},
    "alpha 1e308": alpha(1e308, np.float64, "F64"),
    "a whole alpha beyond reason": alpha(2**62, np.int64, "I64"),
    "an alpha that is true": alpha(1, np.bool_, "BOOL"),
    "two alphas": file_of(tensors(alpha=("F32", [2], floats(2)))),
    "no value of alpha": file_of(tensors(alpha=("F32", [0], b""))),
    **{f"up of {dtype}": matrices(dtype, size) for dtype, size in (("I32", 4), ("BOOL", 1), ("U8", 1), ("U64", 8))},
    **{f"up of {dtype}": matrices(dtype, size) for dtype, size in (("I8", 1), ("C64", 8), ("F8_E8M0", 1), ("F4", 1))},
    "up of NaN": file_of(tensors(up=("F32", [320, 4], floats(320, 4, value=np.nan)))),
    "up of 1e308": file_of(tensors(up=("F64", [320, 4], floats(320, 4, value=1e308, kind=np.float64)))),
    "rank 0": file_of(tensors(up=("F32", [320, 0], b""), down=("F32", [0, 320], b""))),
    "no outputs": file_of(tensors(up=("F32", [0, 4], b""))),
    "rank 10**9 of nothing": file_of(tensors(up=("F32", [0, 10**9], b""), down=("F32", [10**9, 0], b""))),
    "a shape beyond memory": stated(UP, shape=[2**40, 2**40]),
    "a shape beyond numbers": stated(UP, shape=[2**64, 4]),
    "a shape below 0": stated(UP, shape=[-320, -4]),
    "a shape of fractions": stated(UP, shape=[320.0, 4]),
    "a shape with true": stated(UP, shape=[True, 1280]),
    "a shape of 100,002 sides": stated(UP, shape=[1] * 100_000 + [320, 4]),
    "another dtype": stated(UP, dtype="F16"),
    "an unknown dtype": stated(UP, dtype="evil"),
    "a list of dtypes": stated(UP, dtype=["F32"]),
    "an overlap": stated(UP, data_offsets=[0, 5120]),
    "an offset below 0": stated(UP, data_offsets=[-8, 5112]),
    "an offset beyond the file": stated(UP, data_offsets=[0, 2**70]),
    "an offset of a fraction": stated(UP, data_offsets=[0.5, 1e300]),
    "an offset of NaN": stated(UP, data_offsets=[0, float("nan")]),
    "offsets of letters": stated(UP, data_offsets="ab"),
    "offsets in lists": stated(UP, data_offsets=[[0], [1]]),
    "an entry that is a list": file_of(tensors(), edit=lambda header: header.update(x=[1])),
    "an entry that is nothing": file_of(tensors(), edit=lambda header: header.update(x=None)),
    "a header that is a list": lied(b"[1]"),
    "an empty header": lied(b"{}"),
    "a header of no bytes": lied(b""),
    "a header of 2**63 bytes": lied(b"{}", length=2**63),
    "a short file": b"\x05",
    "an empty file": b"",
    "a deep header": lied(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "a header of 100 MB": lied(b"{" + b" " * 100_000_000 + b"}"),
    "a thumbnail of 90 MB": file_of(tensors(), {"x": "a" * 90_000_000}),
    "a key twice": lied(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 2 + b'"b":1}', bytes(4)),
    **{
        f"a key with {name}": file_of(tensors(**{key: ("F32", [], bytes(4))}))
        for name, key in {
            "a line break": "a\nb.alpha",
            "escapes": "\x1b[2J.alpha",
            "direction": "\u202eevil.alpha",
            "markdown": "![x](http://a/b).alpha",
            "100,000 letters": "a" * 100_000 + ".alpha",
            "NUL": "\0",
            "no letters": "",
            "dots": "." * 400,
            "a path": "../../x.alpha",
        }.items()
    },
    "50,000 keys": file_of({**tensors(), **{f"evil{number}.alpha": ("F32", [], bytes(4)) for number in range(50_000)}}),
    "half a letter in a key": lied(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "metadata that are numbers": file_of(tensors(), {"a": 1}),
    "metadata that are a list": file_of(tensors(), ["a"]),
    "a deep configuration": file_of(tensors(), {"lora_adapter_metadata": "[" * 200_000}),
    "5,000 digits of alpha": file_of(tensors(alpha=None), {"ss_network_alpha": "9" * 4000}),
}


def refused_soon(path: Path) -> str:
    began = time.monotonic()
    with pytest.raises(LoraError) as error:
        read_any_lora(path)
    assert time.monotonic() - began < 10
    assert len(str(error.value)) < 2000
    return str(error.value)


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_hostile_file_is_a_lora_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    assert str(path) in refused_soon(path)
    for read in (read_lora, read_metadata):  # these judge less, and end as soon
        try:
            read(path)
        except LoraError as error:
            assert len(str(error)) < 2000


USUAL = {"peft_type": "LORA", "r": 4, "lora_alpha": 4}
NUMBERS = [float("nan"), float("inf"), 1e308, -0.0, 0, "4", True, [4], 10**400, 1e-320, 10**9]
CONFIGURATIONS: dict[str, bytes] = {
    **{f"alpha {str(value)[:20]}": json.dumps({**USUAL, "lora_alpha": value}).encode() for value in NUMBERS},
    **{f"rank {str(value)[:20]}": json.dumps({**USUAL, "r": value}).encode() for value in NUMBERS},
    "rank-stabilised beyond reason": json.dumps({**USUAL, "use_rslora": True, "lora_alpha": 1e300}).encode(),
    "a switch in words": json.dumps({**USUAL, "use_rslora": "yes"}).encode(),
    "an expression without an end": json.dumps({**USUAL, "alpha_pattern": {"(a+)+$": 1}}).encode(),
    "an expression of many parts": json.dumps({**USUAL, "alpha_pattern": {".*" * 50 + "x": 1}}).encode(),
    "a table in a table": json.dumps({**USUAL, "alpha_pattern": {"a": {"b": 1}}}).encode(),
    "a list of ranks": json.dumps({**USUAL, "rank_pattern": [1]}).encode(),
    "a long beginning": json.dumps({**USUAL, "init_lora_weights": "pissa" + "x" * 100_000}).encode(),
    "parameters": json.dumps({**USUAL, "target_parameters": {"a": 1}}).encode(),
    "deep": b"[" * 200_000,
    "a deep value": b'{"r":4,"lora_alpha":' + b"[" * 200_000,
    "a list": b"[]",
    "bytes": b"\xff\xfe",
    "empty": b"",
    "digits": b'{"r":4,"lora_alpha":' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("text", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_hostile_configuration_is_a_lora_error(text: bytes, tmp_path: Path) -> None:
    down, up = (f"{PEFT}.lora_{letter}.weight" for letter in "AB")
    parts = tensors(down=None, up=None, alpha=None)
    parts |= {down: ("F32", [4, 320], floats(4, 320)), up: ("F32", [320, 4], floats(320, 4))}
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(file_of(parts))
    (tmp_path / "adapter_config.json").write_bytes(json.dumps(USUAL).encode())
    read_any_lora(path)
    (tmp_path / "adapter_config.json").write_bytes(text)
    refused_soon(path)


def test_changed_bytes_of_a_header_are_a_lora_error_or_nothing(tmp_path: Path) -> None:
    """1,500 files, each with one to five bytes of the header changed."""
    dice, whole = random.Random(20), file_of(tensors(), {"ss_network_alpha": "4"})
    end, path = 8 + struct.unpack("<Q", whole[:8])[0], tmp_path / "a.safetensors"
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 1, 2, 5])):
            data[dice.randrange(end)] = dice.randrange(256)
        path.write_bytes(data)
        for read in (read_any_lora, read_metadata):
            try:
                read(path)
            except LoraError as error:
                assert str(path) in str(error)
