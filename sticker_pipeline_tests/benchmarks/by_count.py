"""Runs a benchmark at several counts; prints a table, with the growth of the cost per item."""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

Result = TypeVar("Result")
Timed = Callable[[str, Callable[[], Result]], Result]


def print_costs(costs: Callable[[Path, int], dict[str, float]], counts: Sequence[int]) -> None:
    """Print what `costs(folder, count)` returns for the counts of the command line, or else for `counts`.

    The last column is the cost of one item at the largest count over that at the smallest: 1 where it is flat.
    """
    counts = [int(argument) for argument in sys.argv[1:]] or list(counts)
    columns = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            columns[count] = costs(Path(temporary), count)
    table = pd.DataFrame(columns)
    table["each, last/first"] = table[counts[-1]] / counts[-1] / (table[counts[0]] / counts[0])
    print(table.round(3).to_string())


def timer(found: dict[str, float], count: int) -> Timed:
    """Return a function that runs some work, prints its CPU seconds, and notes them in `found`."""

    def timed(name: str, work: Callable[[], Result]) -> Result:
        start = time.process_time()
        result = work()
        found[name] = time.process_time() - start
        print(f"{count:6} {name:40} {found[name]:8.2f} s", flush=True)
        return result

    return timed
