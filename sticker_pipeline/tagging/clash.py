"""Checks of captions: known triggers, universal tags, length."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.storage import ArtifactStore, StorageError
from sticker_pipeline.core.texts import are, counted
from sticker_pipeline.core.verdict import Verdict, listed
from sticker_pipeline.models.content import parse_json
from sticker_pipeline.tagging.captions import parse_caption
from sticker_pipeline.tagging.wd14 import Label, spelled

WORD_END = "</w>"  # CLIP's mark on a token that ends a word
MIN_LETTERS = 3  # shorter parts, such as a prefix `hsr`, have no meaning alone
# On nearly every image, of at least two characters and half of all: tags of no single character.
UNIVERSAL_SHARE, UNIVERSAL_CHARACTERS = 0.9, 2


def trigger_clash(trigger: str, labels: Sequence[Label], words: Collection[str]) -> Verdict:
    """Check that `trigger` and its parts mean nothing to the models yet.

    A known word brings its meaning into every image, and training overwrites that meaning
    (docs/results/experiments.md, a). `labels`: the tagger's; `words`: from `known_words`. Parts are split at spaces,
    `_`, `-` and digits, and have MIN_LETTERS or more letters.
    """
    parts = [part for part in re.split(r"[\s_\-\d]+", trigger.lower()) if len(part) >= MIN_LETTERS]
    names = {label.name.lower(): label.category for label in labels}
    rows = []
    for part in dict.fromkeys([trigger.lower(), spelled(trigger.lower()), *parts]):
        if part in names:
            rows.append((part, f"a {names[part]} tag of the tagger"))
        elif part in words:
            rows.append((part, "one word to the text encoder"))
    evidence = pd.DataFrame(rows, columns=["part", "known_as"])
    if not rows:
        return Verdict(True, f"neither {trigger!r} nor its parts mean anything to the models yet.", evidence)
    found = ", ".join(f"{part!r} is {known}" for part, known in rows)
    return Verdict(False, f"trigger {trigger!r}: {found}. Choose a made-up word, or split it otherwise.", evidence)


def known_words(tokenizer: Path) -> frozenset[str]:
    """Return words of MIN_LETTERS or more letters with one CLIP token.

    These were frequent in the tokenizer's corpus. `tokenizer`: a folder with tokenizer.json or vocab.json. Raises
    ValueError, naming the file, without either.
    """
    whole = (token.removesuffix(WORD_END) for token in _vocabulary(tokenizer) if token.endswith(WORD_END))
    return frozenset(word for word in whole if len(word) >= MIN_LETTERS and word.isalpha())


def _vocabulary(tokenizer: Path) -> dict[str, int]:
    """Read token -> number.

    Newer transformers save tokenizer.json alone; published models have vocab.json.
    """
    new, old = tokenizer / "tokenizer.json", tokenizer / "vocab.json"
    path = new if new.is_file() else old
    try:
        content = parse_json(path.read_bytes())
        vocabulary: dict[str, int] = content["model"]["vocab"] if path == new else content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): a CLIP tokenizer has its tokens there.") from error
    return vocabulary


def universal_tags(
    captions: Mapping[str, pd.DataFrame], sources: Mapping[str, pd.Series], taught: Mapping[str, Collection[str]]
) -> Verdict:
    """Find tags on nearly all images of several characters of a style.

    A LoRA of these characters would bind them to such tags, and so to one another. `captions`: frame_id and caption;
    `sources`: source_id by frame_id; `taught`: trigger and learned tags, not counted. A tag's share is the mean over
    sources of its share of their frames.
    """
    if len(captions) < UNIVERSAL_CHARACTERS:
        return Verdict(True, "no other character shares its style.", pd.DataFrame(columns=["tag"]))
    shares = {name: _shares(captions[name], sources[name], taught[name]) for name in captions}
    table = pd.DataFrame(shares).fillna(0.0)
    having = (table >= UNIVERSAL_SHARE).sum(axis=1)
    found = table[(having >= UNIVERSAL_CHARACTERS) & (2 * having >= len(shares))]
    evidence = found.sort_index().rename_axis("tag").reset_index()
    if evidence.empty:
        return Verdict(
            True, f"no tag is on nearly all images of several of {counted(len(shares), 'character')}.", evidence
        )
    tags = listed(evidence["tag"])
    among = counted(len(shares), "character")
    summary = f"on nearly all images of several of {among} that share its style: {tags}. In a LoRA of all "
    return Verdict(False, summary + "of them, these words would blend the characters: blacklist them.", evidence)


def universal_tags_of(characters: Iterable[Character], store: ArtifactStore, say: Callable[[str], None]) -> Verdict:
    """Run `universal_tags` on `characters` with captions; `say` which are damaged, so omitted."""
    captions: dict[str, pd.DataFrame] = {}
    sources: dict[str, pd.Series] = {}
    taught: dict[str, set[str]] = {}
    for character in characters:
        name = character.name
        try:
            artifact = store.find(name, "curated_tags")
            if artifact is None:
                continue
            found = artifact.table(), store.read(name, "frames").table()
        except StorageError as error:
            say(f"{name} is left out: {error}")
            continue
        captions[name], sources[name] = found[0], found[1].set_index("frame_id")["source_id"]
        taught[name] = set(character.taught)
    return universal_tags(captions, sources, taught)


def caption_length(
    captions: pd.DataFrame, count_tokens: Callable[[Sequence[str]], Sequence[int]], most: int
) -> Verdict:
    """Check that the text encoder reads every caption to its end.

    `captions`: frame_id and caption; `most`: its token limit (75 for CLIP, without begin and end).
    """
    distinct = captions["caption"].drop_duplicates()
    counts = dict(zip(distinct, count_tokens(distinct.tolist()), strict=True))
    table = captions.assign(tokens=captions["caption"].map(counts))
    longest = int(table["tokens"].max()) if len(table) else 0
    over = table.loc[table["tokens"] > most, ["frame_id", "tokens", "caption"]]
    evidence = over.sort_values(["tokens", "frame_id"], ascending=[False, True], ignore_index=True)
    if over.empty:
        return Verdict(True, f"The longest caption has {longest} of {most} tokens.", evidence)
    summary = (
        f"{len(over)} of {counted(len(table), 'caption')} {are(len(over))} longer than the {most} tokens that are "
        f"read (up to {longest}): "
    )
    return Verdict(False, summary + "the rest is lost. Blacklist tags, or shorten written captions.", evidence)


def _shares(captions: pd.DataFrame, sources: pd.Series, taught: Collection[str]) -> pd.Series:
    """Return each tag's share of images, by source, without `taught`."""
    rows = pd.DataFrame(
        [
            (frame, tag)
            for frame, caption in zip(captions["frame_id"], captions["caption"], strict=True)
            for tag in {tag for tag, _ in parse_caption(caption)} - set(taught)
        ],
        columns=["frame_id", "tag"],
    )
    source = captions["frame_id"].map(sources)
    each = dict(
        zip(captions["frame_id"], 1.0 / source.map(source.value_counts()) / max(1, source.nunique()), strict=True)
    )
    return rows["frame_id"].map(each).groupby(rows["tag"]).sum()
