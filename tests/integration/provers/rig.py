"""A worker's process on an in-memory coordinator, to be killed: ``python rig.py FOLDER`` works on one ``zk`` lease.

FOLDER holds ``lease.json`` and the blobs; the worker's cache lies in ``FOLDER/cache``.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from provers.keeper import Stop
from provers.onchain import Unchecked
from provers.options import WorkerOptions
from provers.worker import Worker, open_site
from rexis.api import Lease
from rexis.client import RexisClient
from rexis.protocol.digests import sha256
from rexis.protocol.signing import new_account
from tests.unit.provers.fakes import FakeCoordinator, NoDisplay


def work(
    folder: Path,
    dishonest: str | None = None,
    *,
    times: int = 1,
    **options: Any,
) -> FakeCoordinator:
    """Serve the folder's lease to one worker until nothing is left to do.

    Parameters
    ----------
    times
        How often the lease is given out.
    options
        Further fields of :class:`WorkerOptions`.
    """
    stop, account = Stop(), new_account()
    blobs = {sha256(data): data for data in (path.read_bytes() for path in (folder / "blobs").iterdir())}
    lease = Lease.from_json((folder / "lease.json").read_bytes())

    def end() -> None:
        stop.requested = True

    coordinator = FakeCoordinator(account, blobs, queue=[lease] * times, when_idle=end)
    told = WorkerOptions(
        coordinator="http://coordinator.test",
        account=account,
        name="rig",
        cache=folder / "cache",
        wait_seconds=0,
        dishonest=dishonest,
        **options,
    )
    with closing(open_site(told)) as site:
        Worker(told, cast(RexisClient, coordinator), stop, NoDisplay(), site, Unchecked()).run()
    return coordinator


if __name__ == "__main__":
    work(Path(sys.argv[1]))
