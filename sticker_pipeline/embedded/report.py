"""Measures the shipped models and writes REPORT.md and its images.

It uses fresh drawings, the models in the output folder, and the loaders of users; it trains nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.profile import load_profile
from sticker_pipeline.diffusion.samplers import SCHEDULERS
from sticker_pipeline.embedded import base, clip, obedience, tagger, vae
from sticker_pipeline.embedded.dataset import SIZE, Drawings, flatten, fresh_drawings, fresh_row

LIMIT_BYTES = 24_000_000
IMAGES = "report"
TRAINING_SWEEP = "training_sweep.json"  # in IMAGES: results of LoRAs on the demo characters
FRESH_SEED = 2026
LARGE = 256  # pixels, about the size of the demo characters' media

# Limits of the base model: shuffled / right by timestep, and the share of prompted tags found, by kind.
PROBE = {300: 1.10, 600: 1.4, 850: 2.0}
OBEDIENCE = {"hair colour": 0.90, "eye colour": 0.75, "expression": 0.70, "pose": 0.70, "background": 0.85}
SHORT_MAY_LOSE = 0.15
ASKED = 256  # images with full prompts
SAMPLER_IMAGES = 64


@dataclass(frozen=True)
class Gate:
    """A metric with its limit, `least` or `most`."""

    name: str
    value: float
    least: float = -math.inf
    most: float = math.inf

    @property
    def passed(self) -> bool:
        return self.least <= self.value <= self.most


@dataclass(frozen=True)
class Section:
    """A chapter: text, images by file name, and gates."""

    text: str
    images: Mapping[str, Image.Image]
    gates: Sequence[Gate] = ()


def write_report(out: Path, notes: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Measure the models in `out`; write `REPORT.md` and `report/*.webp` there.

    `notes`: seconds, machine and settings per part.
    """
    fresh = fresh_drawings(1200, seed=FRESH_SEED)
    sections = []
    for name, measure in (("base", base_section), ("tagger", tagger_section), ("clip", clip_section)):
        say(f"report    measuring {name}")
        sections.append(measure(out, fresh))
    sections.insert(1, lora_section(out))
    folder = out / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for name, image in section.images.items():
            image.save(folder / name, quality=85)
    gates = [gate for section in sections for gate in section.gates]
    texts = [_opening(), _gate_table(gates), _sizes(out), _durations(notes), *(section.text for section in sections)]
    (out / "REPORT.md").write_text("\n".join(texts))
    for gate in gates:
        say(verdict(gate))


def _opening() -> str:
    return (
        "# The embedded models\n\n"
        "Trained from scratch on images that `sticker_pipeline/embedded` draws; no one else's images or weights.\n"
        "All metrics are measured on fresh drawings of identities that no model was trained on, through the loaders\n"
        "that users use. Command: `python -m sticker_pipeline.embedded` (`make models`), resumable part by part.\n"
    )


def _gate_table(gates: Sequence[Gate]) -> str:
    rows = ["## Gates\n", "| metric | measured | must be | |", "|---|---:|---:|---|"]
    for gate in gates:
        passed = "passed" if gate.passed else "**failed**"
        rows.append(f"| {gate.name} | {gate.value:.3f} | {_limit(gate)} | {passed} |")
    return "\n".join([*rows, ""])


def verdict(gate: Gate) -> str:
    return f"{'passed' if gate.passed else 'FAILED':9s} {gate.name}: {gate.value:.3f} ({_limit(gate)})"


def _limit(gate: Gate) -> str:
    return f"≥ {gate.least:g}" if gate.most == math.inf else f"≤ {gate.most:g}"


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
    """Autoencoder fidelity, caption-shuffle probe, prompted tags found, sample grids."""
    pipeline, sampling = base.open_base(out / "base"), profile_sampling(out)
    some = first_rows(fresh, 240)
    fidelity, decoded = vae.measure(pipeline.vae, some)
    probe = base.caption_probe(pipeline, some, seed=FRESH_SEED)
    rows = obedience.spread_rows(fresh, ASKED)
    full = [fresh.tags[row] for row in rows]
    made = obedience.draw(pipeline, full, sampling, seed=FRESH_SEED)
    short_rows = obedience.spread_rows(fresh, 2 * ASKED)
    rng = np.random.default_rng(FRESH_SEED)
    short = [obedience.short_prompt(fresh.tags[row], rng) for row in short_rows]
    found = {
        "full": obedience.shares(out, made, full),
        "short": obedience.shares(out, obedience.draw(pipeline, short, sampling, seed=FRESH_SEED), short),
        "drawn": obedience.shares(out, flatten(fresh.pixels[rows]), full),
        "decoded": obedience.shares(out, decoded, some.tags),
    }
    drawn, stickers = flatten(fresh.pixels[rows]).astype(np.uint8), fresh.sticker[rows]
    images = {
        "vae.webp": grid([*flatten(some.pixels[:12]).astype(np.uint8), *decoded[:12]], 12),
        "base_sticker.webp": _pairs(drawn[stickers], made[stickers]),
        "base_art.webp": _pairs(drawn[~stickers], made[~stickers]),
    }
    lines = [
        "## base\n",
        f"Autoencoder, {len(some)} fresh drawings: PSNR {fidelity.psnr_sticker:.2f} dB (stickers), "
        f"{fidelity.psnr_art:.2f} dB (art), mean error {fidelity.error:.2f} of 255. Above: drawn, below: decoded.\n",
        f"![autoencoder]({IMAGES}/vae.webp)\n",
        "Caption-shuffle probe: error of the U-Net's prediction with the right caption, and with another image's.\n",
        "| t | right | shuffled | shuffled / right |",
        "|---:|---:|---:|---:|",
        *(f"| {t} | {right:.4f} | {wrong:.4f} | {wrong / right:.2f} |" for t, (right, wrong) in probe.items()),
        "",
        "Do the images show what the prompt says? Share of prompted tags that the tagger (at its threshold) finds\n"
        f"in {len(full)} images generated with full prompts, in {len(short)} generated with {obedience.SHORT} tags "
        "of a full prompt in random order,\nand, as limits, in drawings of the full prompts and in drawings that went "
        f"through the autoencoder.\n{sampling.scheduler}, {sampling.steps} steps, guidance {sampling.guidance:g}: "
        "the profile's own settings.\n",
        *_share_table(found),
        "",
        f"The same full prompts with other stock schedulers ({SAMPLER_IMAGES} images each), mean share over "
        f"{', '.join(OBEDIENCE)}:\n",
        *_sampler_table(out, pipeline, full[:: max(1, len(full) // SAMPLER_IMAGES)][:SAMPLER_IMAGES]),
        "",
        "Stickers: in each pair of rows, drawings of unseen characters, and what the base makes of their tags.\n",
        f"![stickers]({IMAGES}/base_sticker.webp)\n",
        "Art:\n",
        f"![art]({IMAGES}/base_art.webp)\n",
    ]
    return Section("\n".join(lines), images, base_gates(out, fidelity, probe, found))


def profile_sampling(out: Path) -> obedience.Sampling:
    """Sampling settings of the profile `embedded`."""
    settings = load_profile("embedded", out.parent).generation
    return obedience.Sampling(SCHEDULERS[settings.scheduler][0], settings.steps, settings.guidance_scale)


def _pairs(drawn: np.ndarray, made: np.ndarray) -> Image.Image:
    """Two row pairs: evenly spread drawings above images generated from their prompts."""
    shown = np.linspace(0, len(drawn) - 1, 24).astype(int)
    rows = [image[part] for part in (shown[:12], shown[12:]) for image in (drawn, made)]
    return grid([image for row in rows for image in row], 12)


def base_gates(
    out: Path,
    fidelity: vae.Fidelity,
    probe: Mapping[int, tuple[float, float]],
    found: Mapping[str, Mapping[str, obedience.Share]],
) -> list[Gate]:
    """Gates of the base model; `found` has the shares of `full` and `short` prompts."""
    full, short = found["full"], found["short"]
    return [
        Gate("base: megabytes", folder_bytes(out / "base") / 1e6, most=20.0),
        Gate("autoencoder: PSNR of stickers, dB", fidelity.psnr_sticker, least=27.0),
        Gate("autoencoder: PSNR of art, dB", fidelity.psnr_art, least=27.0),
        *(Gate(f"probe: shuffled / right at t = {t}", probe[t][1] / probe[t][0], least=PROBE[t]) for t in PROBE),
        *(Gate(f"full prompts: {kind}", full[kind].found, least=least) for kind, least in OBEDIENCE.items()),
        *(
            Gate(f"five tags: {kind}, share lost", full[kind].found - short[kind].found, most=SHORT_MAY_LOSE)
            for kind in OBEDIENCE
        ),
    ]


def _share_table(found: Mapping[str, Mapping[str, obedience.Share]]) -> list[str]:
    columns = ("full", "short", "drawn", "decoded")
    rows = ["| kind of tag | full prompt (n) | five tags (n) | drawn | decoded |", "|---|---:|---:|---:|---:|"]
    for kind in found["full"]:
        shares = [found[column].get(kind) for column in columns]
        cells = [f"{share.found:.2f}" if share else "–" for share in shares]
        counts = [f" ({share.asked})" if share else "" for share in shares[:2]] + ["", ""]
        rows.append(f"| {kind} | {' | '.join(cell + count for cell, count in zip(cells, counts, strict=True))} |")
    return rows


def _sampler_table(out: Path, pipeline: Any, prompts: list[list[str]]) -> list[str]:
    rows = ["| scheduler | steps | guidance | mean share | seconds an image |", "|---|---:|---:|---:|---:|"]
    for sampling in obedience.SAMPLERS:
        started = time.monotonic()
        made = obedience.draw(pipeline, prompts, sampling, seed=FRESH_SEED)
        seconds = (time.monotonic() - started) / len(prompts)
        share = obedience.mean_share(obedience.shares(out, made, prompts), list(OBEDIENCE))
        rows.append(
            f"| {sampling.scheduler} | {sampling.steps} | {sampling.guidance:g} | {share:.2f} | {seconds:.3f} |"
        )
    return rows


# --- LoRAs on it ------------------------------------------------------------------------------------------------------


def lora_section(out: Path) -> Section:
    """LoRAs on the base, from the training sweep's results; empty without them."""
    path = out / IMAGES / TRAINING_SWEEP
    if not path.exists():
        return Section("", {})
    rows = pd.DataFrame(json.loads(path.read_text()))
    lines = [
        "## LoRAs on the base\n",
        "Command: `python -m sticker_pipeline_tests.experiments.training_sweep`, which trains on the three\n"
        "demo characters and measures the last epoch. Each training on one core: "
        f"{', '.join(sorted(set(rows['machine'])))}.\n"
        "First row: the profile's defaults, three seeds; rows below it, if any, depart from them in one thing (both "
        "rates are one), one seed.\n\n"
        "- *LoRA*, *base*: similarity to held-out images; *of the ceiling*: the LoRA's as a share of what held-out\n"
        "  images have among themselves\n"
        "- *trigger*: similarity with it less that of the same LoRA prompted with another character's tags\n"
        "- *free*: share of the prompted expressions, gazes, poses, views and props that the tagger finds\n"
        "- *copying*: similarity to the nearest training image, less that of held-out images\n",
        *_sweep_table(rows),
        "",
        "The defaults by character and medium, mean over the seeds:\n",
        *_default_table(rows),
        "",
    ]
    return Section("\n".join(lines), {}, lora_gates(rows))


def lora_gates(rows: pd.DataFrame) -> list[Gate]:
    """Gates of LoRAs with default settings: seed means, worst character and medium."""
    by = _defaults_by_character(rows)
    return [
        Gate("LoRA: training, seconds on one core", float(by["train_seconds"].max()), most=180.0),
        Gate("LoRA: similarity of the base model", float(by["base"].max()), most=0.35),
        Gate("LoRA: similarity, share of the ceiling", float(by["share_of_ceiling"].min()), least=0.70),
        Gate("LoRA: effect of the trigger", float(by["trigger_effect"].min()), least=0.25),
        Gate("LoRA: free attributes, share lost", float((by["free_base"] - by["free_lora"]).max()), most=0.10),
        Gate(
            "LoRA: closer to training than held-out",
            float((by["nearest_lora"] - by["nearest_holdout"]).max()),
            most=0.0,
        ),
    ]


def _defaults_by_character(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["settings"] == "{}"].groupby(["character", "medium"]).mean(numeric_only=True)


def _sweep_table(rows: pd.DataFrame) -> list[str]:
    lines = [
        "| settings | LoRA | base | of the ceiling (worst) | trigger | free: LoRA | base | copying | diversity | s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for settings, part in rows.groupby("settings", sort=False):
        mean = part.mean(numeric_only=True)
        worst = part.groupby(["character", "medium"])["share_of_ceiling"].mean().min()
        name = "defaults" if settings == "{}" else ", ".join(f"{k} {v}" for k, v in json.loads(str(settings)).items())
        lines.append(
            f"| {name} | {mean['lora']:.3f} | {mean['base']:.3f} | {mean['share_of_ceiling']:.2f} ({worst:.2f}) "
            f"| {mean['trigger_effect']:+.3f} | {mean['free_lora']:.2f} | {mean['free_base']:.2f} "
            f"| {mean['nearest_lora'] - mean['nearest_holdout']:+.3f} | {mean['diversity']:.2f} "
            f"| {mean['train_seconds']:.0f} |"
        )
    return lines


def _default_table(rows: pd.DataFrame) -> list[str]:
    lines = [
        "| character | medium | LoRA | references | of the ceiling | other tags instead |"
        " free: LoRA | base | copying |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for mean in _defaults_by_character(rows).reset_index().to_dict("records"):
        lines.append(
            f"| {mean['character']} | {mean['medium']} | {mean['lora']:.3f} | {mean['references']:.3f} "
            f"| {mean['share_of_ceiling']:.2f} | {mean['without_trigger']:.3f} | {mean['free_lora']:.2f} "
            f"| {mean['free_base']:.2f} | {mean['nearest_lora'] - mean['nearest_holdout']:+.3f} |"
        )
    return lines


# --- tagger -----------------------------------------------------------------------------------------------------------


def tagger_section(out: Path, fresh: Drawings) -> Section:
    """Macro-F1 of general tags on fresh drawings, worst tags, known characters, ratings."""
    labels = tagger.read_labels(out / "tagger" / "selected_tags.csv")
    scores = tagger.score_images(out / "tagger" / "model.onnx", flatten(fresh.pixels))
    rows = tagger.label_metrics(scores, tagger.targets(fresh, labels), labels)
    kinds = {label.name: label.category for label in labels}
    general = [row for row in rows if kinds[row.name] == tagger.GENERAL]
    known = fresh_drawings(180, seed=FRESH_SEED, known=True)
    both = np.concatenate([scores, tagger.score_images(out / "tagger" / "model.onnx", flatten(known.pixels))])
    wanted = np.concatenate([tagger.targets(fresh, labels), tagger.targets(known, labels)])
    named = [row for row in tagger.label_metrics(both, wanted, labels) if kinds[row.name] == tagger.CHARACTER]
    ratings = [row for row in rows if kinds[row.name] == tagger.RATING]
    large = flatten(np.stack([_drawn_large(row) for row in range(300)]))
    resized = tagger.label_metrics(
        tagger.score_images(out / "tagger" / "model.onnx", large),
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
    """Fresh drawing `row` at LARGE px, resized: RGBA uint8 [96, 96, 4]."""
    from sticker_pipeline.embedded.drawing import draw

    scene = fresh_row(row, FRESH_SEED, known=False).scene
    return np.asarray(Image.fromarray(draw(scene, LARGE)).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


# --- clip -------------------------------------------------------------------------------------------------------------


def clip_section(out: Path, fresh: Drawings) -> Section:
    """AUC of same against different character, on held-out identities."""
    parts = clip.separation(clip.embed(out / "clip", flatten(fresh.pixels)), fresh.identity, fresh.sticker)
    lines = [
        "## clip\n",
        f"Same or different character by the cosine of two images, {parts.images} fresh drawings of "
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


# --- images ---------------------------------------------------------------------------------------------------------


def first_rows(drawings: Drawings, count: int) -> Drawings:
    return Drawings(
        pixels=drawings.pixels[:count],
        tags=drawings.tags[:count],
        identity=drawings.identity[:count],
        sticker=drawings.sticker[:count],
        character=drawings.character[:count],
        identity_words=drawings.identity_words[:count],
        faces=drawings.faces[:count],
    )


def grid(images: list[np.ndarray], columns: int) -> Image.Image:
    """Arrange RGB uint8 images of one size in rows of `columns`."""
    size = images[0].shape[0]
    sheet = Image.new("RGB", (columns * size, -(-len(images) // columns) * size), "white")
    for number, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (number % columns * size, number // columns * size))
    return sheet
