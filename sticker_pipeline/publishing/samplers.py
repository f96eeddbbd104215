"""Samplers and schedules of ComfyUI and A1111: names, and equivalents of ours.

`diffusion/samplers.py` makes ours.
"""

from collections.abc import Iterable

from sticker_pipeline.core.texts import UserError
from sticker_pipeline.diffusion.base_model import BaseNoise

# A1111's names (modules/sd_samplers_*.py, 1.10) -> `sampler_name` of ComfyUI's KSampler. ComfyUI lacks PLMS, Restart
# and DDIM CFG++.
SAMPLERS = {
    "Euler a": "euler_ancestral",
    "Euler": "euler",
    "LMS": "lms",
    "Heun": "heun",
    "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral",
    "DPM++ 2S a": "dpmpp_2s_ancestral",
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ SDE": "dpmpp_sde",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 3M SDE": "dpmpp_3m_sde",
    "DPM fast": "dpm_fast",
    "DPM adaptive": "dpm_adaptive",
    "LCM": "lcm",
    "DDIM": "ddim",
    "UniPC": "uni_pc",
}
# A1111's "Schedule type" (modules/sd_schedulers.py) -> `scheduler` of KSampler.
SCHEDULES = {
    "Karras": "karras",
    "Exponential": "exponential",
    "SGM Uniform": "sgm_uniform",
    "KL Optimal": "kl_optimal",
    "Simple": "simple",
    "Normal": "normal",
    "DDIM": "ddim_uniform",
    "Beta": "beta",
}

# Our samplers -> ComfyUI's, and diffusers' default spacing of noise levels, for base models that state none.
_OURS = {
    "euler": ("euler", "linspace"),
    "dpmsolver++": ("dpmpp_2m", "linspace"),
    "ddim": ("ddim", "leading"),
    "lcm": ("lcm", "trailing"),
}
# (our sampler, spacing) -> the schedule with equal noise levels, except:
# - ComfyUI's DDIM has one more level if 1000 is no multiple of the steps.
# - (dpmsolver++, leading) has no equivalent: the levels are near.
# - LCM has its own levels for any spacing, some 20 apart. Those of `simple` and `sgm_uniform` are within 17 of 1000 in
#   1 to 8 steps. ComfyUI's own LCM examples name both; the second is in common use.
# Both ends of `linspace` are steps for Euler and DDIM; for DPM++ the lower end is its target.
_LEVELS = {
    ("euler", "linspace"): "normal",
    ("ddim", "linspace"): "normal",
    ("dpmsolver++", "linspace"): "sgm_uniform",
    ("euler", "leading"): "ddim_uniform",
    ("ddim", "leading"): "ddim_uniform",
    ("dpmsolver++", "leading"): "sgm_uniform",
    ("euler", "trailing"): "simple",
    ("ddim", "trailing"): "simple",
    ("dpmsolver++", "trailing"): "simple",
    ("lcm", "linspace"): "sgm_uniform",
    ("lcm", "leading"): "sgm_uniform",
    ("lcm", "trailing"): "sgm_uniform",
}


class SamplerError(UserError):
    """A name that the other program lacks; the message lists its own."""


def our_sampler(scheduler: str, noise: BaseNoise) -> tuple[str, str]:
    """Return ComfyUI's (sampler_name, scheduler) for a sampler of GenerationSettings.

    Raises SamplerError for an unknown sampler or spacing.
    """
    if scheduler not in _OURS:
        raise SamplerError(f"Sampler {scheduler!r} is none of {_listed(_OURS)}.")
    sampler, usual = _OURS[scheduler]
    levels = (scheduler, "trailing" if noise.zero_snr else noise.spacing or usual)
    if levels not in _LEVELS:
        raise SamplerError(f"timestep_spacing {noise.spacing!r} is none of linspace, leading, trailing.")
    return sampler, _LEVELS[levels]


def a1111_names(sampler: str, schedule: str) -> tuple[str, str]:
    """Return A1111's ("Sampler", "Schedule type") for ComfyUI's names.

    Raises SamplerError for names outside the tables.
    """
    samplers, schedules = ({ours: theirs for theirs, ours in table.items()} for table in (SAMPLERS, SCHEDULES))
    for value, table in ((sampler, samplers), (schedule, schedules)):
        if value not in table:
            raise SamplerError(f"{value!r} is none of {_listed(table)}.")
    return samplers[sampler], schedules[schedule]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
