"""Threads that make items in order, within the memory that there is."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock

import pytest

from sticker_pipeline.packing import parallel
from sticker_pipeline.packing.parallel import in_order


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "processors", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(parallel, "MOST_HELD", 10)


def nothing() -> None:
    pass


def test_results_come_in_order_and_items_at_a_time() -> None:
    together = Barrier(4, timeout=60)

    def make(item: int) -> int:
        together.wait()
        return item * item

    assert list(in_order(make, range(8), nothing)) == [item * item for item in range(8)]
    assert list(in_order(make, [], nothing)) == []


def test_items_at_a_time_hold_no_more_than_there_is_room_for() -> None:
    lock, now, most = Lock(), [0], [0]

    def make(item: int) -> int:
        with lock:
            now[0] += item
            most[0] = max(most[0], now[0])
        with lock:
            now[0] -= item
        return item

    items = [4, 5, 6, 1, 10, 3, 3, 3, 9, 2] * 20
    assert list(in_order(make, items, nothing, lambda item: item)) == items
    assert 0 < most[0] <= 10


def test_one_that_is_too_large_is_made_alone() -> None:
    assert list(in_order(lambda item: item, [99, 1, 99], nothing, lambda item: item)) == [99, 1, 99]


def test_a_failure_frees_its_room() -> None:
    def make(item: int) -> int:
        if item == 1:
            raise ValueError("no")
        return item

    results = in_order(make, [0, 1, 2], nothing, lambda item: 10)
    assert next(results) == 0
    with pytest.raises(ValueError, match="no"):
        next(results)


def test_after_a_stop_nothing_more_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ending = list[int](), Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            ending.set()
            super().shutdown(wait, cancel_futures=cancel_futures)

    def make(item: int) -> int:
        begun.append(item)
        assert not item or ending.wait(60)
        return item

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    asked = list[None]()

    def stop() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise KeyboardInterrupt

    results = in_order(make, range(40), stop, lambda item: 10 if item else 0)
    assert next(results) == 0
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert len(begun) <= 2  # neither those that waited for room
