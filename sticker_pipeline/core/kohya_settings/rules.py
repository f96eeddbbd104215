"""Rules for keys of kohya_ss files: sd-scripts' behaviour and its equivalent here.

Sources: kohya_ss 45088f0 (kohya_gui/lora_gui.py, common_gui.py), sd-scripts 48d368f (train_network.py,
library/train_util.py, networks/lora.py). Other keys: `optimization.py`.
"""

import math

from sticker_pipeline.core.kohya_settings.answers import (
    Answer,
    Rule,
    buckets_differ,
    buckets_ignored,
    differs,
    elsewhere,
    ignored,
    refused,
    same,
    taken,
    taken_buckets,
)
from sticker_pipeline.core.kohya_settings.form import EXTRA, Form, Row
from sticker_pipeline.core.kohya_settings.kinds import type_fault
from sticker_pipeline.core.kohya_settings.optimization import OPTIMIZATION, rates
from sticker_pipeline.core.texts import are, counted


def answer(row: Row, form: Form) -> Answer:
    """Return the answer to a key by its role in keys.csv."""
    if row.role == "rule":
        return RULES[row.key](form)
    if row.role == "setting":
        return taken(**{row.note: form[row.key]})
    if row.role == "off":
        off = not form[row.key] or form[row.key] == row.default
        return same("off") if off else refused(f"{row.note}. Turn it off, or remove it")
    if row.role == "other":
        why = f"read only with {row.note}"
        return differs(f"{why}; {OF_REFUSED_TYPE}") if type_fault(form["LoRA_type"]) else ignored(why)
    if row.role == "old":
        return ignored("kohya_ss no longer passes it on")
    return elsewhere(row.note)


# models


def _base_model(form: Form) -> Answer:
    return differs(f"the base model of the profile {form.target.profile} is trained")


def _vae(form: Form) -> Answer:
    return differs("the base model's own VAE is used") if form["vae"] else same("the base model's own VAE is used")


def _family(form: Form) -> Answer:
    if form.is_toml:
        return taken(f"a TOML file does not state it: it is read as one for {form.target.family} models")
    file = "sdxl" if form.fields["sdxl"] else "sd15"
    if file != form.target.family:
        return refused(
            f"the file is for {file} models, and the profile {form.target.profile} for {form.target.family}. Choose a "
            "profile of the same family"
        )
    return taken(f"the family of the profile {form.target.profile}")


def _prediction(form: Form) -> Answer:
    return taken(prediction="v_prediction" if form["v_parameterization"] else "epsilon")


# adapters

LYCORIS = ("LyCORIS/LoCon", "LoCon")
OF_REFUSED_TYPE = "it goes with LoRA_type, which is refused"
TUCKER = "convolutions have two matrices here, not three (Tucker)"
NO_CONVOLUTION = "no convolution is trained: LoRA_type Kohya LoCon trains them"


def _lora_type(form: Form) -> Answer:
    kind = form["LoRA_type"]
    if fault := type_fault(kind):
        return refused(fault)
    if kind in LYCORIS:
        return differs(
            "LyCORIS also trains conv_in, conv_out and time_embedding of the U-Net, which are not trained here",
            targets="all+conv",
        )
    return taken(targets="all+conv" if _conv_rank(form) else "all")


def _conv_rank(form: Form) -> int:
    """Return the rank of the convolutions; 0: not trained.

    kohya_ss passes 0 on; LyCORIS then takes network_dim.
    """
    kind, rank = form["LoRA_type"], int(form.fields["conv_dim"])
    if kind in LYCORIS:
        return rank or int(form["network_dim"])
    return rank if kind == "Kohya LoCon" else 0


def _conv_dim(form: Form) -> Answer:
    if type_fault(form["LoRA_type"]):
        return differs(OF_REFUSED_TYPE)
    rank = _conv_rank(form)
    return taken(conv_rank=rank) if rank else ignored(NO_CONVOLUTION)


def _conv_alpha(form: Form) -> Answer:
    rank, alpha = _conv_rank(form), form.fields["conv_alpha"]
    if type_fault(form["LoRA_type"]):
        return differs(OF_REFUSED_TYPE)
    if not rank:
        return ignored(NO_CONVOLUTION)
    if not alpha and form["LoRA_type"] in LYCORIS and form["network_alpha"]:
        return taken("0 means network_alpha", conv_alpha=float(form["network_alpha"]))
    return taken(conv_alpha=float(alpha)) if alpha else taken("0 means the rank", conv_alpha=float(rank))


def _only_of_lycoris(key: str, accepted: str | bool, problem: str) -> Rule:
    """Make the rule of a LyCORIS-only key that must be `accepted`."""

    def rule(form: Form) -> Answer:
        if type_fault(form["LoRA_type"]):
            return differs(OF_REFUSED_TYPE)
        if form["LoRA_type"] not in LYCORIS:
            return ignored("read only with LyCORIS types of LoRA")
        value = form[key] or accepted
        return same("as it is here") if value == accepted else refused(f"{problem}. Set it to {accepted}")

    return rule


def _network_alpha(form: Form) -> Answer:
    alpha = form["network_alpha"]
    return taken(alpha=float(alpha)) if alpha else taken("0 means the rank", alpha=float(form["network_dim"]))


# images


def _resolution(form: Form) -> Answer:
    if form.is_toml and not form["max_resolution"]:
        return differs("the file does not state it")
    try:
        width, height = (int(side) for side in (form["max_resolution"].split(",") * 2)[:2])
    except ValueError:
        return refused("it must be 'width,height' in pixels")
    ours = form.target.resolution
    if width * height == ours * ours:
        return taken(f"resolution {ours}, as the profile {form.target.profile} has it")
    return differs(f"the profile {form.target.profile} trains at {ours} × {ours} pixels")


def _bucketing(form: Form) -> Answer:
    if form["enable_bucket"]:
        return taken_buckets(shape="aspect")
    return buckets_differ("images are padded to a square, where sd-scripts cuts them to one", shape="square")


LEAST_STEPS = {"sd15": 64, "sdxl": 32}  # sd-scripts stops for other than multiples


def _only_with_buckets(rule: Rule) -> Rule:
    return lambda form: rule(form) if form["enable_bucket"] else ignored("enable_bucket is off")


def _step(form: Form) -> int:
    """Return the nearest step that sd-scripts accepts."""
    least = LEAST_STEPS[form.target.family]
    return max(least, round(form["bucket_reso_steps"] / least) * least)


def _bucket_step(form: Form) -> Answer:
    step, least = form["bucket_reso_steps"], LEAST_STEPS[form.target.family]
    if step % least:
        return buckets_differ(
            f"the current sd-scripts stops at {step}: for {form.target.family} {least} and its multiples are allowed",
            step=_step(form),
        )
    return taken_buckets(step=step)


def _bucket_upscale(form: Form) -> Answer:
    return taken_buckets(upscale=not form["bucket_no_upscale"])


# Limits that no image of the profile's area exceeds.
NO_LIMITS = "with bucket_no_upscale no side has a lower or upper limit"


def _min_bucket(form: Form) -> Answer:
    if form["bucket_no_upscale"]:
        return buckets_ignored(NO_LIMITS, min_side=_step(form))
    return taken_buckets(min_side=form["min_bucket_reso"])


def _max_bucket(form: Form) -> Answer:
    if form["bucket_no_upscale"]:
        return buckets_ignored(NO_LIMITS, max_side=form.target.resolution**2 // _step(form))
    return taken_buckets(max_side=form["max_bucket_reso"])


def _max_train_epochs(form: Form) -> Answer:
    if not form["max_train_epochs"]:
        return same("off")
    return taken(_epoch_length(), epochs=form["max_train_epochs"])


def _max_train_steps(form: Form) -> Answer:
    steps = form["max_train_steps"]
    if not steps:
        return same("off")
    if form["max_train_epochs"]:
        return ignored("max_train_epochs takes precedence")
    images = steps * max(form["train_batch_size"], 1) * max(form["gradient_accumulation_steps"], 1)
    epochs = form.target.epochs
    why = f"{counted(steps, 'step')} {are(steps)} {counted(images, 'image')}"
    return taken(why, epochs=epochs, samples_per_epoch=math.ceil(images / epochs))


def _epoch(form: Form) -> Answer:
    for key in ("max_train_epochs", "max_train_steps"):
        if form[key]:
            return ignored(f"{key} takes precedence")
    return taken(_epoch_length(), epochs=form["epoch"])


def _epoch_length() -> str:
    return "an epoch has samples_per_epoch images, not as many as the folders and their repeats"


def _random_crop(form: Form) -> Answer:
    if not form["random_crop"]:
        return taken(crops=1)
    if form["cache_latents"]:
        return refused("sd-scripts stops: with cache_latents there is no random_crop. Turn off one of them")
    return differs("the number of crops of an image, chosen beforehand", crops=16)


def _masked_loss(form: Form) -> Answer:
    if not form["masked_loss"]:
        return same("off")
    return ignored("the form has no field for mask images; --alpha_mask takes the transparency of images")


def _alpha_mask(form: Form) -> Answer:
    return taken(background_weight=0.0 if form["--alpha_mask"] else 1.0)


def _regularisation(form: Form) -> Answer:
    if not form["reg_data_dir"]:
        return same("no regularisation images")
    return taken(
        "sd-scripts samples as many of them as of the other images",
        regularisation=form["reg_data_dir"],
        regularisation_share=0.5,
    )


def _prior_loss_weight(form: Form) -> Answer:
    if not form["reg_data_dir"]:
        return ignored("there is no reg_data_dir")
    return taken(regularisation_weight=float(form["prior_loss_weight"]))


# captions


def _keep_tokens(form: Form) -> Answer:
    if form["shuffle_caption"] or form["--caption_tag_dropout_rate"]:
        return taken(keep_tags=form["keep_tokens"])
    return ignored("tags are neither shuffled nor dropped")


def _clip_skip(form: Form) -> Answer:
    if form.target.family == "sdxl":
        return ignored("for SDXL the layers of the text encoders are fixed")
    return taken(clip_skip=form["clip_skip"] or 1)


def _weighted_captions(form: Form) -> Answer:
    why = "weights of tags come from curation.weights of character.yaml"
    return taken(why) if form["weighted_captions"] else same(why)


def _cached_text(form: Form) -> Answer:
    if not form["sdxl_cache_text_encoder_outputs"]:
        return elsewhere("outputs of the text encoders are cached where these are not trained")
    if form.target.family != "sdxl":
        return ignored("for SDXL only")
    if rates(form)[1]:
        return refused(
            "sd-scripts stops: it does not train the text encoders then. Set text_encoder_lr to 0, or turn it off"
        )
    for key in ("shuffle_caption", "caption_dropout_rate", "--caption_tag_dropout_rate"):
        if form[key]:
            return refused(f"sd-scripts stops: with it there is no {key.lstrip('-')}. Turn off one of them")
    return elsewhere("outputs of the text encoders are cached where these are not trained")


# the machine

PRECISIONS = {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}


def _precision(form: Form) -> Answer:
    name = form["mixed_precision"]
    if name not in PRECISIONS:
        return refused(f"it is not supported here. Choose {', '.join(PRECISIONS)}")
    return taken(precision=PRECISIONS[name])


def _full_precision(key: str, needs: str) -> Rule:
    def rule(form: Form) -> Answer:
        if not form[key]:
            return same("off")
        if form["mixed_precision"] != needs:
            return refused(f"sd-scripts stops: it needs mixed_precision {needs}. Turn it off")
        return differs("adapters and their gradients stay float32")

    return rule


def _additional(form: Form) -> Answer:
    return taken("each flag has a line of its own") if form[EXTRA] else same("empty")


KINDS = (
    *("LoRA_type", "v2", "flux1_checkbox", "sd3_checkbox", "hunyuan_image_checkbox"),
    *("anima_checkbox", "lumina_checkbox", "train_inpainting"),
)
"""Keys of the kind of training: if one is refused, the others do not matter."""

RULES: dict[str, Rule] = {
    **OPTIMIZATION,
    "pretrained_model_name_or_path": _base_model,
    "vae": _vae,
    "sdxl": _family,
    "v_parameterization": _prediction,
    "LoRA_type": _lora_type,
    "network_alpha": _network_alpha,
    "conv_dim": _conv_dim,
    "conv_alpha": _conv_alpha,
    "LyCORIS_preset": _only_of_lycoris("LyCORIS_preset", "full", "the layers of other presets are not known here"),
    "dora_wd": _only_of_lycoris("dora_wd", False, "LyCORIS decomposes weights by other norms than `dora` here"),
    "use_cp": _only_of_lycoris("use_cp", False, TUCKER),
    "use_tucker": _only_of_lycoris("use_tucker", False, TUCKER),
    "use_scalar": _only_of_lycoris("use_scalar", False, "adapters have no further factor here"),
    "train_norm": _only_of_lycoris("train_norm", False, "norm layers are not trained here"),
    "max_resolution": _resolution,
    "enable_bucket": _bucketing,
    "bucket_reso_steps": _only_with_buckets(_bucket_step),
    "bucket_no_upscale": _only_with_buckets(_bucket_upscale),
    "min_bucket_reso": _only_with_buckets(_min_bucket),
    "max_bucket_reso": _only_with_buckets(_max_bucket),
    "max_train_epochs": _max_train_epochs,
    "max_train_steps": _max_train_steps,
    "epoch": _epoch,
    "random_crop": _random_crop,
    "masked_loss": _masked_loss,
    "--alpha_mask": _alpha_mask,
    "reg_data_dir": _regularisation,
    "prior_loss_weight": _prior_loss_weight,
    "keep_tokens": _keep_tokens,
    "clip_skip": _clip_skip,
    "weighted_captions": _weighted_captions,
    "mixed_precision": _precision,
    "full_fp16": _full_precision("full_fp16", "fp16"),
    "full_bf16": _full_precision("full_bf16", "bf16"),
    "sdxl_cache_text_encoder_outputs": _cached_text,
    EXTRA: _additional,
}
"""The rule of each key with the role `rule`."""
