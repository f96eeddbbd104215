"""Two calls of a model side by side on a CPU, each in half of the cores.

The layers of a small model are too small to be split well over cores: on two cores, two calls beside each other take a
fifth less time than one after the other in both, and a fifth of the time where other work has the cores as well.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

STREAMS = 2  # more would need as many times the memory
# With one thread, PyTorch has other kernels for 1×1 convolutions of fewer: results would differ in the last bit.
LEAST_ROWS = 16
Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """`function` of each of `items`, in order: on a CPU two at a time, elsewhere one after the other; no gradients.

    It is called in threads of its own: what it uses must not be changed by the call beside it.
    """
    cores = torch.get_num_threads()
    quiet = torch.no_grad()(function)
    if device.type != "cpu" or cores < STREAMS or len(items) < STREAMS:
        return [quiet(item) for item in items]
    try:
        with ThreadPoolExecutor(STREAMS, initializer=torch.set_num_threads, initargs=(cores // STREAMS,)) as pool:
            return list(pool.map(quiet, items))
    finally:
        torch.set_num_threads(cores)  # what a thread sets is what later threads begin with


def parts(count: int, rows_each: int = 1) -> list[slice]:
    """`count` items of a batch, `rows_each` rows of the model's input each, in STREAMS parts of nearly equal length; in
    one where a part would have fewer than LEAST_ROWS."""
    number = STREAMS if count // STREAMS * rows_each >= LEAST_ROWS else 1
    edges = [place * count // number for place in range(number + 1)]
    return [slice(start, end) for start, end in pairwise(edges)]
