"""A character that is trained again after each change of its folder; its LoRAs are tiny files.

Datasets, tables and releases are made by the stages' functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import torch

from sticker_pipeline.benchmark.releases import Release, publish, releases_folder
from sticker_pipeline.core.schemas import INDEX
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.dataset.sources import SOURCES, file_hashes, training_sources
from sticker_pipeline.diffusion.lora.file import Adapter, LoraFile, write_lora
from sticker_pipeline.publishing.candidate import recorded_sources
from sticker_pipeline.roots.loras import LORA_FILE
from sticker_pipeline_tests.dataset.small_set import draw_character, made
from sticker_pipeline_tests.publishing.candidates import candidate
from sticker_pipeline_tests.some_table import write_rows

NAME = "luma"
DAY = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def lora_file(path: Path, value: float) -> bytes:
    """Write a LoRA of one module, filled with `value`; return its bytes."""
    adapter = Adapter(torch.full((1, 2), value), torch.ones(2, 1), 1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lora(path, LoraFile({"lora_unet_some_module": adapter}, {"ss_output_name": NAME}), "float32")
    return path.read_bytes()


@dataclass
class Retrained:
    """A deployment in `root` with one character, and its number of trainings."""

    root: Path
    trainings: int = 0

    @classmethod
    def begin(cls, root: Path) -> "Retrained":
        for image in draw_character(root / "characters" / NAME).glob("*/*.png"):
            image.with_suffix(".txt").write_text(f"skv_luma, {image.stem}")
        return cls(root)

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.root / "artifacts")

    @property
    def folder(self) -> Path:
        return self.root / "characters" / NAME

    def put(self, asset: str, files: Mapping[str, pd.DataFrame | bytes], **inputs: Artifact) -> Artifact:
        """Publish an artifact of tables and other files."""
        versions = {name: artifact.data_version for name, artifact in inputs.items()}
        with self.store.writing(NAME, asset) as staging:
            for name, content in files.items():
                (staging / name).parent.mkdir(exist_ok=True)
                if isinstance(content, bytes):
                    (staging / name).write_bytes(content)
                else:
                    write_rows(content, staging, name)
            return self.store.publish(staging, NAME, asset, code_version="1", inputs=versions, settings={})

    def train(self, *, recorded: bool = True) -> Artifact:
        """Make the dataset of the folder as it is now, and from it a LoRA of two epochs."""
        self.trainings += 1
        animated = {f"{name}.gif#{index}": f"skv_luma, pose {index}" for name in "abc" for index in range(4)}
        dataset = made(self.folder, self.root / f"work {self.trainings}", animated)
        raw_media = self.put("raw_media", {INDEX: dataset.inventory})
        images = {path.relative_to(dataset.images).as_posix(): path for path in dataset.images.rglob("*.png")}
        pixels = {name: path.read_bytes() for name, path in images.items()}
        frames = self.put("frames", {INDEX: dataset.frames, **pixels}, raw_media=raw_media)
        rows = training_sources(dataset.rows, dataset.frames, file_hashes(frames, raw_media))
        checkpoints = {
            f"checkpoints/epoch_0{epoch}.safetensors": lora_file(
                self.root / "made" / "any.safetensors", self.trainings + epoch / 10
            )
            for epoch in (1, 2)
        }
        return self.put("lora", checkpoints | ({SOURCES.file: rows} if recorded else {}))

    def release(self, *, recorded: bool = True) -> Release:
        """Train, and release the first epoch."""
        training = self.train(recorded=recorded)
        chosen = (training.folder / "checkpoints" / "epoch_01.safetensors").read_bytes()
        selected = self.put("selected_lora", {LORA_FILE: chosen})
        ready = candidate(self.root / "made", chosen, sources=recorded_sources(training, selected))
        time = DAY + timedelta(days=self.trainings)
        return publish(releases_folder(self.store, NAME), ready, time).release
