"""What tests of several folders share.

All that a session and the processes it starts write to temporary files lies in one folder, pytest's own and the
databases' too. It is removed at the end; when a test failed or the session was killed, by the next session.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator

import pytest

from circuits.scratch import Scratch
from tests.databases import Databases

_SCRATCH = pytest.StashKey[Scratch]()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # pytest-xdist's: its parent has made the folder
    config.stash[_SCRATCH] = scratch = Scratch("rexis-tests-")
    scratch.path.chmod(0o711)  # PostgreSQL's server is another user's
    os.environ["TMPDIR"] = str(scratch.path)
    tempfile.tempdir = None


def pytest_collection_finish() -> None:
    """Leave the modules of all tests, millions of objects, out of each search for cyclic garbage."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if terminalreporter.stats.keys() & {"failed", "error"}:
        terminalreporter.write_line(f"temporary files, until the next session: {config.stash[_SCRATCH].path}")


def pytest_unconfigure(config: pytest.Config) -> None:
    scratch = config.stash.get(_SCRATCH, None)
    if scratch is None:
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    failed = reporter is not None and reporter.stats.keys() & {"failed", "error"}
    scratch.abandon() if failed else scratch.remove()


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    made = Databases(tmp_path_factory.mktemp("databases"))
    yield made
    made.close()
