"""Progress of a step: in its run's log, and in the run's tag, whatever its length."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest

from sticker_pipeline.core.progress import Progress
from sticker_pipeline.dagster_kit import launcher
from sticker_pipeline.dagster_kit.launcher import progress_observer
from sticker_pipeline.dagster_kit.progress import PROGRESS_TAG, Shown, newest_progress, step_progress

STATE = {"step": 41, "total_steps": 100, "epoch": 3, "epochs": 10, "loss": 0.123456789, "eta_s": 240.0}


def run_of(instance: dg.DagsterInstance, work: Any) -> dg.ExecuteInProcessResult:
    @dg.asset(key=["style", "lora"], partitions_def=dg.StaticPartitionsDefinition(["chibi"]))
    def lora(context: dg.AssetExecutionContext) -> None:
        work(context)

    return dg.materialize([lora], partition_key="chibi", instance=instance)


def lines(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What the step has written to its run's log."""
    return [log.user_message for log in instance.all_logs(run_id) if log.dagster_event is None]


def test_lines_and_the_newest_progress() -> None:
    now = 0.0

    def work(context: dg.AssetExecutionContext) -> None:
        nonlocal now
        show = step_progress(context, clock=lambda: now)
        for now in range(0, 65, 5):
            show(Progress(f"epoch {now} of 100", now / 100, 100.0 - now))

    with dg.instance_for_test() as instance:
        result = run_of(instance, work)
        assert lines(instance, result.run_id) == [
            "epoch 30 of 100, 30 %, about 1 min left",
            "epoch 60 of 100, 60 %, about 40 s left",
        ]
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert run.tags[PROGRESS_TAG] == "style/lora: epoch 60 of 100, 60 %, about 40 s left"
        assert newest_progress(run.tags) == Shown("style/lora", 60, "epoch 60 of 100, 60 %, about 40 s left")


@pytest.mark.parametrize("tags", [{}, {PROGRESS_TAG: ""}, {PROGRESS_TAG: "7/9"}, {PROGRESS_TAG: "lora: soon"}])
def test_no_progress(tags: Mapping[str, str]) -> None:
    assert newest_progress(tags) is None


def test_messages_of_the_trainer_become_progress_and_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(launcher, "step_progress", lambda context: lambda progress: shown.append(progress.text))

    def work(context: dg.AssetExecutionContext) -> None:
        observe = progress_observer(context)
        observe({"counted": "latents", "done": 1, "total": 4})
        observe(STATE)
        observe({**STATE, "step": 42})
        observe({**STATE, "epochs": 1, "epoch": 1, "step": 43})
        observe({"epoch_done": 3, "step": 43, "images": [], "holdout_loss": 0.5})

    with dg.instance_for_test() as instance:
        result = run_of(instance, work)
        found = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    assert shown == [
        "1 of 4 latents, 25 %",
        "epoch 3 of 10, 41 %, about 4 min left",
        "epoch 3 of 10, 42 %, about 4 min left",
        "step 43 of 100, 43 %, about 4 min left",
    ]
    values = [{key: value.value for key, value in each.metadata.items()} for each in found]
    assert values == [{"step": 41, "loss": 0.123456789}, {"step": 43, "holdout_loss": 0.5}], "the second step was soon"
