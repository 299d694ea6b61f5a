"""The child process that runs ezkl: one JSON request a line on stdin, one JSON reply a line on the protocol pipe.

Started by :class:`circuits.process.EzklProcess` only, as ``python -m circuits.child <parent pid> <memory limit>``.
ezkl prints to stdout and stderr, so that stdout is moved to a private descriptor and replaced by stderr; stderr is a
file that the parent reads after a failure. Rust panics arrive as ``pyo3_runtime.PanicException``, a BaseException.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import inspect
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from circuits.field import element_from_ezkl, element_to_ezkl, from_ezkl, instances_from, to_ezkl
from circuits.process import lower_limit

_PR_SET_PDEATHSIG = 1  # prctl(2)
# How Rust writes an errno; these are the machine's, not those of a missing or malformed file.
_MACHINES_ERRORS = (errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOSPC, errno.EDQUOT)
_OOM_SCORE = Path("/proc/self/oom_score_adj")


# Run arguments that PyRunArgs takes as tuples, which JSON does not have.
_TUPLES: dict[str, Callable[[Any], Any]] = {
    "variables": lambda pairs: [tuple(pair) for pair in pairs],
    "lookup_range": tuple,
}


class Refusal(Exception):
    """Something that ezkl let pass and we do not."""


def make_srs(out: str, logrows: int) -> None:
    """Write a development SRS."""
    _ezkl().gen_srs(out, logrows)


def make_settings(model: str, run_args: dict[str, Any], out: str) -> None:
    """Write ezkl's settings for an ONNX file."""
    arguments = _ezkl().PyRunArgs()
    for name, value in run_args.items():
        setattr(arguments, name, _TUPLES[name](value) if name in _TUPLES else value)
    _true(_ezkl().gen_settings(model, out, py_run_args=arguments))


def make_keys(model: str, settings: str, srs: str, compiled: str, vk: str, pk: str, vka: str | None = None) -> None:
    """Compile the circuit, then write vk, pk and VKA. Circuits with Freivalds' columns have none (for comparison)."""
    _true(_ezkl().compile_circuit(model, compiled, settings))
    _true(_ezkl().setup(compiled, vk, pk, srs))
    if vka is not None:
        make_vka(vk, settings, srs, vka)


def compile_only(model: str, settings: str, compiled: str) -> None:
    """Compile the circuit without keys: enough for witnesses."""
    _true(_ezkl().compile_circuit(model, compiled, settings))


def make_vka(vk: str, settings: str, srs: str, out: str) -> None:
    """Write the VKA of a vk."""
    _true(_await(lambda: _ezkl().create_evm_vka(vk, settings, out, srs)))


def make_verifier(vk: str, settings: str, srs: str, out: str) -> None:
    """Write the reusable verifier's Solidity source.

    ezkl then wants to download solc for the ABI; that failure is expected.
    """
    try:
        _await(lambda: _ezkl().create_evm_verifier(vk, settings, out, out + ".abi", srs, reusable=True))
    except RuntimeError as error:
        if "svm error" not in str(error) and "solc" not in str(error).lower():
            raise


def witness(compiled: str, scale: int, records: list[list[int]]) -> list[list[int]]:
    """Exact circuit outputs of records of fixed-point integers."""
    with tempfile.TemporaryDirectory(prefix="rexis-witness-") as folder:
        return [_witness(Path(folder), compiled, scale, record) for record in records]


def trial(compiled: str, scale: int, records: list[list[int]]) -> dict[str, Any]:
    """Exact outputs, and the lowest and highest values that a nonlinear function's table was asked for."""
    with tempfile.TemporaryDirectory(prefix="rexis-witness-") as folder:
        made = [_witness_document(Path(folder), compiled, scale, record) for record in records]
    return {
        "outputs": [_outputs(each) for each in made],
        "lowest": min(each["min_lookup_inputs"] for each in made),
        "highest": max(each["max_lookup_inputs"] for each in made),
    }


def calibrate(model: str, run_args: dict[str, Any], records: list[list[float]], out: str) -> None:
    """Settings as ezkl's own calibration chooses them (target "resources"), for comparison."""
    make_settings(model, run_args, out)
    with tempfile.TemporaryDirectory(prefix="rexis-calibrate-") as folder:
        data = Path(folder, "input")
        data.write_text(json.dumps({"input_data": records}))
        _true(_await(lambda: _ezkl().calibrate_settings(str(data), model, out, "resources")))


def prove(
    compiled: str, pk: str, vk: str, settings: str, srs: str, scale: int, record: list[int], hashed: bool = False
) -> dict[str, Any]:
    """Prove one record, and check the proof before anybody else does.

    `instances` are the field elements that it was checked with; a hash among them is not taken from the witness.
    """
    with tempfile.TemporaryDirectory(prefix="rexis-prove-") as name:
        folder = Path(name)
        outputs = _witness(folder, compiled, scale, record)
        made = _ezkl().prove(str(folder / "witness"), compiled, pk, None, srs)
        proof = bytes.fromhex(made["proof"].removeprefix("0x"))
        instances = instances_from([_poseidon(record)] if hashed else record, outputs, hashed=hashed)
        _verify(folder, proof, instances, vk, settings, srs)
        _require_end(folder, proof, instances, vk, settings, srs)
    return {"proof": proof.hex(), "outputs": outputs, "instances": instances}


def hash_rows(rows: list[list[int]]) -> list[str]:
    """Poseidon hashes of rows of integers, each 64 hexadecimal digits, big-endian."""
    return [_poseidon(row).to_bytes(32, "big").hex() for row in rows]


def verify(vk: str, settings: str, srs: str, claims: list[dict[str, Any]]) -> list[str | None]:
    """Check proofs one by one: None for a good one, else why not."""
    _ezkl()  # a missing package is no proof's fault
    with tempfile.TemporaryDirectory(prefix="rexis-verify-") as folder:
        reasons: list[str | None] = []
        exact = 0  # bytes of a proof that was read to its end: how many are read, the vk alone says
        for claim in claims:
            proof = bytes.fromhex(claim["proof"])
            try:
                _verify(Path(folder), proof, claim["instances"], vk, settings, srs)
                if len(proof) != exact:
                    _require_end(Path(folder), proof, claim["instances"], vk, settings, srs)
                    exact = len(proof)
                reasons.append(None)
            except BaseException as error:
                _raise_if_ours(error)
                reasons.append(_reason(error))
        return reasons


OPERATIONS: dict[str, Callable[..., Any]] = {
    "srs": make_srs,
    "settings": make_settings,
    "keys": make_keys,
    "compile": compile_only,
    "vka": make_vka,
    "verifier": make_verifier,
    "witness": witness,
    "trial": trial,
    "calibrate": calibrate,
    "prove": prove,
    "hash": hash_rows,
    "verify": verify,
}


def _witness(folder: Path, compiled: str, scale: int, record: Sequence[int]) -> list[int]:
    """Write ``folder/witness`` for one record and return the outputs."""
    return _outputs(_witness_document(folder, compiled, scale, record))


def _outputs(document: dict[str, Any]) -> list[int]:
    return [from_ezkl(text) for text in document["outputs"][0]]


def _witness_document(folder: Path, compiled: str, scale: int, record: Sequence[int]) -> dict[str, Any]:
    """Write ``folder/witness`` for one record.

    ezkl takes floats and rounds them again. ``integer · 2^-scale`` is exact in binary64 and so are ezkl's product and
    rounding; that the witness holds these very integers is checked all the same.
    """
    data = folder / "input"
    data.write_text(json.dumps({"input_data": [[value * 2.0**-scale for value in record]]}))
    made: dict[str, Any] = _await(lambda: _ezkl().gen_witness(str(data), compiled, str(folder / "witness")))
    if [from_ezkl(text) for text in made["inputs"][0]] != list(record):
        raise Refusal("the witness holds other inputs than the record")
    return made


def _poseidon(values: Sequence[int]) -> int:
    return element_from_ezkl(_ezkl().poseidon_hash([to_ezkl(value) for value in values])[0])


def _require_end(folder: Path, proof: bytes, instances: Sequence[int], vk: str, settings: str, srs: str) -> None:
    """Refuse a good proof that has bytes left over.

    ezkl reads as much of a proof as it needs and ignores the rest, so that one proof would have many encodings. If
    there was something left over, the proof is still good without its last byte.
    """
    try:
        _verify(folder, proof[:-1], instances, vk, settings, srs)
    except RuntimeError:
        return
    raise Refusal("the proof has bytes after its end")


def _verify(folder: Path, proof: bytes, instances: Sequence[int], vk: str, settings: str, srs: str) -> None:
    """Verify a proof against instances, field elements, that the caller rebuilt."""
    path = folder / "proof"
    document = {
        "protocol": None,
        "instances": [[element_to_ezkl(value) for value in instances]],
        "proof": list(proof),
        "hex_proof": None,
        "split": None,
        "pretty_public_inputs": None,
        "timestamp": None,
        "version": None,
    }
    path.write_text(json.dumps(document))
    _true(_ezkl().verify(str(path), settings, vk, srs))


def _ezkl() -> Any:
    import ezkl

    return ezkl


def _await(call: Callable[[], Any]) -> Any:
    """Some of ezkl's functions need a running event loop, and return a value or an awaitable."""

    async def run() -> Any:
        result = call()
        return await result if hasattr(result, "__await__") else result

    return asyncio.run(run())


def _true(result: object) -> None:
    if result is not True:
        raise Refusal("ezkl answered no")


def _raise_if_ours(error: BaseException) -> None:
    """End the process over what is no fault of the files that it works on: nothing is known of them then."""
    ours = isinstance(error, KeyboardInterrupt | SystemExit | MemoryError)
    if ours or any(f"(os error {number})" in str(error) for number in _MACHINES_ERRORS):
        raise error


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent's thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before that


def _reply(request: dict[str, Any]) -> dict[str, Any]:
    """The result, or why there is none: an error of ezkl's or of its files, or a fault of whoever called."""
    operation = OPERATIONS.get(request["operation"])
    if operation is None:
        return {"fault": f"no operation {request['operation']!r}"}
    try:
        call = inspect.signature(operation).bind(**request["arguments"])
    except TypeError as error:
        return {"fault": f"{request['operation']}: {error}"}
    try:
        return {"result": operation(*call.args, **call.kwargs)}
    except BaseException as error:
        _raise_if_ours(error)
        return {"error": _reason(error)}


def main() -> None:
    """Serve requests until stdin ends."""
    parent, memory_limit = int(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    if memory_limit:
        lower_limit(resource.RLIMIT_AS, memory_limit)
    lower_limit(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(OSError):  # Linux's: where memory runs out, this process goes, not its parent
        _OOM_SCORE.write_text("1000")
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    fcntl.fcntl(2, fcntl.F_SETFL, os.O_APPEND)  # so that a truncated log starts at 0 again
    for line in sys.stdin:
        os.ftruncate(2, 0)
        protocol.write(json.dumps(_reply(json.loads(line))) + "\n")
        protocol.flush()


if __name__ == "__main__":
    main()
