"""Recognition, by keys, of files that are no applicable LoRA, with messages.

Values of LoRA files: `formats.py`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.core.texts import counted
from sticker_pipeline.diffusion.lora.file import LoraError

_NO_LORA = "It is no LoRA: name a LoRA file."
_OTHER_MODEL = "It cannot change this base model: name a file that was trained for it."
_OTHER_METHOD = (
    "It is no plain LoRA and is not applied here. Merge it into its base model with the tool that made it and extract "
    "a LoRA from the result (sd-scripts: networks/extract_lora_from_models.py), or name another file."
)
_OTHER_NAMES = (
    "Its names do not say which modules it changes. Merge it into its base model with the tool that made it and "
    "extract a LoRA from the result, or name another file."
)


@dataclass(frozen=True)
class Kind:
    """Files with a key that `pattern` matches.

    In messages, `name` follows "is", `remedy` is the second sentence.
    """

    pattern: str
    name: str
    remedy: str


# Prefixes are of each program's own files: Stability's checkpoints (model.diffusion_model, …), diffusers' folders,
# ControlNet, IP-Adapter and AnimateDiff as published. Methods are named as in LyCORIS
# (github.com/KohakuBlueleaf/LyCORIS), peft and ComfyUI's weight_adapter folder. The first match counts.
_PLAIN = r"(?!.*(lora|hada|lokr|oft_|\.diff(_b)?$))"  # before keys of no adapter
KINDS: tuple[Kind, ...] = (
    Kind(r"^bundle_emb\.", "a bundle of OneTrainer: a LoRA with embeddings of its own (pivotal tuning)", _OTHER_METHOD),
    Kind(
        r"^(emb_params|string_to_(param|token)\b.*|clip_[lg]|t5|<.+>)$", "a textual inversion (an embedding)", _NO_LORA
    ),
    Kind(
        rf"^{_PLAIN}(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner\.embedders)\.",
        "a full checkpoint",
        _NO_LORA,
    ),
    Kind(r"^lora_controlnet$|^control_model\.|^controlnet_|^input_hint_block\.", "a ControlNet", _NO_LORA),
    Kind(r"lllite_", "a ControlNet-LLLite", _NO_LORA),
    Kind(r"^(ip_adapter|image_proj)\.", "an IP-Adapter", _NO_LORA),
    Kind(r"motion_modules\.|temporal_transformer", "a motion module (AnimateDiff)", _NO_LORA),
    Kind(
        rf"^{_PLAIN}(unet\.)?(conv_in|down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks)"
        r"\..*(weight|bias)$",
        "a U-Net, with all its weights",
        _NO_LORA,
    ),
    Kind(rf"^{_PLAIN}(text_model|transformer\.text_model)\..*(weight|bias)$", "a text encoder", _NO_LORA),
    Kind(rf"^{_PLAIN}(encoder|decoder)\.(down|mid|up)(_blocks?)?\.", "a VAE", _NO_LORA),
    Kind(
        r"double_blocks|single_blocks|single_transformer_blocks",
        "a LoRA for Flux, or a model built like it",
        _OTHER_MODEL,
    ),
    Kind(r"joint_blocks|\.add_[qkv]_proj\.|^lora_te3_", "a LoRA for SD3", _OTHER_MODEL),
    Kind(r"^lora_prior_(unet|te)_", "a LoRA for Stable Cascade", _OTHER_MODEL),
    Kind(r"^(transformer|lora_transformer)[._]", "a LoRA for a diffusion transformer", _OTHER_MODEL),
    Kind(r"\.hada_\w+$", "a LyCORIS LoHa", _OTHER_METHOD),
    Kind(r"\.lokr_\w+$", "a LyCORIS LoKr", _OTHER_METHOD),
    Kind(r"\.diff(_b)?$", "a LyCORIS full difference", _OTHER_METHOD),
    Kind(r"\.on_input$|\.ia3_l\b", "a LyCORIS (IA)³", _OTHER_METHOD),
    Kind(r"\.oft_\w+|\.boft_\w+", "an OFT", _OTHER_METHOD),
    Kind(r"\.[ab][12]\.weight$", "a LyCORIS GLoRA", _OTHER_METHOD),
    Kind(r"\.(w|b)_norm$", "a LyCORIS file with trained norms", _OTHER_METHOD),
    Kind(r"\.lora_mid\.weight$", "a LyCORIS LoCon with a Tucker core (`use_tucker`)", _OTHER_METHOD),
    Kind(r"\.scalar$", "a LyCORIS file with trained scalars (`use_scalar`)", _OTHER_METHOD),
    Kind(r"\.vera_lambda_[bd]$", "a VeRA", _OTHER_METHOD),
    Kind(r"\.lora_(B|up)(\.\w+)?\.bias$", "a LoRA with trained biases (`lora_bias`)", _OTHER_METHOD),
    Kind(r"\.lora_embedding_[AB]\b", "a LoRA of the table of words (embeddings)", _OTHER_METHOD),
    Kind(r"^(unet|text_encoder):\d+:(up|down|alpha)$", "a LoRA of cloneofsimo's lora_diffusion", _OTHER_NAMES),
)
# For keys of no module, after the check of widths.
ORIGINAL_NAMES = Kind(
    r"^(lora_unet_|diffusion_model\.)(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)[_.]",
    "a LoRA with Stability's names of blocks (`input_blocks`)",
    "sd-scripts writes them for SDXL, and those of SD1.5 in diffusers' names: name a file that was trained for this "
    "base model, in kohya's or diffusers' layout.",
)


def refuse_kinds(keys: Collection[str], path: Path, kinds: Collection[Kind] = KINDS) -> None:
    """Raise LoraError for the first of `kinds` that any key matches."""
    for kind in kinds:
        pattern = re.compile(kind.pattern)
        concerned = [key for key in keys if pattern.search(key)]
        if concerned:
            raise LoraError(
                f"{path} is {kind.name}: {len(concerned)} of {counted(len(keys), 'key')}, as {concerned[0]!r}. "
                f"{kind.remedy}"
            )
