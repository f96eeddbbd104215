"""The folder sensor: a folder with a valid character.yaml is a character, and what changed in it is observed."""

import json

import dagster as dg

from sticker_pipeline.defs.observed import observations
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds a partition for each folder with a valid character.yaml, and observes files and settings, so "
    "that exactly what they change is shown as stale.",
)
def character_folders(context: dg.SensorEvaluationContext, workspace: Workspace) -> dg.SensorResult | dg.SkipReason:
    valid, problems = workspace.valid_characters()
    for problem in problems:
        context.log.error(problem)
    known: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
    before = dict(known)
    names = {character.name for character, _ in valid}
    new = sorted(names - set(context.instance.get_dynamic_partitions(str(CHARACTERS.name))))
    events = [
        event for character, profile in valid for event in observations(character, profile, workspace.store, known)
    ]
    if not new and known == before:
        return dg.SkipReason("\n".join(problems) if problems else "No character changed.")
    return dg.SensorResult(
        skip_reason="\n".join([f"{len(new)} new characters, {len(events)} changes observed.", *problems]),
        dynamic_partitions_requests=[CHARACTERS.build_add_request(new)] if new else [],
        asset_events=events,
        cursor=json.dumps(known, sort_keys=True),
    )
