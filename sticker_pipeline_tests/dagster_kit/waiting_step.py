"""A run whose only step waits for the GPU, which another process holds.

test_patience.py stops it.

python -m sticker_pipeline_tests.dagster_kit.waiting_step in_process|multiprocess
"""

import sys

import dagster as dg

from sticker_pipeline.dagster_kit.dead_runs import process_tags
from sticker_pipeline.dagster_kit.patience import wait_in_peace


@dg.asset(pool="gpu")
def waits() -> None:
    print("it has the GPU", flush=True)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions([waits], jobs=[dg.define_asset_job("job", [waits])])


def job() -> dg.JobDefinition:
    return defs().resolve_job_def("job")


if __name__ == "__main__":
    wait_in_peace()
    config = {"execution": {"config": {sys.argv[1]: {}}}}
    with dg.DagsterInstance.get() as history:
        result = dg.execute_job(
            dg.reconstructable(job), history, run_config=config, tags=process_tags(), raise_on_error=False
        )
    sys.exit(0 if result.success else 1)
