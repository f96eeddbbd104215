"""Trains the embedded base model and packs it as a StableDiffusionPipeline.

Latents: `embedded/vae.py`; tokens: `embedded/tokenizer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sticker_pipeline.embedded import loop
from sticker_pipeline.embedded.dataset import SIZE, Drawings
from sticker_pipeline.embedded.vae import LATENT_CHANNELS, encode

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

CHANNELS = (112, 128)
HEADS = 4
TEXT_WIDTH = 128
TEXT_LAYERS = 2
PLAN: loop.Plan = loop.Plan(steps=3400, batch=64, matrix_rate=4e-3, warmup=60, decay_from=0.5, ema=0.998, seed=3)
MICRO_BATCH = 32  # images per forward pass
FACE_WEIGHT = 3.0  # of latents in the face, 1 elsewhere: eyes and mouths are small but carry many tags
TEXT_RATE = 0.5  # of the U-Net's learning rate; at the full rate the encoder's outputs collapse
EMPTY_SHARE = 0.1  # empty captions, for classifier-free guidance
LOOSE_FROM = 0.6  # share of training after which captions are also shuffled, thinned, or begin with an unknown word
TIMESTEP_BIAS = 1.6  # t = T * u^(1/1.6): more high noise, where captions decide
PROBE_STEPS = (300, 600, 850)


def new_unet(seed: int) -> UNet2DConditionModel:
    """An untrained U-Net for latents [16, 12, 12]: two levels, cross-attention, v-prediction."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEADS,  # number of heads, despite its name
        norm_num_groups=16,
    )


def new_text_encoder(tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModel:
    """An untrained CLIP text encoder for `tokenizer`."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule with a noisier end: white backgrounds stay white."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.016,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def caption(tags: Sequence[str], inherent: Collection[str], rng: np.random.Generator, *, loose: bool) -> str:
    """Write an image's training caption; `inherent` tags describe the character.

    First, full tags in fixed order: the model hardly learns to read captions that are shuffled and thinned from the
    start. Later (`loose`) half are shuffled and thinned, one in eight lacks inherent tags, one in six begins with an
    unknown word. So free prompts work, and an untrained trigger changes nothing.
    """
    if rng.random() < EMPTY_SHARE:
        return ""
    words = list(tags)
    if loose:
        kind = rng.random()
        if kind < 1 / 2:
            keep = rng.uniform(0.15, 1.0)
            words = [word for word in words if rng.random() < keep]
            words = [words[index] for index in rng.permutation(len(words))]
        elif kind < 5 / 8:
            words = [word for word in words if word not in inherent]
        if rng.random() < 1 / 6:
            words.insert(0, unknown_word(rng))
    return ", ".join(words)


def unknown_word(rng: np.random.Generator) -> str:
    """Made-up trigger such as `ko_ramiel`: two to five syllables, half with `_`."""
    consonants, vowels = "bcdfghjklmnprstvwxz", "aeiou"
    syllables = [
        consonants[rng.integers(len(consonants))]
        + vowels[rng.integers(len(vowels))]
        + (consonants[rng.integers(len(consonants))] if rng.random() < 0.4 else "")
        for _ in range(rng.integers(2, 6))
    ]
    if rng.random() < 0.5:
        syllables.insert(int(rng.integers(1, len(syllables))), "_")
    return "".join(syllables)


def timesteps(count: int, rng: np.random.Generator) -> np.ndarray:
    """Sample timesteps int64 [count] in 0–999, biased to high noise."""
    return np.minimum(999, 1000 * rng.random(count) ** (1 / TIMESTEP_BIAS)).astype(np.int64)


def face_weights(faces: np.ndarray, side: int) -> np.ndarray:
    """Loss weights float32 [N, side, side]: FACE_WEIGHT in the face, 1 elsewhere.

    `faces`: float32 [N, 3], x, y, radius as fractions of the image.
    """
    x, y, radius = (faces[:, column, None, None] for column in range(3))
    at = (np.arange(side, dtype=np.float32) + 0.5) / side
    inside = (at[None, None, :] - x) ** 2 + (at[None, :, None] - y) ** 2 <= radius**2
    return np.where(inside, np.float32(FACE_WEIGHT), np.float32(1.0))


def token_ids(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> torch.Tensor:
    """Token ids int64 [N, 77], padded and truncated as in the pipeline."""
    ids: torch.Tensor = tokenizer(
        list(captions),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids


def latents_of(vae: AutoencoderKL, drawings: Drawings, store: Path, say: Callable[[str], None]) -> np.ndarray:
    """Scaled latents `float16[N, 16, 12, 12]` of all drawings, kept in `store`."""
    if not store.exists():
        say(f"base      encoding {len(drawings)} drawings")
        with loop.autocast():
            parts = [
                encode(vae, drawings.pixels[start : start + 2000]) * vae.config.scaling_factor
                for start in range(0, len(drawings), 2000)
            ]
        beside = store.with_name("partial.npy")
        np.save(beside, np.concatenate(parts).astype(np.float16))
        beside.replace(store)
    return np.load(store)


def train(
    drawings: Drawings,
    latents: np.ndarray,
    tokenizer: CLIPTokenizer,
    plan: loop.Plan,
    checkpoint: Path,
    save: Callable[[UNet2DConditionModel, CLIPTextModel], None],
    say: Callable[[str], None],
) -> float:
    """Train or resume; `save` the averaged models; return seconds of training."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    unet, text_encoder, scheduler = new_unet(plan.seed), new_text_encoder(tokenizer, plan.seed), new_scheduler()
    if loop.half_precision() and loop.device().type == "cpu":
        # fused attention on CPUs takes up to twice the time of plain bfloat16 products
        unet.set_attn_processor(AttnProcessor())
        text_encoder.set_attn_implementation("eager")
    unet.to(memory_format=torch.channels_last)
    predict, read = loop.compiled(unet), loop.compiled(text_encoder)
    training = loop.Training(
        {"unet": unet, "text_encoder": text_encoder}, {"unet": 1.0, "text_encoder": TEXT_RATE}, plan
    )

    def loss_at(step: int) -> torch.Tensor:
        rng = np.random.default_rng([plan.seed, step])
        rows = rng.integers(len(drawings), size=plan.batch)
        loose = step > LOOSE_FROM * plan.steps
        written = [caption(drawings.tags[row], drawings.identity_words[row], rng, loose=loose) for row in rows]
        ids = token_ids(tokenizer, written).to(unet.device)
        clean = torch.from_numpy(latents[rows].astype(np.float32)).to(unet.device)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(unet.device)
        t = torch.from_numpy(timesteps(plan.batch, rng)).to(unet.device)
        noisy = scheduler.add_noise(clean, noise, t).contiguous(memory_format=torch.channels_last)
        parts = zip(noisy.split(MICRO_BATCH), t.split(MICRO_BATCH), ids.split(MICRO_BATCH), strict=True)
        with loop.autocast():
            predicted = torch.cat([predict(x, at, read(words).last_hidden_state).sample for x, at, words in parts])
        weights = torch.from_numpy(face_weights(drawings.faces[rows], clean.shape[-1])).to(unet.device)
        errors = (predicted.float() - scheduler.get_velocity(clean, noise, t)).square().mean(dim=1)
        return (weights * errors).sum() / weights.sum()

    loop.run(training, loss_at, checkpoint, label="base", say=say, snapshot=lambda: save(unet, text_encoder))
    return training.seconds


def save_base(
    folder: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> None:
    """Write the diffusers layout into `folder`: float16, no safety checker."""
    import copy

    from diffusers import StableDiffusionPipeline

    from sticker_pipeline.embedded.tokenizer import save_tokenizer

    half = [copy.deepcopy(module).cpu().half() for module in (vae, unet, text_encoder)]
    pipeline = StableDiffusionPipeline(
        vae=half[0],
        unet=half[1],
        text_encoder=half[2],
        tokenizer=tokenizer,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    save_tokenizer(tokenizer, folder / "tokenizer")


def open_base(folder: Path) -> StableDiffusionPipeline:
    """Open the saved base offline, in float32, without progress bars."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, local_files_only=True, torch_dtype=torch.float32, safety_checker=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(loop.device())


def samples(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], *, seed: int, steps: int = 24, guidance: float = 4.0
) -> list[Any]:
    """Generate a PIL image per prompt, each with its own seed."""
    import torch

    images = []
    for start in range(0, len(prompts), 16):
        part = list(prompts[start : start + 16])
        noise = [torch.Generator().manual_seed(seed + start + number) for number in range(len(part))]
        images += pipeline(
            part, height=SIZE, width=SIZE, num_inference_steps=steps, guidance_scale=guidance, generator=noise
        ).images
    return images


def caption_probe(pipeline: StableDiffusionPipeline, fresh: Drawings, *, seed: int) -> dict[int, tuple[float, float]]:
    """Prediction errors on fresh drawings with the (right, wrong) caption, per PROBE_STEPS.

    The wrong caption is another image's. The errors are equal if the model ignores text.
    """
    import torch

    clean = torch.from_numpy(encode(pipeline.vae, fresh.pixels)) * pipeline.vae.config.scaling_factor
    scheduler = new_scheduler()
    captions = [", ".join(tags) for tags in fresh.tags]
    shifted = captions[len(captions) // 2 :] + captions[: len(captions) // 2]
    result = {}
    with torch.inference_mode():
        words = [pipeline.text_encoder(token_ids(pipeline.tokenizer, part))[0] for part in (captions, shifted)]
        for t in PROBE_STEPS:
            noise = torch.randn(clean.shape, generator=loop.torch_rng(seed, t))
            times = torch.full((len(clean),), t)
            noisy, wanted = scheduler.add_noise(clean, noise, times), scheduler.get_velocity(clean, noise, times)
            errors = [float((pipeline.unet(noisy, times, hidden).sample - wanted).square().mean()) for hidden in words]
            result[t] = (errors[0], errors[1])
    return result
