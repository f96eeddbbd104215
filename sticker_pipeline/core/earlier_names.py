"""Names of earlier versions and their current names.

A person's file with an old name is refused, with the new name in the message. Tables, releases, exports and artifacts
are read under the new name.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

KEYS = {  # of character.yaml
    "draws_per_epoch": "samples_per_epoch",
    "most_pictures": "most_images",
    "one_clip": "one_source",
    "pictures": "images",
    "prompts_per_style": "prompts_per_medium",
    "style": "medium",
    "style_tags": "medium_tags",
    "sweep": "sampling_grid",
}
VALUES = {  # (key, value) of character.yaml
    ("preset", "recipe"): "default",
    ("schedule", "restarts"): "cosine_restarts_warmup_each",
}
METRICS = {"one_clip_share": "one_source_share"}
COLUMNS = {"clip_id": "source_id", "draws_per_epoch": "samples_per_epoch", "pictures": "images", "style": "medium"}
ARTIFACTS = {"adapter_sweep": "sampling_grid"}  # folders in a scope
RECORD_KEYS = {  # of release.json, of a budget in recommended.json, and of a folder in an export's record
    "clips": "sources",
    "drawing": "sampling",
    "figures": "metrics",
    "held_out_clips": "holdout_sources",
    "held_out_pictures": "holdout_images",
    "pictures": "images",
    "style": "medium",
}


def table_of_today(table: "pd.DataFrame") -> "pd.DataFrame":
    """Rename the columns and metrics of an earlier version's table."""
    table = table.rename(columns=COLUMNS)
    if "metric" in table:
        table["metric"] = table["metric"].replace(METRICS)
    return table


def record_of_today(data: Any) -> Any:
    """Rename keys and metric of an earlier version's record, one level deep.

    Other data stays as it is.
    """
    if not isinstance(data, Mapping):
        return data
    named = {RECORD_KEYS.get(key, key): value for key, value in data.items()}
    if isinstance(named.get("metric"), str):
        named["metric"] = METRICS.get(named["metric"], named["metric"])
    return named
