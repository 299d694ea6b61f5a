"""The child process that takes segments of a training again: ``python -m verifier.retrain <memory limit> <seconds>``.

It reads and writes frames: a length (u64 little-endian), then so many bytes. First it reads the plan, the platform on
which it was trained, the base model and the records (``.npy``), and answers with its own platform. Then for each
segment it reads the index with the root that was committed for its end, and the state before it, and answers with the
losses (float32) and with the state after it; nothing, if that has the committed root. A frame of answer begins with a
byte: 0 for these, 1 for a refusal in words. No more input is its end.
"""

from __future__ import annotations

import io
import os
import resource
import sys
from typing import BinaryIO

import numpy as np

from circuits.onnx_model import require_plain_model
from circuits.process import lower_limit
from rexis.protocol.errors import RexisError
from rexis.protocol.training import TrainingPlan
from rexis.protocol.transcript import Platform, pack_state, unpack_state

ANSWER, REFUSAL = b"\0", b"\1"
NO_MEMORY = 4
_MORE_THREADS = 4  # than processors; bits depend on their number, and a stranger chose it


def read_frame(stream: BinaryIO, most: int | None = None) -> bytes | None:
    """The next frame; None at the end, and where a frame is said to have more than `most` bytes."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head, "little")
    if most is not None and length > most:
        return None
    data = stream.read(length)
    return data if len(data) == length else None


def write_frame(stream: BinaryIO, *parts: bytes) -> None:
    """One frame of these parts."""
    stream.write(sum(map(len, parts)).to_bytes(8, "little"))
    for part in parts:
        stream.write(part)
    stream.flush()


def serve(asked: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there is no more input, or something was refused."""
    try:
        _serve(asked, answers)
    except RexisError as error:
        write_frame(answers, REFUSAL, str(error).encode())


def _serve(asked: BinaryIO, answers: BinaryIO) -> None:
    import torch

    from rexis.training.platforms import this_platform
    from rexis.training.rerun import Rerunner

    plan, there = TrainingPlan.from_json(_next(asked)), Platform.from_json(_next(asked))
    model, records = _next(asked), np.load(io.BytesIO(_next(asked)), allow_pickle=False)
    require_plain_model(model)
    device = "cuda" if there.device != "cpu" and torch.cuda.is_available() else "cpu"
    processors = os.cpu_count() or 1
    threads = there.threads if 0 < there.threads <= _MORE_THREADS * processors else processors
    again = Rerunner(model, plan, records, device=device, threads=threads)
    write_frame(answers, ANSWER, this_platform(device, threads).to_json())
    while (asks := read_frame(asked)) is not None:
        done = again.run(int.from_bytes(asks[:8], "little"), unpack_state(_next(asked), plan))
        write_frame(answers, ANSWER, done.losses.astype("<f4").tobytes())
        write_frame(answers, ANSWER, b"" if done.root == asks[8:] else pack_state(done.after))


def _next(stream: BinaryIO) -> bytes:
    found = read_frame(stream)
    if found is None:
        raise RexisError("the input ends early")
    return found


def main() -> int:
    """Serve one verification."""
    memory_limit, seconds = int(sys.argv[1]), int(sys.argv[2])
    if memory_limit:
        lower_limit(resource.RLIMIT_AS, memory_limit)
    lower_limit(resource.RLIMIT_CPU, seconds * (os.cpu_count() or 1))  # ends it also if the parent was killed
    lower_limit(resource.RLIMIT_CORE, 0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print
    try:
        serve(sys.stdin.buffer, answers)
    except MemoryError:
        return NO_MEMORY
    except RuntimeError as error:
        if "alloc" not in str(error).lower() and "out of memory" not in str(error).lower():
            raise
        return NO_MEMORY
    return 0


if __name__ == "__main__":
    sys.exit(main())
