"""The samplers that settings can name, made to fit a base model: for the trainer's samples and for generation alike."""

from typing import Any

from sticker_pipeline.diffusion.lora.trained_for import TrainedFor

# Settings name -> the diffusers class and what it needs beside the base model's own scheduler config, which keeps the
# betas and the prediction type. The first three are deterministic: the starting noise decides the image. LCM adds
# noise between its steps, which whoever draws gives a generator for each image for.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}


def make_scheduler(name: str, config: Any) -> Any:
    """The scheduler `name` of SCHEDULERS with the noise levels and prediction type of the base model's `config`.

    Where the last level is pure noise, steps are spaced so that sampling begins there (Lin et al. 2023, section 3.3).
    """
    import diffusers

    class_name, extra = SCHEDULERS[name]
    if config.get("rescale_betas_zero_snr"):
        extra = {**extra, "timestep_spacing": "trailing"}
    return getattr(diffusers, class_name).from_config(config, **extra)


def scheduler_for(scheduler: Any, trained: TrainedFor) -> Any:
    """`scheduler` as a LoRA needs it that was `trained` for other noise than the base model's; else itself."""
    changes: dict[str, Any] = {}
    if trained.prediction:
        changes["prediction_type"] = trained.prediction
    if trained.zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return type(scheduler).from_config(scheduler.config, **changes) if changes else scheduler
