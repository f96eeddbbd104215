"""The base model: captions, noise levels, packing, and the shipped pipeline in its real loader."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sticker_pipeline.embedded import base, dataset, loop, obedience, vae
from sticker_pipeline.embedded.report import OBEDIENCE, PROBE
from sticker_pipeline.embedded.scene import VOCABULARY
from sticker_pipeline.embedded.tokenizer import new_tokenizer

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded" / "base"
TAGS = ["1girl", "solo", "blue hair", "smile", "full body", "outline"]
WHO = {"1girl", "solo", "blue hair"}


def test_captions_are_whole_and_in_order_at_first() -> None:
    rng = np.random.default_rng(0)
    captions = [base.caption(TAGS, WHO, rng, loose=False) for _ in range(2000)]
    assert set(captions) == {"", ", ".join(TAGS)}
    assert 0.08 < captions.count("") / len(captions) < 0.12


def test_loose_captions_are_shuffled_thinned_and_begun_with_unknown_words() -> None:
    rng = np.random.default_rng(0)
    captions = [base.caption(TAGS, WHO, rng, loose=True) for _ in range(2000)]
    words = [caption.split(", ") for caption in captions if caption]
    whole = sum(found == TAGS for found in words) / len(words)
    assert 0.27 < whole < 0.36  # three in eight stay whole, five in six of them without a word in front
    nobody = sum(found[-3:] == ["smile", "full body", "outline"] and len(found) < 5 for found in words) / len(words)
    assert 0.09 < nobody < 0.17
    strangers = sum(bool(found[0]) and found[0] not in TAGS for found in words) / len(words)
    assert 0.13 < strangers < 0.21
    assert all(set(found[1:]) <= set(TAGS) for found in words)


def test_unknown_words_are_not_words_of_the_vocabulary() -> None:
    rng = np.random.default_rng(0)
    made = {base.unknown_word(rng) for _ in range(500)}
    assert len(made) > 450
    assert not made & set(VOCABULARY)


def test_noise_levels_follow_their_formula() -> None:
    drawn = base.timesteps(20_000, np.random.default_rng(0))
    assert drawn.min() >= 0
    assert drawn.max() <= 999
    # P(t < 1000 x) = x^1.6
    for x in (0.25, 0.5, 0.8):
        assert abs(float((drawn < 1000 * x).mean()) - x**1.6) < 0.012


def test_the_schedule_ends_near_pure_noise() -> None:
    end = float(base.new_scheduler().alphas_cumprod[-1])
    assert 0 < end < 2e-3


def test_latents_of_the_face_count_more() -> None:
    # the four latents around (.5, .25), rows 0 and 1, columns 1 and 2, have their centres sqrt(2)/8 = .177 away from it
    faces = np.array([[0.5, 0.25, 0.17], [0.5, 0.25, 0.18]], dtype=np.float32)
    expected = np.ones((2, 4, 4), dtype=np.float32)
    expected[1, :2, 1:3] = base.FACE_WEIGHT
    weights = base.face_weights(faces, 4)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, expected)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base trained for two steps on six drawings, stopped after one and resumed; saved."""
    work = tmp_path_factory.mktemp("base")
    words = new_tokenizer([", ".join(VOCABULARY)])
    drawings = dataset.fresh_drawings(6, seed=1)
    autoencoder = vae.new_vae().eval()
    latents = vae.encode(autoencoder, drawings.pixels)
    plan = replace(base.PLAN, steps=2, batch=2)

    def save(unet: torch.nn.Module, text_encoder: torch.nn.Module) -> None:
        base.save_base(work / "base", autoencoder, unet, text_encoder, words)  # type: ignore[arg-type]
        text_encoder.eval()
        ids = base.token_ids(words, ["blue hair, smile"])
        with torch.no_grad():
            torch.save(text_encoder(ids).last_hidden_state, work / "hidden.pt")

    said: list[str] = []
    one = replace(plan, steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compiled", lambda module: module)  # compiling takes longer than these two steps
        base.train(drawings, latents, words, one, work / "state.safetensors", lambda *models: None, said.append)
        base.train(drawings, latents, words, plan, work / "state.safetensors", save, said.append)
    assert any("resumes at step 1 of 2" in line for line in said)
    return work


def test_saved_text_encoder_gives_the_same_hidden_states(tiny: Path) -> None:
    pipeline = base.open_base(tiny / "base")
    with torch.no_grad():
        again = pipeline.text_encoder(base.token_ids(pipeline.tokenizer, ["blue hair, smile"]))[0]
    torch.testing.assert_close(again.cpu(), torch.load(tiny / "hidden.pt"), rtol=0.02, atol=0.02)  # float16 on disk


@pytest.fixture(scope="module")
def shipped():
    return base.open_base(SHIPPED)


def test_the_shipped_base_is_a_stable_diffusion_pipeline(shipped) -> None:
    assert type(shipped).__name__ == "StableDiffusionPipeline"
    assert shipped.safety_checker is None
    assert shipped.scheduler.config.prediction_type == "v_prediction"
    assert shipped.unet.config.sample_size == 12
    assert shipped.vae_scale_factor == 8
    assert not (SHIPPED / "safety_checker").exists()
    assert shipped.text_encoder.config.vocab_size == len(shipped.tokenizer)
    assert not list(SHIPPED.rglob("*.bin"))


def test_the_shipped_base_draws_and_listens_to_words(shipped) -> None:
    prompts = ["1girl, solo, chibi, long hair, red hair, smile", "1girl, solo, chibi, long hair, blue hair, smile"]
    tail = (
        ", looking at viewer, arms at sides, portrait, transparent background, simple background, outline, flat color"
    )
    drawn = base.samples(shipped, [prompt + tail for prompt in prompts], seed=1, steps=12)
    images = [np.asarray(image, dtype=np.float32) for image in drawn]
    assert all(image.shape == (96, 96, 3) for image in images)
    # the image of red hair is redder, that of blue hair bluer (mean over the canvas)
    red, blue = (image[..., 0].mean() - image[..., 2].mean() for image in images)
    assert red > blue + 5
    # a sticker stands on white
    corners = np.concatenate([image[[0, 0, -1, -1], [0, -1, 0, -1]] for image in images])
    assert corners.mean() > 225


def test_the_shipped_base_passes_the_caption_probe(shipped) -> None:
    probe = base.caption_probe(shipped, dataset.fresh_drawings(48, seed=9), seed=1)
    assert {t: wrong / right >= PROBE[t] for t, (right, wrong) in probe.items()} == dict.fromkeys(PROBE, True)


def test_the_shipped_base_draws_what_full_prompts_ask_for(shipped) -> None:
    fresh = dataset.fresh_drawings(24, seed=9)  # other drawings than the report's, which has 256
    made = obedience.draw(shipped, fresh.tags, obedience.Sampling("DPMSolverMultistepScheduler", 10, 4.0), seed=1)
    found = obedience.shares(SHIPPED.parent, made, fresh.tags)
    assert {kind: found[kind].found >= least for kind, least in OBEDIENCE.items()} == dict.fromkeys(OBEDIENCE, True)
