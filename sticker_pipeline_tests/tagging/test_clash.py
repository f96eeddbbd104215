import json
from pathlib import Path

import pandas as pd
import pytest

from sticker_pipeline.core.character import load_character
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.tagging.clash import caption_length, known_words, trigger_clash, universal_tags, universal_tags_of
from sticker_pipeline.tagging.length import token_counter
from sticker_pipeline.tagging.wd14 import Label
from sticker_pipeline_tests.some_table import write_rows

LABELS = [Label("smile", "general"), Label("hatsune miku", "character"), Label("fox", "general")]


@pytest.mark.parametrize(
    ("trigger", "parts"),
    [
        ("skv_zzyx", []),
        ("hsr_aventurine", []),
        ("smile", ["smile"]),
        ("Hatsune_Miku", ["hatsune miku"]),
        ("skv_fox2", ["fox"]),
        ("skv-heart", ["heart"]),
        ("heart", ["heart"]),
        ("of_skv", []),
    ],
)
def test_what_the_models_know_is_named(trigger: str, parts: list[str]) -> None:
    verdict = trigger_clash(trigger, LABELS, {"heart", "girl", "of"})
    assert verdict.evidence["part"].tolist() == parts
    assert verdict.passed == (not parts)
    assert not verdict.pointless


def test_words_are_whole_tokens(tmp_path: Path) -> None:
    tokens = ["heart</w>", "hea", "it</w>", "!</w>", "<|endoftext|>", "r2d2</w>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    for name, content in (("vocab.json", vocabulary), ("tokenizer.json", {"model": {"vocab": vocabulary}})):
        folder = tmp_path / name.removesuffix(".json")
        folder.mkdir()
        (folder / name).write_text(json.dumps(content))
        assert known_words(folder) == {"heart"}
    (folder / name).write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer/tokenizer\.json cannot be read"):
        known_words(folder)
    with pytest.raises(ValueError, match=r"nowhere/vocab\.json cannot be read"):
        known_words(tmp_path / "nowhere")


def test_the_demo_triggers_mean_nothing_and_its_tags_do(embedded_models: Path) -> None:
    words = known_words(embedded_models / "base" / "tokenizer")
    assert trigger_clash("skv_pipcomet", LABELS, words).passed
    assert not trigger_clash("skv_hair", LABELS, words).passed


def captions(*texts: str) -> pd.DataFrame:
    return pd.DataFrame({"frame_id": [f"f{n}" for n in range(len(texts))], "caption": texts})


def each_its_source(table: pd.DataFrame) -> pd.Series:
    return pd.Series([f"c{n}" for n in range(len(table))], index=table["frame_id"])


def test_tags_that_several_characters_always_have() -> None:
    tables = {
        "one": captions("t1, solo, smile", "t1, solo"),
        "two": captions("t2, (solo:1.2), smile", "t2, solo, smile"),
        "three": captions("t3, chibi", "t3, chibi"),
    }
    taught = {"one": {"t1"}, "two": {"t2"}, "three": {"t3"}}
    verdict = universal_tags(tables, {name: each_its_source(table) for name, table in tables.items()}, taught)
    assert not verdict.passed
    assert verdict.evidence.to_dict("records") == [{"tag": "solo", "one": 1.0, "two": 1.0, "three": 0.0}]
    alone = {"one": tables["one"]}
    verdict = universal_tags(alone, {"one": each_its_source(tables["one"])}, taught)
    assert verdict.passed and verdict.summary == "no other character shares its style."


def test_shares_count_sources_and_not_the_trigger() -> None:
    """One long source with a tag beside nine stills without: on a tenth of the images, though on most frames."""
    table = captions(*["t, solo"] * 30, *["t"] * 9)
    sources = pd.Series(["gif"] * 30 + [f"c{n}" for n in range(9)], index=table["frame_id"])
    both = {"one": table, "two": table}
    assert universal_tags(both, dict.fromkeys(both, sources), {"one": {"t"}, "two": {"t"}}).passed
    verdict = universal_tags(both, dict.fromkeys(both, sources), {"one": set(), "two": set()})
    assert verdict.evidence["tag"].tolist() == ["t"]


def test_long_captions_are_counted_in_tokens(embedded_models: Path) -> None:
    counter = token_counter(embedded_models / "base" / "tokenizer")
    assert counter.most == 75
    assert counter.count(["", "smile", "(smile:1.2), smile"]) == [0, 1, 3]
    assert counter.count([]) == []
    table = captions("smile", ", ".join(["smile"] * 38), ", ".join(["smile"] * 39))
    verdict = caption_length(table, counter.count, counter.most)
    assert verdict.evidence[["frame_id", "tokens"]].values.tolist() == [["f2", 77]]
    assert not verdict.passed
    assert caption_length(table[:2], counter.count, counter.most).summary == "The longest caption has 75 of 75 tokens."


def test_characters_without_captions_are_left_out_and_damaged_ones_are_said(tmp_path: Path) -> None:
    store, said, characters = ArtifactStore(tmp_path / "artifacts"), list[str](), []
    for name in ("ada", "bea", "cid", "dan"):
        folder = tmp_path / name
        (folder / "art").mkdir(parents=True)
        (folder / "character.yaml").write_text(f"trigger: skv_{name}\ngroups: {{art: {{learned: [own {name}]}}}}\n")
        characters.append(load_character(folder))
        if name == "dan":  # no captions yet
            continue
        table = captions(f"skv_{name}, own {name}, outline", f"skv_{name}, own {name}, outline, smile")
        frames = pd.DataFrame({"frame_id": ["f0", "f1"], "source_id": ["c0", "c1"]})
        for asset, rows in (("curated_tags", table), ("frames", frames)):
            with store.writing(name, asset) as staging:
                write_rows(rows, staging)
                store.publish(staging, name, asset, code_version="1", inputs={}, settings={})
    (store.folder("cid", "frames") / "index.parquet").write_bytes(b"damaged")
    verdict = universal_tags_of(characters, store, said.append)
    assert verdict.evidence.to_dict("list") == {"tag": ["outline"], "ada": [1.0], "bea": [1.0]}
    assert len(said) == 1 and said[0].startswith("cid is left out: ")
