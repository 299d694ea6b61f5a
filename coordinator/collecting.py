"""The garbage collection by itself, for an operator's command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.blobs import Blobs
from coordinator.garbage import Garbage
from coordinator.inventory import Inventory
from coordinator.settings import Settings
from coordinator.store import Store
from coordinator.times import wall_clock


@contextmanager
def collector(settings: Settings) -> Iterator[Garbage]:
    """A collector over the database and the blobs of these settings."""
    store = Store(settings.database)
    try:
        expect = Inventory(store, wall_clock).expect
        blobs = Blobs(settings.blob_url, settings.data_dir, settings.max_blob_bytes, expect=expect)
        yield Garbage(store, blobs, wall_clock, settings.retention)
    finally:
        store.close()
