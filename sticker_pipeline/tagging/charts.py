"""Charts of tags and captions before and after curation."""

import math
from collections.abc import Sequence

import pandas as pd
from PIL import Image

from sticker_pipeline.core.images import count_histogram, paired_bars, word_cloud
from sticker_pipeline.tagging import summary


def tag_images(
    tags: pd.DataFrame, captions: pd.DataFrame, who: pd.DataFrame, taught: Sequence[str]
) -> dict[str, Image.Image]:
    """Chart the tags: name -> image.

    `who`: from `summary.character_tags`. The word cloud omits `taught`: every caption has them.
    """
    counts = summary.caption_tag_counts(captions)
    before, after = summary.tags_per_image(tags, captions)
    return {
        "word_cloud": word_cloud({tag: count for tag, count in counts.items() if tag not in taught}),
        "tags_before_and_after": paired_bars(
            summary.before_and_after(tags, captions),
            title="tags before and after curation",
            unit="frames",
            names=("the tagger found it on", "captions that have it"),
        ),
        "character_tag_weight": paired_bars(
            {
                _weighed(tag, score, weight): (found, written)
                for tag, _, found, score, written, weight in who.itertuples(index=False)
            },
            title="tags of the character's identity: curation leaves the learned ones",
            unit="share of frames",
            names=("the tagger found it on (mean score)", "captions that have it (× mean weight)"),
        ),
        "tags_per_image": count_histogram(
            {"before": before, "after": after}, title="tags per image", x="tags", y="images"
        ),
    }


def _weighed(tag: str, score: float, weight: float) -> str:
    believed = f" ({score:.2f})" if math.isfinite(score) else ""
    weighed = f" ×{weight:.2g}" if math.isfinite(weight) and weight != 1 else ""
    return f"{tag}{believed}{weighed}"
