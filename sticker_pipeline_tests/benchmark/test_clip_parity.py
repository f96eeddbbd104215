"""CLIP similarity of two images: equal in open_clip and in transformers.

Real profiles use open_clip's `ViT-L-14-quickgelu`; others report similarities of transformers' CLIP. Both are built
small with the same random weights. The libraries differ in resizing alone. open_clip resizes with Pillow (bicubic,
antialiased, rounded to whole numbers). transformers 5 has two processors: `CLIPImageProcessorPil` does the same, to the
bit, and was used by older versions and for most published numbers; the present default, `CLIPImageProcessor`, resizes
with torchvision. Its rounding differs by up to 2/255 in less than 1 % of the values. Both processors agree on images
that need no resizing.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel
from transformers.models.clip import CLIPImageProcessorPil

from sticker_pipeline.benchmark.embed import embed, open_embedder, prepare
from sticker_pipeline.benchmark.similarity import clip_similarity

SIZE, WIDTH, LAYERS, OUTPUT = 56, 128, 3, 32  # px; 4×4 patches of 14; two heads of 64 as open_clip makes them
TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
PREPROCESSING = {
    "size": SIZE,
    "mode": "RGB",
    "mean": open_clip.OPENAI_DATASET_MEAN,
    "std": open_clip.OPENAI_DATASET_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
# transformers' name of each tensor of the vision tower -> open_clip's; {q,k,v}_proj are one tensor there
BLOCK = {
    "layer_norm1": "ln_1",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
OUTSIDE = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    **{f"pre_layrnorm.{part}": f"ln_pre.{part}" for part in ("weight", "bias")},
    **{f"post_layernorm.{part}": f"ln_post.{part}" for part in ("weight", "bias")},
}


def open_clip_config(*, quick_gelu: bool = True) -> dict[str, Any]:
    """Config of ViT-L-14-quickgelu with fewer, narrower layers."""
    config = open_clip.get_model_config("ViT-L-14-quickgelu")
    assert config["quick_gelu"] and config["vision_cfg"]["patch_size"] == 14
    vision = config["vision_cfg"] | {"image_size": SIZE, "layers": LAYERS, "width": WIDTH}
    return config | {"embed_dim": OUTPUT, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": TEXT}


@pytest.fixture(scope="module")
def reference() -> CLIPModel:
    """Random weights large enough for attention and activations to leave their linear range."""
    torch.manual_seed(0)
    vision = {
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "image_size": SIZE, "patch_size": 14, "hidden_act": "quick_gelu",
    }  # fmt: skip
    text = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 64, "bos_token_id": 62}
    model = CLIPModel(CLIPConfig(projection_dim=OUTPUT, vision_config=vision, text_config=text | {"eos_token_id": 63}))
    with torch.no_grad():
        for name, parameter in model.vision_model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and "weight" in name else 0.0, 0.15)
    return model.eval()


def in_open_clip_names(model: CLIPModel) -> dict[str, torch.Tensor]:
    """The vision tower and its projection, tensor by tensor."""
    ours = {"visual.proj": model.visual_projection.weight.T}
    state = model.vision_model.state_dict()
    ours |= {f"visual.{name}": state[theirs] for theirs, name in OUTSIDE.items()}
    for layer in range(LAYERS):
        source, target = f"encoder.layers.{layer}", f"visual.transformer.resblocks.{layer}"
        for part in ("weight", "bias"):
            ours |= {f"{target}.{name}.{part}": state[f"{source}.{theirs}.{part}"] for theirs, name in BLOCK.items()}
            ours[f"{target}.attn.in_proj_{part}"] = torch.cat(
                [state[f"{source}.self_attn.{which}_proj.{part}"] for which in "qkv"]
            )
    return ours


def write_open_clip(folder: Path, model: CLIPModel, *, quick_gelu: bool = True) -> Path:
    """An open_clip `local-dir` model with the vision tower of `model`, whose tensors must be exactly open_clip's."""
    config = open_clip_config(quick_gelu=quick_gelu)
    state = open_clip.CLIP(**config).state_dict()
    vision = in_open_clip_names(model)
    assert vision.keys() == {name for name in state if name.startswith("visual.")}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESSING}))
    weights = {name: tensor.contiguous() for name, tensor in {**state, **vision}.items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def ours(folder: Path, images: list[Image.Image], resolution: int) -> float:
    rows = embed(open_embedder(folder, resolution=resolution, background="white"), images)
    return clip_similarity(rows[:1], rows[1:]).mean


def theirs(model: CLIPModel, images: list[Image.Image], processor: type) -> float:
    prepared = processor(size={"shortest_edge": SIZE}, crop_size=SIZE)(images=images, return_tensors="pt")
    with torch.inference_mode():
        pooled = model.vision_model(prepared["pixel_values"]).pooler_output
        one, other = torch.nn.functional.normalize(model.visual_projection(pooled), dim=-1).double()
    return float(one @ other)


def images(width: int, height: int, mode: str = "RGB") -> list[Image.Image]:
    """Two images with edges and fine grain, which show how they are resized."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (6, 6, 4), dtype=np.uint8)) for _ in range(2)]
    grown = [np.asarray(image.resize((width, height), Image.Resampling.NEAREST)) for image in coarse]
    grain = rng.integers(-40, 41, (2, height, width, 4))
    return [
        Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).convert(mode)
        for image, noise in zip(grown, grain, strict=True)
    ]


@pytest.mark.parametrize("processor", [CLIPImageProcessorPil, CLIPImageProcessor])
def test_equal_numbers_where_nothing_is_resized(reference: CLIPModel, processor: type, tmp_path: Path) -> None:
    folder, two = write_open_clip(tmp_path / "clip", reference), images(SIZE, SIZE)
    for image in two:
        np.testing.assert_array_equal(prepare(image, SIZE, "white"), np.asarray(image))
    assert ours(folder, two, SIZE) == pytest.approx(theirs(reference, two, processor), abs=1e-5)


@pytest.mark.parametrize("resolution", [96, 512, 40])
def test_equal_numbers_where_clip_resizes(reference: CLIPModel, resolution: int, tmp_path: Path) -> None:
    """Images have the profile's resolution already, so CLIP's own resizing is the only one."""
    folder, two = write_open_clip(tmp_path / "clip", reference), images(resolution, resolution)
    number = ours(folder, two, resolution)
    assert -0.9 < number < 0.99
    assert number == pytest.approx(theirs(reference, two, CLIPImageProcessorPil), abs=1e-5)
    # torchvision's rounding: the number moves, but not by what anybody would report
    assert number == pytest.approx(theirs(reference, two, CLIPImageProcessor), abs=1e-3)


def test_equal_numbers_for_the_prepared_image_of_any_shape(reference: CLIPModel, tmp_path: Path) -> None:
    """Flattening and padding to the profile's square are ours, and come first.

    transformers gets that square: alone it would crop the sides, and show the colours under transparency.
    """
    folder, two = write_open_clip(tmp_path / "clip", reference), images(130, 70, "RGBA")
    squares = [Image.fromarray(prepare(image, 96, "white")) for image in two]
    number = ours(folder, two, 96)
    assert number == pytest.approx(theirs(reference, squares, CLIPImageProcessorPil), abs=1e-5)
    assert abs(number - theirs(reference, [p.convert("RGB") for p in two], CLIPImageProcessorPil)) > 1e-3


def test_the_plain_activation_is_another_model(reference: CLIPModel, tmp_path: Path) -> None:
    """`ViT-L-14` without quickgelu loads the same weights without complaint, and gives other numbers."""
    folder, two = write_open_clip(tmp_path / "clip", reference, quick_gelu=False), images(SIZE, SIZE)
    assert abs(ours(folder, two, SIZE) - theirs(reference, two, CLIPImageProcessorPil)) > 1e-4
