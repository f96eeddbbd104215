"""The original project's observations as experiments: each has a question and arms to compare.

A trial is a function of (seed, work folder) that trains one LoRA and measures it. `trials` runs trials, `page` shows
them. The seed decides the invented character, its images, and the training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sticker_pipeline.benchmark.memorisation import nearest_training
from sticker_pipeline.benchmark.similarity import clip_similarity, diversity
from sticker_pipeline.embedded.scene import Scene, identity_tags, scene_tags
from sticker_pipeline_tests.experiments import studio

TRIGGER = "skv_nemira"
OTHER = "skv_obrant"


@dataclass(frozen=True)
class Outcome:
    """Result of one arm for one seed: metrics by name, images, and curves over epochs by name."""

    figures: Mapping[str, float]
    images: Sequence[Image.Image]
    curves: Mapping[str, list[float]] = field(default_factory=dict)


Trial = Callable[[int, Path], dict[str, Outcome]]
"""Trains one LoRA in a folder for a seed; gives an outcome for each way of using it ("" where there is only one)."""


@dataclass(frozen=True)
class Question:
    """One experiment.

    `trials` are compared on the same seeds. `figures`: metric name -> meaning, in the order of the table. `columns`:
    requested content of an outcome's images.
    """

    title: str
    setting: str
    trials: Mapping[str, Trial]
    figures: Mapping[str, str]
    columns: Sequence[str] = tuple(", ".join(attributes) for attributes in studio.ATTRIBUTES)


SIMILARITY = "similarity"
SIMILARITY_TEXT = "mean CLIP cosine to held-out drawings of the character"
FREE = "free attributes"
FREE_TEXT = "share of prompted expressions, gazes, poses and views that the tagger finds"
DIVERSITY = "diversity"
DIVERSITY_TEXT = "mean cosine distance between generated images"


@functools.cache
def references(seed: int) -> np.ndarray:
    """Embeddings of 24 held-out drawings of invented character `seed`."""
    return studio.drawn(studio.scenes(studio.invented(seed), 24, seed=10_000 + seed))


def judged(
    lora: Path | None, prompts: Sequence[str], holdout: np.ndarray
) -> tuple[dict[str, float], list[Image.Image]]:
    """Similarity, free attributes and diversity of the images that `lora` draws, and the images."""
    images = studio.generated(lora, prompts)
    rows = studio.embedded(images)
    spread = diversity(rows)
    figures = {
        SIMILARITY: clip_similarity(rows, holdout).mean,
        FREE: studio.found(images, studio.asked()),
        DIVERSITY: spread.mean if spread else float("nan"),
    }
    return figures, images


def shown(images: Sequence[Image.Image]) -> list[Image.Image]:
    """One image of each prompt."""
    return list(images[:: studio.SEEDS_PER_PROMPT])


def stickers(seed: int, count: int = 24) -> list[Scene]:
    """Training scenes of invented character `seed`."""
    return studio.scenes(studio.invented(seed), count, seed)


def identity_words(seed: int) -> list[str]:
    """The tags that say who invented character `seed` is, but for those of the style."""
    return [tag for tag in identity_tags(studio.invented(seed)) if tag not in studio.STYLE]


# --- (a) the trigger --------------------------------------------------------------------------------------------------


def trigger_trial(trigger: str) -> Trial:
    """Train with `trigger`; measure the character, and what became of the word `CLASH` for somebody else."""

    def run(seed: int, work: Path) -> dict[str, Outcome]:
        chosen = [scene for scene in stickers(seed, 40) if CLASH not in scene_tags(scene)][:24]
        lora = studio.train(work, studio.images(chosen, studio.curated(trigger)), trigger, seed)[-1]
        figures, images = judged(lora, studio.prompts(trigger), references(seed))
        asked = [f"{prompt}, {CLASH}" for prompt in studio.prompts(*identity_words(100 + seed))]
        theirs = studio.generated(lora, asked)
        figures["the word in the images"] = studio.found(images, [[CLASH]] * len(images))
        figures["the word for somebody else"] = studio.found(theirs, [[CLASH]] * len(theirs))
        figures["likeness of somebody else"] = clip_similarity(studio.embedded(theirs), references(seed)).mean
        return {"": Outcome(figures, shown(images))}

    return run


CLASH = "heart"  # a word that the base model knows well

A = Question(
    "A trigger that is a common tag, against a made-up one",
    f"24 stickers of one character; the trigger is `{CLASH}`, which the base model draws as a heart, or `{TRIGGER}`.",
    {"common tag": trigger_trial(CLASH), "made up": trigger_trial(TRIGGER)},
    {
        SIMILARITY: SIMILARITY_TEXT,
        FREE: FREE_TEXT,
        "the word in the images": f"share of the character's images in which the tagger finds `{CLASH}`, "
        "though nobody asked for one",
        "the word for somebody else": f"share of images of another character in which `{CLASH}`, asked for, is found",
        "likeness of somebody else": "mean CLIP cosine of those images to the trained character",
    },
)


# --- (b) a tag shared by two characters -------------------------------------------------------------------------------


def fusion_trial(first: Sequence[str], second: Sequence[str], **settings: Any) -> Trial:
    """Train two characters in one LoRA with the learned tags `first` and `second`; prompt with the first's.

    `settings` differ from the profile's.
    """

    def run(seed: int, work: Path) -> dict[str, Outcome]:
        one = studio.images(stickers(seed, 16), studio.curated(*first), "first")
        two = studio.images(stickers(50 + seed, 16), studio.curated(*second), "second")
        lora = studio.train(work, [*one, *two], first[0], seed, draws=2 * studio.DRAWS, **settings)[-1]
        figures, images = judged(lora, studio.prompts(*first), references(seed))
        rows = studio.embedded(images)
        own, other = (references(number).mean(axis=0) for number in (seed, 50 + seed))
        figures["likeness of the other"] = clip_similarity(rows, references(50 + seed)).mean
        figures["taken for the right one"] = float(np.mean(rows @ own > rows @ other))
        return {"": Outcome(figures, shown(images))}

    return run


OWN = ([TRIGGER, "nemira_sticker"], [OTHER, "obrant_sticker"])

B = Question(
    "One tag on the images of two characters, against a tag for each",
    "Two characters, 16 stickers each, in one LoRA. Each image's caption begins with learned tags: one tag that both "
    "share and nothing else, a trigger of its own and a shared tag, or a trigger and a tag of its own. The last also "
    "with the text encoder left as it is.",
    {
        "shared tag only": fusion_trial(["skv_duo"], ["skv_duo"]),
        "own trigger, shared tag": fusion_trial([TRIGGER, "skv_duo"], [OTHER, "skv_duo"]),
        "own trigger, own tag": fusion_trial(*OWN),
        "own tags, text encoder frozen": fusion_trial(*OWN, learning_rate_text_encoder=0.0),
    },
    {
        SIMILARITY: SIMILARITY_TEXT,
        "likeness of the other": "mean CLIP cosine to the other character's drawings",
        "taken for the right one": "share of images nearer to the right character's mean than to the other's",
        FREE: FREE_TEXT,
    },
)


# --- (c) few images -------------------------------------------------------------------------------------------------


def clone_trial(count: int) -> Trial:
    """Train long on `count` images; judge the last epoch, and the one most like drawings set aside for choosing."""

    def run(seed: int, work: Path) -> dict[str, Outcome]:
        chosen = stickers(seed)[:count]
        epochs = studio.train(
            work, studio.images(chosen, studio.curated(TRIGGER)), TRIGGER, seed, draws=2 * studio.DRAWS
        )
        trained, holdout = studio.drawn(chosen), references(seed)
        choosing = studio.drawn(studio.scenes(studio.invented(seed), 12, seed=20_000 + seed))
        each = [studio.embedded(studio.generated(path, studio.prompts(TRIGGER), 1, first_seed=7)) for path in epochs]
        curves = {
            SIMILARITY: [clip_similarity(rows, choosing).mean for rows in each],
            "nearest training image": [nearest_training(rows, trained).mean for rows in each],
        }
        outcomes = {}
        for way, number in ((", last epoch", len(epochs) - 1), (", stopped early", int(np.argmax(curves[SIMILARITY])))):
            figures, images = judged(epochs[number], studio.prompts(TRIGGER), holdout)
            nearest = nearest_training(studio.embedded(images), trained).mean
            figures["nearest training image"] = nearest
            figures["closer than held-out ones"] = nearest - nearest_training(holdout, trained).mean
            figures["epoch"] = number + 1
            outcomes[way] = Outcome(figures, shown(images), curves)
        return outcomes

    return run


C = Question(
    "Three images for many epochs, against 24 (the evil clone)",
    "The same number of steps on 3 or on 24 stickers; the last epoch, or the one whose images are most like 12 "
    "drawings set aside for that choice.",
    {"3": clone_trial(3), "24": clone_trial(24)},
    {
        SIMILARITY: SIMILARITY_TEXT,
        FREE: FREE_TEXT,
        DIVERSITY: DIVERSITY_TEXT,
        "nearest training image": "mean CLIP cosine to the nearest training image",
        "closer than held-out ones": "the same, less what held-out drawings of the character have: above 0 is copying",
        "epoch": "the epoch taken, of 8",
    },
)


# --- (d) a long GIF ---------------------------------------------------------------------------------------------------

GIF_FRAMES, STILLS = 40, 6


def gif(seed: int) -> list[Scene]:
    """A wave of the arm in 40 frames, as animated stickers have them."""
    start = Scene(studio.invented(seed), expression="open mouth", pose="waving", view="upper body")
    times = np.arange(GIF_FRAMES) / GIF_FRAMES
    return [
        replace(
            start,
            swing=float(1.6 * np.sin(4 * np.pi * time)),
            sway=float(np.sin(2 * np.pi * time)),
            bob=float(0.6 * np.sin(4 * np.pi * time)),
            mouth_open=float(0.5 + 0.5 * np.sin(4 * np.pi * time)),
        )
        for time in times
    ]


def weighting_trial(mode: str) -> Trial:
    """Train on six stills and the frames of one GIF, weighted by `mode`."""

    def run(seed: int, work: Path) -> dict[str, Outcome]:
        caption = studio.curated(TRIGGER)
        stills = studio.images(stickers(seed, STILLS), caption)
        frames = [studio.InlineImage(scene, caption(scene), "gif") for scene in gif(seed)]
        lora = studio.train(work, [*stills, *frames], TRIGGER, seed, mode=mode)[-1]
        prompts = [f"{TRIGGER}, {studio.STYLE}"] * len(studio.ATTRIBUTES)
        free = studio.generated(lora, prompts)
        rows = studio.embedded(free)
        trained = studio.drawn([*(image.scene for image in stills), *gif(seed)])
        figures, _ = judged(lora, studio.prompts(TRIGGER), references(seed))
        figures["from the GIF"] = float(np.mean((rows @ trained.T).argmax(axis=1) >= STILLS))
        figures["waving unasked"] = studio.found(free, [["waving"]] * len(free))
        spread = diversity(rows)
        figures["diversity, unasked"] = spread.mean if spread else float("nan")
        return {"": Outcome(figures, shown(free))}

    return run


D = Question(
    "A GIF of 40 frames beside six stills: how frames are weighted",
    "Drawn per frame (`uniform`), a source counting as one still (`inverse_length`), or by Kish's effective number of "
    "its frames (`effective_size`). Images below: the trigger and the style, nothing else asked.",
    {
        "per frame": weighting_trial("uniform"),
        "inverse length": weighting_trial("inverse_length"),
        "effective size": weighting_trial("effective_size"),
    },
    {
        "from the GIF": "share of images, only the trigger asked, whose nearest training image is of the GIF",
        "waving unasked": "share of those in which the tagger finds the GIF's pose",
        "diversity, unasked": "mean cosine distance between those",
        SIMILARITY: SIMILARITY_TEXT,
        FREE: FREE_TEXT,
    },
    ["only the trigger"] * len(studio.ATTRIBUTES),
)


# --- (e) captions -----------------------------------------------------------------------------------------------------


def caption_trial(write: Callable[[Scene], str], strangers: int = 0) -> Trial:
    """Train with captions by `write`, beside images of as many `strangers`, with captions that do not name them.

    Prompt with the trigger, without it, and with the tags of an identity.
    """

    def run(seed: int, work: Path) -> dict[str, Outcome]:
        own = studio.images(stickers(seed), write)
        numbers = range(1000 + 100 * seed, 1000 + 100 * seed + strangers)
        theirs = [scene for number in numbers for scene in studio.scenes(studio.invented(number), 1, number)]
        shown_too = studio.images(theirs, studio.curated(), "stranger")
        draws = studio.DRAWS * (len(own) + strangers) // len(own)
        lora = studio.train(work, [*own, *shown_too], TRIGGER, seed, draws=draws)[-1]
        holdout = references(seed)
        figures, images = judged(lora, studio.prompts(TRIGGER), holdout)
        for name, learned in {
            "without the trigger": [],
            "another's tags instead": identity_words(100 + seed),
            "all its tags as well": [TRIGGER, *identity_words(seed)],
        }.items():
            rows = studio.embedded(studio.generated(lora, studio.prompts(*learned)))
            figures[name] = clip_similarity(rows, holdout).mean
        return {"": Outcome(figures, shown(images))}

    return run


E = Question(
    "All tags in the captions, against curated ones",
    "24 stickers. Captions of the trigger and every tag, or of the trigger and what is not inherent in the character; "
    "the latter also beside as many images of other characters (drawn as often again), without a trigger.",
    {
        "all tags": caption_trial(lambda scene: ", ".join([TRIGGER, *scene_tags(scene)])),
        "curated": caption_trial(studio.curated(TRIGGER)),
        "curated, beside others": caption_trial(studio.curated(TRIGGER), strangers=24),
    },
    {
        SIMILARITY: SIMILARITY_TEXT + ", prompted with the trigger and free attributes",
        "without the trigger": "the same prompts without the trigger",
        "another's tags instead": "the same with the tags of another character in place of the trigger",
        "all its tags as well": "the same with the trigger and every tag of the character",
        FREE: FREE_TEXT,
    },
)


# --- (f) the learning rate --------------------------------------------------------------------------------------------


def rate_trial(schedule: str, factor: float = 1.0) -> Trial:
    """Train with `schedule`, its peak being `factor` times the profile's; each first warms up over as many steps."""

    def run(seed: int, work: Path) -> dict[str, Outcome]:
        usual = studio.profile().training
        share = (
            1 if schedule == "cosine_restarts_warmup_each" else usual.cycles
        )  # `cosine_restarts_warmup_each` takes its fraction of each cycle
        epochs = studio.train(
            work,
            studio.images(stickers(seed), studio.curated(TRIGGER)),
            TRIGGER,
            seed,
            schedule=schedule,
            warmup_fraction=usual.warmup_fraction / share,
            learning_rate_unet=factor * usual.learning_rate_unet,
            learning_rate_text_encoder=factor * usual.learning_rate_text_encoder,
        )
        holdout, trained = references(seed), studio.drawn(stickers(seed))
        each = [studio.embedded(studio.generated(path, studio.prompts(TRIGGER), 1, first_seed=7)) for path in epochs]
        curve = [clip_similarity(rows, holdout).mean for rows in each]
        figures, images = judged(epochs[-1], studio.prompts(TRIGGER), holdout)
        figures["nearest training image"] = nearest_training(studio.embedded(images), trained).mean
        figures["ups and downs"] = float(np.abs(np.diff(curve)).mean())
        return {"": Outcome(figures, shown(images), {SIMILARITY: curve})}

    return run


F = Question(
    "A constant learning rate, against four warm restarts",
    "24 stickers, the same peak learning rate; and a constant one at half the peak, which is the mean of the recipe's.",
    {
        "constant": rate_trial("constant"),
        "constant, half the peak": rate_trial("constant", 0.5),
        "4 restarts": rate_trial("cosine_restarts_warmup_each"),
    },
    {
        SIMILARITY: SIMILARITY_TEXT,
        FREE: FREE_TEXT,
        DIVERSITY: DIVERSITY_TEXT,
        "nearest training image": "mean CLIP cosine to the nearest training image",
        "ups and downs": "mean change of similarity from epoch to epoch",
    },
)

QUESTIONS = {"a": A, "b": B, "c": C, "d": D, "e": E, "f": F}
