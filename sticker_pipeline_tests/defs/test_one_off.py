"""Values for one run from the launch pad: a real training and a real sampling grid, seconds each."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from sticker_pipeline.training.spec import load_spec
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.defs.test_sampling_grid import GRID, plant

NAME = "once"
MANY = [number / 10_000 for number in range(20_000)]


def launch(bench: Bench, job: str, asset: str, config: dict[str, Any], name: str = NAME) -> dg.ExecuteInProcessResult:
    return bench.definitions.resolve_job_def(job).execute_in_process(
        instance=bench.instance,
        partition_key=name,
        asset_selection=[dg.AssetKey(asset)],
        run_config={"ops": {asset: {"config": config}}},
        raise_on_error=False,
    )


def error(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    said = failure.step_failure_data.error
    assert said is not None and said.cause is not None
    return said.cause.message.strip()


@pytest.fixture(scope="module")
def made(bench: Bench) -> Iterator[Bench]:
    """A dataset, and a LoRA to sample."""
    bench.add_character(NAME, "bram_thistle", SETTINGS + GRID)
    bench.instance.add_dynamic_partitions("characters", [NAME])
    dataset = bench.definitions.resolve_job_def("dataset_line")
    assert dataset.execute_in_process(instance=bench.instance, partition_key=NAME).success
    plant(bench.store, NAME, "selected_lora", 1)
    yield bench


def test_a_training_with_other_values(made: Bench) -> None:
    given = {"epochs": 1, "samples_per_epoch": 16, "rank": 4, "learning_rate_unet": 0.002, "seed": 5}
    assert launch(made, "character_line", "lora", given).success
    lora = made.store.read(NAME, "lora")
    spec = load_spec(made.store.work(NAME, "lora-spec") / "spec.json")
    assert {name: getattr(spec.settings, name) for name in given} == given
    assert sorted(name for name in lora.files if name.startswith("checkpoints/")) == [
        "checkpoints/epoch_01.safetensors"
    ]
    assert len(lora.table("log.parquet")) == 2  # of eight images
    assert lora.settings["one_off"] == given
    assert lora.settings["training"]["settings"] == spec.settings.model_dump(mode="json")
    summary = str(made.metadata("lora", NAME)["summary"])
    assert summary.startswith("1 epoch, 2 steps") and summary.endswith(
        "; made with epochs = 1, samples_per_epoch = 16, rank = 4, learning_rate_unet = 0.002, seed = 5 by its launch, "
        "not as character.yaml says"
    )
    assert "lora" not in made.stale(NAME)
    settings = made.folder(NAME) / "character.yaml"
    before = settings.read_text()
    settings.write_text(before.replace("epochs: 2", "epochs: 3"))
    assert "lora" in made.stale(NAME)
    settings.write_text(before)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"epochs": 0}, "training: 'epochs' = 0: Input should be greater than or equal to 1."),
        ({"epochs": 10_001}, "training: 'epochs' = 10001: Input should be less than or equal to 10000."),
        ({"rank": 321}, "training: 'rank' = 321: Input should be less than or equal to 320."),
        ({"alpha": float("nan")}, "training: 'alpha' = nan: Input should be a finite number."),
    ],
)
def test_a_training_that_is_out_of_range_is_refused_before_it(made: Bench, config: dict[str, Any], said: str) -> None:
    assert error(launch(made, "character_line", "lora", config)).endswith(f"The launch's configuration: {said}")


def test_a_sampling_grid_of_another_grid(made: Bench) -> None:
    given = {"character_weights": [1.0], "guidance_scales": [4.0, 1.0], "steps": [1]}
    assert launch(made, "compare_sampling_settings", "sampling_grid", given).success
    rows = made.store.read(NAME, "sampling_grid").table()
    assert rows[["character_weight", "steps", "guidance_scale"]].to_numpy().tolist() == [
        [1.0, 1, 1.0], [1.0, 1, 4.0], [1.0, 10, 4.0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"steps": [4, 4]},
            "The launch's configuration: sampling_grid: 'steps' = [4, 4]: each value may occur only once.",
        ),
        (
            {"character_weights": MANY[:10_000], "guidance_scales": MANY[-9_000:]},
            "The sampling grid would generate 90,000,000 settings of 2 images each, 180,000,000 in all, and "
            "sampling_grid.most_images is 5,000. Give its axes fewer values, or raise that.",
        ),
    ],
)  # fmt: skip
def test_a_grid_that_makes_no_sense_is_refused_before_it(made: Bench, config: dict[str, Any], said: str) -> None:
    assert error(launch(made, "compare_sampling_settings", "sampling_grid", config)).endswith(said)
