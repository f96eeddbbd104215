"""The training set of a style: the images of all characters that share it, with captions that say everything but the
style.

A character's captions leave out what it always has, so that its trigger comes to mean that. Here it is the other way
round: traits and clothes are said, so that what is left unsaid is the manner of drawing. It is bound to no word: the
LoRA draws in the style whenever it is loaded. What is held out of a character's training is held out here too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sticker_pipeline.core.schemas import Column, TableSchema
from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.core.storage import Artifact
from sticker_pipeline.dataset.buckets import BucketError, assign_buckets
from sticker_pipeline.dataset.manifest import TRAIN, TRAINING_SET, DatasetError
from sticker_pipeline.tagging.captions import format_caption, parse_caption
from sticker_pipeline.tagging.categories import ORDER, category_of, read_rows
from sticker_pipeline.tagging.clash import UNIVERSAL_SHARE
from sticker_pipeline.tagging.curation import INHERENT_SHARE
from sticker_pipeline.tagging.wd14 import spelled
from sticker_pipeline.tagging.words import pattern

MIN_MEMBERS = 2  # of one character alone nobody can tell what is the style's and what its own
COMES_BACK = ("inherent", "rare")  # kinds of reasons for which a character's captions leave out what is said here
STYLE_WORD = "says how it is drawn"
_OF_STYLE = {
    "frame_id": "the frame: the character's name, a slash, and its frame_id",
    "file": "its PNG file in this artifact, below frames/",
    "caption": "what training says about it: all but the style; empty where nothing is left to say",
}
STYLE_ROWS = TableSchema(
    "each image of each character of the style",
    (
        *(replace(each, description=_OF_STYLE.get(each.name, each.description)) for each in TRAINING_SET.columns),
        Column("character", "str", "whose image it is"),
        Column("source_id", "str", "its source: the character's name, a slash, and the source_id of frames"),
    ),
    key=("frame_id",),
)
STYLE_TAGS = TableSchema(
    "each tag that the characters' captions say or leave out as their own or rare",
    (
        Column("tag", "str", "the tag, with spaces"),
        Column("share", "float64", "the probability that a draw of training has it", low=0, high=1),
        Column("bits", "float64", "what its presence says, 0 to 1 bit: the entropy of share"),
        Column("<character>", "float64", "the share of this character's own draws that have it", low=0, is_open=True),
        Column("kept", "int64", "captions that say it", low=0),
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
IMAGES = "frames"  # the folder of the images in the artifact


@dataclass(frozen=True)
class Member:
    """A character of the style. `frames`, `rows` (training_set), `captions` and `dropped` (curated_tags) are its tables
    as published; `taught`: group -> trigger and learned tags, which its captions begin with."""

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
    """The images of all `members` in the order given, each in its own character's split.

    *Probability*: of C characters with G sources to train on, of which one has n frames, each of these has 1/(C·G·n):
    each character counts alike, and in it each source, whatever shares and weighting its own training has.

    *Captions*: what the character's captions say, without its trigger and learned tags, and what they leave out because
    the character always has it, or because it is too rare for one character. Of these are dropped, in this order,

    1. tags that say how an image is drawn (style_words.csv);
    2. tags with a share of `universal` and more, the share being the probability that a
       draw has the tag: what every caption says would come to mean the style;
    3. all but the `most_tags` that say most. A tag says as much as the entropy of whether a draw has it, in bits:
       −s·log₂(s) − (1 − s)·log₂(1 − s) for the share s. Of equal ones the first by name. So what tells the characters
       apart comes first, then what they do; what is hardly ever seen comes last.

    Raises DatasetError for fewer than MIN_MEMBERS members, one without an image to train on, frames without a caption,
    and buckets that `resolution` has no size for.
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
    """The tags (of `StyleSet.tags`) that some of `characters` has on INHERENT_SHARE of its draws and more: whoever has
    one of them may be taken for that character."""
    return set(tags.loc[(tags[list(characters)] >= INHERENT_SHARE).any(axis=1), "tag"])


def taken_traits(training_set: Artifact) -> set[str]:
    """`own_traits` of all characters in the training set of a style."""
    return own_traits(training_set.table(STYLE_TAGS.file), sorted(set(training_set.table()["character"])))


def reasons_table(dropped: pd.DataFrame) -> pd.DataFrame:
    """How many tags each kind of reason dropped, and from how many frames: reason, tags, frames."""
    kinds = dropped.assign(reason=dropped["reason"].map(kind_of))
    return kinds.groupby("reason").agg(tags=("tag", "nunique"), frames=("frame_id", "nunique")).reset_index()


def kind_of(reason: str) -> str:
    """The kind of a reason: what stands before the colon."""
    return reason.partition(":")[0]


def entropy(share: np.ndarray) -> np.ndarray:
    """−s·log₂(s) − (1 − s)·log₂(1 − s) of each share s in 0..1, in bits: 1 for a half, 0 for 0 and 1."""
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
    """character, frame_id, tag: what the member's captions say, but for what it is taught, and what comes back."""
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
    """tag, share, bits, and each character's share of its own draws; the tags that say most first."""
    probability = said["frame_id"].map(rows.set_index("frame_id")["probability"])
    each = probability.groupby([said["tag"], said["character"]]).sum().unstack(fill_value=0)
    each = each.reindex(columns=list(dict.fromkeys(rows["character"])), fill_value=0.0)
    share = each.sum(axis=1).round(12).clip(upper=1.0)
    table = pd.DataFrame({"tag": share.index, "share": share.to_numpy(), "bits": entropy(share.to_numpy())})
    own = (each * each.shape[1]).round(12).reset_index(drop=True)
    return pd.concat([table, own], axis=1).sort_values(["bits", "tag"], ascending=[False, True], ignore_index=True)


def _prune(said: pd.DataFrame, tags: pd.DataFrame, most: int, universal: float) -> None:
    """Fill in the reason of what steps 2 and 3 drop."""
    place = said["tag"].map(dict(zip(tags["tag"], range(len(tags)), strict=True)))
    share, bits = tags["share"].to_numpy()[place], tags["bits"].to_numpy()[place]
    everywhere = (said["reason"] == "").to_numpy() & (share >= universal)
    said.loc[everywhere, "reason"] = [f"universal: on {value:.0%} of the draws" for value in share[everywhere]]
    alive = said[said["reason"] == ""].assign(place=place)
    rank = alive.sort_values("place", kind="stable").groupby("frame_id").cumcount()
    beyond = rank.index[rank >= most]
    said.loc[beyond, "reason"] = [f"pruned: {bits[row]:.2f} bits, {most} others say more" for row in beyond]


def _captions(kept: pd.DataFrame, frames: pd.Series) -> list[str]:
    """The caption of each of `frames` ("" where nothing is left), in the order of a character's captions: by kind, then
    by row of categories.csv, then by name."""
    categories = {tag: category_of(tag) for tag in kept["tag"].unique()}
    place = {tag: (ORDER.index(one.kind), one.rank, tag) for tag, one in categories.items()}
    found = {
        frame: format_caption(sorted(tags, key=lambda tag: place[tag]), {})
        for frame, tags in kept.groupby("frame_id")["tag"]
    }
    return [found.get(frame, "") for frame in frames]


def _style_words(tags: Iterable[str]) -> set[str]:
    """Those of `tags` that style_words.csv has."""
    expressions = [pattern(row["tag"]) for row in read_rows("style_words.csv")]
    return {tag for tag in tags if any(expression.fullmatch(tag) for expression in expressions)}
