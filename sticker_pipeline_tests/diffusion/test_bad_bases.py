"""Unusable base models, and the sentence for each: from headers alone, without torch, before any work."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sticker_pipeline.cli.commands import main
from sticker_pipeline.diffusion.architectures import _TENSORS, CONFIGS, least_tensors, write_config_folder
from sticker_pipeline.diffusion.base_model import BaseModelError, BaseNoise, base_noise, check_base
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.diffusion.base_headers import (
    Shapes,
    checkpoint,
    folder_tensors,
    parts,
    write_header,
)

SD15, SDXL = "Use a whole checkpoint of Stable Diffusion 1.5.", "Use a whole checkpoint of SDXL."
AGAIN = "Download it again."
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
CLIP = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"

Make = Callable[[Path], Path]


def raw(data: bytes, name: str = "base.safetensors") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def file(shapes: Callable[[], Shapes], **options: Any) -> Make:
    return lambda folder: write_header(folder / "base.safetensors", shapes(), **options)


def only(*names: str) -> Make:
    return file(lambda: {name: [4, 4] for name in names})


def without(family: str, *prefixes: str) -> Callable[[], Shapes]:
    return lambda: {name: shape for name, shape in checkpoint(family).items() if not name.startswith(prefixes)}


def channels(family: str, count: int) -> Callable[[], Shapes]:
    return lambda: checkpoint(family) | {CONV_IN: [320, count, 3, 3]}


def of_width(shapes: Shapes, size: int) -> Shapes:
    """`shapes` with a U-Net that reads texts of width `size`."""
    return {name: [shape[0], size] if name.endswith("attn2.to_k.weight") else shape for name, shape in shapes.items()}


def width(family: str, size: int) -> Callable[[], Shapes]:
    return lambda: of_width(checkpoint(family), size)


def cut(data_bytes: int, kept: int) -> Make:
    """One tensor of `data_bytes` bytes, of which the file has `kept`."""

    def make(folder: Path) -> Path:
        text = json.dumps({"w": {"dtype": "U8", "shape": [data_bytes], "data_offsets": [0, data_bytes]}}).encode()
        path = folder / "base.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(kept))
        return path

    return make


def open_clip_alone(prefix: str) -> Callable[[], Shapes]:
    """A U-Net and a VAE with the one text encoder of another kind."""

    def shapes() -> Shapes:
        return without("sdxl", "conditioner.")() | {prefix + "token_embedding.weight": [49408, 1024]}

    return shapes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A diffusers folder of each family, with true names and shapes, and without data."""
    folders = {}
    for family in CONFIGS:
        folder = write_config_folder(family, tmp_path_factory.mktemp(family) / "base")
        for part in parts(family):
            stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
            write_header(folder / part / f"{stem}.safetensors", folder_tensors(family, part))
        folders[family] = folder
    return folders


def test_whole_models_pass(whole: dict[str, Path], tmp_path: Path) -> None:
    for family, folder in whole.items():
        check_base(folder, family)
        for dtype in ("F32", "F16", "BF16", "F8_E4M3"):
            check_base(write_header(tmp_path / "base.safetensors", checkpoint(family), dtype=dtype), family)


FILES: list[tuple[str, str, Make, str]] = [
    ("empty", "sd15", raw(b""), f"{{base}} is empty. {AGAIN}"),
    (
        "web page",
        "sd15",
        raw(b"\n<!DOCTYPE html><html><head><title>Log in</title>"),
        "{base} is a web page, not a model: its address needs a login, or is not the file's own. Download the file "
        "itself.",
    ),
    (
        "LFS pointer",
        "sd15",
        raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4265146304\n"),
        "{base} is a Git LFS pointer, not the file. Run `git lfs pull`, or download the file.",
    ),
    (
        "GGUF",
        "sd15",
        raw(b"GGUF\x03\x00\x00\x00" + bytes(40)),
        "{base} is a GGUF file, whose weights are quantised for other programs. Use a .safetensors file.",
    ),
    *(
        (
            f"pickle {name}",
            "sd15",
            raw(data, name),
            "{base} is a pickle checkpoint, which can run code when loaded. Use a .safetensors file.",
        )
        for name, data in (
            ("base.ckpt", b"PK\x03\x04" + bytes(60)),
            ("base.safetensors", pickle.dumps({"state_dict": {}})),
        )
    ),
    ("another file", "sd15", raw(b"\x89PNG\r\n\x1a\n" + bytes(40)), "{base} is not a safetensors file."),
    (
        "cut off in its header",
        "sd15",
        raw((1000).to_bytes(8, "little") + b'{"a":'),
        f"{{base}} is a safetensors file that was cut off: 13 bytes do not hold its header. {AGAIN}",
    ),
    (
        "cut off in its data",
        "sd15",
        cut(1000, 999),
        f"{{base}} is a safetensors file that was cut off: it has 1073 of 1074 bytes. {AGAIN}",
    ),
    (
        "longer than it should be",
        "sd15",
        cut(1000, 1001),
        f"{{base}} is a damaged safetensors file: it has 1075 bytes where its header states 1074. {AGAIN}",
    ),
    (
        "damaged header",
        "sd15",
        raw((9).to_bytes(8, "little") + b'{"a": 1} '),
        f"{{base}} is a safetensors file whose header is damaged. {AGAIN}",
    ),
    (
        "number in the metadata",
        "sd15",
        file(lambda: {"w": [1]}, metadata={"step": 3}),
        f"{{base}} has metadata that are no texts, which safetensors does not open. {AGAIN}",
    ),
    # another kind of file
    *(
        (f"{what}: {name}", "sd15", only(name), f"{{base}} is {what}, no base model. {SD15}")
        for name, what in (
            ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "a LoRA"),
            ("unet.down_blocks.0.attentions.0.proj_in.lora_A.weight", "a LoRA"),
            ("base_model.model.unet.mid_block.attentions.0.proj_in.lora_B.weight", "a LoRA"),
            ("lora_te1_text_model_encoder_layers_0_mlp_fc1.hada_w1_a", "a LoRA"),
            ("control_model.time_embed.0.weight", "a ControlNet"),
            ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
            ("emb_params", "a textual inversion"),
            ("mid_block.motion_modules.0.temporal_transformer.norm.bias", "an AnimateDiff motion module"),
            (
                "model.diffusion_model.input_blocks.1.1.time_stack.0.norm1.weight",
                "a Stable Video Diffusion model",
            ),
            ("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale", "a Flux model"),
            ("double_blocks.0.img_attn.norm.key_norm.scale", "a Flux model"),
            ("single_transformer_blocks.0.attn.norm_k.weight", "a Flux model"),
            ("distilled_guidance_layer.in_proj.bias", "a Chroma model"),
            ("model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight", "a Stable Diffusion 3 model"),
            ("transformer_blocks.0.attn.add_k_proj.weight", "a Stable Diffusion 3 model"),
            ("adaln_single.linear.weight", "a PixArt model"),
            ("model.diffusion_model.t_block.1.weight", "a PixArt model"),
            ("transformer_blocks.0.ff.conv_inverted.weight", "a Sana model"),
            ("double_layers.0.attn.w2q.weight", "an AuraFlow model"),
            ("model.diffusion_model.cap_embedder.0.weight", "a Lumina model"),
            ("transformer_blocks.0.img_mod.1.weight", "a Qwen-Image model"),
            ("model.diffusion_model.head.modulation", "a Wan model"),
            ("mlp_t5.0.weight", "a Hunyuan-DiT model"),
            ("clip_txt_mapper.weight", "a Stable Cascade model"),
            ("decoder.conv_in.weight", "a VAE alone"),
            ("decoder.mid_block.resnets.0.conv1.weight", "a VAE alone"),
            ("text_model.embeddings.token_embedding.weight", "a text encoder alone"),
            ("encoder.block.0.layer.0.SelfAttention.q.weight", "a text encoder alone"),
            ("down_blocks.0.resnets.0.conv1.weight", "a U-Net alone"),
        )
    ),
    ("something else", "sdxl", only("weight"), f"{{base}} is no checkpoint of Stable Diffusion. {SDXL}"),
    # parts that are not there
    ("no VAE", "sd15", file(without("sd15", "first_stage_model.")), f"{{base}} has no VAE. {SD15}"),
    ("no U-Net", "sdxl", file(without("sdxl", "model.")), f"{{base}} has no U-Net. {SDXL}"),
    ("no text encoder", "sdxl", file(without("sdxl", "conditioner.")), f"{{base}} has no text encoder. {SDXL}"),
    (
        "U-Net alone",
        "sd15",
        file(without("sd15", "first_stage_model.", "cond_stage_model.")),
        f"{{base}} has no VAE and no text encoder. {SD15}",
    ),
    (
        "one of two text encoders",
        "sdxl",
        file(without("sdxl", "conditioner.embedders.0.")),
        "{base} is no whole checkpoint: it has no tensor "
        f"'conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight'. {SDXL}",
    ),
    (
        "text encoder with old names",
        "sd15",
        file(
            lambda: {
                name.replace("transformer.text_model.", "transformer."): s for name, s in checkpoint("sd15").items()
            }
        ),
        f"{{base}} is no whole checkpoint: it has no tensor {CLIP!r}. {SD15}",
    ),
    # another family
    (
        "SDXL for SD1.5",
        "sd15",
        file(lambda: checkpoint("sdxl")),
        "{base} is a model of family sdxl, not sd15: choose a profile of that family.",
    ),
    (
        "SD1.5 for SDXL",
        "sdxl",
        file(lambda: checkpoint("sd15")),
        "{base} is a model of family sd15, not sdxl: choose a profile of that family.",
    ),
    (
        "SD2",
        "sd15",
        file(open_clip_alone("cond_stage_model.model.")),
        f"{{base}} is a model of Stable Diffusion 2, not of family sd15. {SD15}",
    ),
    (
        "SD2's widths",
        "sd15",
        file(width("sd15", 1024)),
        "{base} is a model of Stable Diffusion 2: its U-Net reads texts of width 1024, not 768. " + SD15,
    ),
    (
        "refiner",
        "sdxl",
        file(open_clip_alone("conditioner.embedders.0.model.")),
        f"{{base}} is the refiner of SDXL, not of family sdxl. {SDXL}",
    ),
    (
        "refiner's width",
        "sdxl",
        file(width("sdxl", 1280)),
        "{base} is the refiner of SDXL: its U-Net reads texts of width 1280, not 2048. " + SDXL,
    ),
    (
        "an unknown width",
        "sdxl",
        file(width("sdxl", 4096)),
        "{base}: its U-Net reads texts of width 4096, and its text encoders give 2048: they are of different models. "
        + SDXL,
    ),
    # another purpose
    *(
        (
            f"{count} channels, {family}",
            family,
            file(channels(family, count)),
            f"{{base}} is {what}: its U-Net reads {count} channels, not the 4 of the latents. {remedy}",
        )
        for family, count, what, remedy in (
            ("sd15", 9, "an inpainting model", SD15),
            ("sdxl", 9, "an inpainting model", SDXL),
            ("sd15", 8, "an instruct-pix2pix model", SD15),
            ("sd15", 5, "a depth-to-image model", SD15),
            ("sd15", 7, "an upscaler", SD15),
            ("sd15", 12, "of another kind", SD15),
        )
    ),
    (
        "EDM",
        "sdxl",
        file(lambda: checkpoint("sdxl") | {"edm_mean": [1, 4, 1, 1]}),
        "{base} has other noise levels (EDM, as Playground 2.5 and CosXL), which are not supported here. " + SDXL,
    ),
    (
        "flow matching",
        "sdxl",
        file(lambda: checkpoint("sdxl"), metadata={"modelspec.prediction_type": "flow"}),
        "{base}: prediction type 'flow' is none of epsilon, v_prediction, v. Use a model that predicts noise or v.",
    ),
    # weights that are no plain numbers, or not all there
    (
        "8-bit integers",
        "sd15",
        file(lambda: checkpoint("sd15"), dtype="I8"),
        "{base} is quantised (unet: input_blocks.0.0.weight, I8): such weights are not read here. Use the model in "
        "float16, bfloat16 or float32.",
    ),
    (
        "scaled float8",
        "sdxl",
        file(lambda: checkpoint("sdxl") | {"model.diffusion_model.out.2.scale_weight": []}, dtype="F8_E4M3"),
        "{base} is quantised (unet: out.2.scale_weight, F8_E4M3): such weights are not read here. Use the model in "
        "float16, bfloat16 or float32.",
    ),
    (
        "pruned as SSD-1B is",
        "sdxl",
        file(without("sdxl", "model.diffusion_model.middle_block.1.")),
        "{base}: its unet has 1474 tensors, and that of SDXL 1680: it is pruned, or another model. " + SDXL,
    ),
    (
        "half a text encoder",
        "sd15",
        file(without("sd15", "cond_stage_model.transformer.text_model.encoder.layers.11.")),
        "{base}: its text_encoder has 180 tensors, and that of Stable Diffusion 1.5 196: it is pruned, or another "
        f"model. {SD15}",
    ),
]


@pytest.mark.parametrize(("family", "make", "sentence"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_bad_files(family: str, make: Make, sentence: str, tmp_path: Path) -> None:
    base = make(tmp_path)
    with pytest.raises(BaseModelError) as error:
        check_base(base, family)
    assert str(error.value) == sentence.format(base=base)


def changed(name: str, **values: Any) -> Callable[[Path], None]:
    """Changes the JSON file `name` in a folder."""

    def change(base: Path) -> None:
        path = base / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def removed(name: str) -> Callable[[Path], None]:
    return lambda base: shutil.rmtree(base / name) if (base / name).is_dir() else (base / name).unlink()


def renamed(name: str, to: str) -> Callable[[Path], None]:
    return lambda base: (base / name).rename((base / name).with_name(to))


def index_without_parts(base: Path) -> None:
    names = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (base / "unet" / "diffusion_pytorch_model.safetensors").rename(base / "unet" / names[0])
    index = {"metadata": {}, "weight_map": dict(zip(("a", "b"), names, strict=True))}
    (base / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def flux(base: Path) -> None:
    (base / "model_index.json").write_text(
        json.dumps({"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]})
    )


def sd2(base: Path) -> None:
    changed("unet/config.json", cross_attention_dim=1024)(base)
    changed("text_encoder/config.json", hidden_size=1024)(base)
    unet_of(lambda: of_width(folder_tensors("sd15", "unet"), 1024))(base)


def unet_of(shapes: Callable[[], Shapes]) -> Callable[[Path], None]:
    return lambda base: write_header(base / "unet" / "diffusion_pytorch_model.safetensors", shapes()) and None


UNET = "unet/diffusion_pytorch_model.safetensors"
FOLDERS: list[tuple[str, str, str, Callable[[Path], None], str]] = [
    (
        "SDXL for SD1.5",
        "sdxl",
        "sd15",
        lambda base: None,
        "{base} is a model of family sdxl, not sd15: choose a profile of that family.",
    ),
    (
        "SD1.5 for SDXL",
        "sd15",
        "sdxl",
        lambda base: None,
        "{base} is a model of family sd15, not sdxl: choose a profile of that family.",
    ),
    ("Flux", "sd15", "sd15", flux, f"{{base}} is a FluxPipeline, which has no U-Net of Stable Diffusion. {SD15}"),
    (
        "refiner",
        "sdxl",
        "sdxl",
        changed("model_index.json", text_encoder=[None, None]),
        f"{{base}} is the refiner of SDXL, no base model. {SDXL}",
    ),
    (
        "Kolors",
        "sdxl",
        "sd15",
        changed(
            "model_index.json",
            _class_name="KolorsPipeline",
            text_encoder=["kolors", "ChatGLMModel"],
            text_encoder_2=[None, None],
        ),
        f"{{base}} is a KolorsPipeline: its text_encoder is a ChatGLMModel, not a CLIPTextModel. {SD15}",
    ),
    (
        "no text encoder",
        "sd15",
        "sd15",
        changed("model_index.json", text_encoder=[None, None]),
        f"{{base}} has no text_encoder: model_index.json names none. {SD15}",
    ),
    (
        "no VAE",
        "sd15",
        "sd15",
        removed("vae/config.json"),
        "{base}/vae/config.json is missing. A base model of family sd15 is one .safetensors file, or a folder in the "
        "diffusers layout.",
    ),
    (
        "video",
        "sd15",
        "sd15",
        changed("unet/config.json", _class_name="UNetMotionModel"),
        f"{{base}}/unet is a UNetMotionModel, not a UNet2DConditionModel. {SD15}",
    ),
    (
        "SD2",
        "sd15",
        "sd15",
        sd2,
        f"{{base}} is a model of Stable Diffusion 2: its U-Net reads texts of width 1024, not 768. {SD15}",
    ),
    (
        "inpainting",
        "sdxl",
        "sdxl",
        unet_of(lambda: folder_tensors("sdxl", "unet") | {"conv_in.weight": [320, 9, 3, 3]}),
        f"{{base}} is an inpainting model: its U-Net reads 9 channels, not the 4 of the latents. {SDXL}",
    ),
    (
        "weights of another model",
        "sd15",
        "sd15",
        changed("unet/config.json", in_channels=9),
        "{base}: the configuration of its U-Net says in_channels 9, and its weights have 4: they are of different "
        f"models. {SD15}",
    ),
    (
        "an index without its parts",
        "sd15",
        "sd15",
        index_without_parts,
        "{base}/unet/diffusion_pytorch_model.safetensors.index.json names 2 files, and 1 of them is missing: "
        "diffusion_pytorch_model-00002-of-00002.safetensors. Download all of them.",
    ),
    (
        "a variant",
        "sd15",
        "sd15",
        renamed(UNET, "diffusion_pytorch_model.fp16.safetensors"),
        "{base}/unet has no diffusion_pytorch_model.safetensors, nor an index of its parts, but "
        "diffusion_pytorch_model.fp16.safetensors. Pickles, and variants such as fp16, are not looked for: rename a "
        "variant.",
    ),
    (
        "pickles",
        "sd15",
        "sd15",
        renamed("text_encoder/model.safetensors", "pytorch_model.bin"),
        "{base}/text_encoder has no model.safetensors, nor an index of its parts, but pytorch_model.bin. Pickles, and "
        "variants such as fp16, are not looked for: rename a variant.",
    ),
    (
        "a pickle under another name",
        "sd15",
        "sd15",
        lambda base: (base / UNET).write_bytes(b"PK\x03\x04" + bytes(60)) and None,
        f"{{base}}/{UNET} is a pickle checkpoint, which can run code when loaded. Use a .safetensors file.",
    ),
    (
        "a part that was cut off",
        "sd15",
        "sd15",
        lambda base: cut(10, 9)(base / "vae").rename(base / "vae" / "diffusion_pytorch_model.safetensors") and None,
        "{base}/vae/diffusion_pytorch_model.safetensors is a safetensors file that was cut off: it has 79 of 80 bytes. "
        + AGAIN,
    ),
    (
        "4-bit weights",
        "sd15",
        "sd15",
        changed("unet/config.json", quantization_config={"quant_method": "bitsandbytes"}),
        "{base}/unet is quantised: such weights are not read here. Use the model in float16, bfloat16 or float32.",
    ),
    (
        "tensors that are missing",
        "sd15",
        "sd15",
        unet_of(lambda: {n: s for n, s in folder_tensors("sd15", "unet").items() if not n.startswith("mid_block.")}),
        "{base}: its unet has 640 tensors, and that of Stable Diffusion 1.5 686: it is pruned, or another model. "
        + SD15,
    ),
    (
        "another VAE",
        "sd15",
        "sd15",
        changed("vae/config.json", _class_name="VQModel"),
        "{base}/vae is a VQModel; known are AutoencoderKL, AutoencoderTiny.",
    ),
    (
        "a VAE of Flux",
        "sd15",
        "sd15",
        changed("vae/config.json", latent_channels=16),
        f"{{base}} is of another kind: its U-Net reads 4 channels, not the 16 of the latents. {SD15}",
    ),
    (
        "a broken configuration",
        "sd15",
        "sd15",
        lambda base: (base / "unet" / "config.json").write_text("{") and None,
        "{base}/unet/config.json is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char "
        f"1)). {AGAIN}",
    ),
    (
        "a prediction of images",
        "sd15",
        "sd15",
        changed("scheduler/scheduler_config.json", prediction_type="sample"),
        "{base}: prediction type 'sample' is none of epsilon, v_prediction, v. Use a model that predicts noise or v.",
    ),
]


@pytest.mark.parametrize(
    ("kind", "family", "change", "sentence"), [case[1:] for case in FOLDERS], ids=[case[0] for case in FOLDERS]
)
def test_bad_folders(
    kind: str, family: str, change: Callable[[Path], None], sentence: str, whole: dict[str, Path], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(whole[kind], tmp_path / "base"))
    change(base)
    with pytest.raises(BaseModelError) as error:
        check_base(base, family)
    assert str(error.value) == sentence.format(base=base)


def test_a_folder_beside_a_file_has_to_be_its_configurations(whole: dict[str, Path], tmp_path: Path) -> None:
    base = write_header(tmp_path / "base.safetensors", checkpoint("sd15"))
    (tmp_path / "base").mkdir()
    with pytest.raises(BaseModelError) as error:
        check_base(base, "sd15")
    assert str(error.value) == (
        f"{tmp_path}/base/model_index.json is missing. {tmp_path}/base is read for the configurations of "
        "base.safetensors: complete it, or move it away."
    )
    (tmp_path / "base").rmdir()
    shutil.copytree(whole["sd15"], tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    check_base(base, "sd15")
    changed("vae/config.json", latents_mean=[0.0] * 4)(tmp_path / "base")
    with pytest.raises(BaseModelError, match="base/vae states latents_mean"):
        check_base(base, "sd15")


@pytest.mark.parametrize("name", ["base.ckpt", "base.pt", "base.gguf"])
def test_a_checkpoint_of_another_kind_in_the_place_of_the_base_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"GGUF" + bytes(60) if name.endswith("gguf") else b"\x80\x02}q\x00.")
    with pytest.raises(BaseModelError, match=rf"{re.escape(name)} is a (pickle checkpoint|GGUF file)"):
        check_base(tmp_path / "base", "sd15")


def test_the_numbers_of_tensors_are_those_of_the_true_architectures() -> None:
    for family in CONFIGS:
        assert _TENSORS[family] == {part: len(tensors) for part, tensors in parts(family).items()}
        starts = {"unet": "model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}
        if family == "sdxl":
            starts |= {"text_encoder": "conditioner.embedders.0.", "text_encoder_2": "conditioner.embedders.1."}
        for part, start in starts.items():
            count = sum(name.startswith(start) and not name.endswith("logit_scale") for name in checkpoint(family))
            assert least_tensors(family, part, CONFIGS[family][part], single_file=True) == count


@pytest.mark.parametrize(
    ("extra", "metadata", "expected"),
    [
        ([], None, BaseNoise()),
        ([], {"modelspec.prediction_type": "epsilon"}, BaseNoise()),
        ([], {"modelspec.prediction_type": "v"}, BaseNoise(v_prediction=True)),
        (["v_pred"], {"modelspec.prediction_type": "epsilon"}, BaseNoise(v_prediction=True)),
        (["v_pred", "ztsnr"], None, BaseNoise(v_prediction=True, zero_snr=True)),
    ],
)
def test_what_a_single_file_says_of_noise(
    extra: list[str], metadata: dict[str, object] | None, expected: BaseNoise, tmp_path: Path
) -> None:
    shapes = {"w": [1], **{name: [0] for name in extra}}
    assert base_noise(write_header(tmp_path / "base.safetensors", shapes, metadata=metadata)) == expected


def test_the_command_says_it_in_one_sentence_with_status_2(tmp_path: Path) -> None:
    bad = write_header(tmp_path / "bad.safetensors", checkpoint("sd15") | {CONV_IN: [320, 9, 3, 3]})
    result = CliRunner().invoke(main, ["check-base", str(bad), "--family", "sd15"])
    assert result.exit_code == 2
    assert result.output == (
        f"Error: {bad} is an inpainting model: its U-Net reads 9 channels, not the 4 of the latents. {SD15}\n"
    )
    good = write_header(
        tmp_path / "good.safetensors",
        checkpoint("sdxl") | {"ztsnr": [0]},
        metadata={"modelspec.prediction_type": "v"},
    )
    result = CliRunner().invoke(main, ["check-base", str(good), "--family", "sdxl"])
    assert result.exit_code == 0
    assert result.output == (
        f"{good}: a base model of family sdxl; it predicts v, its last level is pure noise (zero terminal SNR).\n"
    )


def test_no_heavy_library_is_loaded_to_check(tmp_path: Path) -> None:
    base = write_header(tmp_path / "base.safetensors", checkpoint("sdxl"))
    code = (
        "import sys\nfrom pathlib import Path\nfrom sticker_pipeline.diffusion.base_model import check_base\n"
        f"check_base(Path({str(base)!r}), 'sdxl')\n"
        "assert not {'torch', 'diffusers', 'transformers', 'safetensors'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(REPOSITORY)}, timeout=60)


def test_the_training_process_exits_with_2_and_the_sentence(tmp_path: Path) -> None:
    base = write_header(tmp_path / "base.safetensors", without("sd15", "first_stage_model.")())
    spec = {
        **dict.fromkeys(("training_set", "frames", "output", "cache"), str(tmp_path)),
        "name": "nova",
        "trigger": "nova",
        "base": str(base),
        "base_sha": "ab",
        "resolution": 64,
        "settings": {"samples_per_epoch": 1},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    done = subprocess.run(
        [sys.executable, "-m", "sticker_pipeline.training", str(tmp_path / "spec.json")],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (2, f"base: {base} has no VAE. {SD15}\n")


def documented() -> list[str]:
    """The rows of the table in docs/guide/bases.md: each case once, with its sentence."""
    cases = [("file: " + name.partition(": ")[0], sentence) for name, _, _, sentence in FILES]
    cases += [(f"folder: {name}", sentence) for name, _, _, _, sentence in FOLDERS]
    first = {sentence: name for name, sentence in reversed(cases)}
    return [
        f"| {first[sentence]} | {sentence.format(base='BASE')} |" for sentence in dict.fromkeys(s for _, s in cases)
    ]


def test_the_page_lists_every_sentence() -> None:
    page = (REPOSITORY / "docs" / "guide" / "bases.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in page if line.startswith(("| file: ", "| folder: "))] == documented()
