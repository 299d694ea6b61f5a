"""Random kills over a stream of jobs: every job ends, nothing is lost, nothing is done twice.

``make test-faults`` makes a thousand kills (``REXIS_FAULTS_KILLS``), the ordinary tests a few. The seed is printed;
``REXIS_FAULTS_SEED`` draws the same kinds and victims in the same order (when exactly they hit is the machine's).
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

import pytest

from rexis.api import JobState
from tests.faults.killers import Killer
from tests.faults.ledger import check
from tests.faults.processes import wait_until
from tests.faults.site import WORKERS, answers, running
from tests.faults.stream import Stream

KILLS = int(os.environ.get("REXIS_FAULTS_KILLS", "8"))
SEED = int(os.environ.get("REXIS_FAULTS_SEED", "0")) or secrets.randbelow(1 << 31)
COORDINATORS = int(os.environ.get("REXIS_FAULTS_COORDINATORS", "2"))
# Of each kill, with restarts on a busy machine; and of what is under way when the kills are over.
_SECONDS_A_KILL = 20
_LAST_S = 600


@pytest.mark.timeout(2 * _LAST_S + KILLS * _SECONDS_A_KILL)
@pytest.mark.parametrize("kind", os.environ.get("REXIS_FAULTS_DATABASES", "postgresql").split(","))
def test_random_kills_lose_nothing(kind: str, tmp_path: Path) -> None:
    begun = time.monotonic()

    def say(text: str) -> None:
        line = f"{time.monotonic() - begun:7.1f} s  {text}"
        print(line, flush=True)
        with (tmp_path / "kills.log").open("a") as log:
            log.write(line + "\n")

    say(f"{KILLS} kills on {kind}, seed {SEED}; logs in {tmp_path}")
    with running(tmp_path, kind, COORDINATORS) as site:
        stream = Stream(site, say)
        killer = Killer(site, SEED, say, lambda: stream.done)
        killer.run(KILLS, begun + _LAST_S + KILLS * _SECONDS_A_KILL)
        for url in site.urls:
            wait_until(lambda url=url: answers(url), _LAST_S, f"{url} answers")  # type: ignore[misc]
        stream.finish(_LAST_S)
        starts = {one.name: one.starts for one in site.coordinators + site.workers}
        say(f"killed {dict(killer.done)}; the chain lost {killer.lost_blocks} blocks; started {starts}")
        failed = {str(job): state for job, state in stream.ended.items() if state != JobState.CERTIFIED}
        assert not failed, failed
        counted = check(site, stream.client, stream.submitted)
        say(f"held: {counted}, retried by their requester: {stream.retried}, workers replaced: {site.hired - WORKERS}")
