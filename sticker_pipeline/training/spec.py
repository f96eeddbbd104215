"""Spec of one training: every effective value, as strict JSON."""

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from PIL import ImageColor
from pydantic import Field, ValidationError, field_validator, model_validator

from sticker_pipeline.core.character import describe_problems
from sticker_pipeline.core.profile import Family
from sticker_pipeline.core.settings import BucketSettings, GenerationSettings, Strict, TrainingSettings
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.diffusion.base_model import BaseModelError, check_base

FILE_NAME = "spec.json"

Spec = TypeVar("Spec", bound=Strict)


class SpecError(UserError):
    """Spec that cannot be trained; the message names file, key and remedy."""


class TrainingSpec(Strict):
    """One training run.

    Relative paths are relative to the working folder; absolute ones are safer.
    """

    name: str = Field(min_length=1, description="output name, e.g. the character's")
    trigger: str | None = Field(
        min_length=1, description="the learned tag that every caption begins with; None: no trigger word"
    )
    family: Family = Field("sd15", description="of the base model; decides the keys in the LoRA file")
    base: Path = Field(description="the base model: a folder in the diffusers layout, or one .safetensors file")
    base_sha: str = Field(description="hash of the base model, stamped into the LoRA file")
    training_set: Path = Field(description="folder with the training set's index.parquet")
    training_set_sha256: str | None = Field(
        None, description="required hash of index.parquet: a training set that was made again meanwhile is refused"
    )
    frames: Path = Field(description="folder that the training set's `file` column is relative to")
    output: Path = Field(
        description="work folder: an unfinished run of the same spec in it goes on, what another one left is replaced"
    )
    cache: Path = Field(description="folder of cached latents and text encodings, shared between runs")
    resolution: int = Field(gt=0, multiple_of=8, description="side in pixels of a square training image")
    background: str = Field("white", description="colour behind transparent images")
    buckets: BucketSettings = Field(
        BucketSettings(shape="square"), description="how the training set's sizes were chosen, and images are cut"
    )
    regularisation: Path | None = Field(None, description="folder of the images that settings.regularisation names")
    regularisation_roots: tuple[Path, ...] = Field(
        (), description="folders that contain the regularisation folder and all its links; none: that folder alone"
    )
    settings: TrainingSettings
    save_precision: Literal["float16", "float32"] = Field(
        "float16",
        description="of the LoRA file's matrices: float16 halves the file and costs under 0.1 % of a weight's value",
    )
    sample_prompts: list[str] = Field(
        default_factory=list, description="prompts: one sample image of each after every epoch"
    )
    state_seconds: float = Field(300.0, ge=0, description="between two states to go on from; one is kept at each epoch")
    sample_seed: int = Field(0, ge=0, description="prompt k of every epoch starts from the noise of sample_seed + k")
    generation: GenerationSettings = GenerationSettings()

    @field_validator("background")
    @classmethod
    def _background_is_a_colour(cls, name: str) -> str:
        ImageColor.getrgb(name)  # raises ValueError
        return name

    @model_validator(mode="after")
    def _samples_are_stated(self) -> "TrainingSpec":
        if self.settings.samples_per_epoch is None:
            raise ValueError("settings.samples_per_epoch must be a number here: the step that writes the spec sets it")
        return self

    @model_validator(mode="after")
    def _clip_skip_is_of_the_family(self) -> "TrainingSpec":
        if self.family == "sdxl" and self.settings.clip_skip != 1:
            raise ValueError("settings.clip_skip: SDXL always reads the layer before the last; leave it out")
        return self

    @property
    def samples_per_epoch(self) -> int:
        assert self.settings.samples_per_epoch is not None  # by the validator
        return self.settings.samples_per_epoch


def load_spec(path: Path) -> TrainingSpec:
    """Read a spec from a JSON file.

    Raises SpecError, with file and faulty keys.
    """
    return read_spec(path, TrainingSpec)


def read_spec(path: Path, kind: type[Spec]) -> Spec:
    """Read a spec of this `kind`, as `load_spec`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as a training spec: {error}.") from error
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}: line {error.lineno} is not JSON: {error.msg}.") from error
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise SpecError("\n".join(describe_problems(str(path), error, kind))) from error


def save_spec(spec: Strict, path: Path) -> None:
    """Write `spec` as JSON for `read_spec`; equal specs give equal bytes."""
    with atomic_file(path) as staging:
        staging.write_text(spec.model_dump_json(indent=1) + "\n", encoding="utf-8")


def without_paths(spec: TrainingSpec) -> dict[str, Any]:
    """All that decides the training, as JSON types, without folders."""
    kinds = (Path, Path | None, tuple[Path, ...])
    folders = {name for name, field in TrainingSpec.model_fields.items() if field.annotation in kinds}
    return spec.model_dump(mode="json", exclude=folders)


def check_paths(spec: TrainingSpec) -> None:
    """Raise SpecError for a missing base model or frames folder.

    It is called before heavy imports.
    """
    try:
        check_base(spec.base, spec.family)
    except BaseModelError as error:
        raise SpecError(f"base: {error}") from error
    if not spec.frames.is_dir():
        raise SpecError(f"frames: there is no folder {spec.frames}.")
