"""Work on many stickers at a time.

Threads do: encoders and Pillow release Python's lock.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sticker_pipeline.core.process.threads import processors

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(make: Callable[[Item], Result], items: Sequence[Item], stop: Callable[[], None]) -> Iterator[Result]:
    """Yield `make` of each item, in order.

    As many at a time as there are processors. `stop` is called before each result and may raise: what has not begun is
    then dropped.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(processors()))) as pool:
        futures = [pool.submit(make, item) for item in items]
        try:
            for future in futures:
                stop()
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
