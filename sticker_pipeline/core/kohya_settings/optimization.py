"""Rules for kohya_ss keys of optimizer, rates, schedule, loss, noise and seed.

`rules.py` has the other keys and the sources.
"""

import ast
from collections.abc import Mapping
from typing import Any

from sticker_pipeline.core.kohya_settings.answers import Answer, Rule, differs, ignored, refused, same, taken
from sticker_pipeline.core.kohya_settings.form import EXTRA, Form
from sticker_pipeline.core.optimizer_table import BY_KOHYA_NAME, OPTIMIZERS, Optimizer
from sticker_pipeline.core.texts import closest, counted


def rates(form: Form) -> tuple[float, float]:
    """Return sd-scripts' learning rates of U-Net and text encoder; 0: not trained.

    kohya_ss reads one rate of 0 as 'do not train it', two as 'both have learning_rate'. The form's fields decide,
    before flags replace them.
    """
    field_unet, field_text = form.fields["unet_lr"], form.fields["text_encoder_lr"]
    unet = 0.0 if field_text and not field_unet else _rate(form, "unet_lr")
    text = 0.0 if field_unet and not field_text else _rate(form, "text_encoder_lr")
    return unet, 0.0 if form["--network_train_unet_only"] else text


def _rate(form: Form, key: str) -> float:
    """Return a flag's rate, else the field's, else learning_rate."""
    return float(form.flags[key] if key in form.flags else form.fields[key] or form["learning_rate"])


def _learning_rate(form: Form) -> Answer:
    own = ("unet_lr", "text_encoder_lr")
    if any(form.fields[key] for key in own) or all(key in form.flags for key in own):
        return ignored("unet_lr and text_encoder_lr take precedence")
    if form.is_toml:
        return taken("where unet_lr or text_encoder_lr is not given")
    if not form.fields["learning_rate"] and "learning_rate" not in form.flags:
        return refused("kohya_ss stops: no learning rate is set")
    return taken("for U-Net and text encoder, whose own rates are 0")


def _unet_rate(form: Form) -> Answer:
    unet, _ = rates(form)
    if not unet:
        return refused("the text encoder is then trained alone; the U-Net is always trained here. Set a rate")
    return ignored(OWN_RATE, learning_rate_unet=1.0) if _relative(form) else taken(learning_rate_unet=unet)


def _text_rate(form: Form) -> Answer:
    unet, text = rates(form)
    row = _row(form)
    if row and row.one_rate and text and unet and text != unet:
        return refused(
            f"sd-scripts stops: {form['optimizer']} has one rate, and unet_lr is {unet}. Set both to the same, or this "
            "to 0"
        )
    if not text:
        return taken("the U-Net is trained alone", learning_rate_text_encoder=0.0)
    if _relative(form):
        return ignored(OWN_RATE, learning_rate_text_encoder=1.0)
    several = form.stated.get("text_encoder_lr")
    more = len(several) if isinstance(several, list) else 1
    why = "networks.lora reads the first rate, for every text encoder" if more > 1 else ""
    return taken(why, learning_rate_text_encoder=text)


def _unet_only(form: Form) -> Answer:
    return taken(learning_rate_text_encoder=0.0) if form["--network_train_unet_only"] else same("off")


OWN_RATE = "Adafactor's relative step has a rate of its own"


def _optimizer(form: Form) -> Answer:
    row = _row(form)
    if not row:
        *names, last = (known.kohya[0] for known in OPTIMIZERS.values())
        return refused(f"it is not supported here. Choose {', '.join(names)} or {last}")
    needed = f"it needs the package {row.package}: pip install 'sticker_pipeline[{row.extra}]'" if row.extra else ""
    return taken(needed, optimizer=row.name)


def _row(form: Form) -> Optimizer | None:
    return BY_KOHYA_NAME.get(form["optimizer"].lower())


def _use_8bit_adam(form: Form) -> Answer:
    if not form["use_8bit_adam"]:
        return same("off")
    if "optimizer" in form.stated:
        return ignored("optimizer takes precedence")
    return taken("optimizer AdamW8bit")


def _optimizer_args(form: Form) -> Answer:
    row = _row(form)
    if not row:
        return same("of an optimizer that is not supported here")
    try:
        given = _arguments(form)
    except ValueError as error:
        return refused(str(error))
    faults = _unknown_arguments(row, given) + _fixed_arguments(row, given)
    if faults:
        return refused("; ".join(faults))
    return taken(**{setting: given.get(own.name, own.default) for setting, own in row.arguments.items()})


def _relative(form: Form) -> bool:
    """Tell whether Adafactor sets its own rate: sd-scripts' default."""
    try:
        return form["optimizer"].lower() == "adafactor" and bool(_arguments(form).get("relative_step", True))
    except ValueError:
        return True


def _arguments(form: Form) -> dict[str, Any]:
    """Return optimizer_args by name. Raises ValueError for other than name=value."""
    return dict(_argument(word) for word in form["optimizer_args"].replace('"', "").split())


def _unknown_arguments(row: Optimizer, given: Mapping[str, Any]) -> list[str]:
    known = [*(own.name for own in row.arguments.values()), *row.fixed, *row.scheduled]
    return [f"{name} is not known here.{closest(name, known)} Remove it" for name in given if name not in known]


def _fixed_arguments(row: Optimizer, given: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {given.get(name, own)} in sd-scripts, and {ours} here. Write {name}={ours}"
        for name, (own, ours) in row.fixed.items()
        if given.get(name, own) != ours
    ]


def _argument(word: str) -> tuple[str, Any]:
    """Parse `name=value` with a Python literal, as sd-scripts does."""
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
    if _relative(form):
        return ignored(OWN_RATE, schedule="relative")
    if form["lr_scheduler_type"]:
        return ignored("lr_scheduler_type takes precedence")
    if name not in SCHEDULES:
        return refused(f"it is not supported here. Choose {', '.join(SCHEDULES)}")
    if name == "polynomial" and form["lr_scheduler_power"] != 1:
        return refused("only lr_scheduler_power 1 is supported here")
    why = {"cosine_with_restarts": "one warm-up before all cycles", "polynomial": "down to 0, not to 1e-7"}
    return taken(why.get(name, ""), schedule=SCHEDULES[name])


def _schedule_type(form: Form) -> Answer:
    kind = form["lr_scheduler_type"].removeprefix("torch.optim.lr_scheduler.")
    if not kind:
        return same("lr_scheduler is read")
    if _relative(form):
        return ignored(OWN_RATE)
    if kind != "CosineAnnealingLR":
        return refused("of PyTorch's schedules only CosineAnnealingLR is supported here")
    return taken(schedule="cosine_annealing")


def _schedule_arguments(form: Form) -> Answer:
    if not form["lr_scheduler_args"] and not form["lr_scheduler_type"]:
        return same("off")
    if _relative(form):
        return ignored(OWN_RATE)
    if not form["lr_scheduler_type"]:
        return refused("schedules have no further arguments here. Remove it")
    try:
        given = dict(_argument(word) for word in form["lr_scheduler_args"].replace('"', "").split())
    except ValueError as error:
        return refused(str(error))
    if given.keys() - {"T_max", "eta_min"} or "T_max" not in given:
        return refused("CosineAnnealingLR needs T_max, and may have eta_min=0. Write those alone")
    if given.get("eta_min", 0):
        return refused("the rate falls to 0 here. Write eta_min=0")
    return taken("down in so many steps, and up again in as many", annealing_steps=given["T_max"])


def _cycles(form: Form) -> Answer:
    if _other_schedule(form):
        return ignored("lr_scheduler is not read")
    if form["lr_scheduler"] != "cosine_with_restarts":
        return ignored("read only with lr_scheduler cosine_with_restarts")
    return taken(cycles=form["lr_scheduler_num_cycles"])


def _other_schedule(form: Form) -> bool:
    return _relative(form) or bool(form["lr_scheduler_type"])


def _power(form: Form) -> Answer:
    if _other_schedule(form):
        return ignored("lr_scheduler is not read")
    if form["lr_scheduler"] != "polynomial":
        return ignored("read only with lr_scheduler polynomial")
    return taken("falling in a straight line")


def _warmup(form: Form) -> Answer:
    if "lr_warmup_steps" in form.flags:
        return ignored(f"{EXTRA} has --lr_warmup_steps")
    if form.fields["lr_scheduler"] == "constant" and form.fields["lr_warmup"]:
        fraction = {} if _other_schedule(form) else {"warmup_fraction": 0.0}
        return ignored("kohya_ss sets it to 0 with lr_scheduler constant", **fraction)
    if form.fields["lr_warmup_steps"]:
        return ignored("lr_warmup_steps takes precedence")
    return _warmup_fraction(form, form.fields["lr_warmup"] / 100, "percent of all steps")


def _warmup_steps(form: Form) -> Answer:
    steps, by_flag = form["lr_warmup_steps"], "lr_warmup_steps" in form.flags
    if not steps:
        return _warmup_fraction(form, 0.0, "") if by_flag else same("off")
    if form.fields["lr_scheduler"] == "constant" and not by_flag:
        return ignored("kohya_ss sets it to 0 with lr_scheduler constant")
    if steps < 1 and by_flag:
        return _warmup_fraction(form, steps, "a share of all steps")
    if not form["max_train_steps"] or form["max_train_epochs"]:
        return refused("the number of steps is not known beforehand here. Give the warm-up in percent: lr_warmup")
    return _warmup_fraction(
        form, int(steps) / form["max_train_steps"], f"of {counted(form['max_train_steps'], 'step')}"
    )


def _warmup_fraction(form: Form, fraction: float, why: str) -> Answer:
    if _other_schedule(form):
        other = "Adafactor's relative step" if _relative(form) else "lr_scheduler_type"
        return refused(f"sd-scripts stops: {other} has no warm-up. Set it to 0") if fraction else same("off")
    if fraction and form["lr_scheduler"] == "constant":
        return refused("sd-scripts stops: lr_scheduler constant has no warm-up. Choose constant_with_warmup")
    return taken(why, warmup_fraction=fraction)


def _max_grad_norm(form: Form) -> Answer:
    return taken(max_grad_norm=float(form["max_grad_norm"]) or None)


def _max_weight_norm(form: Form) -> Answer:
    return taken(max_weight_norm=float(form["scale_weight_norms"]) or None)


def _max_timestep(form: Form) -> Answer:
    if form["max_timestep"] <= form["min_timestep"]:
        return refused("it must be above min_timestep")
    return taken(max_timestep=form["max_timestep"])


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
        return ignored(f"noise_offset_type is {kind}", noise_offset=0.0)
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
    return taken(adaptive_noise_scale=float(form["adaptive_noise_scale"]))


def _multires(form: Form) -> Answer:
    iterations = form["multires_noise_iterations"]
    if iterations and not _has_multires(form):
        return ignored("read only with noise_offset_type Multires", multires_noise_iterations=0)
    return taken(multires_noise_iterations=iterations)


def _has_multires(form: Form) -> bool:
    by_type = form["noise_offset_type"] == "Multires" or "multires_noise_iterations" in form.flags
    return by_type and form["multires_noise_iterations"] > 0


def _multires_discount(form: Form) -> Answer:
    if not _has_multires(form):
        return ignored("multires_noise_iterations is 0, or noise_offset_type Original")
    if form["noise_offset_type"] != "Multires" and "multires_noise_discount" not in form.flags:
        return ignored("read only with noise_offset_type Multires", multires_noise_discount=0.3)
    return taken(multires_noise_discount=float(form["multires_noise_discount"]))


def _seed(form: Form) -> Answer:
    if form["seed"] or "seed" in form.flags:
        return taken(seed=form["seed"])
    return differs("sd-scripts chooses a random seed; here the profile's is used, so that a run can be repeated")


OPTIMIZATION: dict[str, Rule] = {
    "optimizer": _optimizer,
    "use_8bit_adam": _use_8bit_adam,
    "optimizer_args": _optimizer_args,
    "learning_rate": _learning_rate,
    "unet_lr": _unet_rate,
    "text_encoder_lr": _text_rate,
    "--network_train_unet_only": _unet_only,
    "lr_scheduler": _schedule,
    "lr_scheduler_type": _schedule_type,
    "lr_scheduler_args": _schedule_arguments,
    "lr_scheduler_num_cycles": _cycles,
    "lr_scheduler_power": _power,
    "lr_warmup": _warmup,
    "lr_warmup_steps": _warmup_steps,
    "max_grad_norm": _max_grad_norm,
    "scale_weight_norms": _max_weight_norm,
    "max_timestep": _max_timestep,
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
}
"""The rule of each key."""
