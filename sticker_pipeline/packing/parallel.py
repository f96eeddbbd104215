"""Work on many stickers at a time.

Threads do: encoders and Pillow release Python's lock.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from threading import Condition
from typing import TypeVar

from sticker_pipeline.core.process.threads import processors

MOST_HELD = 1 << 30  # bytes of all items that are made at a time; one alone may have more

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    make: Callable[[Item], Result],
    items: Sequence[Item],
    stop: Callable[[], None],
    held: Callable[[Item], int] = lambda item: 0,
) -> Iterator[Result]:
    """Yield `make` of each item, in order.

    As many at a time as there are processors, and as MOST_HELD has room for. `held`: about the bytes that an item
    needs. `stop` is called before each result and may raise: what has not begun is then dropped.
    """
    free, stopped, changed = MOST_HELD, False, Condition()

    def made(item: Item) -> Result:
        nonlocal free
        wanted = min(held(item), MOST_HELD)
        with changed:
            changed.wait_for(lambda: stopped or wanted <= free)
            if stopped:
                raise CancelledError
            free -= wanted
        try:
            return make(item)
        finally:
            with changed:
                free += wanted
                changed.notify_all()

    with ThreadPoolExecutor(max_workers=max(1, len(processors()))) as pool:
        futures = [pool.submit(made, item) for item in items]
        try:
            for future in futures:
                stop()
                yield future.result()
        finally:
            with changed:
                stopped = True
                changed.notify_all()
            pool.shutdown(cancel_futures=True)
