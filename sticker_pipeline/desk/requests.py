"""Bodies of the desk's requests; unknown keys and values are refused."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sticker_pipeline.core.texts import without_hidden


class Body(BaseModel):
    """A body without any key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Filter(Body):
    """A filter of frames, as in the page's address (`rows.matching`)."""

    tags: str = ""
    group: str = ""
    state: str = ""
    source: str = ""
    order: str = "path"


class CaptionChange(Body):
    """A change of captions.

    Of `frames` (ids), of the file `path`, or of all of `filter` but `without` (ids). `expected`: image -> the caption
    that the person saw. `preview`: show it, write nothing. `seen`: the preview's digest.
    """

    do: Literal["set", "add", "remove", "replace"]
    text: str = ""
    by: str = ""
    frames: list[str] | None = None
    path: str | None = None
    filter: Filter = Filter()
    without: list[str] = Field(default_factory=list)
    expected: dict[str, str] = Field(default_factory=dict)
    preview: bool = False
    seen: str | None = None


class SettingsChange(Body):
    """Changes of character.yaml; `seen`: the difference shown before, or None."""

    changes: list[dict[str, Any]]
    seen: str | None = None


class RollBack(Body):
    number: int = Field(ge=1)
    reason: Annotated[str, AfterValidator(without_hidden)] = Field("", max_length=2_000)
