"""Variants of captions for training: tags shuffled, and some left out.

Text only, without torch. Captions are written in `tagging/captions.py`, tokenized in `diffusion/text.py`.
"""

import numpy as np

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.tagging.captions import SEPARATOR


def vary(caption: str, settings: TrainingSettings, rng: np.random.Generator) -> str:
    """Return a random variant of `caption`.

    The first `keep_tags` tags stay in place. Each other tag is left out with probability `tag_dropout`; the rest are
    shuffled under `shuffle_tags`. A tag keeps its weight. May be "" where no tag is kept. Captions with equally many
    tags use up the same random numbers.
    """
    items = caption.split(SEPARATOR)
    kept, free = items[: settings.keep_tags], items[settings.keep_tags :]
    stays = rng.random(len(free)) >= settings.tag_dropout
    order = rng.permutation(len(free)) if settings.shuffle_tags else range(len(free))
    return SEPARATOR.join([*kept, *(free[place] for place in order if stays[place])])


def caption_variants(caption: str, settings: TrainingSettings, *, seed: int, count: int) -> list[str]:
    """Return `count` independent variants of `caption`.

    The caption alone where nothing is shuffled or left out. A function of (caption, settings, seed); a larger `count`
    only adds to the end. Repeated variants of a short caption are kept: a uniform choice among them then follows the
    distribution of `vary`.
    """
    if not (settings.shuffle_tags or settings.tag_dropout):
        return [caption]
    rng = np.random.default_rng([seed, int(content_hash(caption), 16)])
    return [vary(caption, settings, rng) for _ in range(count)]
