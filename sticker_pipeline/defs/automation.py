"""Automation: the conditions of assets, and the sensor that evaluates them.

`dagster_kit/staleness.py` decides what is out of date ("stale" in the UI), for `update` too.

- A step is requested alone, once everything above it is current. So it never mixes new and old inputs. A LoRA that
  waits for its night is not measured on images that entered the holdout after its training.
- A step is requested once per change. After a failure, it is tried again when its inputs change, or on the schedule's
  next tick. Until then it delays only its own character's downstream assets.
- Dagster's run retries (`dagster.yaml`) repeat a crash at once.
"""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise

import dagster as dg
from dagster import AutomationCondition as On

from sticker_pipeline.core.texts import UserError
from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.compat import AssetGraphView, AssetPartition
from sticker_pipeline.dagster_kit.history import History, remembered_partitions
from sticker_pipeline.dagster_kit.staleness import Staleness
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.scopes import ALL_ROOTS

VARIABLE = "STICKER_RETRAIN"
NIGHTLY = "0 3 * * *"
LATE = timedelta(hours=6)  # tolerated delay of a night's work: failure after it, warning after a sixth
WARN = dg.AssetCheckSeverity.WARN
TICKS_LOOKED_AT = 500  # ticks searched for the longest gap: more than a year of nights


class ScheduleError(UserError):
    """A STICKER_RETRAIN that is no cron schedule."""


def schedule(environment: Mapping[str, str]) -> str:
    """Return the cron schedule of trainings: STICKER_RETRAIN (UTC), default nightly.

    Raises ScheduleError.
    """
    value = environment.get(VARIABLE, NIGHTLY)
    if not compat.is_cron(value):
        raise ScheduleError(
            f"{VARIABLE} is {value!r}, which is no cron schedule. Write minute, hour, day, month and weekday, such as "
            f"{NIGHTLY!r} for every night at three (UTC)."
        )
    return value


def longest_gap(cron: str) -> timedelta:
    """Return the longest time between consecutive ticks."""
    ticks = islice(compat.cron_ticks(cron, datetime(2025, 1, 1, tzinfo=UTC)), TICKS_LOOKED_AT)
    return max(after - before for before, after in pairwise(ticks))


class OutOfDate(dg.AutomationCondition):
    """True if never made, or made from other content or code."""

    @property
    def name(self) -> str:
        return "out_of_date"

    @property
    def description(self) -> str:
        return "Never made, or made from other content or by other code than there is now"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        staleness = _staleness(context.asset_graph_view)
        staleness.read(compat.candidates(context))
        return _where(context, staleness.out_of_date)


class AboveOutOfDate(dg.AutomationCondition):
    """True if any direct or indirect input is out of date.

    Only for targets whose deps have the same partitions, or none.
    """

    @property
    def name(self) -> str:
        return "above_out_of_date"

    @property
    def description(self) -> str:
        return "A direct or indirect input is out of date"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        return _where(context, _staleness(context.asset_graph_view).above_out_of_date)


class OnlyWarned(dg.AutomationCondition):
    """True if the last result of a failed check is a warning.

    A warning stops nothing.
    """

    @property
    def name(self) -> str:
        return "only_warned"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        instance, check = context.asset_graph_view.instance, context.key
        warned = {name for name in compat.candidate_names(context) if _severity(instance, check, name) == WARN}
        return compat.true_of_names(context, CHARACTERS, warned)


def _severity(instance: dg.DagsterInstance, check: dg.AssetCheckKey, partition: str) -> dg.AssetCheckSeverity | None:
    latest = compat.latest_checks(instance, [check], partition).get(check)
    return latest.evaluation.severity if latest and latest.evaluation else None


@lru_cache(maxsize=1)
def _staleness(view: AssetGraphView) -> Staleness:
    """Return the staleness shared by one evaluation's conditions."""
    return Staleness(History(view.instance, view.asset_graph))


def _where(context: dg.AutomationContext, true_of: Callable[[AssetPartition], bool]) -> dg.AutomationResult:
    return compat.true_of(context, {target for target in compat.candidates(context) if true_of(target)})


RETRAIN_AT = schedule(os.environ)

_tick = On.cron_tick_passed(RETRAIN_AT)
_changed = (On.any_deps_match(On.data_version_changed()) | On.code_version_changed() | _tick).with_label("changed")
# The inverse, `_changed.since(newly_requested)`, would lose a change right after a request.
NOT_REQUESTED_SINCE = (~On.newly_requested().since(_changed)).with_label("not_requested_since_it_changed")
IDLE = ~On.in_progress() & ~On.any_deps_in_progress()

_judged = On.all_checks_match(On.check_passed() | On.check_failed() | On.in_progress(), blocking_only=True)
_to_make = (OutOfDate() | (~_judged).with_label("without_a_verdict")).with_label("to_make")

WHEN_STALE = (_to_make & ~AboveOutOfDate() & IDLE & NOT_REQUESTED_SINCE).with_label("when_stale")
"""As soon as its inputs have changed and are settled.

Also once if a blocking check has no result for it, as after the history was deleted: its step ends at once, and its
checks run.
"""

_check_stops = On.any_deps_match(On.any_checks_match(On.check_failed() & ~OnlyWarned(), blocking_only=True))
_no_check_stops = On.all_deps_match(
    On.all_checks_match(On.check_passed() | (On.check_failed() & OnlyWarned()), blocking_only=True)
).with_label("no_blocking_check_stops")
_refused = (_check_stops & ~AboveOutOfDate() & ~On.any_deps_in_progress()).with_label("refused")
_due = (_tick & OutOfDate()).since(On.newly_requested() | On.newly_updated() | _refused)

NIGHTLY_WHEN_STALE = (
    _due.with_label("out_of_date_at_the_tick") & OutOfDate() & ~AboveOutOfDate() & IDLE & _no_check_stops
).with_label("nightly_when_stale")
"""At a tick of the schedule, if out of date then, once everything above it is settled.

Not if a blocking check of its inputs failed (a warning stops nothing) or has not run. Later changes wait for the next
tick.
"""

WHEN_STALE_AND_CHECKED = (WHEN_STALE & _no_check_stops).with_label("when_stale_and_checked")
"""Like WHEN_STALE, once every blocking check of its inputs' latest versions has run.

None may have failed with an error. A failure of the gate is always an error.
"""

WHEN_RELEASE_CHANGES = (OutOfDate() & ~On.any_deps_match(On.missing()) & IDLE & NOT_REQUESTED_SINCE).with_label(
    "when_release_changes"
)
"""As soon as its inputs have changed, even if something above is out of date.

A release is not made again.
"""

_without_characters = dg.AssetSelection.assets(*(root.key for root in ALL_ROOTS))
_something_is_made = On.any_deps_match(~On.missing()).ignore(_without_characters)

ACROSS_CHARACTERS = (NOT_REQUESTED_SINCE & ~On.in_progress() & _something_is_made).with_label("across_characters")
"""As soon as an asset of any character has changed, and at each tick of the schedule.

Missing assets of other characters do not matter.
"""

NIGHT_IS_DONE = dg.FreshnessPolicy.time_window(
    warn_window=longest_gap(RETRAIN_AT) + LATE / 6, fail_window=longest_gap(RETRAIN_AT) + LATE
)
"""Freshness of assets made at each tick: red means that a whole tick passed without them.

Then nothing was retrained either. Check that the daemon runs and the sensor `automation` is on.
"""


class _Automation(dg.AutomationConditionSensorDefinition):
    """The conditions' sensor; reads each partition set once per evaluation."""

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> compat.SensorExecutionData:
        with remembered_partitions(context.instance):
            return super().evaluate_tick(context)


automation = _Automation(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    emit_backfills=False,  # one run per character: a failure delays no other
    use_user_code_server=True,  # for the conditions of this module
    description=f"Makes what is out of date: everything but LoRAs at once, LoRAs on the schedule {RETRAIN_AT!r} (UTC). "
    "A LoRA is released only if it has passed every check.",
)
