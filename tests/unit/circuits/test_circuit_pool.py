"""Children that several tasks share: what ends one task's calls leaves the others' alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from circuits.pool import EzklPool, PoolShare
from circuits.process import EzklProcess


class FakeChild:
    """A call lasts until it is let go or the child is killed."""

    def __init__(self) -> None:
        self.killed, self.let_go, self.running = threading.Event(), threading.Event(), threading.Event()

    def call(self, operation: str, **arguments: Any) -> str:
        self.running.set()
        while not self.let_go.is_set():
            if self.killed.is_set():
                self.killed.clear()
                raise InterruptedError
            time.sleep(0.005)
        return operation

    def kill(self) -> None:
        self.killed.set()

    def close(self) -> None:
        pass


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[FakeChild]:
    made: list[FakeChild] = []

    def make(**limits: Any) -> FakeChild:
        made.append(FakeChild())
        return made[-1]

    monkeypatch.setattr("circuits.pool.EzklProcess", make)
    return made


class Call(threading.Thread):
    """One call, with what came of it."""

    def __init__(self, share: PoolShare, operation: str = "prove") -> None:
        super().__init__(daemon=True)
        self.share, self.operation, self.result = share, operation, None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.share.call(self.operation)
        except BaseException as error:
            self.error = error


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killing_one_share_leaves_the_others_calls_alone(children: list[FakeChild]) -> None:
    pool = EzklPool(2)
    mine, other = PoolShare(pool), PoolShare(pool)
    first = Call(mine)
    until(lambda: any(child.running.is_set() for child in children))
    second = Call(other)
    until(lambda: all(child.running.is_set() for child in children))
    mine.kill()
    first.join(10)
    assert isinstance(first.error, InterruptedError)
    for child in children:
        child.let_go.set()
    second.join(10)
    assert (second.result, second.error) == ("prove", None)


def test_a_child_that_another_has_by_now_is_not_killed(children: list[FakeChild]) -> None:
    pool = EzklPool(1)
    (child,) = children
    mine, other = PoolShare(pool), PoolShare(pool)
    child.let_go.set()
    assert mine.call("witness") == "witness"
    child.let_go.clear()
    second = Call(other)
    assert child.running.wait(5)
    mine.kill()
    assert not child.killed.is_set()
    child.let_go.set()
    second.join(10)
    assert second.result == "prove"


def test_who_waits_for_a_child_can_leave(children: list[FakeChild]) -> None:
    pool = EzklPool(1)
    first = Call(PoolShare(pool))
    assert children[0].running.wait(5)

    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        PoolShare(pool, waiting=stop).call("prove")
    children[0].let_go.set()
    first.join(10)
    assert first.result == "prove"


def test_each_operation_is_admitted_first(children: list[FakeChild]) -> None:
    seen = []

    @contextmanager
    def admit(operation: str):  # type: ignore[no-untyped-def]
        seen.append(f"+{operation}")
        yield
        seen.append(f"-{operation}")

    children_pool = EzklPool(1)
    children[0].let_go.set()
    share = PoolShare(children_pool, admit)
    share.call("keys")
    share.call("prove")
    assert seen == ["+keys", "-keys", "+prove", "-prove"]


def test_a_real_child_of_one_thread_is_shared_too(tmp_path: Path) -> None:
    pytest.importorskip("ezkl")
    with EzklPool(1) as pool:
        share = PoolShare(pool)
        share.single_threaded().call("srs", out=str(tmp_path / "srs"), logrows=4)
        assert isinstance(pool._all[0], EzklProcess)
        assert pool._all[0].pid is None  # the one of one thread is another process
    assert (tmp_path / "srs").stat().st_size > 0
