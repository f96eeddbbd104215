"""A month in which everything happens, and what is requested on which day, exactly."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.defs.automation import NIGHTLY, RETRAIN_AT, ScheduleError, longest_gap, schedule
from sticker_pipeline.definitions import defs
from sticker_pipeline_tests.defs.scripted_world import World

FIRST = datetime(2031, 3, 1, tzinfo=UTC)
DATASET = ["raw_media", "frames", "frame_weights wd14_tags", "curated_tags", "training_set"]
TRAINED = ["lora", "selected_lora", "samples", "benchmark"]
RELEASED = ["released_lora", "comfyui_workflow"]
HEARTBEAT = ["leaderboard report"]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(defs(), instance, FIRST)


class Month:
    """The days of a world: `noon` and `night` say what was requested, a line for each look: `lora:ada,bo report`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.day = 0

    def noon(self, day: int) -> None:
        """Go on to noon of `day`; the nights between must have been quiet."""
        while self.day < day:
            self.day += 1
            if self.day > 1 and self.world.made:
                assert self.night() == (HEARTBEAT if ("leaderboard", None) in self.world.made else []), self.day
        self.world.now = FIRST + timedelta(days=self.day, hours=12)

    def night(self) -> list[str]:
        """What the tick of the night brings that ends the day before."""
        self.world.now = FIRST + timedelta(days=self.day, hours=2, minutes=59, seconds=50)
        return self.settled()

    def next_night(self) -> list[str]:
        self.day += 1
        return self.night()

    def settled(self) -> list[str]:
        return [_line(requested) for requested in self.world.settle()]


def _line(requested: set[tuple[str, str | None]]) -> str:
    assets = {asset: sorted(who for name, who in requested if name == asset and who) for asset, _ in requested}
    return " ".join(f"{asset}:{','.join(names)}" if names else asset for asset, names in sorted(assets.items()))


def of(name: str, *lines: list[str]) -> list[str]:
    """Each asset of `lines` requested for the character `name`."""
    return [" ".join(f"{asset}:{name}" for asset in line.split()) for part in lines for line in part]
