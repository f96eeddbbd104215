"""Data that identifies files other than SD1.5 and SDXL checkpoints.

Checks of base models: `base_model.py`.
"""

import re
from collections.abc import Iterable

# Tensor name that only such files have -> kind of file; the first match counts. Names are those of the published files,
# as in diffusers (loaders/single_file_utils.py, CHECKPOINT_KEY_NAMES) and ComfyUI (comfy/model_detection.py), and of
# the transformer classes in diffusers.
_FILES = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"^lora_(unet|te\d?)_|\.lora_([AB]|up|down)\b|\.lora\.(up|down)\b|hada_w|lokr_w", "a LoRA"),
        (r"^(control_model|controlnet_cond_embedding|input_hint_block)\.", "a ControlNet"),
        (r"^(image_proj|ip_adapter)\.", "an IP-Adapter"),
        (r"^(emb_params|clip_[lg])$", "a textual inversion"),
        (r"\bmotion_modules\.", "an AnimateDiff motion module"),
        (r"\btime_(stack|mixer)\.", "a Stable Video Diffusion model"),
        (r"\bsingle_stream_modulation\.", "a Flux.2 model"),
        (r"\bdistilled_guidance_layer\.", "a Chroma model"),
        (r"\bdouble_blocks\.0\.img_attn\.norm\.|\bsingle_transformer_blocks\.0\.", "a Flux model"),
        (r"\bjoint_blocks\.0\.|\btransformer_blocks\.0\.attn\.add_k_proj\.", "a Stable Diffusion 3 model"),
        (r"\bdouble_layers\.0\.attn\.", "an AuraFlow model"),
        (r"\bcap_embedder\.", "a Lumina model"),
        (r"\bpatchify_proj\.", "an LTX-Video model"),
        (r"\bmlp_t5\.", "a Hunyuan-DiT model"),
        (r"\bindividual_token_refiner\.", "a HunyuanVideo model"),
        (r"\btransformer_blocks\.0\.img_mod\.", "a Qwen-Image model"),
        (r"\bdouble_stream_blocks\.", "a HiDream model"),
        (r"\bhead\.modulation$", "a Wan model"),
        (r"\binverted_conv\.|\bconv_inverted\.", "a Sana model"),
        (r"\b(adaln_single|t_block)\.", "a PixArt model"),
        (r"^clip_txt_mapper\.|\bchannelwise\.", "a Stable Cascade model"),
        (r"^(encoder|decoder)\.(conv_in|conv_out|mid|up|down|mid_block|up_blocks|down_blocks)\.", "a VAE alone"),
        (r"^(text_model|transformer\.resblocks)\.|^encoder\.block\.\d+\.layer\.", "a text encoder alone"),
        (r"^(input_blocks|down_blocks)\.\d+\.", "a U-Net alone"),
    )
)
# Tensors that quantisation adds: bitsandbytes, scaled float8 of ComfyUI and torchao, GPTQ.
_QUANTISED = re.compile(
    r"\.(absmax|quant_map|quant_state\b.*|weight_scale|scale_weight|scale_input|qweight)$|^scaled_fp8$"
)
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")  # float8 opens too, rounded as it is


def file_kind(names: Iterable[str]) -> str | None:
    """Return the kind of file by tensor names, such as "a LoRA"."""
    found = list(names)
    return next((what for pattern, what in _FILES if any(pattern.search(name) for name in found)), None)


def quantised(header: dict[str, dict[str, object]]) -> str | None:
    """Return the first quantised tensor in a safetensors header, or None."""
    for name, tensor in header.items():
        if _QUANTISED.search(name) or (name.endswith(".weight") and tensor["dtype"] not in _FLOATS):
            return f"{name}, {tensor['dtype']}"
    return None


# Input channels of a U-Net -> purpose. Beside the 4 latent channels: mask and masked image; edited image; depth;
# enlarged image.
INPUT_CHANNELS = {
    9: "an inpainting model",
    8: "an instruct-pix2pix model",
    5: "a depth-to-image model",
    7: "an upscaler",
}
# Text width of published U-Nets.
TEXT_WIDTHS = {
    768: "a model of Stable Diffusion 1",
    1024: "a model of Stable Diffusion 2",
    1280: "the refiner of SDXL",
    2048: "a model of SDXL",
}
# Tensors of models with EDM noise (Karras et al. 2022): Playground 2.5, CosXL.
EDM = ("edm_mean", "edm_vpred.sigma_max")
