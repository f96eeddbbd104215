"""Merged LoRAs change every weight by the weighted sum of their parts' changes, and nothing else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from sticker_pipeline.diffusion.lora.apply import apply_lora
from sticker_pipeline.diffusion.lora.file import Adapter, LoraError, LoraFile, write_lora
from sticker_pipeline.diffusion.lora.formats import read_any_lora
from sticker_pipeline.diffusion.lora.key_map import adaptable_modules
from sticker_pipeline.diffusion.lora.merge import Part, concatenated, merge_files, truncated
from sticker_pipeline_tests.diffusion.lora.test_apply import open_models, outputs

KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
OTHER_KEY = KEY.replace("to_q", "to_k")
CONV_KEY = "lora_unet_down_blocks_0_resnets_0_conv1"
ONE_BY_ONE_KEY = "lora_unet_down_blocks_0_attentions_0_proj_in"
TEXT_KEY = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
SDXL_KEY = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"


def change(adapter: Adapter) -> np.ndarray:
    """Return its change of a weight, [out, in·kernel], in float64, as file.py defines it."""
    up, down = (part.double().flatten(1).numpy() for part in (adapter.up, adapter.down))
    return adapter.alpha / adapter.rank * (up @ down)


def whole_numbers(seed: int, out: int, into: tuple[int, ...], rank: int, alpha: float) -> Adapter:
    """Small integers, of which float32 loses nothing."""
    generator = torch.Generator().manual_seed(seed)
    down = torch.randint(-4, 5, (rank, *into), generator=generator).float()
    up = torch.randint(-4, 5, (out, rank, *(1 for _ in into[1:])), generator=generator).float()
    return Adapter(down, up, alpha)


def of_every_kind(seed: int, rank: int, alpha: float) -> LoraFile:
    """Linear layers of U-Net and text encoder, a convolution of 3×3 and one of 1×1."""
    shapes: dict[str, tuple[int, tuple[int, ...]]] = {
        KEY: (6, (8,)),
        TEXT_KEY: (5, (5,)),
        CONV_KEY: (7, (4, 3, 3)),
        ONE_BY_ONE_KEY: (6, (8, 1, 1)),
    }
    return LoraFile(
        {key: whole_numbers(seed + n, *shape, rank, alpha) for n, (key, shape) in enumerate(shapes.items())}
    )


def test_concatenation_is_exact_and_ranks_add_up() -> None:
    one, two = of_every_kind(1, rank=4, alpha=2.0), of_every_kind(9, rank=2, alpha=4.0)
    two.adapters[OTHER_KEY] = whole_numbers(5, 6, (8,), 2, 1.0)  # which the first leaves alone
    merged = concatenated([Part("one", one, 0.5), Part("two", two, -1.5)])
    assert set(merged.adapters) == {*one.adapters, OTHER_KEY}
    for key, adapter in merged.adapters.items():
        right = -1.5 * change(two.adapters[key])
        if key in one.adapters:
            right = right + 0.5 * change(one.adapters[key])
        assert adapter.rank == (6 if key in one.adapters else 2)
        assert adapter.shape == two.adapters[key].shape
        np.testing.assert_allclose(change(adapter), right, rtol=1e-6, atol=1e-6 * np.abs(right).max())
    assert {adapter.alpha for adapter in merged.adapters.values()} == {6.0}  # diffusers reads one alpha of a file


def test_where_float32_loses_nothing_nothing_is_lost() -> None:
    parts = [Part("a", of_every_kind(1, rank=4, alpha=2.0), 0.5), Part("b", of_every_kind(2, rank=4, alpha=8.0), 2.0)]
    for key, adapter in concatenated(parts).adapters.items():
        right = sum(part.weight * change(part.lora.adapters[key]) for part in parts)
        assert np.array_equal(change(adapter), right)


@settings(deadline=None, max_examples=40)
@given(
    ranks=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    out=st.integers(1, 7),
    into=st.one_of(
        st.tuples(st.integers(1, 7)), st.tuples(st.integers(1, 4), st.sampled_from([1, 3])).map(lambda s: (*s, s[1]))
    ),
    rank=st.integers(1, 12),
)
def test_shapes_and_sums_of_any_parts(ranks: list[int], out: int, into: tuple[int, ...], rank: int) -> None:
    generator = torch.Generator().manual_seed(sum(ranks))
    parts = [
        Part(
            str(number),
            LoraFile(
                {
                    KEY: Adapter(
                        torch.randn(own, *into, generator=generator),
                        torch.randn(out, own, *(1 for _ in into[1:]), generator=generator),
                        float(1 + number),
                    )
                }
            ),
            0.3 * (number + 1) * (-1) ** number,
        )
        for number, own in enumerate(ranks)
    ]
    right = sum(part.weight * change(part.lora.adapters[KEY]) for part in parts)
    whole = concatenated(parts)
    assert whole.adapters[KEY].rank == sum(ranks) and whole.adapters[KEY].shape == (out, *into)
    np.testing.assert_allclose(change(whole.adapters[KEY]), right, atol=1e-5)
    cut, lost = truncated(whole, rank)
    sizes = np.linalg.svd(right, compute_uv=False)
    assert cut.adapters[KEY].rank == min(rank, sum(ranks), *right.shape)
    assert cut.adapters[KEY].shape == (out, *into)
    assert lost == pytest.approx(np.sqrt((sizes[rank:] ** 2).sum() / (sizes**2).sum()), abs=1e-5)


def test_a_given_rank_is_the_best_of_that_rank() -> None:
    """Eckart and Young: nothing of rank r is nearer than the r largest singular values, here numpy's."""
    parts = [Part("one", of_every_kind(1, rank=4, alpha=2.0), 0.7), Part("two", of_every_kind(9, rank=3, alpha=3.0), 1)]
    whole = concatenated(parts)
    cut, lost = truncated(whole, 2)
    left_out, everything = 0.0, 0.0
    for key, adapter in cut.adapters.items():
        u, sizes, vh = np.linalg.svd(change(whole.adapters[key]), full_matrices=False)
        assert adapter.rank == 2
        np.testing.assert_allclose(change(adapter), (u[:, :2] * sizes[:2]) @ vh[:2], atol=1e-4)
        left_out += (sizes[2:] ** 2).sum()
        everything += (sizes**2).sum()
    assert lost == pytest.approx(np.sqrt(left_out / everything), rel=1e-6) and 0.1 < lost < 0.9
    same, nothing = truncated(whole, 7)
    assert nothing < 1e-6
    for key, adapter in same.adapters.items():
        np.testing.assert_allclose(change(adapter), change(whole.adapters[key]), atol=1e-4)


def test_the_merged_file_does_what_its_parts_do_one_after_the_other(tmp_path: Path, tiny_base: Path) -> None:
    models: tuple[Any, Any] = open_models(tiny_base)
    files = []
    for seed, weight in ((1, 0.6), (2, 1.2)):
        generator = torch.Generator().manual_seed(seed)
        adapters = {
            key: Adapter(
                torch.randn(2 + seed, *module.weight.shape[1:], generator=generator) * 0.2,
                torch.randn(len(module.weight), 2 + seed, *(1,) * (module.weight.ndim - 2), generator=generator) * 0.2,
                1.5 * seed,
            )
            for key, module in adaptable_modules(models[0], models[1:]).items()
        }
        path = tmp_path / f"{seed}.safetensors"
        write_lora(path, LoraFile(adapters), "float16")
        files.append((path, weight))
    merge_files(tmp_path / "merged.safetensors", files)
    before = outputs(*models)
    with (
        apply_lora(models[0], models[1:], read_any_lora(files[0][0]), files[0][1]),
        apply_lora(models[0], models[1:], read_any_lora(files[1][0]), files[1][1]),
    ):
        one_by_one = outputs(*models)
    with apply_lora(models[0], models[1:], read_any_lora(tmp_path / "merged.safetensors")):
        for merged, right, plain in zip(outputs(*models), one_by_one, before, strict=True):
            torch.testing.assert_close(merged, right, rtol=1e-4, atol=1e-4)
            assert (merged - plain).abs().max() > 0.01


def test_the_file_is_kohyas_and_says_what_it_was_made_of(tmp_path: Path) -> None:
    for name, word, folder in (("style", "flat", "1_style"), ("moth", "skv_moth", "1_moth")):
        metadata = {
            "ss_base_model_version": "sd_v1",
            "ss_training_comment": f"trigger: {word}",
            "ss_tag_frequency": json.dumps({folder: {word: 3}, "1_both": {"smile": 2}}),
            "ss_clip_skip": "2" if name == "moth" else "None",
            "ss_resolution": "(96, 96)",
            "sshs_model_hash": "of the part",
        }
        lora = of_every_kind(1, rank=4, alpha=2.0)
        write_lora(tmp_path / f"{name}.safetensors", LoraFile(lora.adapters, metadata), "float16")
    out = tmp_path / "both.safetensors"
    merge_files(out, [(tmp_path / "style.safetensors", 0.8), (tmp_path / "moth.safetensors", 1.0)], rank=3)
    metadata = read_any_lora(out).metadata
    assert metadata["ss_base_model_version"] == "sd_v1" and metadata["ss_output_name"] == "both"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("3", "3.0")
    assert metadata["modelspec.trigger_phrase"] == "flat, skv_moth"
    assert metadata["modelspec.merged_from"] == "style (0.8), moth (1)"
    assert json.loads(metadata["ss_tag_frequency"]) == {
        "1_style": {"flat": 3}, "1_moth": {"skv_moth": 3}, "1_both": {"smile": 4},
    }  # fmt: skip
    assert metadata["ss_resolution"] == "(96, 96)" and "ss_clip_skip" not in metadata
    assert len(metadata["sshs_model_hash"]) == 64
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float32}


def test_a_linear_layer_and_a_convolution_of_one_pixel_are_the_same_module() -> None:
    linear, conv = whole_numbers(1, 6, (8,), 2, 2.0), whole_numbers(2, 6, (8, 1, 1), 3, 3.0)
    parts = [Part("a", LoraFile({ONE_BY_ONE_KEY: linear}), 1.0), Part("b", LoraFile({ONE_BY_ONE_KEY: conv}), 1.0)]
    (adapter,) = concatenated(parts).adapters.values()
    assert adapter.down.shape == (5, 8, 1, 1) and adapter.up.shape == (6, 5, 1, 1)
    np.testing.assert_allclose(change(adapter), change(linear) + change(conv), rtol=1e-6)


def test_what_cannot_be_merged_is_refused_by_name() -> None:
    plain = LoraFile({KEY: whole_numbers(1, 6, (8,), 2, 2.0)})
    dora = LoraFile({KEY: Adapter(torch.ones(2, 8), torch.ones(6, 2), 1.0, torch.ones(6, 1))})
    wide = LoraFile({KEY: whole_numbers(1, 6, (9,), 2, 2.0)})
    with pytest.raises(LoraError, match="my_dora is a DoRA"):
        concatenated([Part("a", plain, 1.0), Part("my_dora", dora, 1.0)])
    with pytest.raises(LoraError, match=r"b and a are not for the same base model: .*\[6, 9\].*\[6, 8\]"):
        concatenated([Part("a", plain, 1.0), Part("b", wide, 1.0)])
    for weight in (0.0, float("nan")):
        with pytest.raises(LoraError, match="a has the weight"):
            concatenated([Part("a", plain, weight)])
    nothing = LoraFile({KEY: Adapter(torch.ones(2, 8), torch.zeros(6, 2), 1.0)})
    doubled = LoraFile({KEY: Adapter(*(2 * part for part in (torch.ones(2, 8), torch.ones(6, 2))), 1.0)})
    ones = LoraFile({KEY: Adapter(torch.ones(2, 8), torch.ones(6, 2), 1.0)})
    for parts in ([(nothing, 1.0)], [(plain, 1.0), (plain, -1.0)], [(ones, 4.0), (doubled, -1.0)]):
        with pytest.raises(LoraError, match=r"The sum of a \(.*\) changes nothing: give other weights"):
            concatenated([Part("a", lora, weight) for lora, weight in parts])
    concatenated([Part("a", ones, 4.0), Part("b", doubled, -0.999)])
    with pytest.raises(LoraError, match="nothing to merge"):
        concatenated([])
    with pytest.raises(ValueError, match="not 0"):
        truncated(plain, 0)
    with pytest.raises(LoraError, match="DoRA"):
        truncated(dora, 1)


def test_files_of_different_families_and_existing_ones_are_refused(tmp_path: Path) -> None:
    for name, key in (("small", KEY), ("large", SDXL_KEY)):
        write_lora(tmp_path / f"{name}.safetensors", LoraFile({key: whole_numbers(1, 6, (8,), 2, 2.0)}), "float16")
    files = [(tmp_path / f"{name}.safetensors", 1.0) for name in ("small", "large")]
    out = tmp_path / "out.safetensors"
    with pytest.raises(LoraError, match="small is for sd15 and large for sdxl"):
        merge_files(out, files)
    with pytest.raises(LoraError, match="no such file"):
        merge_files(out, [(tmp_path / "nowhere.safetensors", 1.0)])
    assert not out.exists()
    merge_files(out, files[1:])
    assert list(read_any_lora(out, "sdxl").adapters) == [SDXL_KEY]
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match="is there already"):
        merge_files(out, files[:1])
    assert out.read_bytes() == before
