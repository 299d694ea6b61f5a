"""Memory that steps of several tasks share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from provers.budget import MemoryBudget


class Holder(threading.Thread):
    """Takes memory until it is told to let go."""

    def __init__(self, budget: MemoryBudget, needed: int) -> None:
        super().__init__(daemon=True)
        self.budget, self.needed = budget, needed
        self.has, self.let_go = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self.budget.take(self.needed):
            self.has.set()
            self.let_go.wait(10)

    def end(self) -> None:
        self.let_go.set()
        self.join(10)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_steps_that_fit_together_go_on_together_and_others_wait() -> None:
    budget = MemoryBudget(10)
    first, second = Holder(budget, 4), Holder(budget, 6)
    assert first.has.wait(5)
    assert second.has.wait(5)
    assert budget.taken == 10
    third = Holder(budget, 5)
    assert not third.has.wait(0.2)
    first.end()
    assert not third.has.wait(0.2)  # 4 are free
    second.end()
    assert third.has.wait(5)
    third.end()
    assert budget.taken == 0


def test_a_large_step_is_not_overtaken_for_ever() -> None:
    budget = MemoryBudget(10)
    small = Holder(budget, 3)
    assert small.has.wait(5)
    large = Holder(budget, 9)
    until(lambda: len(budget._queue) == 1)
    next_small = Holder(budget, 3)  # would fit beside the first
    assert not next_small.has.wait(0.3)
    small.end()
    assert large.has.wait(5)
    assert not next_small.has.is_set()
    large.end()
    assert next_small.has.wait(5)
    next_small.end()


def test_a_wait_can_be_ended_and_leaves_the_place_to_the_next() -> None:
    budget = MemoryBudget(10)
    holder = Holder(budget, 10)
    assert holder.has.wait(5)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), budget.take(1, stop):
        raise AssertionError("has what is not there")
    next_one = Holder(budget, 1)
    holder.end()
    assert next_one.has.wait(5)
    next_one.end()


def test_a_step_that_fails_gives_its_memory_back() -> None:
    budget = MemoryBudget(10)
    with pytest.raises(ValueError, match="the step"), budget.take(10):
        raise ValueError("the step")
    assert budget.taken == 0


def test_what_is_free_is_measured_while_nothing_is_taken() -> None:
    free = [100]
    budget = MemoryBudget(None, lambda: free[0])
    assert budget.total == 100
    free[0] = 50
    assert budget.total == 50
    with budget.take(20):
        free[0] = 30  # the step's own memory is missing from it
        assert budget.total == 50
    assert budget.total == 30
