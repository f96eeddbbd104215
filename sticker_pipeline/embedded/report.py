"""Measures the shipped models on fresh drawings, and writes data/models/embedded/REPORT.md with its pictures.

Everything is measured on what lies in the output folder, through the loaders that users use; nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sticker_pipeline.embedded import base, clip, tagger, vae
from sticker_pipeline.embedded.dataset import SIZE, Drawings, flatten, fresh_drawings, fresh_row

LIMIT_BYTES = 24_000_000
PICTURES = "report"
FRESH_SEED = 2026
LARGE = 256  # pixels; the demo characters' media are about this large


@dataclass(frozen=True)
class Section:
    """One part's chapter: its text, and its pictures by file name."""

    text: str
    pictures: Mapping[str, Image.Image]


def write_report(out: Path, notes: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Measure the models in `out`; write `REPORT.md` and `report/*.webp` there. `notes`: seconds, machine per part."""
    fresh = fresh_drawings(1200, seed=FRESH_SEED)
    sections = []
    for name, measure in (("base", base_section), ("tagger", tagger_section), ("clip", clip_section)):
        say(f"report    measuring {name}")
        sections.append(measure(out, fresh))
    folder = out / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for name, picture in section.pictures.items():
            picture.save(folder / name, quality=85)
    texts = [_opening(), _sizes(out), _durations(notes), *(section.text for section in sections)]
    (out / "REPORT.md").write_text("\n".join(texts))


def _opening() -> str:
    return (
        "# The embedded models\n\n"
        "Trained from scratch on pictures that `sticker_pipeline/embedded` draws; no one else's pictures or weights.\n"
        "All figures are measured on fresh drawings of identities that no model was trained on, through the loaders\n"
        "that users use. Command: `python -m sticker_pipeline.embedded` (`make models`), resumable part by part.\n"
    )


def _sizes(out: Path) -> str:
    rows = ["## Sizes\n", "| model | bytes |", "|---|---:|"]
    total = 0
    for name in ("base", "tagger", "clip"):
        size = folder_bytes(out / name)
        total += size
        rows.append(f"| {name} | {size:,} |")
    return "\n".join(
        [*rows, f"| together (limit {LIMIT_BYTES:,}) | {total:,} |", "", "Weights are stored in float16.\n"]
    )


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _durations(notes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = ["## Durations\n", "| part | seconds | machine | steps x batch |", "|---|---:|---|---|"]
    for part, note in notes.items():
        plan = note.get("settings")
        amount = f"{plan['steps']:,} x {plan['batch']}" if isinstance(plan, Mapping) else ""
        rows.append(f"| {part} | {note['seconds']:,.0f} | {note['machine']} | {amount} |")
    return "\n".join([*rows, ""])


# --- base -------------------------------------------------------------------------------------------------------------


def base_section(out: Path, fresh: Drawings) -> Section:
    """The autoencoder's fidelity, the caption-shuffle probe, whether prompted tags are found again, sample grids."""
    pipeline = base.open_base(out / "base")
    some = first_rows(fresh, 240)
    fidelity, made = vae.measure(pipeline.vae, some)
    probe = base.caption_probe(pipeline, some, seed=FRESH_SEED)
    pictures = {"vae.webp": grid([*flatten(some.pixels[:12]).astype(np.uint8), *made[:12]], 12)}
    stickers = [", ".join(tags) for tags, sticker in zip(fresh.tags, fresh.sticker, strict=True) if sticker]
    art = [", ".join(tags) for tags, sticker in zip(fresh.tags, fresh.sticker, strict=True) if not sticker]
    found = {}
    for name, prompts, wanted in (("sticker", stickers, fresh.sticker), ("art", art, ~fresh.sticker)):
        chosen = list(range(0, 192, 4))  # several identities, several scenes
        images = base.samples(pipeline, [prompts[index] for index in chosen], seed=FRESH_SEED)
        arrays = [np.asarray(image.convert("RGB")) for image in images]
        drawn = flatten(fresh.pixels[np.flatnonzero(wanted)[chosen]]).astype(np.uint8)
        pictures[f"base_{name}.webp"] = grid([*drawn[:12], *arrays[:12], *drawn[12:24], *arrays[12:24]], 12)
        found[name] = (_prompt_recall(out, np.stack(arrays), fresh, np.flatnonzero(wanted)[chosen]), len(arrays))
    rows = [
        "## base\n",
        f"Autoencoder, {len(some)} fresh drawings: PSNR {fidelity.psnr_sticker:.2f} dB (stickers), "
        f"{fidelity.psnr_art:.2f} dB (art), mean error {fidelity.error:.2f} of 255. Above: drawn, below: decoded.\n",
        f"![autoencoder]({PICTURES}/vae.webp)\n",
        "Caption-shuffle probe: error of the U-Net's prediction with the right caption, and with another picture's.\n",
        "| t | right | shuffled | shuffled / right |",
        "|---:|---:|---:|---:|",
        *(f"| {t} | {right:.4f} | {wrong:.4f} | {wrong / right:.2f} |" for t, (right, wrong) in probe.items()),
        "",
        "Do the pictures show what the prompt says? Share of prompted tags that the tagger (at its threshold) finds\n"
        "in the generated pictures, and in drawings of the same prompts; 24 DDIM steps, guidance 4.\n",
        *_recall_table(found),
        "",
        "Stickers: in each pair of rows, drawings of unseen characters, and what the base makes of their tags.\n",
        f"![stickers]({PICTURES}/base_sticker.webp)\n",
        "Art:\n",
        f"![art]({PICTURES}/base_art.webp)\n",
    ]
    return Section("\n".join(rows), pictures)


def _prompt_recall(out: Path, made: np.ndarray, fresh: Drawings, rows: np.ndarray) -> dict[str, tuple[float, float]]:
    """Kind of tag -> (share of prompted tags found in `made`, share found in the drawings themselves)."""
    from sticker_pipeline.embedded.scene import VOCABULARY

    labels = tagger.read_labels(out / "tagger" / "selected_tags.csv")
    column = {label.name: number for number, label in enumerate(labels)}
    model = out / "tagger" / "model.onnx"
    both = [tagger.score_pictures(model, pictures) for pictures in (made, flatten(fresh.pixels[rows]))]
    hits: dict[str, list[tuple[bool, bool]]] = {}
    for number, row in enumerate(rows):
        for tag in fresh.tags[row]:
            pair = tuple(bool(scores[number, column[tag]] >= tagger.THRESHOLD) for scores in both)
            hits.setdefault(VOCABULARY[tag], []).append((pair[0], pair[1]))
    return {
        kind: (float(np.mean([a for a, _ in pairs])), float(np.mean([b for _, b in pairs])))
        for kind, pairs in hits.items()
    }


def _recall_table(found: Mapping[str, tuple[dict[str, tuple[float, float]], int]]) -> list[str]:
    (sticker, n_sticker), (art, n_art) = found["sticker"], found["art"]
    rows = [
        f"| kind of tag | sticker: generated (n={n_sticker}) | drawn | art: generated (n={n_art}) | drawn |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind in {**sticker, **art}:
        cells = [f"{pair[0]:.2f} | {pair[1]:.2f}" if (pair := part.get(kind)) else "– | –" for part in (sticker, art)]
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    return rows


# --- tagger -----------------------------------------------------------------------------------------------------------


def tagger_section(out: Path, fresh: Drawings) -> Section:
    """Macro-F1 over the general tags on fresh drawings, the worst tags, characters, and what ratings can say."""
    labels = tagger.read_labels(out / "tagger" / "selected_tags.csv")
    scores = tagger.score_pictures(out / "tagger" / "model.onnx", flatten(fresh.pixels))
    rows = tagger.figures(scores, tagger.targets(fresh, labels), labels)
    kinds = {label.name: label.category for label in labels}
    general = [row for row in rows if kinds[row.name] == tagger.GENERAL]
    known = fresh_drawings(180, seed=FRESH_SEED, known=True)
    both = np.concatenate([scores, tagger.score_pictures(out / "tagger" / "model.onnx", flatten(known.pixels))])
    wanted = np.concatenate([tagger.targets(fresh, labels), tagger.targets(known, labels)])
    named = [row for row in tagger.figures(both, wanted, labels) if kinds[row.name] == tagger.CHARACTER]
    ratings = [row for row in rows if kinds[row.name] == tagger.RATING]
    large = flatten(np.stack([_drawn_large(row) for row in range(300)]))
    resized = tagger.figures(
        tagger.score_pictures(out / "tagger" / "model.onnx", large),
        tagger.targets(first_rows(fresh, 300), labels),
        labels,
    )
    again = [row for row in resized if kinds[row.name] == tagger.GENERAL]
    lines = [
        "## tagger\n",
        f"{len(labels)} outputs. On {len(fresh)} fresh drawings of unseen identities, at threshold {tagger.THRESHOLD}: "
        f"**macro-F1 {tagger.macro_f1(general):.4f}** over the {len(general)} general tags that occur there "
        f"(of {sum(label.category == tagger.GENERAL for label in labels)}), "
        f"{tagger.macro_f1([*general, *ratings]):.4f} with the ratings.\n",
        f"The first 300 of them drawn at {LARGE} px and resized as real media are: {tagger.macro_f1(again):.4f}.\n",
        f"Known characters (6 rows): macro-F1 {tagger.macro_f1(named):.4f} on {len(known)} new drawings of them "
        "among the others.\n",
        "Ratings: every drawing is `general`, so that nothing is learnt about the other three; they are there because\n"
        "the format has them, and stay near 0.\n",
        "The twelve worst tags:\n",
        "| tag | occurs | precision | recall | F1 |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {row.name} | {row.support} | {row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f} |"
            for row in sorted(general, key=lambda row: row.f1)[:12]
        ),
        "",
    ]
    return Section("\n".join(lines), {})


def _drawn_large(row: int) -> np.ndarray:
    """Fresh drawing `row` at LARGE px, resized to the tagger's size: RGBA uint8 [96, 96, 4]."""
    from sticker_pipeline.embedded.drawing import draw

    scene = fresh_row(row, FRESH_SEED, known=False).scene
    return np.asarray(Image.fromarray(draw(scene, LARGE)).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


# --- clip -------------------------------------------------------------------------------------------------------------


def clip_section(out: Path, fresh: Drawings) -> Section:
    """AUC of same against different character on unseen identities; distance of the demo characters from each other."""
    parts = clip.separation(clip.embed(out / "clip", flatten(fresh.pixels)), fresh.identity, fresh.sticker)
    lines = [
        "## clip\n",
        f"Same or different character by the cosine of two pictures, {parts.pictures} fresh drawings of "
        f"{parts.identities} unseen identities (other pose, expression, view and background each time):\n",
        "| pairs | AUC |",
        "|---|---:|",
        f"| all | **{parts.auc:.4f}** |",
        f"| both stickers | {parts.auc_sticker:.4f} |",
        f"| both art | {parts.auc_art:.4f} |",
        f"| one of each | {parts.auc_across:.4f} |",
        "",
    ]
    return Section("\n".join(lines), {})


# --- pictures ---------------------------------------------------------------------------------------------------------


def first_rows(drawings: Drawings, count: int) -> Drawings:
    """The first `count` rows."""
    return Drawings(
        pixels=drawings.pixels[:count],
        tags=drawings.tags[:count],
        identity=drawings.identity[:count],
        sticker=drawings.sticker[:count],
        character=drawings.character[:count],
        identity_words=drawings.identity_words[:count],
    )


def grid(pictures: list[np.ndarray], columns: int) -> Image.Image:
    """RGB uint8 pictures of one size, side by side in rows of `columns`."""
    size = pictures[0].shape[0]
    sheet = Image.new("RGB", (columns * size, -(-len(pictures) // columns) * size), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (number % columns * size, number // columns * size))
    return sheet
