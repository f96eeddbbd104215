"""Our LoRA beside every other model: the table of the differences, style by style.

What is measured belongs to measure.py, how two models are compared to tables.py.
"""

import pandas as pd

from sticker_pipeline.benchmark.measure import CHANCE, LORA, REFERENCE
from sticker_pipeline.benchmark.tables import COMPARED, BenchmarkResult, compare

COMPARISONS = ["model", "other", *COMPARED]
COMPARED_FILE = "compared.parquet"  # beside the benchmark's table
NO_MODELS = (REFERENCE, CHANCE)


def comparisons(result: BenchmarkResult, model: str = LORA) -> pd.DataFrame:
    """By how much `model` differs from each other model: columns COMPARISONS, others in the order of the benchmark's
    table (base first), within each as `compare` sorts.

    References and chance are no models: they were not drawn for the same requests, so nothing pairs them. Without a row
    of `model`, or of any other, the table is empty.
    """
    models = list(dict.fromkeys(result.table["model"]))
    others = [name for name in models if name not in (model, *NO_MODELS)] if model in models else []
    parts = [compare(result, model, other).assign(model=model, other=other)[COMPARISONS] for other in others]
    if parts:
        return pd.concat(parts, ignore_index=True)
    numbers = dict.fromkeys(["difference", "ci_low", "ci_high"], "float64") | {"n": "int64"}
    return pd.DataFrame(columns=COMPARISONS).astype({name: numbers.get(name, "str") for name in COMPARISONS})
