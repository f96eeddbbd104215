"""Training set of a style: images of all characters that share it.

A character's captions omit its traits, so that they bind to its trigger. Here captions state traits and clothes, and
omit only the style. It has no trigger word: the LoRA applies whenever loaded. Each character's holdout is kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sticker_pipeline.core.schemas import Column, TableSchema
from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.core.storage import Artifact
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dataset.buckets import BucketError, assign_buckets
from sticker_pipeline.dataset.manifest import TRAIN, TRAINING_SET, DatasetError
from sticker_pipeline.tagging.captions import format_caption, parse_caption
from sticker_pipeline.tagging.categories import ORDER, category_of, read_rows
from sticker_pipeline.tagging.clash import UNIVERSAL_SHARE
from sticker_pipeline.tagging.curation import INHERENT_SHARE
from sticker_pipeline.tagging.wd14 import spelled
from sticker_pipeline.tagging.words import pattern

MIN_MEMBERS = 2  # one character's style cannot be distinguished from its traits
COMES_BACK = ("inherent", "rare")  # kinds of dropped tags that these captions restore
STYLE_WORD = "a tag of drawing style"
_OF_STYLE = {
    "frame_id": "the frame: the character's name, a slash, and its frame_id",
    "file": "its PNG file in this artifact, below frames/",
    "caption": "its caption in training: all but the style; empty if no tag is left",
}
STYLE_ROWS = TableSchema(
    "each image of each character of the style",
    (
        *(replace(each, description=_OF_STYLE.get(each.name, each.description)) for each in TRAINING_SET.columns),
        Column("character", "str", "the character that it shows"),
        Column("source_id", "str", "its source: the character's name, a slash, and the source_id of frames"),
    ),
    key=("frame_id",),
)
STYLE_TAGS = TableSchema(
    "each tag that the characters' captions have, or omit as inherent or rare",
    (
        Column("tag", "str", "the tag, with spaces"),
        Column("share", "float64", "the probability that a training sample has it", low=0, high=1),
        Column("bits", "float64", "information in its presence, 0 to 1 bit: the entropy of share"),
        Column("<character>", "float64", "the share of this character's samples that have it", low=0, is_open=True),
        Column("kept", "int64", "captions that have it", low=0),
    ),
    key=("tag",),
    file="tags.parquet",
)
STYLE_DROPPED = TableSchema(
    "each tag that was left out of a caption",
    (
        Column("frame_id", "str", "the frame, as in index.parquet"),
        Column("tag", "str", "the tag, with spaces"),
        Column("reason", "str", "why: its kind, and details after a colon"),
    ),
    key=("frame_id", "tag"),
    file="dropped.parquet",
)
IMAGES = "frames"  # folder of images in the artifact


@dataclass(frozen=True)
class Member:
    """A character of the style.

    `frames`, `rows` (training_set), `captions` and `dropped` (curated_tags): its published tables; `taught`: group ->
    trigger and learned tags, which begin its captions.
    """

    name: str
    frames: pd.DataFrame
    rows: pd.DataFrame
    captions: pd.DataFrame
    dropped: pd.DataFrame
    taught: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class StyleSet:
    """The tables STYLE_ROWS, STYLE_TAGS and STYLE_DROPPED."""

    rows: pd.DataFrame
    tags: pd.DataFrame
    dropped: pd.DataFrame


def style_set(
    members: Sequence[Member],
    most_tags: int,
    resolution: int,
    buckets: BucketSettings,
    *,
    universal: float = UNIVERSAL_SHARE,
) -> StyleSet:
    """Combine the images of all `members` in order, each in its own split.

    *Probability*: 1/(C·G·n) per frame, for C characters, G training sources of its character, n frames in its source:
    characters count alike, and their sources, whatever their own shares and weighting.

    *Captions*: the characters' captions without trigger and learned tags, with dropped inherent and rare tags restored.
    Then dropped, in this order:

    1. tags on drawing style (style_words.csv);
    2. tags with a share (sampling probability) of at least `universal`, which would come to mean the style;
    3. all but the `most_tags` with the highest entropy of presence (see `entropy`); of equals the first by name. Tags
       that separate characters come first, then actions, then rare things.

    Raises DatasetError for fewer than MIN_MEMBERS members, one without a training image, frames without a caption, and
    buckets without a size for `resolution`.
    """
    if len(members) < MIN_MEMBERS:
        raise DatasetError(f"a style needs at least {MIN_MEMBERS} characters with a training set, here {len(members)}")
    rows = pd.concat([_rows(member, len(members)) for member in members], ignore_index=True)
    try:
        sizes = assign_buckets(rows["width"].to_numpy(), rows["height"].to_numpy(), resolution, buckets)
    except BucketError as error:
        raise DatasetError(str(error)) from error
    rows = rows.assign(bucket_width=sizes[:, 0], bucket_height=sizes[:, 1])
    said = pd.concat([_said(member) for member in members], ignore_index=True)
    said["reason"] = np.where(said["tag"].isin(_style_words(said["tag"].unique())), STYLE_WORD, "")
    tags = _tag_table(said, rows)
    _prune(said, tags, most_tags, universal)
    kept = said[said["reason"] == ""]
    counts = kept["tag"].value_counts()
    return StyleSet(
        rows.assign(caption=_captions(kept, rows["frame_id"]))[STYLE_ROWS.names],
        tags.assign(kept=tags["tag"].map(counts).fillna(0).astype(int)),
        said.loc[said["reason"] != "", ["frame_id", "tag", "reason"]].reset_index(drop=True),
    )


def own_traits(tags: pd.DataFrame, characters: Sequence[str]) -> set[str]:
    """Return tags on at least INHERENT_SHARE of some character's own samples.

    `tags`: `StyleSet.tags`. An image with one may be taken for that character.
    """
    return set(tags.loc[(tags[list(characters)] >= INHERENT_SHARE).any(axis=1), "tag"])


def taken_traits(training_set: Artifact) -> set[str]:
    """Return `own_traits` of all characters in a style's training set."""
    return own_traits(training_set.table(STYLE_TAGS.file), sorted(set(training_set.table()["character"])))


def reasons_table(dropped: pd.DataFrame) -> pd.DataFrame:
    """Count dropped tags and frames by kind of reason: reason, tags, frames."""
    kinds = dropped.assign(reason=dropped["reason"].map(kind_of))
    return kinds.groupby("reason").agg(tags=("tag", "nunique"), frames=("frame_id", "nunique")).reset_index()


def kind_of(reason: str) -> str:
    """Return the kind of a reason: the part before the colon."""
    return reason.partition(":")[0]


def entropy(share: np.ndarray) -> np.ndarray:
    """Return `−s·log₂(s) − (1 − s)·log₂(1 − s)` of shares s in 0..1, in bits.

    0 for 0 and 1.
    """
    inner = np.clip(share, 1e-300, 1.0), np.clip(1 - share, 1e-300, 1.0)
    return np.asarray(-share * np.log2(inner[0]) - (1 - share) * np.log2(inner[1]))


def _rows(member: Member, characters: int) -> pd.DataFrame:
    lineage = member.frames[["frame_id", "source_id", "width", "height"]]
    table = member.rows[["frame_id", "file", "split"]].merge(lineage, on="frame_id", validate="one_to_one")
    trained = (table["split"] == TRAIN).to_numpy()
    if not trained.any():
        raise DatasetError(f"the character '{member.name}' has no image to train on")
    lengths = table[trained].groupby("source_id").size()
    probability = 1.0 / (characters * len(lengths) * table["source_id"].map(lengths).to_numpy(dtype=np.float64))
    names = {name: f"{member.name}/" + table[name] for name in ("frame_id", "file", "source_id")}
    return table.assign(**names, character=member.name, probability=np.where(trained, probability, 0.0))


def _said(member: Member) -> pd.DataFrame:
    """Return the member's caption tags but taught ones, plus restored tags.

    Columns character, frame_id, tag.
    """
    group = member.frames.set_index("frame_id")["group"]
    taught = {name: {spelled(tag) for tag in words} for name, words in member.taught.items()}
    pairs = [
        (frame, tag)
        for frame, caption in zip(member.captions["frame_id"], member.captions["caption"], strict=True)
        for tag, _ in parse_caption(caption)
        if spelled(tag) not in taught[group[frame]]
    ]
    back = member.dropped[member.dropped["reason"].map(kind_of).isin(COMES_BACK)]
    pairs += zip(back["frame_id"], back["tag"], strict=True)
    table = pd.DataFrame(pairs, columns=["frame_id", "tag"]).drop_duplicates()
    in_set = table[table["frame_id"].isin(member.rows["frame_id"])]
    return in_set.assign(frame_id=f"{member.name}/" + in_set["frame_id"], character=member.name)


def _tag_table(said: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return tag, share, bits and each character's own share, most bits first."""
    probability = said["frame_id"].map(rows.set_index("frame_id")["probability"])
    each = probability.groupby([said["tag"], said["character"]]).sum().unstack(fill_value=0)
    each = each.reindex(columns=list(dict.fromkeys(rows["character"])), fill_value=0.0)
    share = each.sum(axis=1).round(12).clip(upper=1.0)
    table = pd.DataFrame({"tag": share.index, "share": share.to_numpy(), "bits": entropy(share.to_numpy())})
    own = (each * each.shape[1]).round(12).reset_index(drop=True)
    return pd.concat([table, own], axis=1).sort_values(["bits", "tag"], ascending=[False, True], ignore_index=True)


def _prune(said: pd.DataFrame, tags: pd.DataFrame, most: int, universal: float) -> None:
    """Fill in the reasons of steps 2 and 3."""
    place = said["tag"].map(dict(zip(tags["tag"], range(len(tags)), strict=True)))
    share, bits = tags["share"].to_numpy()[place], tags["bits"].to_numpy()[place]
    everywhere = (said["reason"] == "").to_numpy() & (share >= universal)
    said.loc[everywhere, "reason"] = [f"universal: on {value:.0%} of the samples" for value in share[everywhere]]
    alive = said[said["reason"] == ""].assign(place=place)
    rank = alive.sort_values("place", kind="stable").groupby("frame_id").cumcount()
    beyond = rank.index[rank >= most]
    others = f"{counted(most, 'other')} {'has' if most == 1 else 'have'} more"
    said.loc[beyond, "reason"] = [f"pruned: {bits[row]:.2f} bits, {others}" for row in beyond]


def _captions(kept: pd.DataFrame, frames: pd.Series) -> list[str]:
    """Write the caption of each of `frames`, "" without tags.

    Ordered as a character's captions: by kind, row of categories.csv, name.
    """
    categories = {tag: category_of(tag) for tag in kept["tag"].unique()}
    place = {tag: (ORDER.index(one.kind), one.rank, tag) for tag, one in categories.items()}
    found = {
        frame: format_caption(sorted(tags, key=lambda tag: place[tag]), {})
        for frame, tags in kept.groupby("frame_id")["tag"]
    }
    return [found.get(frame, "") for frame in frames]


def _style_words(tags: Iterable[str]) -> set[str]:
    expressions = [pattern(row["tag"]) for row in read_rows("style_words.csv")]
    return {tag for tag in tags if any(expression.fullmatch(tag) for expression in expressions)}
