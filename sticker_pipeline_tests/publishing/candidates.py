"""Release candidates: small LoRA files with a complete release record."""

import io
from pathlib import Path
from typing import Any

import pandas as pd

from sticker_pipeline.benchmark.gate import Check
from sticker_pipeline.benchmark.releases import Candidate, Data, SamplingRecord
from sticker_pipeline.core.schemas import check as check_table
from sticker_pipeline.core.schemas import typed
from sticker_pipeline.core.verdict import Verdict
from sticker_pipeline.dataset import sources as schema

METRICS = [
    ("base", "all", "clip_similarity", 0.0842, 0.031, 0.136, 64),
    ("lora", "all", "clip_similarity", 0.8756, 0.8512, 0.899, 64),
    ("lora", "art", "clip_similarity", 0.861, 0.832, 0.895, 32),
    ("lora", "sticker", "clip_similarity", 0.8914, 0.871, 0.911, 32),
    ("reference", "all", "clip_similarity", 0.9205, 0.88, 0.963, 9),
    ("lora", "all", "identity", 1.0, 1.0, 1.0, 64),
    ("base", "all", "identity", 0.25, 0.1406, 0.3594, 64),
    ("lora", "art", "copies", 0.0, 0.0, 0.0, 32),
    ("lora", "sticker", "copies", 0.0312, 0.0, 0.0938, 32),
    ("reference", "sticker", "diversity", 0.044, float("nan"), float("nan"), 6),
]

SOURCES = [
    ("gifs/wave.gif", "gifs", "a1" * 32, 0, "0a-0000", "c0" * 32, "train", 0.25, "skv_luma, smile"),
    ("gifs/wave.gif", "gifs", "a1" * 32, 1, "0a-0001", "c1" * 32, "train", 0.25, "skv_luma, smile, arms up"),
    ("stickers/hat.png", "stickers", "b2" * 32, 0, "0b-0000", "c2" * 32, "train", 0.5, "skv_luma, hat"),
    ("stickers/sit.png", "stickers", "d3" * 32, 0, "0d-0000", "c3" * 32, "holdout", 0.0, "skv_luma, sitting"),
]


def check(name: str, *, passed: bool = True, checked: bool = True) -> Check:
    words = "it holds." if checked else "not checked: there is no release to compare it with."
    return Check(name, Verdict(passed, words, pd.DataFrame()), checked)


def sources_file(rows: list[tuple[Any, ...]]) -> bytes:
    """The table of sources with these `rows`, as a training writes it."""
    table = typed(pd.DataFrame(rows, columns=schema.SOURCES.names), schema.SOURCES)
    check_table(table, schema.SOURCES)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def candidate(folder: Path, content: bytes, **changes: Any) -> Candidate:
    """A candidate of the character `luma` whose file (in `folder`) holds `content`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lora.safetensors").write_bytes(content)
    values: dict[str, Any] = {
        "character": "luma",
        "trigger": "skv_luma",
        "beginnings": {"sticker": ["skv_luma", "luma_sticker"], "art": ["skv_luma"]},
        "lora": folder / "lora.safetensors",
        "base_model": "sd15/base",
        "family": "sd15",
        "profile": "sd15",
        "epoch": 6,
        "why_epoch": "chosen: the lowest loss on validation images of the epochs that are most like the character.",
        "sampling": SamplingRecord(
            scheduler="dpmsolver++",
            steps=25,
            guidance_scale=7.0,
            negative_prompt="lowres, bad anatomy",
            resolution=512,
            strength=1.0,
            prompts=["skv_luma, luma_sticker, chibi, smile", "skv_luma, chibi, arms up"],
        ),
        "data": Data(images=61, sources=20, holdout_images=9, holdout_sources=9),
        "inputs": {"training_set": "ab12", "character/training": "cd34"},
        "spec": {
            "settings": {
                "rank": 16, "alpha": 16.0, "epochs": 8, "batch_size": 4, "optimizer": "adamw",
                "learning_rate_unet": 1e-4, "learning_rate_text_encoder": 5e-05,
            },
            "resolution": 512,
            "base_sha": "fe09",
        },
        "metrics": pd.DataFrame(METRICS, columns=["model", "medium", "metric", "mean", "ci_low", "ci_high", "n"]),
        "sources": sources_file(SOURCES),
        "checks": [check("better_than_base"), check("no_copies"), check("no_less_similar", checked=False)],
        **changes,
    }  # fmt: skip
    return Candidate(**values)
