"""Samplers that settings can name, configured for a base model."""

from typing import Any

from sticker_pipeline.diffusion.lora.trained_for import TrainedFor

# Settings name -> diffusers class and options on top of the base model's scheduler config (betas, prediction type). The
# first three are deterministic in the starting noise. LCM adds noise between steps: callers pass a generator per image.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}


def make_scheduler(name: str, config: Any) -> Any:
    """Return the scheduler `name` with `config`'s noise levels and prediction type.

    Where the base model's last level is pure noise, sampling begins there (Lin et al. 2023, section 3.3).
    """
    import diffusers

    class_name, extra = SCHEDULERS[name]
    if config.get("rescale_betas_zero_snr"):
        extra = {**extra, "timestep_spacing": "trailing"}
    return getattr(diffusers, class_name).from_config(config, **extra)


def scheduler_for(scheduler: Any, trained: TrainedFor) -> Any:
    """Return `scheduler`, adapted if a LoRA was `trained` for other noise."""
    changes: dict[str, Any] = {}
    if trained.prediction:
        changes["prediction_type"] = trained.prediction
    if trained.zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return type(scheduler).from_config(scheduler.config, **changes) if changes else scheduler
