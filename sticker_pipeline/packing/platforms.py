"""Platforms for stickers: their requirements (platforms.yaml), with sources, and sets within them."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, Field, StrictBool, StrictInt, ValidationError, model_validator

from sticker_pipeline.core.character import describe_problems
from sticker_pipeline.core.files.limited_files import LimitedFileError, parse_yaml
from sticker_pipeline.core.settings import Strict
from sticker_pipeline.core.texts import UserError, closest, counted
from sticker_pipeline.packing.limits import FileLimits, Format

FILE_NAME = "platforms.yaml"
Confidence = Literal["official", "secondary", "unverified"]
Level = Literal["note", "warning", "error"]
Unit = Literal["characters", "east_asian", "bytes"]
Value = TypeVar("Value")
Pixels = StrictInt


class PlatformError(UserError):
    """Unusable requirements, or an unknown platform or kind."""


class Source(Strict):
    """A page or document that states rules.

    `checked`: the day on which it, or the list of requirements made from it, was read; None: it was not.
    """

    url: str = Field(min_length=1)
    checked: date | None
    confidence: Confidence

    def __str__(self) -> str:
        reading = f"read on {self.checked}" if self.checked else "not read"
        return f"{self.url} ({self.confidence}, {reading})"


class Rule(Strict, Generic[Value]):
    """A rule's value and the key of its source.

    `confidence` replaces the source's, where one rule of it is less certain.
    """

    value: Value
    source: str
    confidence: Confidence | None = None


class Canvas(Strict):
    """Width and height of a file, in pixels.

    `exact`: both as stated. `one_side`: one side as stated, the other not larger. `within`: neither is larger.
    `at_least`: neither is smaller. `any`: every size; the stated one is recommended. `even`: both are even numbers.
    `one_side_min`: at least one side has this much. `square`: both sides are equal. `other_sides`: of squares that
    are accepted as well.
    """

    fit: Literal["exact", "one_side", "within", "at_least", "any"]
    width: Pixels = Field(gt=0)
    height: Pixels = Field(gt=0)
    even: StrictBool = False
    square: StrictBool = False
    one_side_min: Pixels = Field(0, ge=0)
    min_side: Pixels = Field(1, ge=1)
    other_sides: tuple[Pixels, ...] = ()


class Range(Strict):
    """Least and greatest number; without `max` there is no limit."""

    min: StrictInt = Field(0, ge=0)
    max: StrictInt | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.max is not None and self.max < self.min:
            raise ValueError("'max' is smaller than 'min'")
        return self


class Count(Range):
    """Number of stickers in a set.

    `allowed`: the only accepted numbers; empty: all within the range.
    """

    allowed: tuple[StrictInt, ...] = ()


class TextLimit(Strict):
    """Length of a text, and the regular expression that it must match."""

    min: StrictInt = Field(0, ge=0)
    max: StrictInt = Field(gt=0)
    unit: Unit = "characters"
    pattern: str = ""
    empty: StrictBool = Field(False, description="an empty text is accepted although `min` is greater")


class KeywordLimit(Strict):
    """Number of keywords, and their characters together."""

    max: StrictInt = Field(ge=0)
    max_characters: StrictInt = Field(ge=0)


class Policy(Strict):
    """The platform's stance on generated art."""

    level: Level
    text: str = Field(min_length=1)


class Rules(Strict):
    """Rules for files and sets; None: there is no such rule.

    Times are in milliseconds. `max_ms`: of all loops if `max_loops` is stated, else of one. `stills`, `animations`:
    formats, the preferred one first; empty: not accepted. `max_animation_bytes`: of animations, where their limit is
    another. `advised_margin`: in pixels. `distinct_frames`: frames must not all be equal. `mixed`: stills and
    animations may be in one set. `animations_in_set`: exact number.
    """

    canvas: Rule[Canvas]
    stills: Rule[tuple[Format, ...]]
    animations: Rule[tuple[Format, ...]]
    max_bytes: Rule[StrictInt]
    max_animation_bytes: Rule[StrictInt] | None = None
    advised_margin: Rule[StrictInt] | None = None
    alpha: Rule[StrictBool] | None = None
    rgb: Rule[StrictBool] | None = None
    min_dpi: Rule[StrictInt] | None = None
    max_ms: Rule[StrictInt] | None = None
    min_frame_ms: Rule[StrictInt] | None = None
    max_fps: Rule[StrictInt] | None = None
    frames: Rule[Range] | None = None
    max_loops: Rule[StrictInt] | None = None
    endless: Rule[StrictBool] | None = None
    whole_seconds: Rule[StrictBool] | None = None
    distinct_frames: Rule[StrictBool] | None = None
    count: Rule[Count] | None = None
    mixed: Rule[StrictBool] | None = None
    animations_in_set: Rule[StrictInt] | None = None
    max_zip_bytes: Rule[StrictInt] | None = None
    emoji: Rule[Range] | None = None
    keywords: Rule[KeywordLimit] | None = None
    texts: dict[str, Rule[TextLimit]] = Field(default_factory=dict)
    policy: Rule[Policy]


class _Kind(Strict):
    part: StrictBool = False
    rules: Rules


class _Platform(Strict):
    title: str
    handing_over: str = Field(min_length=1)
    kinds: dict[str, _Kind]


class _Table(Strict):
    sources: dict[str, Source]
    platforms: dict[str, _Platform]

    @model_validator(mode="after")
    def _read_if_certain(self) -> "_Table":
        for name, source in self.sources.items():
            if source.checked is None and source.confidence != "unverified":
                raise ValueError(f"the source '{name}' was not read, and is {source.confidence}")
        return self

    @model_validator(mode="after")
    def _known_sources(self) -> "_Table":
        for name, platform in self.platforms.items():
            for kind, entry in platform.kinds.items():
                for key, rule in _rules_of(entry.rules):
                    if rule.source not in self.sources:
                        where = f"platforms.{name}.kinds.{kind}.rules.{key}"
                        raise ValueError(f"'{where}' has the unknown source '{rule.source}'")
        return self


@dataclass(frozen=True)
class PlatformKind:
    """A kind of file that a platform takes, with its rules.

    `part`: belongs to a set of another kind, such as its cover. `handing_over`: Markdown, how a person uploads it.
    """

    platform: str
    kind: str
    title: str
    part: bool
    rules: Rules
    sources: Mapping[str, Source]
    handing_over: str

    @property
    def canvas(self) -> Canvas:
        return self.rules.canvas.value

    @property
    def margin(self) -> int:
        """Advised margin in pixels; 0 if there is no advice."""
        return _value(self.rules.advised_margin, 0)

    @property
    def takes_stills(self) -> bool:
        return bool(self.rules.stills.value)

    @property
    def takes_animations(self) -> bool:
        return bool(self.rules.animations.value)

    def source(self, rule: Rule[Any]) -> Source:
        """Return the source of one of the rules, with that rule's confidence."""
        found = self.sources[rule.source]
        return found.model_copy(update={"confidence": rule.confidence}) if rule.confidence else found

    def limits(self, file_format: Format, *, animated: bool) -> FileLimits:
        """Return the limits of a file.

        Raises PlatformError for a format that is not accepted.
        """
        rules = self.rules
        accepted = (rules.animations if animated else rules.stills).value
        if file_format not in accepted:
            what = "an animation" if animated else "a still"
            raise PlatformError(
                f"{self.platform} {self.kind} takes no {file_format} as {what}; it takes "
                f"{' or '.join(accepted) or 'none'}."
            )
        if not animated:
            return FileLimits(file_format, rules.max_bytes.value)
        frames = rules.frames.value if rules.frames else Range()
        return FileLimits(
            file_format,
            (rules.max_animation_bytes or rules.max_bytes).value,
            max_ms=_value(rules.max_ms, None),
            min_frame_ms=self.min_frame_ms,
            min_frames=frames.min or 1,
            max_frames=frames.max,
            max_loops=_value(rules.max_loops, 0),
            whole_seconds=_value(rules.whole_seconds, False),
        )

    @property
    def min_frame_ms(self) -> int:
        """Shortest duration of a frame in whole ms that keeps the rules."""
        by_rate = math.ceil(1000 / self.rules.max_fps.value) if self.rules.max_fps else 1
        return max(by_rate, _value(self.rules.min_frame_ms, 1))


class HasMotion(Protocol):
    """An object that knows if it is an animation."""

    @property
    def animated(self) -> bool: ...


Sticker = TypeVar("Sticker", bound=HasMotion)


@dataclass(frozen=True)
class Split(Generic[Sticker]):
    """Stickers in sets, in order, and those left out with the reason."""

    sets: tuple[tuple[Sticker, ...], ...]
    left_out: tuple[tuple[Sticker, str], ...]


@cache
def platform_kinds() -> Mapping[tuple[str, str], PlatformKind]:
    """Return all kinds by (platform, kind), in the order of platforms.yaml."""
    text = files("sticker_pipeline.packing").joinpath(FILE_NAME).read_text(encoding="utf-8")
    return kinds_in(text, FILE_NAME)


def kinds_in(text: str, name: str) -> dict[tuple[str, str], PlatformKind]:
    """Read requirements written as platforms.yaml. Raises PlatformError with `name` and key."""
    try:
        table = _Table.model_validate(parse_yaml(text))
    except LimitedFileError as error:
        raise PlatformError(f"{name} is not valid YAML: {error}.") from error
    except ValidationError as error:
        raise PlatformError("\n".join(describe_problems(name, error, _Table))) from error
    return {
        (platform, kind): PlatformKind(
            platform, kind, entry.title, one.part, one.rules, table.sources, entry.handing_over
        )
        for platform, entry in table.platforms.items()
        for kind, one in entry.kinds.items()
    }


def platform_kind(platform: str, kind: str) -> PlatformKind:
    """Return one kind. Raises PlatformError for an unknown one."""
    known = platform_kinds()
    if (platform, kind) not in known:
        names = [" ".join(one) for one in known]
        raise PlatformError(f"There is no '{platform} {kind}'.{closest(f'{platform} {kind}', names)}")
    return known[platform, kind]


def split(stickers: Sequence[Sticker], kind: PlatformKind) -> Split[Sticker]:
    """Divide stickers into few sets of accepted and similar numbers.

    The order is kept. Stills and animations are apart, unless the platform mixes them. Left out: what the kind does
    not take, too few for a set, and the last ones beyond the greatest sum of allowed numbers.
    """
    taken = [one for one in stickers if _takes(kind, one)]
    left_out = [(one, _refusal(one, kind)) for one in stickers if not _takes(kind, one)]
    sets: list[tuple[Sticker, ...]] = []
    for group in _groups(taken, kind):
        sizes = set_sizes(len(group), kind.rules.count.value if kind.rules.count else Count())
        at = 0
        for size in sizes:
            sets.append(tuple(group[at : at + size]))
            at += size
        left_out += [(one, _reason(len(group), kind)) for one in group[at:]]
    return Split(tuple(sets), tuple(left_out))


def set_sizes(stickers: int, count: Count) -> tuple[int, ...]:
    """Return numbers of stickers for sets that hold as many as possible.

    Among those: the fewest sets, then the most equal ones, larger ones first.
    """
    if count.allowed:
        return _allowed_sizes(stickers, tuple(sorted(count.allowed)))
    if not stickers or stickers < count.min:
        return ()
    sets = math.ceil(stickers / count.max) if count.max else 1
    each, more = divmod(stickers, sets)
    return (each + 1,) * more + (each,) * (sets - more)


def _allowed_sizes(stickers: int, allowed: tuple[int, ...]) -> tuple[int, ...]:
    # sums[k]: numbers of stickers that k sets can hold
    sums = [{0}]
    while grown := {total + size for total in sums[-1] for size in allowed if total + size <= stickers}:
        sums.append(grown)
    best = max(max(each) for each in sums)
    sets = next(k for k, each in enumerate(sums) if best in each)
    sizes: list[int] = []
    while sets:
        possible = [size for size in allowed if best - size in sums[sets - 1]]
        nearest = min(possible, key=lambda size: (abs(size - best / sets), -size))
        sizes, best, sets = [*sizes, nearest], best - nearest, sets - 1
    return tuple(sorted(sizes, reverse=True))


def _groups(stickers: Sequence[Sticker], kind: PlatformKind) -> list[list[Sticker]]:
    if kind.rules.mixed and kind.rules.mixed.value:
        return [list(stickers)]
    return [[one for one in stickers if one.animated is moves] for moves in (False, True)]


def _takes(kind: PlatformKind, sticker: HasMotion) -> bool:
    return kind.takes_animations if sticker.animated else kind.takes_stills


def _refusal(sticker: HasMotion, kind: PlatformKind) -> str:
    return f"{kind.platform} {kind.kind} takes no {'animations' if sticker.animated else 'stills'}"


def _reason(stickers: int, kind: PlatformKind) -> str:
    count = kind.rules.count.value if kind.rules.count else Count()
    if count.allowed:
        numbers = "/".join(str(number) for number in count.allowed)
        return f"a set has {numbers} stickers, and there are {stickers}"
    return f"a set has at least {counted(count.min, 'sticker')}, and there are {stickers}"


def text_length(text: str, unit: Unit) -> int:
    """Return the length of `text`: code points, UTF-8 bytes, or columns.

    `east_asian`: wide, full-width and ambiguous characters count 2 (Unicode Standard Annex 11), as LINE counts "Asian
    language characters and some symbols".
    """
    if unit == "bytes":
        return len(text.encode("utf-8", "surrogatepass"))
    if unit == "east_asian":
        return sum(2 if unicodedata.east_asian_width(one) in "WFA" else 1 for one in text)
    return len(text)


def text_within(text: str, limit: int, unit: Unit = "characters") -> bool:
    """Tell if `text` has at most `limit` units of length, as `text_length` counts."""
    return text_length(text, unit) <= limit


def _value(rule: Rule[Any] | None, default: Any) -> Any:
    return default if rule is None else rule.value


def _rules_of(rules: BaseModel) -> list[tuple[str, Rule[Any]]]:
    """Return (key, rule) of all rules that are stated."""
    found: list[tuple[str, Rule[Any]]] = []
    for key in type(rules).model_fields:
        value = getattr(rules, key)
        if isinstance(value, dict):
            found += [(f"{key}.{name}", rule) for name, rule in value.items()]
        elif value is not None:
            found.append((key, value))
    return found
