"""The same work on many items, on as many threads as there are children to do it; told of progress, ended at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def side_by_side(
    work: Callable[[_T], _R], items: Sequence[_T], at_once: int, progress: Callable[[int], None]
) -> list[_R]:
    """What `work` makes of each item, in their order.

    Parameters
    ----------
    at_once
        Threads.
    progress
        Called in this thread before the result of each item is waited for, with the number of those before it. May
        raise: then nothing more is begun, and what has been begun is waited for.

    Raises
    ------
    Exception
        The first that `work` or `progress` raised. After one, no other item is begun.
    """
    if at_once == 1:  # nothing is begun ahead of progress
        return [_after(progress, number, work, item) for number, item in enumerate(items)]
    over = threading.Event()

    def one(item: _T) -> _R:
        if over.is_set():
            raise CancelledError
        try:
            return work(item)
        except BaseException:
            over.set()
            raise

    with ThreadPoolExecutor(at_once, thread_name_prefix="prove") as threads:
        futures = [threads.submit(one, item) for item in items]
        results: list[_R] = []
        try:
            for number, future in enumerate(futures):
                progress(number)
                results.append(future.result())
        except BaseException as error:
            over.set()
            threads.shutdown(wait=True, cancel_futures=True)
            causes = (future.exception() for future in futures if future.done() and not future.cancelled())
            if isinstance(error, CancelledError):  # another item's fault: say which
                raise next(cause for cause in causes if cause and not isinstance(cause, CancelledError)) from None
            raise
    return results


def _after(progress: Callable[[int], None], number: int, work: Callable[[_T], _R], item: _T) -> _R:
    progress(number)
    return work(item)
