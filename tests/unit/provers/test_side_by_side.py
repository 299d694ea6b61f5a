"""Work on several threads: results in order, progress, and an end as soon as one thing fails."""

import threading
import time

import pytest

from provers.side_by_side import side_by_side


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0.0)
        return item * item

    told: list[int] = []
    assert side_by_side(slow_first, range(6), 3, told.append) == [0, 1, 4, 9, 16, 25]
    assert told == list(range(6))


def test_no_more_run_at_a_time_than_may() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    side_by_side(work, range(12), 3, lambda number: None)
    assert most == 3


@pytest.mark.parametrize("at_once", [1, 3])
def test_after_a_failure_nothing_more_is_begun(at_once: int) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("no witness")
        time.sleep(0.02)
        return item

    with pytest.raises(ValueError, match="no witness"):
        side_by_side(work, range(200), at_once, lambda number: None)
    assert len(begun) <= 4 + at_once


def test_a_failure_ahead_of_its_turn_is_the_reason() -> None:
    """The first item is still running when a later one fails; those between are never begun."""

    def work(item: int) -> int:
        if item == 1:
            raise ValueError("the second")
        time.sleep(0.05)
        return item

    with pytest.raises(ValueError, match="the second"):
        side_by_side(work, range(50), 2, lambda number: None)


def test_progress_may_end_it() -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)

    def stop(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, range(100), 1, stop)
    assert len(begun) <= 4


def test_nothing_is_nothing() -> None:
    assert side_by_side(lambda item: item, [], 4, lambda number: None) == []
