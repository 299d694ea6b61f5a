"""What is killed, how, and how often. Everything is drawn from one seed."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import psycopg

from tests.faults.processes import Supervised
from tests.faults.site import Site

# How often a process may be hit that is not up again yet.
_WHILE_STARTING = 0.1
# After so many kills the next one waits until another task was done, but not for ever.
_KILLS_A_TASK = 4
_WORK_S = 30.0


class Killer:
    """Kills one thing after another.

    Parameters
    ----------
    say
        Told of each kill.
    done
        How many tasks are done: kills that come faster than any work hit nothing.

    Attributes
    ----------
    done
        Kills by kind.
    lost_blocks
        What the kills of the chain node cost.
    """

    def __init__(self, site: Site, seed: int, say: Callable[[str], None], done: Callable[[], int]) -> None:
        self._site, self._random, self._say, self._done = site, random.Random(seed), say, done
        self.done: Counter[str] = Counter()
        self.lost_blocks = 0
        weights: dict[Callable[[], str | None], int] = {
            self._worker: 25,
            self._coordinator: 20,
            self._pause: 10,
            self._chain: 10,
            self._chain_restart: 3,
            self._chain_freeze: 4,
        }
        if site.server is not None:
            weights |= {self._connections: 27, self._database: 3}
        self._kinds, self._weights = list(weights), list(weights.values())
        self._next = self._random.sample(self._kinds, len(self._kinds))

    def run(self, kills: int, deadline: float) -> None:
        """Kill so many times, with pauses: in each way once, then as it comes. The deadline is monotonic time.

        What cannot be killed now, because it is not up yet from the last time, does not count.
        """
        self._let_work()
        while (made := self.done.total()) < kills:
            assert time.monotonic() < deadline, f"only {self.done} in the time"
            if not self._next:
                self._next = self._random.choices(self._kinds, self._weights)
            kind = self._next.pop()
            # Mostly a little after the last one; sometimes at once.
            time.sleep(self._random.choice((0.0, 0.2, 0.5, 1.0)))
            hit = kind()
            if hit is not None:
                name = kind.__name__.strip("_").replace("_", "-")
                self.done[name] += 1
                self._say(f"kill {made + 1}/{kills}: {name} {hit}")
                if (made + 1) % _KILLS_A_TASK == 0:
                    self._let_work()
            elif made < len(self._kinds):
                self._next.insert(0, kind)

    def _let_work(self) -> None:
        """Wait until another task is done, within bounds."""
        before, patience = self._done(), time.monotonic() + _WORK_S
        while self._done() <= before and time.monotonic() < patience:
            time.sleep(0.1)

    def _worker(self) -> str | None:
        return self._process(self._site.workers, "; chain ")

    def _coordinator(self) -> str | None:
        return self._process(self._site.coordinators, "coordinator 0x")

    def _process(self, which: list[Supervised], ready: str) -> str | None:
        """One that has come up again; sometimes, whichever it is, while it does."""
        drawn = self._random.sample(which, len(which))
        if self._random.random() >= _WHILE_STARTING:
            drawn = [one for one in drawn if ready in one.said]
        for one in drawn:
            pid = one.kill()
            if pid is not None:
                return f"{one.name} (process {pid})"
        return None

    def _pause(self) -> str | None:
        """A process that is taken for dead, and comes back in the middle of what it did."""
        one = self._random.choice(self._site.coordinators + self._site.workers)
        seconds = self._random.uniform(1, 8)
        pid = one.pause(seconds)
        return None if pid is None else f"{one.name} (process {pid}) for {seconds:.1f} s"

    def _connections(self) -> str | None:
        """Some of the coordinators' connections, as the server's operator would end them."""
        assert self._site.server is not None
        with psycopg.connect(self._site.server.dsn, autocommit=True) as connection:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            found = connection.execute(f"SELECT pid {others} ORDER BY pid").fetchall()
            share = self._random.choice((0.2, 0.5, 1.0))
            picked = [pid for (pid,) in found if self._random.random() < share]
            for pid in picked:
                connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return f"{len(picked)} of {len(found)}" if picked else None

    def _database(self) -> str:
        """The server goes down as in a crash, and recovers."""
        assert self._site.server is not None
        self._site.server.stop(signal.SIGQUIT)
        away = self._random.uniform(0, 2)
        time.sleep(away)
        self._site.server.start()
        return f"away for {away:.1f} s"

    def _chain(self) -> str:
        """``kill -9``; what it had not written is a reorganisation to all others."""
        lost = self._site.chain.kill()
        self.lost_blocks += lost
        return f"without its last {lost} blocks"

    def _chain_restart(self) -> str:
        away = self._random.uniform(0, 1)
        self._site.chain.stop()
        time.sleep(away)
        self._site.chain.start()
        return f"away for {away:.1f} s"

    def _chain_freeze(self) -> str:
        hung = self._random.uniform(0.3, 2)
        self._site.chain.freeze()
        time.sleep(hung)
        self._site.chain.thaw()
        return f"hung for {hung:.1f} s"
