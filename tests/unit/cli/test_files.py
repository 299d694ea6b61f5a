"""Files that a person names may be anything."""

import os
import threading
from pathlib import Path

import pytest

from rexis.cli.passphrase import read_passphrase
from rexis.files import read_file
from rexis.protocol.errors import ResourceError, RexisError


def test_devices_folders_and_pipes_are_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (Path("/dev/zero"), tmp_path, pipe):
        with pytest.raises(RexisError, match=f"records file {path} is not a regular file"):
            read_file(path, "records file", max_bytes=4 << 30)


def test_too_large_files_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(ResourceError, match="1099511627776 bytes, over the limit of 4294967296"):
        read_file(path, "records file", max_bytes=4 << 30)


def test_a_passphrase_may_come_from_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"secret\n",))
    writer.start()
    assert read_passphrase("x", pipe) == "secret"
    writer.join()
