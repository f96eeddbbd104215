"""The card of a release, word for word."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sticker_pipeline.benchmark.gate import Check
from sticker_pipeline.benchmark.releases import Data, Release, publish
from sticker_pipeline.core.profile import TOY
from sticker_pipeline.core.verdict import Verdict
from sticker_pipeline.publishing.base_name import BaseName, how_to_use
from sticker_pipeline.publishing.model_card import card_text, model_card
from sticker_pipeline_tests.publishing.candidates import METRICS, candidate

ALONE = "The trigger adds nothing measurable: the LoRA alone makes the character."
NOTHING = "The trigger adds nothing measurable."
BASE = BaseName("sd15", "sd15/base", hub="someone/sd", file="sd.safetensors")
EXPECTED = Path(__file__).with_name("expected_card.md")


def released(tmp_path: Path, content: bytes = b"one", **changes: object) -> Release:
    made = candidate(tmp_path / "made", content, **changes)
    return publish(tmp_path / "releases", made, datetime(2026, 3, 1, 12, 30, tzinfo=UTC)).release


def test_the_card_word_for_word(tmp_path: Path) -> None:
    assert model_card(released(tmp_path), BASE) == EXPECTED.read_text(encoding="utf-8")


def test_a_toy_names_no_base_model_of_others(tmp_path: Path) -> None:
    toy = BaseName("sd15", "embedded/base", toy=TOY)
    card = model_card(released(tmp_path), toy)
    front = yaml.safe_load(card.split("---\n")[1])
    assert not {"base_model", "library_name"} & front.keys()
    assert front["tags"] == ["text-to-image", "lora", "template:sd-lora"]
    head = "A LoRA of one character for the embedded base model: release 1, 2026-03-01."
    assert f"{head}\n\n> **{TOY}**\n\n## How to use it" in card
    assert how_to_use(released(tmp_path).record, toy) in card
    assert "Stable Diffusion 1.5" not in card
    unnamed = model_card(released(tmp_path), BaseName("sd15", "sd15/base"))
    assert "base_model" not in yaml.safe_load(unnamed.split("---\n")[1])
    assert "- Base model: the Stable Diffusion 1.5 that it was trained with, which has no public name\n" in unnamed


@pytest.mark.parametrize(("effect", "gain", "said"), [(0.01, 0.5, ""), (0.0, 0.5, ALONE), (0.0, -0.1, NOTHING)])
def test_a_trigger_that_adds_nothing_is_said_below_the_table(
    tmp_path: Path, effect: float, gain: float, said: str
) -> None:
    more = [("lora", "all", "trigger_effect", 0.02, effect, 0.03, 64)]
    more += [("lora", "all", "clip_similarity_gain", 0.6, gain, 0.7, 64)]
    metrics = pd.DataFrame([*METRICS, *more], columns=["model", "medium", "metric", "mean", "ci_low", "ci_high", "n"])
    card = card_text(released(tmp_path, metrics=metrics), BASE)
    assert (f"\n\n**{said}**\n\n- similarity" in card) if said else ("adds nothing" not in card)


def test_what_differs_is_said(tmp_path: Path) -> None:
    released(tmp_path)
    metrics = candidate(tmp_path / "made", b"").metrics.assign(model=["rival_x", "released", *["lora"] * 8])
    card = model_card(
        released(tmp_path, b"two", family="sdxl", data=Data(images=4, sources=4, holdout_images=7, holdout_sources=3),
                 metrics=metrics),
        BaseName("sdxl", "sdxl/base", hub="some/base: v1"),
    )  # fmt: skip
    assert "A LoRA of one character for Stable Diffusion XL: release 2" in card
    assert "- It replaced release 1\n" in card
    assert "- Only 3 sources are held out: the intervals are narrower than they should be." in card
    assert "|  | medium | this LoRA | baseline release | rival_x |" in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["base_model"], front["tags"][2]) == ("some/base: v1", "stable-diffusion-xl")
    assert str(tmp_path) not in card


ATTACK = "![x](http://127.0.0.1:9/a.png) <img src=http://127.0.0.1:9/b.png> `![y](http://127.0.0.1:9/c.png)`"


def test_texts_of_others_are_shown_in_their_letters(tmp_path: Path) -> None:
    markdown_it = pytest.importorskip("markdown_it")  # rich brings it
    made = candidate(tmp_path / "made", b"one")
    sampling = made.sampling.model_copy(
        update={"prompts": ["```", f"smile, {ATTACK}", "~~~", "a ---"], "negative_prompt": f"``, {ATTACK}"}
    )
    summary = Verdict(True, f"# Copies of {ATTACK}", pd.DataFrame())
    card = card_text(
        released(
            tmp_path,
            trigger="`<b>`",
            sampling=sampling,
            why_epoch=f"chosen | {ATTACK}",
            checks=[Check("no_copies", summary, True)],
            metrics=made.metrics.assign(medium=f"| {ATTACK}"),
        ),
        BASE,
    )
    tokens = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).parse(card)
    inline = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inline} <= {"text", "text_special", "code_inline", "softbreak", "html_inline"}
    assert {child.content for child in inline if child.type == "html_inline"} == {"<!-- -->"}
    (fence,) = [token for token in tokens if token.type == "fence"]
    assert fence.content == "\n".join([*sampling.prompts, ""])
    assert not any(token.type == "html_block" for token in tokens)
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", *["h2"] * 5]
    assert card.startswith("# luma\n"), "no line of a prompt is taken for the end of the front matter"


HOSTILE = [
    *("a\n---\nlicense: mit\n---\n# mine", "---", "--- a", "'", '"', "a: b", "a #b", "# b", "*a", "&a", "[a", "{a: b}"),
    *("!!python/object/apply:os.system [ls]", "|", "> a", "%YAML 9", "- a", "? a", "null", "yes", "1e3", "0o7", "0x_"),
    *("2024-31-12", "=", "<<", "\u2028---\u2028", "a\r---\r", "\x85---\x85", "\u202eevil", "\x1b[31m", "a\t", " a "),
    *("", "`", "x" * 5000, "😀", "\ufeff"),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_ends_the_front_matter_or_adds_to_it(text: str, tmp_path: Path) -> None:
    """As the hub reads it, with both of PyYAML's readers."""
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    sampling = candidate(tmp_path / "made", b"").sampling
    changes = {"trigger": text, "sampling": sampling.model_copy(update={"prompts": [text, "b"]})}
    card = model_card(released(tmp_path, **changes), BaseName("sd15", "sd15/base", hub=text or "none"))
    found = REGEX_YAML_BLOCK.search(card)
    assert found is not None and found.start() == 0
    lines = found[2].split("\n")
    assert [line.partition(":")[0] for line in lines if line[:1].isalpha()] == [
        *("base_model", "library_name", "pipeline_tag", "tags", "instance_prompt", "widget"),
    ]
    front = yaml.safe_load(found[2])
    assert list(front) == ["base_model", "library_name", "pipeline_tag", "tags", "instance_prompt", "widget"]
    assert (front["instance_prompt"], front["base_model"]) == (text, text or "none")
    assert front["widget"] == [{"text": text}, {"text": "b"}]
    assert ModelCard(card).data.to_dict()["instance_prompt"] == text
