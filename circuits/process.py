"""One persistent child process for ezkl, seen from the parent.

A crash, a kill or an endless call of the child becomes a :class:`CircuitError`, and the next call starts a new child.
The child ends with its parent: on Linux the kernel kills it (``PR_SET_PDEATHSIG``), elsewhere it ends when its stdin
closes.

Calls block. A server makes them in worker threads (``asyncio.to_thread``), so that its event loop stays free, and
:meth:`EzklProcess.kill` ends one from any other thread.

What the child writes for ezkl to read, encrypted records among it, lies in a folder of the parent's
(:mod:`circuits.scratch`): a killed child cannot tidy up.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Protocol, Self

from circuits.scratch import Scratch
from rexis.interpreter import python, python_environment
from rexis.protocol.errors import CircuitError, UnavailableError

DEFAULT_TIMEOUT = 3600.0
_LOG_TAIL = 4096
# What Rust, C++ and Python say when an allocation fails; the line is rarely the last.
_NO_MEMORY = re.compile(r"memory allocation of \d+ bytes failed|std::bad_alloc|MemoryError|Cannot allocate memory")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# The child works in the root folder, where no stranger's file lies; so all paths that it is given are absolute.
_NOBODYS = Path(__file__).resolve().anchor


def lower_limit(which: int, most: int) -> None:
    """Limit one resource of this process (``RLIMIT_AS`` …); a lower limit that it has already stays."""
    for found in resource.getrlimit(which):
        most = most if found == resource.RLIM_INFINITY else min(most, found)
    resource.setrlimit(which, (most, most))


class ProcessGoneError(CircuitError):
    """The child crashed, was ended or took too long. What it was asked is not answered, neither way."""

    code = "circuit-process"


class OutOfMemoryError(ProcessGoneError):
    """The child needed more memory than it may have."""

    code = "circuit-memory"


class Calls(Protocol):
    """Something that runs operations of :mod:`circuits.child`: a child, several, or a share in them."""

    @property
    def size(self) -> int:
        """Calls that can run at a time."""
        ...

    def call(self, operation: str, **arguments: Any) -> Any:
        """See :meth:`EzklProcess.call`."""
        ...


class Ezkl(Calls, Protocol):
    """One that can also lay circuits out, which takes a child of one thread."""

    def single_threaded(self) -> Calls:
        """The same with one thread."""
        ...


class EzklProcess:
    """A child that runs ezkl's functions one at a time. Starts on the first call.

    Parameters
    ----------
    memory_limit
        Bytes of address space that the child may take (``RLIMIT_AS``); 0 for no limit. For work on files of strangers.
    timeout
        Seconds that one call may take before the child is killed.
    threads
        Threads of ezkl's pool; by default one a core.

    Notes
    -----
    All traffic goes through one thread that lives as long as this object: ``PR_SET_PDEATHSIG`` is about the *thread*
    that started the child, so that a pool's thread that goes idle would take the child with it.
    """

    def __init__(self, *, memory_limit: int = 0, timeout: float = DEFAULT_TIMEOUT, threads: int | None = None) -> None:
        self._memory_limit = memory_limit
        self._timeout = timeout
        self._threads = threads
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ezkl")
        self._child: subprocess.Popen[bytes] | None = None
        self._scratch: Scratch | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self._alone: EzklProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def single_threaded(self) -> EzklProcess:
        """Another child with the same limits, whose ezkl has one thread. It lives and ends with this one."""
        if self._alone is None:
            self._alone = EzklProcess(memory_limit=self._memory_limit, timeout=self._timeout, threads=1)
        return self._alone

    @property
    def size(self) -> int:
        """Calls that can run at a time."""
        return 1

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return self._child.pid if self._child else None

    def call(self, operation: str, **arguments: Any) -> Any:
        """Run one operation of :mod:`circuits.child` and wait for it.

        Raises
        ------
        CircuitError
            ezkl refused or panicked.
        ProcessGoneError
            The child crashed, was ended or took too long; :class:`OutOfMemoryError` if it had no room.
        UnavailableError
            ezkl is not installed.
        """
        return self._submit(operation, arguments).result()

    def kill(self) -> None:
        """End the child now, from any thread; a call in progress fails and the next one starts a new child."""
        if self._alone is not None:
            self._alone.kill()
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """End the child and refuse further calls."""
        if self._alone is not None:
            self._alone.close()
        self.kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._drop()
        self._log.close()

    def _submit(self, operation: str, arguments: dict[str, Any]) -> Future[Any]:
        line = json.dumps({"operation": operation, "arguments": arguments}).encode() + b"\n"
        try:
            return self._thread.submit(self._exchange, operation, line)
        except RuntimeError:
            raise CircuitError("the proof process has been closed") from None

    def _exchange(self, operation: str, line: bytes) -> Any:
        child = self._started()
        assert child.stdin is not None and child.stdout is not None  # noqa: S101
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            child.kill()

        timer = threading.Timer(self._timeout, expire)
        timer.daemon = True
        timer.start()
        try:
            child.stdin.write(line)
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            timer.cancel()
        if not answer.endswith(b"\n"):
            raise self._gone(operation, timed_out=expired.is_set())
        reply = json.loads(answer)
        if "fault" in reply:
            raise TypeError(reply["fault"])
        if "error" in reply:
            if reply["error"].startswith("ModuleNotFoundError"):
                raise UnavailableError("ezkl is not installed", hint="pip install 'rexis[circuits]'")
            raise CircuitError(f"ezkl failed at {operation}: {reply['error']}{self._last_words()}")
        return reply["result"]

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._drop()
        self._scratch = Scratch("rexis-ezkl-")
        # Passphrases and the like are not for a process that reads files of strangers.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REXIS_")}
        environment = {**python_environment(inherited), "TMPDIR": str(self._scratch.path)}
        if self._threads is not None:
            environment["RAYON_NUM_THREADS"] = str(self._threads)
        self._child = subprocess.Popen(
            python("-m", "circuits.child", str(os.getpid()), str(self._memory_limit)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            cwd=_NOBODYS,
        )
        return self._child

    def _gone(self, operation: str, *, timed_out: bool) -> ProcessGoneError:
        assert self._child is not None  # noqa: S101
        code = self._child.wait()
        words, no_memory = self._last_words(), _NO_MEMORY.search(self._log_tail()) is not None
        self._drop()
        if timed_out:
            return ProcessGoneError(f"ezkl did not finish {operation} in {self._timeout:g} s and was ended")
        if no_memory:
            most = f"the {self._memory_limit >> 20} MiB that it may take" if self._memory_limit else "what is there"
            return OutOfMemoryError(
                f"ezkl needed more memory for {operation} than {most}", hint="give it more, or take a smaller circuit"
            )
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ProcessGoneError(
            f"the proof process ended during {operation} ({how}){words}",
            hint="signal 9 without a cause of ours is mostly the kernel out of memory",
        )

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):  # unsent bytes of a call that has failed already
                        pipe.close()
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def _log_tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), _LOG_TAIL, max(0, size - _LOG_TAIL))
        return _ANSI.sub("", tail.decode(errors="replace"))

    def _last_words(self) -> str:
        """Last line that ezkl logged in the current call: its errors are often only there."""
        lines = [line for line in self._log_tail().splitlines() if line.strip()]
        return f" [{lines[-1].strip()[:300]}]" if lines else ""
