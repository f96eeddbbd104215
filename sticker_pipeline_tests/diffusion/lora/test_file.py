import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.diffusion.lora.file import Adapter, LoraError, LoraFile, read_lora, with_one_alpha, write_lora

KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
CONV_KEY = "lora_unet_down_blocks_0_resnets_0_conv1"


def example(rank: int = 4, alpha: float = 2.7) -> LoraFile:
    generator = torch.Generator().manual_seed(1)
    adapters = {
        KEY: Adapter(torch.randn(rank, 8, generator=generator), torch.randn(6, rank, generator=generator), alpha),
        KEY.replace("transformer_blocks_0_attn1_to_q", "proj_in"): Adapter(
            torch.randn(rank, 8, 1, 1, generator=generator), torch.randn(6, rank, 1, 1, generator=generator), alpha
        ),
    }
    return LoraFile(adapters, {"ss_base_model_version": "sd_v1", "ss_output_name": "nová", "modelspec.title": "x"})


def test_round_trip_keeps_values_alpha_and_metadata(tmp_path: Path) -> None:
    lora = example()
    write_lora(tmp_path / "a.safetensors", lora, "float32")
    found = read_lora(tmp_path / "a.safetensors")
    assert found.adapters.keys() == lora.adapters.keys()
    for key, adapter in lora.adapters.items():
        assert torch.equal(found.adapters[key].down, adapter.down) and torch.equal(found.adapters[key].up, adapter.up)
        assert found.adapters[key].alpha == pytest.approx(2.7, rel=1e-7)  # true alpha, not the rank
    assert found.metadata.items() >= lora.metadata.items()


def test_convolutions_and_magnitudes_survive(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    adapters = {
        KEY: Adapter(torch.ones(2, 8), torch.ones(6, 2), 1.0, torch.rand(6, 1, generator=generator)),
        KEY.replace("to_q", "to_k"): Adapter(torch.ones(2, 8), torch.ones(6, 2), 1.0, torch.full((1, 8), 1 / 3)),
        CONV_KEY: Adapter(torch.ones(2, 4, 3, 3), torch.ones(5, 2, 1, 1), 1.0, torch.full((5, 1, 1, 1), 1 / 3)),
    }
    write_lora(tmp_path / "a.safetensors", LoraFile(adapters), "float16")
    tensors = load_file(tmp_path / "a.safetensors")
    assert {key: (tuple(value.shape), value.dtype) for key, value in tensors.items() if key.startswith(CONV_KEY)} == {
        f"{CONV_KEY}.lora_down.weight": ((2, 4, 3, 3), torch.float16),
        f"{CONV_KEY}.lora_up.weight": ((5, 2, 1, 1), torch.float16),
        f"{CONV_KEY}.alpha": ((), torch.float32),
        f"{CONV_KEY}.dora_scale": ((5, 1, 1, 1), torch.float32),  # it scales whole weights: no half precision
    }
    found = read_lora(tmp_path / "a.safetensors").adapters
    for key, adapter in adapters.items():
        magnitude, right = found[key].magnitude, adapter.magnitude
        assert magnitude is not None and right is not None and torch.equal(magnitude, right)
    assert (found[KEY].shape, found[CONV_KEY].shape) == ((6, 8), (5, 4, 3, 3))


def test_sdxl_has_keys_of_its_own(tmp_path: Path) -> None:
    key = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    write_lora(tmp_path / "a", LoraFile({key: Adapter(torch.ones(1, 2), torch.ones(2, 1), 1.0)}), "float32")
    assert list(read_lora(tmp_path / "a", "sdxl").adapters) == [key]
    with pytest.raises(LoraError, match="not one of a sd15 LoRA"):
        read_lora(tmp_path / "a", "sd15")


def test_one_alpha_keeps_the_change_of_every_weight() -> None:
    lora = example()
    first, second = lora.adapters
    lora.adapters[second] = Adapter(*(getattr(lora.adapters[second], part) for part in ("down", "up")), alpha=0.9)
    found = with_one_alpha(lora, 2.7)
    assert [adapter.alpha for adapter in found.adapters.values()] == [2.7, 2.7]
    assert found.adapters[first] is lora.adapters[first] and found.metadata == lora.metadata
    for key in (first, second):
        new, old = found.adapters[key], lora.adapters[key]
        torch.testing.assert_close(new.alpha * new.up, old.alpha * old.up)
        assert new.down is old.down


def test_file_layout_is_kohyas(tmp_path: Path) -> None:
    write_lora(tmp_path / "a.safetensors", example(), "float16")
    tensors = load_file(tmp_path / "a.safetensors")
    assert {key: tuple(value.shape) for key, value in tensors.items() if key.startswith(KEY)} == {
        f"{KEY}.lora_down.weight": (4, 8),
        f"{KEY}.lora_up.weight": (6, 4),
        f"{KEY}.alpha": (),
    }
    assert tensors[f"{KEY}.lora_up.weight"].dtype == torch.float16


def test_equal_adapters_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_lora(tmp_path / name, example(), "float16")
    assert file_sha256(tmp_path / "a") == file_sha256(tmp_path / "b")


def test_hashes_are_those_that_clients_compute(tmp_path: Path) -> None:
    write_lora(tmp_path / "a", example(), "float32")
    data = (tmp_path / "a").read_bytes()
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    assert metadata["sshs_model_hash"] == hashlib.sha256(data[8 + size :]).hexdigest()
    assert metadata["sshs_legacy_hash"] == hashlib.sha256(b"").hexdigest()[:8]  # the file is smaller than 1 MiB
    assert metadata["modelspec.hash_sha256"] == "0x" + metadata["sshs_model_hash"]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{KEY}.lora_A.weight": torch.zeros(4, 8)}, "lora_A"),
        ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0)}, "lora_te1_text_model"),
        ({"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "lora_unet_conv_in"),
        ({f"{KEY}.lora_down.weight": torch.zeros(4, 8)}, r"lora_up\.weight' is missing"),
        (
            {f"{KEY}.lora_down.weight": torch.zeros(4, 8), f"{KEY}.lora_up.weight": torch.zeros(6, 3)},
            "do not fit together",
        ),
        (
            {f"{CONV_KEY}.lora_down.weight": torch.zeros(4, 8, 3, 3), f"{CONV_KEY}.lora_up.weight": torch.zeros(6, 4)},
            "do not fit together",
        ),
        (
            {
                f"{KEY}.lora_down.weight": torch.zeros(4, 8),
                f"{KEY}.lora_up.weight": torch.zeros(6, 4),
                f"{KEY}.dora_scale": torch.zeros(6),
            },
            "fits neither outputs nor inputs",
        ),
        (
            {f"{KEY}.lora_down.weight": torch.zeros(0, 8), f"{KEY}.lora_up.weight": torch.zeros(6, 0)},
            "do not fit together",
        ),
        (
            {
                f"{KEY}.lora_down.weight": torch.zeros(4, 8),
                f"{KEY}.lora_up.weight": torch.zeros(6, 4),
                f"{KEY}.alpha": torch.tensor(float("nan")),
            },
            "1 of 3 keys holds values that are not finite",
        ),
        (
            {
                f"{KEY}.lora_down.weight": torch.zeros(4, 8),
                f"{KEY}.lora_up.weight": torch.zeros(8, 4),
                f"{KEY}.alpha": torch.ones(2),
            },
            "is not one number",
        ),
        (
            {
                f"{KEY}.lora_down.weight": torch.zeros(4, 8),
                f"{KEY}.lora_up.weight": torch.zeros(8, 4),
                f"{KEY}.alpha": torch.tensor(0),
            },
            "1 of 3 keys is an alpha of 0, .*: sd-scripts reads that as the rank",
        ),
        (
            {
                f"{KEY}.lora_down.weight": torch.zeros(4, 8, dtype=torch.int8),
                f"{KEY}.lora_up.weight": torch.zeros(8, 4),
            },
            r"1 of 2 keys is of a type that is not read here.*int8",
        ),
        ({f"{CONV_KEY}.lora_mid.weight": torch.zeros(4, 4, 3, 3)}, "lora_mid"),
        ({}, "no LoRA at all"),
    ],
)
def test_faulty_files_name_the_key(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(LoraError, match=message) as error:
        read_lora(tmp_path / "a.safetensors")
    assert "a.safetensors" in str(error.value)


def test_a_file_for_another_family_is_refused(tmp_path: Path) -> None:
    lora = example()
    write_lora(tmp_path / "a", LoraFile(lora.adapters, {"ss_base_model_version": "sdxl_base_v1-0"}), "float32")
    with pytest.raises(LoraError, match="sdxl_base_v1-0"):
        read_lora(tmp_path / "a")


def test_pickles_are_refused_by_content(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "zip.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"x": 1}))
    for name in ("zip", "pickle"):
        with pytest.raises(LoraError, match="pickle checkpoint"):
            read_lora(tmp_path / f"{name}.safetensors")
    (tmp_path / "text.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(LoraError, match="is a Git LFS pointer"):
        read_lora(tmp_path / "text.safetensors")
    with pytest.raises(LoraError, match="no such file"):
        read_lora(tmp_path / "none.safetensors")


def test_a_header_of_any_length_is_read(tmp_path: Path) -> None:
    """Among these lengths are some whose first byte is 0x80, like a pickle's."""
    starts = set()
    for letters in range(0, 256, 8):
        write_lora(tmp_path / "a", LoraFile(example().adapters, {"note": "x" * letters}), "float32")
        starts.add((tmp_path / "a").read_bytes()[0])
        assert read_lora(tmp_path / "a").metadata["note"] == "x" * letters
    assert 0x80 in starts


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write_lora(tmp_path / "a", example(), "float32")
    (tmp_path / "cut").write_bytes((tmp_path / "a").read_bytes()[:-10])
    with pytest.raises(LoraError, match=r"cut off: it has \d+ of \d+ bytes"):
        read_lora(tmp_path / "cut")


def test_values_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    adapter = Adapter(torch.full((1, 2), 1e6), torch.ones(2, 1), 1.0)
    write_lora(tmp_path / "a", LoraFile({KEY: adapter}), "float32")
    with pytest.raises(LoraError, match="infinities"):
        write_lora(tmp_path / "b", LoraFile({KEY: adapter}), "float16")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("metadata", "named"),
    [({"ss_seed": 3, "a": "b"}, "1 of its values are not, as 'ss_seed'"), ({"a": None}, "as 'a'"), (7, "no table")],
)
def test_metadata_that_are_no_texts_are_named(tmp_path: Path, metadata: object, named: str) -> None:
    """As a program writes them that makes the header itself; the library refuses the whole file."""
    header = json.dumps(
        {"__metadata__": metadata, f"{KEY}.alpha": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}
    ).encode()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(LoraError, match=rf"__metadata__ may hold nothing but texts, and .*{named}.*Write it again"):
        read_lora(tmp_path / "a")


@pytest.mark.parametrize("header", [b'{"a":' * 100_000, b"{}}", b'{"__metadata__": 7', b'{"a": [1]}', b"{\xff}"])
def test_headers_that_are_damaged(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(LoraError, match="a safetensors file whose header is damaged"):
        read_lora(tmp_path / "a")
