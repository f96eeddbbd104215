"""Settings of all stages; models reject unknown keys and invalid values.

`core/profile.py` has the values for each base model; character.yaml changes them.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationInfo, field_validator

from sticker_pipeline.core.optimizer_table import OPTIMIZERS, OWN_SETTINGS, needed_by

MOST_SEED = 2**64 - 1  # limit of torch.Generator.manual_seed


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MediaSettings(Strict):
    max_pixels: int = Field(40_000_000, gt=0, description="of one canvas")
    max_frames: int = Field(2_000, gt=0, description="of one file")
    max_seconds: float = Field(120.0, gt=0, description="of one video")
    max_bytes: int = Field(200_000_000, gt=0, description="of one file on disk")
    exclude: list[str] = Field(
        default_factory=list,
        description="files that are not used, as paths in the character's folder, such as gifs/blurry.gif",
    )
    crop: Literal["none", "alpha", "subject"] = Field(
        "none",
        description="`alpha` crops a frame to its visible pixels; `subject` also crops an even border off opaque ones",
    )
    crop_margin: float = Field(
        0.05, ge=0, le=1, description="margin around the box of `crop`, as a share of its longer side"
    )
    merge: Literal["near", "exact", "none"] = Field("near", description="which frames count as the same image")
    near_duplicate_distance: int = Field(
        2, ge=0, le=64, description="with `merge: near`: perceptual hashes differ in at most this many of 64 bits"
    )


class SamplingSettings(Strict):
    mode: Literal["inverse_length", "effective_size", "uniform"] = Field(
        "inverse_length",
        description="`inverse_length`: a GIF counts as much as a still; `effective_size`: as its effective number of "
        "images; `uniform`: frame by frame",
    )


class TaggingSettings(Strict):
    """The tagger, its runtime, and the score from which a tag counts.

    Thresholds: 0 to 1, or a word. `model` is only for general tags (tagging/thresholds.csv).
    """

    model: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$",
        description="the tagger's folder below STICKER_MODELS; None: the profile's",
    )
    provider: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="device of onnxruntime; `auto`: CUDA if it starts, else the CPU, with a message"
    )
    general_threshold: float | Literal["model", "mcut"] = Field(
        "model", description="score from which a tag counts; `model`: the model card's; `mcut`: one for each image"
    )
    character_threshold: float | Literal["mcut"] = Field(0.85, description="the same for tags that name a character")
    batch_size: int = Field(16, gt=0, description="images at once")

    @field_validator("general_threshold", "character_threshold", mode="before")
    @classmethod
    def _number_or_word(cls, value: Any, info: ValidationInfo) -> Any:
        """Raise one sentence instead of one per member of the union."""
        words = ("model", "mcut") if info.field_name == "general_threshold" else ("mcut",)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 <= value <= 1) and value not in words:
            raise ValueError(f"it must be a number from 0 to 1, or {' or '.join(words)}")
        return value


class BucketSettings(Strict):
    shape: Literal["square", "aspect"] = Field(
        "aspect",
        description="`square` pads every image to a square; `aspect` crops it to the nearest of many shapes of the "
        "same area, so that wide and tall images keep their shape",
    )
    step: int = Field(64, gt=0, multiple_of=8, description="sides are multiples of this, in pixels")
    min_side: int = Field(256, gt=0, description="in pixels; never more than the side of the square")
    max_side: int = Field(2048, gt=0, description="in pixels")
    upscale: bool = Field(
        True,
        description="False: no image is scaled up; one smaller than its bucket goes to a smaller bucket that it fills",
    )


if TYPE_CHECKING:
    Optimizer = str
else:
    Optimizer = Literal[tuple(OPTIMIZERS)]
Schedule = Literal[
    "cosine_restarts_warmup_each", "cosine_restarts", "cosine", "cosine_annealing", "linear", "constant", "relative"
]


class TrainingSettings(Strict):
    """All settings of a training run. Defaults: the original project's, for SD1.5."""

    preset: Literal["default", "low_memory", "kohya_import"] = Field(
        "default",
        description="where the other settings come from: the original project; values for a small GPU; or the kohya_ss "
        "file `kohya_json`, as sd-scripts reads it",
    )
    kohya_json: str | None = Field(
        None, description="with `preset: kohya_import`: the file (.json or .toml), in the character's folder"
    )

    # adapters
    rank: int = Field(32, ge=1, le=320, description="of the LoRA")
    alpha: float = Field(16.0, gt=0, description="the strength of the LoRA is alpha / rank")
    targets: Literal["attention", "all", "all+conv"] = Field(
        "all", description="attention layers; every linear layer of the transformer blocks; the convolutions as well"
    )
    feed_forward_rank: int | None = Field(None, ge=1, le=320, description="of all but attention; None: `rank`")
    feed_forward_alpha: float | None = Field(None, gt=0, description="of all but attention; None: `alpha`")
    conv_rank: int | None = Field(None, ge=1, le=320, description="of the convolutions; None: `rank`")
    conv_alpha: float | None = Field(None, gt=0, description="of the convolutions; None: `alpha`")
    dora: bool = Field(False, description="weights decomposed into magnitude and direction (DoRA); slower")

    # images
    epochs: int = Field(8, ge=1, le=10_000, description="passes, each with a checkpoint")
    samples_per_epoch: int | None = Field(
        None, ge=1, le=1_000_000, description="images per epoch; None: 10 for each source"
    )
    batch_size: int = Field(1, ge=1, description="images of a batch")
    gradient_accumulation: int = Field(1, ge=1, description="batches for each step of the optimizer")
    flip: bool = Field(False, description="every image is also trained on mirrored; not for asymmetric characters")
    crops: int = Field(1, ge=1, le=16, description="number of crops of an image to its bucket; 1: the middle")
    background_weight: float = Field(1.0, ge=0, le=1, description="of transparent pixels in the loss; 1: like others")
    regularisation: str | None = Field(
        None,
        description="a folder of images such as the base model generates, with captions as .txt beside them, mixed in "
        "so that the trigger alone stands for the character; in the character's folder, or below a folder listed in "
        "<name>.links or _all.links beside the character's folder",
    )
    regularisation_share: float = Field(0.5, gt=0, lt=1, description="of the sampled images")
    regularisation_weight: float = Field(1.0, gt=0, description="of their loss")

    # captions
    shuffle_tags: bool = Field(False, description="new order of tags at each sampling, except the first `keep_tags`")
    keep_tags: int = Field(1, ge=0, description="tags at the beginning that stay in place and are never dropped")
    tag_dropout: float = Field(0.0, ge=0, lt=1, description="probability to omit each other tag at each sampling")
    caption_dropout: float = Field(0.05, ge=0, le=1, description="probability of an empty caption")
    caption_variants: int = Field(
        16, ge=1, le=1024, description="orders and omissions sampled beforehand if the text encoder is not trained"
    )
    max_tokens: Literal[75, 150, 225] = Field(225, description="longer captions are truncated")
    clip_skip: int = Field(1, ge=1, le=12, description="SD1.5: 2 takes the text encoder's layer before the last")

    # optimization
    optimizer: Optimizer = Field(
        "adamw", description="; ".join(f"`{row.name}`: {row.note}" for row in OPTIMIZERS.values())
    )
    learning_rate_unet: float = Field(
        1e-5, gt=0, description="its peak; about 1 for prodigy and dadaptadam, which find their own"
    )
    learning_rate_text_encoder: float = Field(1e-5, ge=0, description="0: the text encoder is not trained")
    betas: tuple[float, float] = Field((0.9, 0.999), description="of all but adafactor")
    weight_decay: float = Field(0.01, ge=0, description="of the optimizer")
    prodigy_d_coef: float = Field(1.0, gt=0, description="prodigy's factor of the step size that it finds")
    prodigy_d0: float = Field(1e-6, gt=0, description="prodigy's first estimate of the step size")
    prodigy_bias_correction: bool = Field(True, description="prodigy: bias correction, as in Adam")
    prodigy_safeguard_warmup: bool = Field(
        True, description="prodigy finds its step size without the learning rate: a warm-up does not disturb it"
    )
    dadapt_growth_rate: float | None = Field(
        None, gt=1, description="largest factor by which dadaptadam's step size grows in a step; None: no limit"
    )
    adafactor_scale_parameter: bool = Field(
        False,
        description="adafactor's rate is multiplied by the root mean square of each weight matrix, at least 0.001",
    )
    schedule: Schedule = Field(
        "cosine_restarts_warmup_each",
        description="`cosine_restarts_warmup_each`: cosine with hard restarts and a warm-up in each cycle; "
        "`cosine_restarts`: with one warm-up before all; `cosine`; `linear`, falling to 0; `constant`; without a "
        "warm-up: `cosine_annealing`, down to 0 in `annealing_steps` steps and up again in as many; `relative`, "
        "Adafactor's own: min(0.01, 1/√step)",
    )
    annealing_steps: int = Field(1000, ge=1, description="of `cosine_annealing`")
    cycles: int = Field(4, ge=1, description="of the schedules with restarts")
    warmup_fraction: float = Field(
        0.1, ge=0, lt=1, description="of all steps; `cosine_restarts_warmup_each`: of each cycle"
    )
    max_grad_norm: float | None = Field(1.0, gt=0, description="None: gradients are not clipped")
    max_weight_norm: float | None = Field(
        None,
        gt=0,
        description="the largest norm of a module's change of the weights: both of its matrices are scaled down to it "
        "after each step; None: no limit (`scale_weight_norms` of sd-scripts)",
    )
    loss_weighting: Literal["uniform", "min_snr", "debiased"] = Field(
        "uniform", description="weight of each noise level in the loss"
    )
    min_snr_gamma: float = Field(5.0, gt=0, description="of `min_snr`")
    noise_offset: float = Field(
        0.0, ge=0, le=1, description="factor of a normal random number for each image and channel, added to the noise"
    )
    adaptive_noise_scale: float = Field(
        0.0, description="factor of a latent channel's absolute mean, added to `noise_offset`"
    )
    multires_noise_iterations: int = Field(
        0, ge=0, le=16, description="coarser noises added to the noise, each of a lower resolution; 0: none"
    )
    multires_noise_discount: float = Field(0.3, gt=0, le=1, description="weight of each relative to the one before")
    min_timestep: int = Field(0, ge=0, lt=1000, description="the lowest noise level that is sampled, of 1000")
    max_timestep: int = Field(1000, ge=1, le=1000, description="noise levels are sampled below it")
    prediction: Literal["base", "epsilon", "v_prediction"] = Field("base", description="`base`: as its files state")
    zero_terminal_snr: bool = Field(False, description="noise levels rescaled so that the last one is pure noise")
    ema_decay: float | None = Field(None, gt=0, lt=1, description="checkpoints hold this moving average of the LoRA")
    seed: int = Field(0, ge=0, le=MOST_SEED, description="of all that is random in a training")

    # the machine
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the frozen base model; adapters are float32. `auto`: half on a GPU, float32 on a CPU"
    )
    accelerate: Literal["auto", "off"] = Field(
        "auto",
        description="faster layers, and on a GPU CUDA graphs (training/accel/), with the same results up to rounding; "
        "`off` trains with PyTorch's own layers alone",
    )
    memory_budget: ByteSize | None = Field(
        None, description="GPU memory to stay within, e.g. 4GiB; None: all of it. Memory savings are chosen to fit"
    )

    @field_validator("max_timestep")
    @classmethod
    def _some_timesteps(cls, value: int, info: ValidationInfo) -> int:
        if value <= info.data.get("min_timestep", 0):
            raise ValueError("it must be above min_timestep")
        return value


def _not_an_argument(name: str) -> Callable[[TrainingSettings], bool]:
    return lambda s: name not in OPTIMIZERS[s.optimizer].arguments


UNWARMED = ("cosine_annealing", "relative")  # schedules without a warm-up
IDLE_TRAINING: tuple[tuple[str, Callable[[TrainingSettings], bool], str], ...] = (
    ("kohya_json", lambda s: s.preset != "kohya_import", "`preset: kohya_import`"),
    ("feed_forward_rank", lambda s: s.targets == "attention", "`targets: all` or `all+conv`"),
    ("feed_forward_alpha", lambda s: s.targets == "attention", "`targets: all` or `all+conv`"),
    ("conv_rank", lambda s: s.targets != "all+conv", "`targets: all+conv`"),
    ("conv_alpha", lambda s: s.targets != "all+conv", "`targets: all+conv`"),
    ("regularisation_share", lambda s: s.regularisation is None, "`regularisation`"),
    ("regularisation_weight", lambda s: s.regularisation is None, "`regularisation`"),
    ("keep_tags", lambda s: not (s.shuffle_tags or s.tag_dropout), "`shuffle_tags` or `tag_dropout`"),
    (
        "caption_variants",
        lambda s: not (s.shuffle_tags or s.tag_dropout) or s.learning_rate_text_encoder > 0,
        "`shuffle_tags` or `tag_dropout`, and a text encoder that is not trained",
    ),
    *((name, _not_an_argument(name), needed_by(name)) for name in OWN_SETTINGS),
    (
        "cycles",
        lambda s: s.schedule not in ("cosine_restarts_warmup_each", "cosine_restarts"),
        "a schedule with restarts",
    ),
    ("warmup_fraction", lambda s: s.schedule in UNWARMED, "a schedule with a warm-up"),
    ("annealing_steps", lambda s: s.schedule != "cosine_annealing", "`schedule: cosine_annealing`"),
    ("min_snr_gamma", lambda s: s.loss_weighting != "min_snr", "`loss_weighting: min_snr`"),
    ("adaptive_noise_scale", lambda s: s.noise_offset == 0, "`noise_offset`"),
    ("multires_noise_discount", lambda s: s.multires_noise_iterations == 0, "`multires_noise_iterations`"),
)
"""A training setting, when it does nothing, and what it needs to have an effect."""

ASPECT = "`buckets: {shape: aspect}`"
IDLE_IN_SQUARES = {"training": ("crops",), "buckets": ("step", "min_side", "max_side", "upscale")}
"""Settings by section that do nothing when all images are padded to the same square."""


def without_effect(
    training: TrainingSettings, buckets: BucketSettings, family: str, stated: Mapping[str, Iterable[str]]
) -> list[str]:
    """Return a sentence per `stated` setting (section -> names) without effect."""
    names = {section: set(stated.get(section, ())) for section in ("training", "buckets")}
    idle_now = [(name, needs) for name, idle, needs in IDLE_TRAINING if idle(training)]
    found = [(f"training.{name}", needs) for name, needs in idle_now if name in names["training"]]
    if family == "sdxl" and "clip_skip" in names["training"]:
        found.append(("training.clip_skip", "a base model of SD1.5: SDXL always reads the layer before the last"))
    if buckets.shape == "square":
        found += [
            (f"{section}.{name}", ASPECT)
            for section, idle in IDLE_IN_SQUARES.items()
            for name in idle
            if name in names[section]
        ]
    return [f"'{name}' has no effect here: it needs {needs}. Remove it, or set that." for name, needs in found]


MAX_TOKENS = 225
"""Of a prompt: three times what a text encoder reads at once, as for training captions."""


class GenerationSettings(Strict):
    scheduler: Literal["euler", "dpmsolver++", "ddim", "lcm"] = Field(
        "dpmsolver++", description="`lcm` is for an LCM-LoRA: 1 to 8 steps, guidance_scale 1"
    )
    steps: int = Field(25, ge=1, description="of the sampler")
    guidance_scale: float = Field(7.0, ge=0, description="1 or less: none; the negative prompt is then ignored")
    negative_prompt: str = Field("", description="images are guided away from it")
    batch_size: int = Field(4, ge=1, description="images at once")


Weight = Annotated[float, Field(ge=0, le=2)]


class SamplingGridSettings(Strict):
    """Axes of `sampling_grid`, all combined; those of missing adapters are left out."""

    style_weights: tuple[Weight, ...] = Field((0.0, 0.5, 1.0), min_length=1, description="of the LoRA of the style")
    character_weights: tuple[Weight, ...] = Field((0.6, 0.8, 1.0), min_length=1, description="of the character's LoRA")
    lcm_weights: tuple[Weight, ...] = Field((0.0, 1.0), min_length=1, description="of the LCM-LoRA; 0: none")
    steps: tuple[Annotated[int, Field(ge=1, le=200)], ...] = Field(
        (4, 8, 15, 25), min_length=1, description="of the sampler"
    )
    guidance_scales: tuple[Annotated[float, Field(ge=1, le=50)], ...] = Field(
        (1.0, 7.0), min_length=1, description="1: no guidance, which takes half the time"
    )
    prompts_per_medium: int = Field(6, ge=1, description="the first of the benchmark's prompts")
    seeds_per_prompt: int = Field(1, ge=1, description="images of each prompt")
    most_images: int = Field(5_000, ge=1, description="more than this is an error: it would take too long")

    @field_validator("style_weights", "character_weights", "lcm_weights", "steps", "guidance_scales")
    @classmethod
    def _each_once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values):
            raise ValueError("each value may occur only once")
        return tuple(sorted(values))


class TuningSettings(Strict):
    """Other settings for tuning an LCM-LoRA on one character's images."""

    images: int = Field(128, ge=1, description="sampled from the training images by their weights, before tuning")
    steps: int = Field(300, ge=1, description="of the optimizer")
    learning_rate: float = Field(1e-4, gt=0, description="its peak")
    guidance_scale: float = Field(
        4.0, ge=1, description="guidance that the LoRA learns; training images have none of their own"
    )


class ConsistencySettings(Strict):
    """U-Net distillation into a few-step LoRA (Luo et al. 2023)."""

    words: list[list[str]] = Field(
        min_length=1, description="a prompt has one entry of each list, in this order; no word that names a character"
    )
    omitted: float = Field(0.25, ge=0, lt=1, description="probability that a prompt has no entry of a list")
    images: int = Field(256, ge=1, description="training images, generated by the base model, each from its own prompt")
    guidance_scale: float = Field(
        2.0,
        ge=1,
        description="guidance that the LoRA learns. Its training images are already generated with that of "
        "`generation`, and each sampling step adds this again: high values make images garish, more so with more steps",
    )
    skip: int = Field(
        20,
        ge=1,
        description="noise levels, of 1000, that a step of the solver skips: 20 in the paper, which trains long. Short "
        "training needs more: the target is exact only where a step ends at level 0, and it spreads from there",
    )

    rank: int = Field(64, ge=1, le=320, description="of the LCM-LoRA")
    alpha: float = Field(64.0, gt=0, description="its strength is alpha / rank")
    targets: Literal["attention", "all", "all+conv"] = Field("all+conv", description="as in the training settings")
    steps: int = Field(1000, ge=1, description="of the optimizer")
    batch_size: int = Field(16, ge=1, description="latents of a batch")
    gradient_checkpointing: bool = Field(
        True, description="compute each forward pass twice instead of keeping it: less memory, a third more time"
    )
    learning_rate: float = Field(1e-4, gt=0, description="its peak, of AdamW; falls to 0 along a half cosine")
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="of all steps")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to it")
    huber: float = Field(0.001, gt=0, description="difference where the loss passes from squares to absolute values")
    seed: int = Field(0, ge=0, le=MOST_SEED, description="of all that is random in it")
    tuning: TuningSettings = TuningSettings()

    measured_prompts: int = Field(12, ge=2, description="prompts that are not trained on, to measure the LoRA")
    measured_seeds: int = Field(3, ge=2, description="images of each of them")


class BenchmarkSettings(Strict):
    seeds_per_prompt: int = Field(4, ge=1, description="images of each prompt")
    bootstrap_samples: int = Field(2_000, ge=100, description="resamples for an interval")
    prompts: dict[str, list[str]] = Field(
        description="free attributes for each medium, used beside the character's own"
    )
    medium_tags: dict[str, str] = Field(description="the base model's tags for each medium")


INVENTED_TRAITS = (
    ("twintails", "short hair", "side ponytail", "twin braids", "long hair", "bob cut", "double bun", "spiky hair"),
    ("pink hair", "black hair", "aqua hair", "blonde hair", "red hair", "white hair", "brown hair"),
    ("blue eyes", "brown eyes", "purple eyes", "green eyes", "red eyes", "yellow eyes"),
    ("red kimono", "blue overalls", "pink dress", "black jacket", "green shirt", "blue serafuku"),
    ("glasses", "beret", "cat ears", "hair bow", "rabbit ears", "crown", "hair flower"),
)
"""Traits of invented characters: hair, its colour, eyes, clothes, and something worn. Tags of danbooru, which taggers
recognise.
"""


class StyleSettings(Strict):
    """Other settings for training and choosing the LoRA of a shared style."""

    tags: int = Field(
        8, ge=1, description="most tags of a caption, the most informative (dataset/style_set.py); about 8 for a style"
    )
    training: dict[str, Any] = Field(default_factory=dict, description="settings of `training` that differ for a style")
    begin: str = Field("1girl, solo", description="beginning of prompts about invented characters")
    traits: tuple[tuple[str, ...], ...] = Field(
        INVENTED_TRAITS, description="traits of invented characters, one of each list"
    )
    attributes: tuple[str, ...] = Field(
        ("smile, full body", "angry, upper body", "closed eyes, waving, full body"),
        description="attributes in the prompts about each invented character",
    )
    most_leaks: float = Field(
        0.1,
        ge=0,
        le=1,
        description="at most this much more of the images of invented characters may be taken for a character of the "
        "style, or be copies, than of the base model's images",
    )
    most_lost: float = Field(
        0.1, ge=0, le=1, description="the share of prompted tags that is found may be this much below the base model's"
    )
