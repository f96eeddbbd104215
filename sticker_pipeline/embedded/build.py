"""Parts of `python -m sticker_pipeline.embedded`: their inputs, outputs and ledgers.

A finished model replaces that in the output folder in one step.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.embedded import base, clip, dataset, loop, tagger, tokenizer, vae

if TYPE_CHECKING:
    import numpy as np
    from diffusers import AutoencoderKL
    from transformers import CLIPTokenizer

PARTS = ("characters", "draw", "tokenizer", "vae", "base", "tagger", "clip", "report")
TOKENIZER_CAPTIONS = 4000


@dataclass(frozen=True)
class Settings:
    """All settings that determine the models; defaults are the shipped models'."""

    drawings: int = 28_800
    vae: loop.Plan = field(default_factory=lambda: vae.PLAN)
    base: loop.Plan = field(default_factory=lambda: base.PLAN)
    tagger: loop.Plan = field(default_factory=lambda: tagger.PLAN)
    clip: loop.Plan = field(default_factory=lambda: clip.PLAN)


@dataclass(frozen=True)
class Workshop:
    """Folders of a build: `work` in progress, `out` finished, `characters` of the demo."""

    work: Path
    out: Path
    characters: Path
    settings: Settings = field(default_factory=Settings)
    say: Callable[[str], None] = print

    def key(self, part: str) -> str:
        """Eight hex digits over the drawings, `part`'s plan, and for `base` the VAE."""
        plan = getattr(self.settings, part, None)
        decides: list[Any] = [dataset.drawing_version(), self.settings.drawings, asdict(plan) if plan else part]
        return content_hash([*decides, self.key("vae")] if part == "base" else decides)[:8]

    def checkpoint(self, part: str) -> Path:
        """Return the file of `part`'s unfinished training."""
        return self.work / f"{part}-{self.key(part)}.safetensors"

    def ledger(self, part: str) -> Path:
        """Return the file that marks `part` as finished."""
        return self.work / f"{part}-{self.key(part)}.json"

    def finished(self, part: str) -> bool:
        """Return whether `part` is finished with these settings and this drawing code."""
        return self.ledger(part).exists()

    def finish(self, part: str, seconds: float) -> None:
        """Mark `part` as finished, with its seconds."""
        note = {"seconds": round(seconds, 1), "machine": machine(), "settings": asdict(self.settings).get(part)}
        self.ledger(part).write_text(json.dumps(note, indent=2) + "\n")

    def drawings(self) -> dataset.Drawings:
        """Return all training drawings; draw missing ones."""
        processes = os.process_cpu_count() or 1 if hasattr(os, "process_cpu_count") else os.cpu_count() or 1
        count = self.settings.drawings
        return dataset.training_drawings(self.work / "drawings", count, processes=processes, say=self.say)

    def tokenizer(self) -> CLIPTokenizer:
        """Open the finished tokenizer; raises FileNotFoundError if unfinished."""
        from transformers import CLIPTokenizer

        folder = self.need("tokenizer", self.work / f"tokenizer-{self.key('tokenizer')}")
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    def vae(self) -> AutoencoderKL:
        """Open the finished autoencoder; raises FileNotFoundError if unfinished."""
        from diffusers import AutoencoderKL

        folder = self.need("vae", self.work / f"vae-{self.key('vae')}")
        return AutoencoderKL.from_pretrained(folder, local_files_only=True).to(loop.device())

    def latents(self, drawings: dataset.Drawings) -> np.ndarray:
        """Return the training drawings' latents, encoded once.

        Raises FileNotFoundError before `vae` has finished.
        """
        return base.latents_of(self.vae(), drawings, self.work / f"latents-{self.key('vae')}.npy", self.say)

    def need(self, part: str, folder: Path) -> Path:
        """Return `folder`; if missing, raise FileNotFoundError with the part to run."""
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is missing: run `python -m sticker_pipeline.embedded --only {part}` first"
            )
        return folder


def machine() -> str:
    """Describe processor, threads, torch and number format."""
    return f"{processor()}, {'bfloat16 autocast' if loop.half_precision() else 'float32'}"


def processor() -> str:
    """Describe the GPU, or CPU and threads, and torch's version."""
    import torch

    if loop.device().type == "cuda":
        kind = torch.cuda.get_device_name(0)
    else:
        kind = f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
    return f"{kind}, torch {torch.__version__.split('+')[0]}"


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Replace `folder` with a new one, filled by `write` and moved in whole."""
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    write(beside)
    former = folder.with_name(f".{folder.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists():
        folder.rename(former)
    beside.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def publish(shop: Workshop, part: str) -> None:
    """Copy the finished model of `part` into the output folder."""
    finished = shop.work / "models" / part

    def copy(folder: Path) -> None:
        shutil.copytree(finished, folder, dirs_exist_ok=True)

    write_folder(shop.out / part, copy)


# --- the parts --------------------------------------------------------------------------------------------------------


def build_characters(shop: Workshop) -> float:
    """Draw the demo characters; other people's files stay."""
    from sticker_pipeline.embedded.demo_characters import draw_demo_characters

    started = time.monotonic()
    shop.say(f"characters: {len(draw_demo_characters(shop.characters))} files in {shop.characters}")
    return time.monotonic() - started


def build_draw(shop: Workshop) -> float:
    started = time.monotonic()
    shop.drawings()
    return time.monotonic() - started


def build_tokenizer(shop: Workshop) -> float:
    """Learn the vocabulary from the first drawings' captions."""
    from sticker_pipeline.embedded.scene import full_prompt

    started = time.monotonic()
    captions = [full_prompt(dataset.training_row(index).scene) for index in range(TOKENIZER_CAPTIONS)]
    learnt = tokenizer.new_tokenizer(captions)
    folder = shop.work / f"tokenizer-{shop.key('tokenizer')}"
    write_folder(folder, lambda beside: tokenizer.save_tokenizer(learnt, beside))
    shop.say(f"tokenizer {len(learnt)} entries")
    return time.monotonic() - started


def build_vae(shop: Workshop) -> float:
    """Train the autoencoder; it ships inside `base`."""

    def save(model: AutoencoderKL) -> None:
        write_folder(shop.work / f"vae-{shop.key('vae')}", lambda beside: model.save_pretrained(beside))

    return vae.train(shop.drawings(), shop.settings.vae, shop.checkpoint("vae"), save, shop.say)


def build_base(shop: Workshop) -> float:
    words, drawings = shop.tokenizer(), shop.drawings()
    latents = shop.latents(drawings)

    def save(unet: Any, text_encoder: Any) -> None:
        write_folder(
            shop.work / "models" / "base",
            lambda beside: base.save_base(beside, shop.vae(), unet, text_encoder, words),
        )

    seconds = base.train(drawings, latents, words, shop.settings.base, shop.checkpoint("base"), save, shop.say)
    publish(shop, "base")
    return seconds


def build_tagger(shop: Workshop) -> float:
    drawings = shop.drawings()
    labels = tagger.labels_for(drawings)

    def save(net: Any) -> None:
        write_folder(shop.work / "models" / "tagger", lambda beside: tagger.save_tagger(beside, net, labels))

    seconds = tagger.train(drawings, labels, shop.settings.tagger, shop.checkpoint("tagger"), save, shop.say)
    publish(shop, "tagger")
    return seconds


def build_clip(shop: Workshop) -> float:
    words = shop.tokenizer()

    def save(model: Any) -> None:
        write_folder(shop.work / "models" / "clip", lambda beside: clip.save_clip(beside, model, words))

    seconds = clip.train(shop.drawings(), words, shop.settings.clip, shop.checkpoint("clip"), save, shop.say)
    publish(shop, "clip")
    return seconds


def build_report(shop: Workshop) -> float:
    """Write REPORT.md and its images from measurements in the output folder.

    Durations are kept beside the images: parts are trained at different times and places.
    """
    from sticker_pipeline.embedded.report import IMAGES, write_report

    started = time.monotonic()
    kept = shop.out / IMAGES / "durations.json"
    before = json.loads(kept.read_text()) if kept.exists() else {}
    now = {part: json.loads(shop.ledger(part).read_text()) for part in PARTS if shop.finished(part)}
    known = before | now
    notes = {part: known[part] for part in PARTS if part in known}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(notes, indent=1) + "\n")
    write_report(shop.out, notes, shop.say)
    return time.monotonic() - started


BUILDERS: dict[str, Callable[[Workshop], float]] = {
    "characters": build_characters,
    "draw": build_draw,
    "tokenizer": build_tokenizer,
    "vae": build_vae,
    "base": build_base,
    "tagger": build_tagger,
    "clip": build_clip,
    "report": build_report,
}


def build(shop: Workshop, parts: tuple[str, ...]) -> None:
    """Run `parts` in order, except finished ones; `report` always runs."""
    shop.work.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part not in parts:
            continue
        if part != "report" and shop.finished(part):
            shop.say(f"{part:9s} is finished")
            continue
        shop.say(f"{part:9s} begins")
        seconds = BUILDERS[part](shop)
        if part != "report":
            shop.finish(part, seconds)
        shop.say(f"{part:9s} took {seconds:.0f} s")
