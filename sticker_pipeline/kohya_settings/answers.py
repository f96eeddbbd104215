"""What is said of a key of a kohya_ss file: a verdict, why, and the settings that it becomes.

Which answer a key gets stands in rules.py and optimization.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sticker_pipeline.kohya_settings.form import Form

Verdict = Literal["taken over", "differs here", "ignored by sd-scripts", "same without it", "not about training"]


@dataclass(frozen=True)
class Answer:
    """The verdict on a key, the settings that it becomes, and what is wrong with it, if anything."""

    verdict: Verdict
    effect: str
    training: Mapping[str, Any] = field(default_factory=dict)
    buckets: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


Rule = Callable[[Form], Answer]


def taken(why: str = "", **training: Any) -> Answer:
    return Answer("taken over", _effect(training, why), training)


def taken_buckets(why: str = "", **buckets: Any) -> Answer:
    return Answer(
        "taken over", _effect({f"buckets.{name}": value for name, value in buckets.items()}, why), {}, buckets
    )


def differs(why: str, **training: Any) -> Answer:
    return Answer("differs here", _effect(training, why), training)


def ignored(why: str) -> Answer:
    return Answer("ignored by sd-scripts", why)


def same(why: str) -> Answer:
    return Answer("same without it", why)


def elsewhere(why: str) -> Answer:
    return Answer("not about training", why)


def refused(problem: str) -> Answer:
    return Answer("differs here", problem, problem=problem)


def _effect(settings: Mapping[str, Any], why: str) -> str:
    return "; ".join([*(f"{name} = {value}" for name, value in settings.items()), *([why] if why else [])])
