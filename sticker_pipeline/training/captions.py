"""Captions as they are drawn for training: tags in another order, and some left out.

Only text here, without torch. How a caption is written stands in tagging/captions.py, how it is read in text.py.
"""

import numpy as np

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.tagging.captions import SEPARATOR


def vary(caption: str, settings: TrainingSettings, rng: np.random.Generator) -> str:
    """One draw of `caption`: behind its first `keep_tags` tags each one is left out with the chance `tag_dropout`, and
    those that stay come in a random order under `shuffle_tags`. A tag keeps its weight.

    May be "" where no tag is kept. Uses up the same random numbers for every caption with the same number of tags.
    """
    items = caption.split(SEPARATOR)
    kept, free = items[: settings.keep_tags], items[settings.keep_tags :]
    stays = rng.random(len(free)) >= settings.tag_dropout
    order = rng.permutation(len(free)) if settings.shuffle_tags else range(len(free))
    return SEPARATOR.join([*kept, *(free[place] for place in order if stays[place])])


def caption_variants(caption: str, settings: TrainingSettings, *, seed: int, count: int) -> list[str]:
    """`count` independent draws of `caption`; the caption alone where nothing is shuffled or left out.

    A function of (caption, settings, seed): other captions change nothing, and a larger `count` only adds to the end.
    A short caption's draws repeat each other and are all kept: picking one of them evenly is then the distribution of
    `vary`, which it would not be if the rarer ones weighed as much as the others.
    """
    if not (settings.shuffle_tags or settings.tag_dropout):
        return [caption]
    rng = np.random.default_rng([seed, int(content_hash(caption), 16)])
    return [vary(caption, settings, rng) for _ in range(count)]
