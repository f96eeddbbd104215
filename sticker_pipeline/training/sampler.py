"""The samplers that settings can name, made to fit a base model: for the trainer's samples and for generation alike."""

from typing import Any

# Settings name -> the diffusers class and what it needs beside the base model's own scheduler config, which keeps the
# betas and the prediction type. All three are deterministic: the starting noise decides the picture.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {}),
}


def make_scheduler(name: str, config: Any) -> Any:
    """The scheduler `name` of SCHEDULERS with the noise levels and prediction type of the base model's `config`."""
    import diffusers

    class_name, extra = SCHEDULERS[name]
    return getattr(diffusers, class_name).from_config(config, **extra)
