"""What is made by itself, and when: the conditions that the assets name, and the sensor that evaluates them.

What is out of date, `dagster_kit/staleness.py` says, for `update` too; the UI shows it as "stale".

- Each step is requested alone, and only when nothing above it is out of date. So no step mixes new inputs with old
  ones, and a LoRA that waits for its night is not measured on images that were held out after it was trained.
- A step is requested once for a change. One that failed is tried again when something that it is made from changes, or
  on the next tick of the schedule; until then it holds back what is made from it, of the same character only.
- A crash is retried at once by Dagster's run retries (`dagster.yaml`).
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
LATE = timedelta(hours=6)  # what a night's work may take before its absence is shown
WARN = dg.AssetCheckSeverity.WARN
TICKS_LOOKED_AT = 500  # of the schedule, for its longest gap: more than a year of nights


class ScheduleError(UserError):
    """STICKER_RETRAIN is no cron schedule."""


def schedule(environment: Mapping[str, str]) -> str:
    """When LoRAs are trained: the cron schedule in STICKER_RETRAIN (UTC), nightly by default. Raises ScheduleError."""
    value = environment.get(VARIABLE, NIGHTLY)
    if not compat.is_cron(value):
        raise ScheduleError(
            f"{VARIABLE} is {value!r}, which is no cron schedule. Write minute, hour, day, month and weekday, such as "
            f"{NIGHTLY!r} for every night at three (UTC)."
        )
    return value


def longest_gap(cron: str) -> timedelta:
    """The longest time between two ticks of the schedule that follow each other."""
    ticks = islice(compat.cron_ticks(cron, datetime(2025, 1, 1, tzinfo=UTC)), TICKS_LOOKED_AT)
    return max(after - before for before, after in pairwise(ticks))


class OutOfDate(dg.AutomationCondition):
    """True for what was never made, or was made from other content or by other code than there is now."""

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
    """True where something that the target is made from, directly or not, is out of date. Only for targets whose deps
    have the same partitions, or none."""

    @property
    def name(self) -> str:
        return "above_out_of_date"

    @property
    def description(self) -> str:
        return "Something that it is made from, directly or not, is out of date"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        return _where(context, _staleness(context.asset_graph_view).above_out_of_date)


class OnlyWarned(dg.AutomationCondition):
    """Of a check that failed: true where its last verdict is a warning, which stops nothing."""

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
    """All conditions of one look share the view."""
    return Staleness(History(view.instance, view.asset_graph))


def _where(context: dg.AutomationContext, true_of: Callable[[AssetPartition], bool]) -> dg.AutomationResult:
    """The candidates of which it is true."""
    return compat.true_of(context, {target for target in compat.candidates(context) if true_of(target)})


RETRAIN_AT = schedule(os.environ)

_tick = On.cron_tick_passed(RETRAIN_AT)
_changed = (On.any_deps_match(On.data_version_changed()) | On.code_version_changed() | _tick).with_label("changed")
# The other way round, `_changed.since(newly_requested)`, would lose a change in the very look after a request.
_not_requested_since = (~On.newly_requested().since(_changed)).with_label("not_requested_since_it_changed")
_idle = ~On.in_progress() & ~On.any_deps_in_progress()

_judged = On.all_checks_match(On.check_passed() | On.check_failed() | On.in_progress(), blocking_only=True)
_to_make = (OutOfDate() | (~_judged).with_label("without_a_verdict")).with_label("to_make")

WHEN_STALE = (_to_make & ~AboveOutOfDate() & _idle & _not_requested_since).with_label("when_stale")
"""As soon as what it is made from has changed and is settled; and once, where a blocking check has no verdict on it, as
after the history was deleted. Its step then ends at once, and its checks are made."""

_check_stops = On.any_deps_match(On.any_checks_match(On.check_failed() & ~OnlyWarned(), blocking_only=True))
_no_check_stops = On.all_deps_match(
    On.all_checks_match(On.check_passed() | (On.check_failed() & OnlyWarned()), blocking_only=True)
).with_label("no_blocking_check_stops")
_refused = (_check_stops & ~AboveOutOfDate() & ~On.any_deps_in_progress()).with_label("refused")
_due = (_tick & OutOfDate()).since(On.newly_requested() | On.newly_updated() | _refused)

NIGHTLY_WHEN_STALE = (
    _due.with_label("out_of_date_at_the_tick") & OutOfDate() & ~AboveOutOfDate() & _idle & _no_check_stops
).with_label("nightly_when_stale")
"""On a tick of the schedule: what is out of date by then, once all above it is settled, unless a check stops it, or has
not run. A check that only warns stops nothing. What changes later waits for the next tick."""

WHEN_STALE_AND_CHECKED = (WHEN_STALE & _no_check_stops).with_label("when_stale_and_checked")
"""Like WHEN_STALE, once every blocking check has judged the latest version of what it is made from, and none stops it.
What fails of the gate is an error, never a warning."""

WHEN_RELEASE_CHANGES = (OutOfDate() & ~On.any_deps_match(On.missing()) & _idle & _not_requested_since).with_label(
    "when_release_changes"
)
"""As soon as what it is made from has changed, whatever else is out of date: a release is not made again."""

_without_characters = dg.AssetSelection.assets(*(root.key for root in ALL_ROOTS))
_something_is_made = On.any_deps_match(~On.missing()).ignore(_without_characters)

ACROSS_CHARACTERS = (_not_requested_since & ~On.in_progress() & _something_is_made).with_label("across_characters")
"""As soon as something of any character has changed, whatever others lack, and on each tick of the schedule."""

NIGHT_IS_DONE = dg.FreshnessPolicy.time_window(
    warn_window=longest_gap(RETRAIN_AT) + LATE / 6, fail_window=longest_gap(RETRAIN_AT) + LATE
)
"""Of what is made on each tick: red means that a whole tick of the schedule passed without it, so that nothing was
retrained either. Does the daemon run, and is the sensor `automation` on?"""


class _Automation(dg.AutomationConditionSensorDefinition):
    """The sensor that evaluates the conditions, with each set of partitions read once for a look."""

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> compat.SensorExecutionData:
        with remembered_partitions(context.instance):
            return super().evaluate_tick(context)


automation = _Automation(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    emit_backfills=False,  # one run for each character, so that one that fails holds no other
    use_user_code_server=True,  # for the conditions of this module
    description=f"Makes what is out of date: everything but LoRAs at once, LoRAs on the schedule {RETRAIN_AT!r} (UTC). "
    "Released is only what has passed every check.",
)
