"""What a key of a kohya_ss file makes sd-scripts do, and what becomes of it here: one rule for each key that needs one.

What the programs do was read in kohya_ss 45088f0 (kohya_gui/lora_gui.py, common_gui.py) and sd-scripts 48d368f
(train_network.py, library/train_util.py, networks/lora.py). A rule looks at the form and answers; nothing is read here.
"""

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sticker_pipeline.kohya_settings.form import EXTRA, Form, Row, closest

Verdict = Literal["taken over", "differs here", "ignored by sd-scripts", "same without it", "not about training"]


@dataclass(frozen=True)
class Answer:
    """The verdict on a key, the settings that it becomes, and what is wrong with it, if anything."""

    verdict: Verdict
    effect: str
    training: Mapping[str, Any] = field(default_factory=dict)
    buckets: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


Rule = Callable[[Form], Answer]


def taken(why: str = "", **training: Any) -> Answer:
    return Answer("taken over", _effect(training, why), training)


def taken_buckets(why: str = "", **buckets: Any) -> Answer:
    return Answer(
        "taken over", _effect({f"buckets.{name}": value for name, value in buckets.items()}, why), {}, buckets
    )


def differs(why: str, **training: Any) -> Answer:
    return Answer("differs here", _effect(training, why), training)


def ignored(why: str) -> Answer:
    return Answer("ignored by sd-scripts", why)


def same(why: str) -> Answer:
    return Answer("same without it", why)


def elsewhere(why: str) -> Answer:
    return Answer("not about training", why)


def refused(problem: str) -> Answer:
    return Answer("differs here", problem, problem=problem)


def _effect(settings: Mapping[str, Any], why: str) -> str:
    return "; ".join([*(f"{name} = {value}" for name, value in settings.items()), *([why] if why else [])])


def answer(row: Row, form: Form) -> Answer:
    """What becomes of a key, by its role in the table."""
    if row.role == "rule":
        return RULES[row.key](form)
    if row.role == "setting":
        return taken(**{row.note: form[row.key]})
    if row.role == "off":
        off = not form[row.key] or form[row.key] == row.default
        return same("off") if off else refused(f"{row.note}. Turn it off, or remove it")
    if row.role == "other":
        return ignored(f"read only with {row.note}")
    if row.role == "old":
        return ignored("kohya_ss no longer passes it on")
    return elsewhere(row.note)


# models


def _base_model(form: Form) -> Answer:
    return differs(f"the base model of the profile {form.target.profile} is trained")


def _vae(form: Form) -> Answer:
    return differs("the base model's own VAE is used") if form["vae"] else same("the base model's own VAE is used")


def _family(form: Form) -> Answer:
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

LORA_TYPES = ("Standard", "Kohya LoCon")


def _lora_type(form: Form) -> Answer:
    kind = form["LoRA_type"]
    if kind not in LORA_TYPES:
        return refused(f"only LoRA_type {' and '.join(LORA_TYPES)} are trained here. Choose one of them")
    return taken(targets="all+conv" if _conv_rank(form) else "all")


def _conv_rank(form: Form) -> int:
    """0 where the convolutions are not trained. (kohya_ss passes 0 on as it is.)"""
    return int(form.fields["conv_dim"]) if form["LoRA_type"] == "Kohya LoCon" else 0


def _conv_dim(form: Form) -> Answer:
    rank = _conv_rank(form)
    return taken(conv_rank=rank) if rank else ignored("no convolution is trained: LoRA_type Kohya LoCon trains them")


def _conv_alpha(form: Form) -> Answer:
    rank, alpha = _conv_rank(form), form.fields["conv_alpha"]
    if not rank:
        return ignored("no convolution is trained: LoRA_type Kohya LoCon trains them")
    return taken(conv_alpha=float(alpha)) if alpha else taken("0 means the rank", conv_alpha=float(rank))


def _network_alpha(form: Form) -> Answer:
    alpha = form["network_alpha"]
    return taken(alpha=float(alpha)) if alpha else taken("0 means the rank", alpha=float(form["network_dim"]))


# pictures


def _resolution(form: Form) -> Answer:
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
    why = "pictures are padded to a square, where sd-scripts cuts them to one"
    return Answer("differs here", f"buckets.shape = square; {why}", {}, {"shape": "square"})


def _only_with_buckets(rule: Rule) -> Rule:
    return lambda form: rule(form) if form["enable_bucket"] else ignored("enable_bucket is off")


def _bucket_step(form: Form) -> Answer:
    step, least = form["bucket_reso_steps"], 32 if form.target.family == "sdxl" else 64
    if step % least:
        return refused(f"sd-scripts stops: for {form.target.family} it must be a multiple of {least}")
    return taken_buckets(step=step)


def _bucket_upscale(form: Form) -> Answer:
    return taken_buckets(upscale=not form["bucket_no_upscale"])


def _min_bucket(form: Form) -> Answer:
    if form["bucket_no_upscale"]:
        return _without_limit("min_side", form["bucket_reso_steps"])
    return taken_buckets(min_side=form["min_bucket_reso"])


def _max_bucket(form: Form) -> Answer:
    if form["bucket_no_upscale"]:
        return _without_limit("max_side", form.target.resolution**2 // form["bucket_reso_steps"])
    return taken_buckets(max_side=form["max_bucket_reso"])


def _without_limit(name: str, side: int) -> Answer:
    """Sides that no picture of the profile's area goes beyond."""
    why = "bucket_no_upscale knows no shortest and longest side"
    return Answer("ignored by sd-scripts", f"buckets.{name} = {side}; {why}", {}, {name: side})


def _max_train_epochs(form: Form) -> Answer:
    if not form["max_train_epochs"]:
        return same("off")
    return taken(_epoch_length(), epochs=form["max_train_epochs"])


def _max_train_steps(form: Form) -> Answer:
    steps = form["max_train_steps"]
    if not steps:
        return same("off")
    if form["max_train_epochs"]:
        return ignored("max_train_epochs goes before it")
    pictures = steps * max(form["train_batch_size"], 1) * max(form["gradient_accumulation_steps"], 1)
    epochs = form.target.epochs
    return taken(f"{steps} steps are {pictures} pictures", epochs=epochs, draws_per_epoch=math.ceil(pictures / epochs))


def _epoch(form: Form) -> Answer:
    for key in ("max_train_epochs", "max_train_steps"):
        if form[key]:
            return ignored(f"{key} goes before it")
    return taken(_epoch_length(), epochs=form["epoch"])


def _epoch_length() -> str:
    return "an epoch has draws_per_epoch pictures, not as many as the folders and their repeats"


def _random_crop(form: Form) -> Answer:
    if not form["random_crop"]:
        return taken(crops=1)
    if form["cache_latents"]:
        return refused("sd-scripts stops: with cache_latents there is no random_crop. Turn off one of them")
    return differs("so many ways to cut a picture, drawn beforehand", crops=16)


def _masked_loss(form: Form) -> Answer:
    if not form["masked_loss"]:
        return same("off")
    return ignored("the form has no field for mask pictures; --alpha_mask takes the transparency of pictures")


def _alpha_mask(form: Form) -> Answer:
    return taken(background_weight=0.0 if form["--alpha_mask"] else 1.0)


def _regularisation(form: Form) -> Answer:
    if not form["reg_data_dir"]:
        return same("no regularisation pictures")
    return taken(
        "sd-scripts draws as many of them as of the others",
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
    why = "weights of tags are read here: those that curation.weights of character.yaml gives"
    return taken(why) if form["weighted_captions"] else same(why)


def _cached_text(form: Form) -> Answer:
    if not form["sdxl_cache_text_encoder_outputs"]:
        return elsewhere("outputs of the text encoders are cached where these are not trained")
    if form.target.family != "sdxl":
        return ignored("for SDXL only")
    if _rates(form)[1]:
        return refused(
            "sd-scripts stops: it does not train the text encoders then. Set text_encoder_lr to 0, or turn it off"
        )
    for key in ("shuffle_caption", "caption_dropout_rate", "--caption_tag_dropout_rate"):
        if form[key]:
            return refused(f"sd-scripts stops: with it there is no {key.lstrip('-')}. Turn off one of them")
    return elsewhere("outputs of the text encoders are cached where these are not trained")


# optimization


def _rates(form: Form) -> tuple[float, float]:
    """Learning rates of the U-Net and the text encoder in sd-scripts; 0: not trained.

    kohya_ss takes a rate of 0 beside another that is not 0 as 'do not train it', and two rates of 0 as 'both have
    learning_rate'. That is decided by the form's fields, before flags replace them.
    """
    field_unet, field_text = form.fields["unet_lr"], form.fields["text_encoder_lr"]
    unet = 0.0 if field_text and not field_unet else form["unet_lr"] or form["learning_rate"]
    text = 0.0 if field_unet and not field_text else form["text_encoder_lr"] or form["learning_rate"]
    return float(unet), 0.0 if form["--network_train_unet_only"] else float(text)


def _learning_rate(form: Form) -> Answer:
    fields = [form.fields[key] for key in ("unet_lr", "text_encoder_lr")]
    if any(fields):
        return ignored("unet_lr and text_encoder_lr go before it")
    if not form.fields["learning_rate"] and "learning_rate" not in form.flags:
        return refused("kohya_ss stops: no learning rate is set")
    return taken("for U-Net and text encoder, whose own rates are 0")


def _unet_rate(form: Form) -> Answer:
    unet, _ = _rates(form)
    if not unet:
        return refused("kohya_ss then trains the text encoder alone; the U-Net is always trained here. Set a rate")
    return taken(learning_rate_unet=unet)


def _text_rate(form: Form) -> Answer:
    unet, text = _rates(form)
    if form["optimizer"].lower() == "prodigy" and text and unet and text != unet:
        return refused(
            f"sd-scripts stops: Prodigy has one rate, and unet_lr is {unet}. Set both to the same, or this to 0"
        )
    why = "kohya_ss trains the U-Net alone" if not text else ""
    return taken(why, learning_rate_text_encoder=text)


def _unet_only(form: Form) -> Answer:
    return taken(learning_rate_text_encoder=0.0) if form["--network_train_unet_only"] else same("off")


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of sd-scripts: ours of the same kind, its own weight decay, its arguments that are settings here,
    and the others that are fixed here, as (its default, ours). `near`: the same, but another value is only reported."""

    ours: str
    weight_decay: float
    settings: tuple[str, ...]
    fixed: Mapping[str, tuple[Any, Any]]
    near: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


_ADAMW = Optimizer("adamw", 0.01, ("weight_decay", "betas"), {"eps": (1e-8, 1e-8), "amsgrad": (False, False)})
_ADAMW8BIT = Optimizer("adamw8bit", 0.01, _ADAMW.settings, _ADAMW.fixed)

# By lower-case name, with the defaults of torch, bitsandbytes, prodigyopt and transformers (sd-scripts itself turns
# Adafactor's relative_step on). The paged ones compute the same; their state may lie in other memory.
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": _ADAMW,
    "pagedadamw": _ADAMW,
    "pagedadamw32bit": _ADAMW,
    "adamw8bit": _ADAMW8BIT,
    "pagedadamw8bit": _ADAMW8BIT,
    "prodigy": Optimizer(
        "prodigy",
        0.0,
        ("weight_decay", "betas", "d_coef"),
        {
            "decouple": (True, True),
            "d0": (1e-6, 1e-6),
            "eps": (1e-8, 1e-8),
            "beta3": (None, None),
            "growth_rate": (math.inf, math.inf),
            "slice_p": (1, 1),
        },
        {"use_bias_correction": (False, True), "safeguard_warmup": (False, True)},
    ),
    "adafactor": Optimizer(
        "adafactor",
        0.0,
        ("weight_decay",),
        {
            "relative_step": (True, False),
            "scale_parameter": (True, False),
            "warmup_init": (False, False),
            "clip_threshold": (1.0, 1.0),
            "decay_rate": (-0.8, -0.8),
            "beta1": (None, None),
            "eps": ((1e-30, 1e-3), (1e-30, 1e-3)),
        },
    ),
}
SETTING_OF_ARGUMENT = {"weight_decay": "weight_decay", "betas": "betas", "d_coef": "prodigy_d_coef"}
ARGUMENT_DEFAULTS = {"betas": (0.9, 0.999), "d_coef": 1.0}


def _optimizer(form: Form) -> Answer:
    kind = OPTIMIZERS.get(form["optimizer"].lower())
    if not kind:
        return refused("it is not trained with here. Choose AdamW, AdamW8bit, Prodigy or Adafactor")
    return taken(optimizer=kind.ours)


def _use_8bit_adam(form: Form) -> Answer:
    if not form["use_8bit_adam"]:
        return same("off")
    if "optimizer" in form.stated:
        return ignored("optimizer goes before it")
    return taken("optimizer AdamW8bit")


def _optimizer_args(form: Form) -> Answer:
    kind = OPTIMIZERS.get(form["optimizer"].lower())
    if not kind:
        return same("of an optimizer that is not trained with here")
    try:
        given = dict(_argument(word) for word in form["optimizer_args"].replace('"', "").split())
    except ValueError as error:
        return refused(str(error))
    faults = _unknown_arguments(kind, given) + _fixed_arguments(kind, given)
    if faults:
        return refused("; ".join(faults))
    defaults = {**ARGUMENT_DEFAULTS, "weight_decay": kind.weight_decay}
    training = {SETTING_OF_ARGUMENT[name]: given.get(name, defaults[name]) for name in kind.settings}
    others = [f"{name} is {ours} here" for name, (own, ours) in kind.near.items() if given.get(name, own) != ours]
    return differs(", ".join(others), **training) if others else taken(**training)


def _unknown_arguments(kind: Optimizer, given: Mapping[str, Any]) -> list[str]:
    known = [*kind.settings, *kind.fixed, *kind.near]
    return [f"{name} is not known here.{closest(name, known)} Remove it" for name in given if name not in known]


def _fixed_arguments(kind: Optimizer, given: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {given.get(name, own)} in sd-scripts, and {ours} here. Write {name}={ours}"
        for name, (own, ours) in kind.fixed.items()
        if given.get(name, own) != ours
    ]


def _argument(word: str) -> tuple[str, Any]:
    """`name=value` as sd-scripts reads it: the value is a Python literal."""
    name, equals, value = word.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"'{word}' is not name=value{', with a number or True or False as value' if equals else ''}"
        ) from error


SCHEDULES = {
    "cosine": "cosine",
    "cosine_with_restarts": "cosine_restarts",
    "linear": "linear",
    "polynomial": "linear",
    "constant": "constant",
    "constant_with_warmup": "constant",
}


def _schedule(form: Form) -> Answer:
    name = form["lr_scheduler"]
    if name not in SCHEDULES:
        return refused(f"it is not trained with here. Choose {', '.join(SCHEDULES)}")
    if name == "polynomial" and form["lr_scheduler_power"] != 1:
        return refused("only lr_scheduler_power 1 is trained with here")
    why = {"cosine_with_restarts": "one warm-up before all cycles", "polynomial": "down to 0, not to 1e-7"}
    return taken(why.get(name, ""), schedule=SCHEDULES[name])


def _cycles(form: Form) -> Answer:
    if form["lr_scheduler"] != "cosine_with_restarts":
        return ignored("read only with lr_scheduler cosine_with_restarts")
    return taken(cycles=form["lr_scheduler_num_cycles"])


def _power(form: Form) -> Answer:
    if form["lr_scheduler"] != "polynomial":
        return ignored("read only with lr_scheduler polynomial")
    return taken("falling in a straight line")


def _warmup(form: Form) -> Answer:
    if "lr_warmup_steps" in form.flags:
        return ignored(f"{EXTRA} has --lr_warmup_steps")
    if form.fields["lr_scheduler"] == "constant" and form.fields["lr_warmup"]:
        why = "kohya_ss sets it to 0 with lr_scheduler constant"
        return Answer("ignored by sd-scripts", f"warmup_fraction = 0.0; {why}", {"warmup_fraction": 0.0})
    if form.fields["lr_warmup_steps"]:
        return ignored("lr_warmup_steps goes before it")
    return _warmup_fraction(form, form.fields["lr_warmup"] / 100, "percent of all steps")


def _warmup_steps(form: Form) -> Answer:
    steps, by_flag = form["lr_warmup_steps"], "lr_warmup_steps" in form.flags
    if not steps:
        return taken(warmup_fraction=0.0) if by_flag else same("off")
    if form.fields["lr_scheduler"] == "constant" and not by_flag:
        return ignored("kohya_ss sets it to 0 with lr_scheduler constant")
    if steps < 1 and by_flag:
        return _warmup_fraction(form, steps, "a share of all steps")
    if not form["max_train_steps"] or form["max_train_epochs"]:
        return refused("how many steps there are is not known beforehand here. Give the warm-up in percent: lr_warmup")
    return _warmup_fraction(form, int(steps) / form["max_train_steps"], f"of {form['max_train_steps']} steps")


def _warmup_fraction(form: Form, fraction: float, why: str) -> Answer:
    if fraction and form["lr_scheduler"] == "constant":
        return refused("sd-scripts stops: lr_scheduler constant has no warm-up. Choose constant_with_warmup")
    return taken(why, warmup_fraction=fraction)


def _max_grad_norm(form: Form) -> Answer:
    return taken(max_grad_norm=float(form["max_grad_norm"]) or None)


def _min_snr(form: Form) -> Answer:
    gamma = form["min_snr_gamma"]
    if not gamma:
        return same("off")
    if form["debiased_estimation_loss"]:
        return refused(
            "sd-scripts multiplies it with debiased_estimation_loss; here it is one or the other. Turn one off"
        )
    return taken(loss_weighting="min_snr", min_snr_gamma=float(gamma))


def _debiased(form: Form) -> Answer:
    if form["debiased_estimation_loss"]:
        return taken(loss_weighting="debiased")
    return same("off") if form["min_snr_gamma"] else taken(loss_weighting="uniform")


def _loss_type(form: Form) -> Answer:
    return same("the loss here") if form["loss_type"] == "l2" else refused("the loss here is l2. Choose that")


def _noise_offset(form: Form) -> Answer:
    offset, kind = form["noise_offset"], form["noise_offset_type"]
    if offset and kind != "Original" and "noise_offset" not in form.flags:
        return Answer(
            "ignored by sd-scripts", f"noise_offset = 0.0; noise_offset_type is {kind}", {"noise_offset": 0.0}
        )
    return taken(noise_offset=float(offset))


def _noise_offset_type(form: Form) -> Answer:
    kind = form["noise_offset_type"]
    if kind not in ("Original", "Multires"):
        return refused("it must be Original or Multires")
    return taken("noise_offset is read" if kind == "Original" else "multires_noise_iterations is read")


def _only_with_offset(rule: Rule) -> Rule:
    def checked(form: Form) -> Answer:
        if form["noise_offset_type"] != "Original":
            return ignored("read only with noise_offset_type Original")
        return rule(form)

    return checked


def _random_offset(form: Form) -> Answer:
    if not form["noise_offset_random_strength"]:
        return same("off")
    if not form["noise_offset"]:
        return ignored("noise_offset is 0")
    return refused("the offset has one strength here. Turn it off, or set noise_offset to 0")


def _adaptive_noise(form: Form) -> Answer:
    if not form["adaptive_noise_scale"]:
        return same("off")
    if not form["noise_offset"]:
        return refused("sd-scripts stops: it needs a noise_offset. Set it to 0")
    return refused("the offset does not depend on the picture here. Set it to 0")


def _multires(form: Form) -> Answer:
    if not form["multires_noise_iterations"]:
        return same("off")
    if form["noise_offset_type"] != "Multires" and "multires_noise_iterations" not in form.flags:
        return ignored("read only with noise_offset_type Multires")
    return refused("noise has one resolution here. Set it to 0, or noise_offset_type to Original")


def _multires_discount(form: Form) -> Answer:
    return ignored("multires_noise_iterations is 0, or noise_offset_type Original")


def _seed(form: Form) -> Answer:
    if form["seed"] or "seed" in form.flags:
        return taken(seed=form["seed"])
    return differs("sd-scripts draws a seed; here it stays the profile's, so that a run can be repeated")


# the machine

PRECISIONS = {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}


def _precision(form: Form) -> Answer:
    name = form["mixed_precision"]
    if name not in PRECISIONS:
        return refused(f"it is not trained with here. Choose {', '.join(PRECISIONS)}")
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


RULES: dict[str, Rule] = {
    "pretrained_model_name_or_path": _base_model,
    "vae": _vae,
    "sdxl": _family,
    "v_parameterization": _prediction,
    "LoRA_type": _lora_type,
    "network_alpha": _network_alpha,
    "conv_dim": _conv_dim,
    "conv_alpha": _conv_alpha,
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
    "optimizer": _optimizer,
    "use_8bit_adam": _use_8bit_adam,
    "optimizer_args": _optimizer_args,
    "learning_rate": _learning_rate,
    "unet_lr": _unet_rate,
    "text_encoder_lr": _text_rate,
    "--network_train_unet_only": _unet_only,
    "lr_scheduler": _schedule,
    "lr_scheduler_num_cycles": _cycles,
    "lr_scheduler_power": _power,
    "lr_warmup": _warmup,
    "lr_warmup_steps": _warmup_steps,
    "max_grad_norm": _max_grad_norm,
    "min_snr_gamma": _min_snr,
    "debiased_estimation_loss": _debiased,
    "loss_type": _loss_type,
    "noise_offset_type": _noise_offset_type,
    "noise_offset": _noise_offset,
    "noise_offset_random_strength": _only_with_offset(_random_offset),
    "adaptive_noise_scale": _only_with_offset(_adaptive_noise),
    "multires_noise_iterations": _multires,
    "multires_noise_discount": _multires_discount,
    "seed": _seed,
    "mixed_precision": _precision,
    "full_fp16": _full_precision("full_fp16", "fp16"),
    "full_bf16": _full_precision("full_bf16", "bf16"),
    "sdxl_cache_text_encoder_outputs": _cached_text,
    EXTRA: _additional,
}
"""What becomes of each key whose role in the table is `rule`."""
