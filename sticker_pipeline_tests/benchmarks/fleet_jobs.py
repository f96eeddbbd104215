"""The project's definitions with two jobs for bench_fleet: empty steps in a row, and payloads that sleep."""

import os
import time

import dagster as dg

from sticker_pipeline import definitions

PAYLOADS = 4
SECONDS = "BENCH_PAYLOAD_SECONDS"


@dg.op(ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def empty() -> None:
    """Do nothing: what it takes is what a step costs."""


@dg.op(out=dg.Out(dg.Nothing))
def payload() -> None:
    time.sleep(float(os.environ[SECONDS]))


@dg.graph
def in_a_row() -> None:
    last = empty.alias("first")()
    for name in ("second", "third"):
        last = empty.alias(name)(after=last)


@dg.graph
def side_by_side() -> None:
    for number in range(PAYLOADS):
        payload.alias(f"payload_{number}")()


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions.merge(definitions.defs(), dg.Definitions(jobs=[in_a_row.to_job(), side_by_side.to_job()]))
