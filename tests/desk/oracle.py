"""What the desk's tests need of Python: the recorded chains, and verdicts about changed certificates.

``python -m tests.desk.oracle FOLDER`` writes ``ready.json`` into the folder when the chains run, ``validators.json``
when it has verified the vectors about validators, ``mutants.json`` when it has verified changed certificates, and goes
on until its input ends.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import circuits.verifying
from circuits.process import EzklProcess
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address, canonical_json, to_hex
from rexis.protocol.signing import address_of, sign_digest
from rexis.protocol.statement import Statement, task_id
from rexis.protocol.training_certificate import TRAINING_FORMAT, parse_certificate
from rexis.protocol.typed_data import Domain
from tests.vectors.certificates.accounts import account
from tests.vectors.certificates.issuer import seal
from tests.vectors.certificates.quorum import QUORUMS, manifest_of
from tests.vectors.certificates.recorded_chain import STATE, recorded_chain
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Outcome, Status, Step
from verifier.validators import VALIDATORS

VECTORS = Path(__file__).parents[1] / "vectors"
# Another seed, or more of them, for whoever has the time.
SEED = os.environ.get("REXIS_DESK_SEED", "20261129")
_EACH = int(os.environ.get("REXIS_DESK_MUTANTS", "24"))
# Valid ones, of each kind, tier and rung.
_ORIGINALS = (
    "certificates/commit",
    "certificates/private-weights",
    "certificates/sampled",
    "certificates/sampled-onsite",
    "certificates/segments",
    "certificates/zk-certified-on-chain",
    "certificates/zk-two-tasks",
    "certificates/validators-found-valid",
    "training/handed-over",
    "training/sampled-second-attempt",
)
# Of these the auditor names a quorum.
_NAMED = {"certificates/validators-found-valid": "validators", "training/handed-over": "validators"}
_ADDRESS_CHARACTERS = 42
_RESULTS = {Outcome.VALID: "valid", Outcome.INVALID: "not valid", Outcome.UNDECIDED: "undecided"}
_ROLES = ("coordinator", "owner", "requester", "stranger", "thief", "worker")
_WEIRD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53 - 1, 2**53, 1.5, [], {}, [None] * 70),
    *("", "0x", "0x0", "0x" + "f" * 64, "0x" + "0" * 40, "\x00", "\u202e", "é", "\ud800", "zk", "sampled", "commit"),
)

Document = dict[str, Any]


@dataclass(frozen=True)
class Mutant:
    """A changed certificate and Python's verdict.

    Attributes
    ----------
    file
        Its name in the folder.
    change
        What was done, for a person.
    steps
        Number, name and status of each, and what those found that passed.
    failure
        Detail of the step that failed; empty if none did.
    """

    file: str
    original: str
    change: str
    result: str
    steps: list[tuple[int, str, str, str]]
    failure: str
    shows: list[str]


def main(folder: Path) -> None:
    """Serve until the input ends."""
    with ExitStack() as stack:
        urls = {
            "certificates": stack.enter_context(recorded_chain(STATE)).url,
            "training": stack.enter_context(recorded_chain(VECTORS / "training" / "chain-state.json.xz")).url,
        }
        quorums = {path.stem: manifest_of(path.stem).to_json().decode() for path in QUORUMS.glob("*.json")}
        _publish(folder / "ready.json", {"chains": urls, "quorums": quorums})
        _publish(folder / "validators.json", _said_of_validators(urls["certificates"]))
        _publish(folder / "mutants.json", [asdict(each) for each in _mutants(folder, urls)])
        sys.stdin.read()


def _said_of_validators(url: str) -> dict[str, list[list[str]]]:
    """Status and detail of step 28, by the names of vectors about it."""
    found = {}
    for folder in sorted((VECTORS / "certificates").glob("*validators*")):
        options = json.loads((folder / "case.json").read_text(encoding="utf-8"))["options"]
        given = _options(None if options["offline"] else url, options.get("quorum"))
        steps = verify_certificate((folder / "certificate.json").read_bytes(), given).steps
        found[folder.name] = [[step.status.value, step.detail] for step in steps if step.number == VALIDATORS]
    return found


def _options(url: str | None, quorum: str | None = None) -> VerifyOptions:
    return VerifyOptions(
        rpc_url=url,
        offline=url is None,
        artifacts=VECTORS / "certificates" / "artifacts",
        allow_development_chain=True,
        allow_development_srs=True,
        quorum=None if quorum is None else manifest_of(quorum),
    )


def _mutants(folder: Path, urls: dict[str, str]) -> list[Mutant]:
    found = []
    ezkl = EzklProcess(memory_limit=16 << 30)
    # One child for all, as in the tests of the vectors.
    with ezkl, patch.object(circuits.verifying, "_process", lambda: nullcontext(ezkl)):
        for name in _ORIGINALS:
            draw = random.Random(f"{SEED} {name}")
            original = (VECTORS / name / "certificate.json").read_bytes()
            for number in range(_EACH):
                change, data = _changed(original, draw) if number else ("unchanged", original)
                path = folder / f"{name.replace('/', '-')}-{number}.json"
                path.write_bytes(data)
                verdict = verify_certificate(data, _options(urls[name.split("/")[0]], _NAMED.get(name)))
                failed = verdict.failed
                found.append(
                    Mutant(
                        path.name,
                        name,
                        change,
                        _RESULTS[verdict.outcome],
                        [_told(step) for step in verdict.steps],
                        failed.detail if failed else "",
                        verdict.shows,
                    )
                )
    return found


def _told(step: Step) -> tuple[int, str, str, str]:
    return step.number, step.name, step.status.value, step.detail if step.status == Status.OK else ""


def _changed(original: bytes, draw: random.Random) -> tuple[str, bytes]:
    """The bytes with something wrong, or a value with signatures over it by whoever colludes."""
    how = draw.choice(("bytes", "unsealed", *("sealed", "signed") * 3))
    if how == "bytes":
        return _changed_bytes(original, draw)
    document: Document = json.loads(original)
    if how == "signed":
        where = _change_value(document["request"], draw) if draw.random() < 0.3 else _change_evidence(document, draw)
        _sign(document)
    else:
        where = _change_value(document, draw)
    if how != "unsealed":
        document = _sealed(document)
    return f"{how} {where}", canonical_json(document)


def _changed_bytes(original: bytes, draw: random.Random) -> tuple[str, bytes]:
    place = draw.randrange(len(original))
    changes: dict[str, Callable[[], bytes]] = {
        "cut": lambda: original[:place],
        "flipped": lambda: original[:place] + bytes([original[place] ^ 1 << draw.randrange(8)]) + original[place + 1 :],
        "inserted": lambda: original[:place] + draw.randbytes(draw.randrange(1, 9)) + original[place:],
        "repeated": lambda: original[:place] + original[max(0, place - 40) : place] + original[place:],
    }
    how = draw.choice(sorted(changes))
    return f"{how} at {place}", changes[how]()


def _change_evidence(document: Document, draw: random.Random) -> str:
    """A value of what a worker signs or shows."""
    evidence = document["evidence"] if "evidence" in document else draw.choice(document["tasks"])["evidence"]
    return _change_value(evidence, draw)


def _change_value(document: Any, draw: random.Random) -> str:
    """Change one value somewhere within, in place; says where."""
    path: list[str] = []
    while True:
        names = sorted(document) if isinstance(document, dict) else list(range(len(document)))
        if not names:
            return ".".join(path)
        name = draw.choice(names)
        path.append(str(name))
        value = document[name]
        if isinstance(value, dict | list) and value and draw.random() < 0.9:
            document = value
            continue
        if draw.random() < 0.04:
            del document[name]
        else:
            document[name] = _other(value, draw)
        return ".".join(path)


def _other(value: Any, draw: random.Random) -> Any:
    """Mostly a value of the same kind."""
    if draw.random() < 0.08:
        return draw.choice(_WEIRD)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return abs(value + draw.choice((-1, 1)))
    if isinstance(value, str) and len(value) == _ADDRESS_CHARACTERS:
        return str(address_of(account(draw.choice(_ROLES))))
    if isinstance(value, str) and value.startswith("0x") and len(value) > 2:
        place = draw.randrange(2, len(value))
        return value[:place] + draw.choice("0123456789abcdef") + value[place + 1 :]
    if isinstance(value, list):
        return [*value[1:], *value[:1]] if draw.random() < 0.5 else value[:-1]
    return f"{value}x" if isinstance(value, str) else draw.choice(_WEIRD)


def _sign(document: Document) -> None:
    """Everybody signs what the document says now, as far as it still says something that can be signed."""
    roles = {str(address_of(account(role))): account(role) for role in _ROLES}
    try:
        sealed = parse_certificate(canonical_json(_sealed(document)))
    except Exception:  # it is refused for its form, whoever signs
        return
    signer = roles.get(document["request"]["requester"])
    if signer is not None:
        document["requestSignature"] = to_hex(sign_digest(signer, sealed.job_id))
    domain: Domain = sealed.domain
    every = [document] if document["format"] == TRAINING_FORMAT else document["tasks"]
    for task, place in zip(every, sealed.places, strict=True):
        implied = _implied(place.statement, sealed.job_id, document["request"])
        signer = roles.get(implied["worker"])
        if signer is not None:
            task["evidence"]["statement"] = implied
            digest = domain.digest(Statement.from_object(implied))
            task["evidence"]["signature"] = to_hex(sign_digest(signer, digest))


def _implied(statement: Statement, job: Digest, request: Document) -> Document:
    """The statement as its worker would make it about another request; what is not the request's stays."""
    changed = deepcopy(statement.to_object())
    if statement.job_id != job and statement.model_digest == Digest.parse(request["modelDigest"]):
        changed["jobId"] = str(job)
        changed["taskId"] = str(task_id(job, statement.record_start, statement.record_count))
    return changed


def _sealed(document: Document) -> Document:
    try:
        by = Address.parse(document["request"]["coordinator"])
        role = next(role for role in _ROLES if address_of(account(role)) == by)
        return seal(document, role)
    except Exception:  # nothing that can be sealed
        return document


def _publish(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
