"""The cache is atomic, and a VKA file is read strictly."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from circuits.artefacts import MANIFEST, CircuitCache, read_vka
from rexis.protocol.digests import digest_stream, sha256
from rexis.protocol.errors import MalformedError

KEY = sha256(b"some circuit")


def slow_build(folder: Path) -> None:
    """Leave a mark for each build, next to the cache."""
    with (folder.parent.parent / "builds").open("a") as log:
        log.write("x")
    time.sleep(0.2)
    (folder / "pk").write_bytes(b"complete")


def fill(root: str) -> None:
    CircuitCache(Path(root)).entry(KEY, slow_build)


def test_entry_is_built_once(tmp_path: Path) -> None:
    cache = CircuitCache(tmp_path / "cache")
    first = cache.entry(KEY, slow_build)
    assert cache.entry(KEY, slow_build) == first
    assert (tmp_path / "builds").read_text() == "x"


def test_processes_share_one_build(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(str(tmp_path / "cache"),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "builds").read_text() == "x"


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    cache = CircuitCache(tmp_path)

    def fails(folder: Path) -> None:
        (folder / "pk").write_bytes(b"half")
        raise MalformedError("no")

    with pytest.raises(MalformedError):
        cache.entry(KEY, fails)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_a_killed_build_left_is_not_taken_for_complete(tmp_path: Path) -> None:
    cache = CircuitCache(tmp_path / "cache")
    part = tmp_path / "cache" / f".{KEY.hex()}.part"
    part.mkdir(parents=True)
    (part / "vk").write_bytes(b"half")
    folder = cache.entry(KEY, slow_build)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "pk"]


def truncate(folder: Path) -> None:
    (folder / "pk").write_bytes(b"comp")


def flip(folder: Path) -> None:
    """Another content of the same size, as a bad disk gives it."""
    (folder / "pk").write_bytes(b"completf")


DAMAGES: list[Callable[[Path], object]] = [
    truncate,
    flip,
    lambda folder: (folder / "pk").unlink(),
    lambda folder: (folder / "stray").write_bytes(b""),
    lambda folder: (folder / MANIFEST).unlink(),
    lambda folder: (folder / MANIFEST).write_bytes(b"[]"),
    lambda folder: (folder / MANIFEST).write_bytes(b"\xff"),
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("restarted", [False, True])
def test_damaged_entry_is_built_again(tmp_path: Path, damage: Callable[[Path], object], restarted: bool) -> None:
    cache = CircuitCache(tmp_path / "cache")
    damage(cache.entry(KEY, slow_build))
    folder = (CircuitCache(tmp_path / "cache") if restarted else cache).entry(KEY, slow_build)
    assert (folder / "pk").read_bytes() == b"complete"
    assert (tmp_path / "builds").read_text() == "xx"


def test_large_files_are_read_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CircuitCache(tmp_path / "cache").entry(KEY, slow_build)
    read: list[object] = []
    monkeypatch.setattr("circuits.artefacts.digest_stream", lambda stream: read.append(stream) or digest_stream(stream))
    cache = CircuitCache(tmp_path / "cache")
    for _ in range(3):
        cache.entry(KEY, slow_build)
    assert len(read) == 1


def test_vka_words() -> None:
    words = sha256(b"a"), sha256(b"b")
    assert read_vka((2).to_bytes(8, "little") + b"".join(words)) == words


@pytest.mark.parametrize(
    "data",
    [b"", bytes(8), (1).to_bytes(8, "little") + bytes(31), (1).to_bytes(8, "little") + bytes(64), b"\xff" * 40],
)
def test_vka_of_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_vka(data)
