"""The text of docs/reference/metrics.md, from the rows of the metrics."""

from collections.abc import Iterable

from sticker_pipeline.benchmark import few_steps, metrics, style_choice
from sticker_pipeline.benchmark.metrics import Metric
from sticker_pipeline.core.markdown import table

INTRODUCTION = """\
# Metrics

Every metric has a 95 % interval where there is enough to resample (`benchmark/bootstrap.py`). None is believed alone:
`similarity.py`, `identity.py`, `fidelity.py` and `memorisation.py` in `benchmark/` say of each what it rewards and how
it can be fooled. Names stand in the column `metric` of tables, titles in the report, the leaderboard and model cards.

`make reference` writes this page from the rows in the code.
[How to add one](../contributing/index.md#add-a-metric)."""


def metrics_page() -> str:
    """Return the text of docs/reference/metrics.md."""
    sections = [
        INTRODUCTION,
        f"## The benchmark of a character\n\n{_table(metrics.METRICS.values())}",
        f"## The LoRA of a style\n\n{_table(style_choice.METRICS.values())}",
        f"## Few steps\n\n{_table(few_steps.METRICS.values())}",
    ]
    return "\n\n".join(sections) + "\n"


def _table(rows: Iterable[Metric]) -> str:
    cells = ((row.title, f"`{row.name}`", row.meaning, row.better or "–") for row in rows)
    return table([("title", "name", "meaning", "better"), ("---",) * 4, *cells])
