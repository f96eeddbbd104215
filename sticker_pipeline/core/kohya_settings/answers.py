"""Answers to keys of a kohya_ss file, given by `rules.py` and `optimization.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sticker_pipeline.core.kohya_settings.form import Form, Verdict


@dataclass(frozen=True)
class Answer:
    """Verdict on a key, its reason, and resulting settings (none if refused)."""

    verdict: Verdict
    effect: str
    training: Mapping[str, Any] = field(default_factory=dict)
    buckets: Mapping[str, Any] = field(default_factory=dict)


Rule = Callable[[Form], Answer]


def taken(why: str = "", **training: Any) -> Answer:
    return Answer("taken over", _effect(training, why), training)


def taken_buckets(why: str = "", **buckets: Any) -> Answer:
    return Answer("taken over", _bucket_effect(buckets, why), {}, buckets)


def differs(why: str, **training: Any) -> Answer:
    return Answer("differs here", _effect(training, why), training)


def buckets_differ(why: str, **buckets: Any) -> Answer:
    return Answer("differs here", _bucket_effect(buckets, why), {}, buckets)


def ignored(why: str, **training: Any) -> Answer:
    return Answer("ignored by sd-scripts", _effect(training, why), training)


def buckets_ignored(why: str, **buckets: Any) -> Answer:
    return Answer("ignored by sd-scripts", _bucket_effect(buckets, why), {}, buckets)


def same(why: str) -> Answer:
    return Answer("same without it", why)


def elsewhere(why: str) -> Answer:
    return Answer("not about training", why)


def refused(problem: str) -> Answer:
    return Answer("refused", problem)


def _bucket_effect(buckets: Mapping[str, Any], why: str) -> str:
    return _effect({f"buckets.{name}": value for name, value in buckets.items()}, why)


def _effect(settings: Mapping[str, Any], why: str) -> str:
    return "; ".join([*(f"{name} = {value}" for name, value in settings.items()), *([why] if why else [])])
