"""Curation of the tagger's tags: drop with reasons, rename, order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sticker_pipeline.core.character import Curation, Group
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.texts import closest, counted
from sticker_pipeline.tagging.captions import format_caption, parse_caption
from sticker_pipeline.tagging.categories import ORDER, category_of
from sticker_pipeline.tagging.implications import implied_by
from sticker_pipeline.tagging.wd14 import spelled
from sticker_pipeline.tagging.written import Written, written_caption

# Least share of images for a trait of the character. Not near 1: closed eyes, hoods, crops and tagger misses hide a
# true trait on a quarter of the images and more. Occasional wrong colours stay well below it.
INHERENT_SHARE = 0.5

MOST_HINTS = 20  # each search for the nearest tag takes some milliseconds

RATING = "rating"
CHARACTER = "character tag of the tagger"
BLACKLISTED = "blacklisted"
LISTED = "inherent: listed"
WRITTEN = "written: the image has a caption of its own"
CAPTIONS = TableSchema(
    "each kept frame",
    (
        Column("frame_id", "str", "the frame, as in frames"),
        Column(
            "caption",
            "str",
            "trigger, learned tags and kept tags, or the caption written for it",
        ),
        Column("n_tags", "int64", "tags in the caption, including trigger and learned tags", low=0),
    ),
    key=("frame_id",),
)
DROPPED = TableSchema(
    "each tag of the tagger that a caption leaves out",
    (
        Column("frame_id", "str", "the frame, as in frames"),
        Column("tag", "str", "the tag, with spaces"),
        Column("reason", "str", "why: its kind, such as inherent or rare, and details after a colon"),
    ),
    key=("frame_id", "tag"),
    file="dropped.parquet",
)


@dataclass(frozen=True)
class Curated:
    """The results of `curate`.

    `captions`, `dropped`: tables CAPTIONS and DROPPED. `notes` (path, note): how written captions were read. `idle`:
    settings without effect.
    """

    captions: pd.DataFrame
    dropped: pd.DataFrame
    notes: pd.DataFrame
    idle: list[str]


def curate(
    tags: pd.DataFrame,
    frames: pd.DataFrame,
    groups: Mapping[str, Group],
    trigger: str,
    curation: Curation,
    written: Mapping[str, str] | None = None,
) -> Curated:
    """Reduce tags to captions that bind inherent traits to the trigger.

    Each tag of a frame is dropped once or kept. Dropped, in this order: ratings, blacklisted tags and the tagger's
    character tags; tags implied by a more specific one on the frame; inherent traits; rare tags. Kept tags get their
    alias; repeated ones are dropped.

    Args:
        tags: frame_id, tag (with spaces), category (general, character, rating), score, from `tag_table`.
        frames: frame_id, group, source_id of every frame to caption, in result order.
        groups: the character's groups; learned tags follow the trigger.
        trigger: first tag of every caption.
        curation: settings; underscores in tags are spaces.
        written: frame_id -> caption to keep, with missing trigger and learned tags put first; all of the tagger's tags
            of that frame are dropped.

    Shares and counts go by source, as frames of one are nearly one image. Rare: on fewer than `min_images` sources.
    Inherent: on at least INHERENT_SHARE of the frames, averaged over sources (the probability when training samples
    sources alike).

    Returns a caption for every frame (at least trigger and learned tags), and dropped tags in the order of `tags`.
    Raises ValueError for an unknown frame or group, or a repeated frame_id or tag of a frame.
    """
    _check_input(tags, frames, groups)
    rows = _coded(tags, frames)
    _mark_unwanted(rows, curation)
    _mark_implied(rows)
    _mark_inherent(rows, frames, curation)
    _mark_rare(rows, frames, curation)
    rows.reason[rows.table["frame_id"].isin(written or {}).to_numpy()] = WRITTEN
    kept = _kept_names(rows, groups, frames, trigger, curation)
    read = _read_written(frames, groups, trigger, written or {})
    captions = _captions(kept, frames, groups, trigger, curation, read)
    dropped = rows.table.loc[rows.reason != "", ["frame_id", "tag"]].assign(reason=rows.reason[rows.reason != ""])
    dropped = typed(dropped, DROPPED).reset_index(drop=True)
    return Curated(captions, dropped, _notes(frames, read), idle_settings(rows.names, captions["caption"], curation))


@dataclass(frozen=True)
class _Rows:
    """The input rows as numbers, with reasons filled in by each step.

    `frame`: row of `frames`; `tag`: index into `names`; `reason`: "" if kept.
    """

    table: pd.DataFrame
    frame: np.ndarray  # int64 [rows]
    tag: np.ndarray  # int64 [rows]
    names: list[str]
    reason: np.ndarray  # object [rows]

    @property
    def alive(self) -> np.ndarray:
        return self.reason == ""


def _check_input(tags: pd.DataFrame, frames: pd.DataFrame, groups: Mapping[str, Group]) -> None:
    if frames["frame_id"].duplicated().any():
        raise ValueError(f"frame {frames.loc[frames['frame_id'].duplicated(), 'frame_id'].iloc[0]} occurs twice")
    unknown = set(frames["group"]) - set(groups)
    if unknown:
        raise ValueError(f"frames of group {min(unknown)!r}, but the character's groups are {sorted(groups)}")
    of_no_frame = ~tags["frame_id"].isin(frames["frame_id"])
    if of_no_frame.any():
        raise ValueError(f"tags of frame {tags.loc[of_no_frame, 'frame_id'].iloc[0]}, which is not among the frames")
    twice = tags.duplicated(["frame_id", "tag"])
    if twice.any():
        raise ValueError(f"frame and tag twice: {tags.loc[twice, ['frame_id', 'tag']].iloc[0].tolist()}")


def _coded(tags: pd.DataFrame, frames: pd.DataFrame) -> _Rows:
    table = tags.reset_index(drop=True)
    frame = pd.Index(frames["frame_id"]).get_indexer(pd.Index(table["frame_id"]))
    tag, names = pd.factorize(table["tag"])
    return _Rows(table, frame, tag, [str(name) for name in names], np.full(len(table), "", dtype=object))


def _is_one_of(rows: _Rows, tags: Iterable[str]) -> np.ndarray:
    wanted = {spelled(tag) for tag in tags}
    return np.array([name in wanted for name in rows.names], dtype=bool)[rows.tag]


def _mark_unwanted(rows: _Rows, curation: Curation) -> None:
    category = rows.table["category"].to_numpy()
    rows.reason[category == "character"] = CHARACTER
    rows.reason[category == "rating"] = RATING
    rows.reason[rows.alive & _is_one_of(rows, curation.blacklist)] = BLACKLISTED


def _mark_implied(rows: _Rows) -> None:
    """Drop tags implied by another alive on the same frame.

    The reason names the best-scored one that is not itself implied.
    """
    code = {name: number for number, name in enumerate(rows.names)}
    pairs = [(code[name], code[other]) for name in rows.names for other in implied_by(name) if other in code]
    table = pd.DataFrame(
        {"frame": rows.frame, "tag": rows.tag, "score": rows.table["score"], "row": range(len(rows.tag))}
    )
    table = table[rows.alive]
    implications = pd.DataFrame(pairs, columns=["tag", "implied"], dtype=np.int64)
    claims = table.merge(implications, on="tag").merge(
        table, left_on=["frame", "implied"], right_on=["frame", "tag"], suffixes=("", "_implied")
    )
    claims["second_hand"] = claims["row"].isin(claims["row_implied"])
    claims = claims.sort_values(["second_hand", "score", "row"], ascending=[True, False, True], kind="stable")
    claims = claims.drop_duplicates("row_implied")
    texts = np.array([f"implied: '{name}' is more specific" for name in rows.names], dtype=object)
    rows.reason[claims["row_implied"].to_numpy(np.int64)] = texts[claims["tag"].to_numpy(np.int64)]


def _mark_inherent(rows: _Rows, frames: pd.DataFrame, curation: Curation) -> None:
    """Drop listed traits, or those that the character mostly has.

    A trait also counts where a more specific tag replaced it: `very long hair` does not hide `long hair`.
    """
    if curation.inherent != "auto":
        rows.reason[rows.alive & _is_one_of(rows, curation.inherent)] = LISTED
        return
    seen = rows.alive | np.array([reason.startswith("implied") for reason in rows.reason], dtype=bool)
    share = _source_share(rows, frames, seen)
    inherent = np.array([category_of(name).inherent_candidate for name in rows.names], dtype=bool)
    inherent &= share >= INHERENT_SHARE
    texts = np.array([f"inherent: on {100 * value:.0f} % of the images" for value in share], dtype=object)
    which = rows.alive & inherent[rows.tag]
    rows.reason[which] = texts[rows.tag[which]]


def _source_share(rows: _Rows, frames: pd.DataFrame, seen: np.ndarray) -> np.ndarray:
    """Average tags' shares of frames over sources: float64 [tags], 0 to 1."""
    source, sources = pd.factorize(frames["source_id"])
    each = 1.0 / np.bincount(source, minlength=len(sources))[source] / max(1, len(sources))
    sums = np.bincount(rows.tag[seen], weights=each[rows.frame[seen]], minlength=len(rows.names))
    return np.round(sums, 12)  # so that five times 0.1 is one half


def _mark_rare(rows: _Rows, frames: pd.DataFrame, curation: Curation) -> None:
    source = pd.factorize(frames["source_id"])[0]
    alive = rows.alive
    seen = pd.DataFrame({"tag": rows.tag[alive], "source": source[rows.frame[alive]]}).drop_duplicates()
    count = np.bincount(seen["tag"], minlength=len(rows.names))
    least = counted(curation.min_images, "image")
    texts = np.array([f"rare: on {n} of at least {least}" for n in count], dtype=object)
    which = alive & (count < curation.min_images)[rows.tag]
    rows.reason[which] = texts[rows.tag[which]]


def _kept_names(
    rows: _Rows, groups: Mapping[str, Group], frames: pd.DataFrame, trigger: str, curation: Curation
) -> pd.DataFrame:
    """Return kept tags under their aliases: frame, name, in caption order.

    Sorted by kind, row of categories.csv, name, so that additions change nothing. An alias takes its tag's place.
    """
    aliases = {spelled(tag): alias for tag, alias in curation.aliases.items()}
    described = [category_of(name) for name in rows.names]
    keys = [(ORDER.index(one.kind), one.rank, name) for one, name in zip(described, rows.names, strict=True)]
    place = np.empty(len(keys), dtype=np.int64)
    place[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    final = np.array([aliases.get(name, name) for name in rows.names], dtype=object)

    alive = np.flatnonzero(rows.alive)
    alive = alive[np.lexsort((place[rows.tag[alive]], rows.frame[alive]))]
    kept = pd.DataFrame({"frame": rows.frame[alive], "name": final[rows.tag[alive]], "row": alive})
    taught = {group: {spelled(tag) for tag in (trigger, *one.learned)} for group, one in groups.items()}
    groups_of = frames["group"].to_numpy()[kept["frame"]]
    learned = np.array([spelled(n) in taught[g] for n, g in zip(kept["name"], groups_of, strict=True)], dtype=bool)
    repeated = kept.duplicated(["frame", "name"]).to_numpy() | learned
    again = kept[repeated]
    rows.reason[again["row"].to_numpy(np.int64)] = [f"repeated: '{name}' is in the caption" for name in again["name"]]
    return kept.loc[~repeated, ["frame", "name"]]


def _captions(
    kept: pd.DataFrame,
    frames: pd.DataFrame,
    groups: Mapping[str, Group],
    trigger: str,
    curation: Curation,
    read: Mapping[str, Written],
) -> pd.DataFrame:
    """Write trigger, learned and kept tags, or the caption in `read`.

    Weights name tags as captions do.
    """
    weights = {**{spelled(tag): weight for tag, weight in curation.weights.items()}, **curation.weights}
    first = _first_tags(groups, trigger)
    counts = np.bincount(kept["frame"], minlength=len(frames))
    names = kept["name"].tolist()
    texts, sizes, start = [], [], 0
    for frame, group, count in zip(frames["frame_id"], frames["group"], counts, strict=True):
        tags = [*first[group], *names[start : start + count]]
        own = read.get(frame) or Written(format_caption(tags, weights), len(tags))
        texts.append(own.caption)
        sizes.append(own.n_tags)
        start += count
    table = {"frame_id": frames["frame_id"].to_numpy(), "caption": texts, "n_tags": np.array(sizes, dtype=np.int64)}
    return typed(pd.DataFrame(table), CAPTIONS)


def _first_tags(groups: Mapping[str, Group], trigger: str) -> dict[str, list[str]]:
    return {name: list(dict.fromkeys([trigger, *group.learned])) for name, group in groups.items()}


def _read_written(
    frames: pd.DataFrame, groups: Mapping[str, Group], trigger: str, written: Mapping[str, str]
) -> dict[str, Written]:
    first = _first_tags(groups, trigger)
    pairs = zip(frames["frame_id"], frames["group"], strict=True)
    of_frame = {frame: (written[frame], group) for frame, group in pairs if written.get(frame)}
    read = {(text, group): written_caption(text, first[group]) for text, group in set(of_frame.values())}
    return {frame: read[key] for frame, key in of_frame.items()}


def _notes(frames: pd.DataFrame, read: Mapping[str, Written]) -> pd.DataFrame:
    pairs = zip(frames["frame_id"], frames["source_id"], strict=True)
    rows = [(path, note) for frame, path in pairs if frame in read for note in read[frame].notes]
    return pd.DataFrame(rows, columns=["path", "note"]).drop_duplicates(ignore_index=True).astype(str)


def idle_settings(found: Iterable[str], captions: Iterable[str], curation: Curation) -> list[str]:
    """Describe each tag of `curation` without effect.

    Weights need a tag of `captions`; other settings one in `found`, the tagger's tags.
    """
    seen = set(found)
    written = {spelled(tag) for caption in captions for tag, _ in parse_caption(caption)} if curation.weights else set()
    inherent = [] if curation.inherent == "auto" else curation.inherent
    listed = (
        *(("blacklist", tag, seen) for tag in curation.blacklist),
        *(("inherent", tag, seen) for tag in inherent),
        *(("aliases", tag, seen) for tag in curation.aliases),
        *(("weights", tag, written) for tag in curation.weights),
    )
    idle = [(key, tag, among) for key, tag, among in listed if spelled(tag) not in among]
    hints = [closest(spelled(tag), sorted(among)) for _, tag, among in idle[:MOST_HINTS]]
    hints += [""] * (len(idle) - len(hints))
    pairs = zip(idle, hints, strict=True)
    return [f"curation.{key}: {tag!r} is on no image.{hint}" for (key, tag, _), hint in pairs]
