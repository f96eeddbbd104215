"""Random variants of captions: tags shuffled, and some left out."""

import numpy as np

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.tagging.captions import SEPARATOR


def vary(caption: str, settings: TrainingSettings, rng: np.random.Generator) -> str:
    """Vary `caption` at random.

    The first `keep_tags` tags stay in place. Each other tag is left out with probability `tag_dropout`; the rest are
    shuffled under `shuffle_tags`. Tags keep their weight. Returns "" where none is kept. Captions with equally many
    tags use equally many random numbers.
    """
    items = caption.split(SEPARATOR)
    kept, free = items[: settings.keep_tags], items[settings.keep_tags :]
    stays = rng.random(len(free)) >= settings.tag_dropout
    order = rng.permutation(len(free)) if settings.shuffle_tags else range(len(free))
    return SEPARATOR.join([*kept, *(free[place] for place in order if stays[place])])


def caption_variants(caption: str, settings: TrainingSettings, *, seed: int, count: int) -> list[str]:
    """`count` independent variants of `caption`; it alone if nothing varies.

    A function of (caption, settings, seed); a larger `count` only adds to the end. Repeated variants are kept: a
    uniform choice then follows the distribution of `vary`.
    """
    if not (settings.shuffle_tags or settings.tag_dropout):
        return [caption]
    rng = np.random.default_rng([seed, int(content_hash(caption), 16)])
    return [vary(caption, settings, rng) for _ in range(count)]
