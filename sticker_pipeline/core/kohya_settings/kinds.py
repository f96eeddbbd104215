"""Kinds of training in a configuration: LoRA types, or no LoRA.

Types of kohya_ss's LoRA form (45088f0, kohya_gui/lora_gui.py), by modules of sd-scripts (48d368f) and LyCORIS
(lycoris/kohya.py).
"""

from collections.abc import Mapping
from typing import Any

TRAINED = ("Standard", "Kohya LoCon", "LyCORIS/LoCon", "LoCon")  # the last: old name of LyCORIS/LoCon

OTHERS: Mapping[str, str] = {
    "LyCORIS/LoHa": "LoHa: the product, entry by entry, of two low-rank matrices",
    "LyCORIS/LoKr": "LoKr: a Kronecker product of matrices",
    "LyCORIS/iA3": "(IA)³: a factor for each output of a layer",
    "LyCORIS/BOFT": "BOFT: rotations of the weights in butterfly form",
    "LyCORIS/Diag-OFT": "Diag-OFT: rotations of blocks of the weights",
    "LyCORIS/DyLoRA": "DyLoRA: many ranks trained at once",
    "LyCORIS/GLoRA": "GLoRA: low-rank matrices that also multiply the weights",
    "LyCORIS/Native Fine-Tuning": "whole weights, no LoRA",
    "Kohya DyLoRA": "DyLoRA: many ranks trained at once",
    "Kohya LoHa": "LoHa: the product, entry by entry, of two low-rank matrices",
    "Kohya LoKr": "LoKr: a Kronecker product of matrices",
    "LoRA-FA": "LoRA-FA: the first matrix keeps its random initial values",
    "OFT": "OFT: rotations of blocks of the weights",
    "Flux1": "a LoRA of Flux models",
    "Flux1 OFT": "OFT of Flux models",
    "SD3": "a LoRA of SD3 models",
    "HunyuanImage-2.1": "a LoRA of HunyuanImage models",
    "Anima": "a LoRA of Anima models",
    "Lumina": "a LoRA of Lumina models",
}
"""Types that are not trained here, and their meaning."""

MODULES: Mapping[str, str] = {
    "networks.lora": "Standard",
    "networks.dylora": "Kohya DyLoRA",
    "networks.loha": "Kohya LoHa",
    "networks.lokr": "Kohya LoKr",
    "networks.lora_fa": "LoRA-FA",
    "networks.oft": "OFT",
    "networks.lora_flux": "Flux1",
    "networks.oft_flux": "Flux1 OFT",
    "networks.lora_sd3": "SD3",
    "networks.lora_hunyuan_image": "HunyuanImage-2.1",
    "networks.lora_anima": "Anima",
    "networks.lora_lumina": "Lumina",
}
"""Type by `network_module`; for `lycoris.kohya`, ALGORITHMS gives it by `algo`."""

ALGORITHMS: Mapping[str, str] = {
    "lora": "LyCORIS/LoCon",
    "locon": "LyCORIS/LoCon",
    "loha": "LyCORIS/LoHa",
    "lokr": "LyCORIS/LoKr",
    "ia3": "LyCORIS/iA3",
    "boft": "LyCORIS/BOFT",
    "diag-oft": "LyCORIS/Diag-OFT",
    "dylora": "LyCORIS/DyLoRA",
    "glora": "LyCORIS/GLoRA",
    "full": "LyCORIS/Native Fine-Tuning",
}
"""Type by LyCORIS's `algo`."""

# Keys of that kind only, in kohya_ss's forms and sd-scripts' TOML files.
NO_LORA: Mapping[str, tuple[str, ...]] = {
    "textual inversion": ("token_string", "init_word", "num_vectors_per_token"),
    "finetuning": (
        *("full_path", "image_folder", "train_dir", "create_buckets", "use_latent_files", "train_text_encoder"),
        *("caption_metadata_filename", "latent_metadata_filename", "in_json"),
    ),
    "DreamBooth": ("learning_rate_te", "learning_rate_te1", "learning_rate_te2"),
}
OF_LORA = ("LoRA_type", "network_module", "network_dim", "network_alpha", "network_args", "network_weights", "unet_lr")


def type_fault(name: str) -> str:
    """Explain why a LoRA type is not trained here, or ""."""
    if name in TRAINED:
        return ""
    what = f"it is {OTHERS[name]}, which is not trained here" if name in OTHERS else "no such type is known here"
    return f"{what}. Choose {', '.join(TRAINED[:2])} or {TRAINED[2]}"


def no_lora(data: Mapping[str, Any]) -> str:
    """Return what `data` trains instead of a LoRA, or ""."""
    if any(key in data for key in OF_LORA):
        return ""
    return next((kind for kind, keys in NO_LORA.items() if any(key in data for key in keys)), "")
