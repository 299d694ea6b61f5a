"""Every certificate vector against the Python verifier, the command line and the Certifier contract."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contracts.chain import AnchorProof, Chain, RevertError
from contracts.devchain import DevChain
from rexis.cli.main import main
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, new_account
from verifier.certificate import VerifyOptions, verify_certificate
from verifier.report import Outcome

VECTORS = Path(__file__).parents[2] / "vectors/certificates"
ARTIFACTS = VECTORS / "artifacts"


@dataclass(frozen=True)
class Vector:
    """A folder of the vectors, read."""

    folder: Path
    expected: dict[str, Any]

    @property
    def data(self) -> bytes:
        return (self.folder / "certificate.json").read_bytes()

    @property
    def valid(self) -> bool:
        return not self.folder.name.endswith("_fail")

    def options(self, rpc_url: str) -> VerifyOptions:
        given = dict(self.expected["options"])
        for name, read in (
            ("requester", Address.parse),
            ("model_digest", Digest.parse),
        ):
            if name in given:
                given[name] = read(given[name])
        for name in ("srs", "model"):
            if name in given:
                given[name] = ARTIFACTS / given[name]
        return VerifyOptions(rpc_url=None if given["offline"] else rpc_url, artifacts=ARTIFACTS, **given)

    def arguments(self, rpc_url: str) -> list[str]:
        """As :meth:`options`, on the command line."""
        found = ["verify", str(self.folder / "certificate.json"), "--json", "--artifacts", str(ARTIFACTS)]
        options = self.expected["options"]
        if not options["offline"]:
            found += ["--rpc", rpc_url]
        for name, value in options.items():
            option = "--" + name.replace("_", "-")
            if value is True:
                found.append(option)
            elif value is not False:
                found += [option, str(ARTIFACTS / value) if name in ("srs", "model") else str(value)]
        return found


def _vectors() -> list[Vector]:
    found = [path.parent for path in sorted(VECTORS.glob("*/case.json"))]
    return [Vector(folder, json.loads((folder / "case.json").read_text(encoding="utf-8"))) for folder in found]


def _one_a_step(vectors: list[Vector]) -> list[Vector]:
    """All valid ones, and the first forged one of each step: the command line adds no judgement of its own."""
    forged: dict[int, Vector] = {}
    for vector in vectors:
        if not vector.valid:
            forged.setdefault(vector.expected["step"], vector)
    return [vector for vector in vectors if vector.valid] + list(forged.values())


ALL = _vectors()
ON_COMMAND_LINE = _one_a_step(ALL)
ON_CHAIN = [vector for vector in ALL if vector.expected["solidity"] is not None]


def _name(vector: Vector) -> str:
    return vector.folder.name


def test_there_are_vectors() -> None:
    assert sum(not vector.valid for vector in ALL) >= 25
    assert sum(vector.valid for vector in ALL) >= 3


@pytest.mark.parametrize("vector", ALL, ids=_name)
def test_verifier(vector: Vector, chain_of_vectors: DevChain) -> None:
    verdict = verify_certificate(vector.data, vector.options(chain_of_vectors.url))
    failed = verdict.failed
    if vector.valid:
        assert vector.expected["step"] is None
        assert verdict.outcome == Outcome.VALID, failed or verdict.unchecked
    else:
        assert verdict.outcome == Outcome.INVALID, [step for step in verdict.steps if step.status != "ok"]
        assert failed is not None
        assert failed.number == vector.expected["step"], failed
        assert vector.expected["match"] in failed.detail


DEPLOYMENTS = [v for v in ALL if v.expected["step"] == 14 and "the node" not in v.expected["match"]]


@pytest.mark.parametrize("offline", [True, False], ids=("offline", "online"))
@pytest.mark.parametrize("vector", DEPLOYMENTS, ids=_name)
def test_contracts_of_the_attackers_show_without_a_node(
    vector: Vector, chain_of_vectors: DevChain, offline: bool
) -> None:
    options = replace(vector.options(chain_of_vectors.url), offline=offline, rpc_url=None)
    failed = verify_certificate(vector.data, options).failed
    assert failed is not None
    assert failed.number == 14


@pytest.mark.parametrize("vector", ON_COMMAND_LINE, ids=_name)
def test_command_line(vector: Vector, chain_of_vectors: DevChain, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(vector.arguments(chain_of_vectors.url))
    report = json.loads(capsys.readouterr().out)
    assert code == report["exitCode"] == vector.expected["exit"] == (0 if vector.valid else 1)
    failed = [step["number"] for step in report["steps"] if step["status"] == "failed"]
    assert failed == ([] if vector.valid else [vector.expected["step"]])
    assert bool(report["shows"]) == vector.valid


@pytest.mark.parametrize("vector", ON_CHAIN, ids=_name)
def test_certifier(vector: Vector, chain_of_vectors: DevChain) -> None:
    snapshot = chain_of_vectors._provider.make_request("evm_snapshot", [])["result"]
    try:
        assert _certify(vector, chain_of_vectors) == vector.expected["solidity"]
    finally:
        chain_of_vectors._provider.make_request("evm_revert", [snapshot])


def _certify(vector: Vector, dev: DevChain) -> str | None:
    """Send all records to the Certifier: ``accepted``, or the name of the first error."""
    certificate = Certificate.parse(vector.data)
    assert certificate.circuit is not None
    account = new_account()
    dev.fund(address_of(account))
    chain = Chain.connect(dev.url, account=account)
    chain.discover()
    for task in certificate.tasks:
        place = AnchorProof(task.anchor.anchor_id, task.anchor.leaf_index, task.anchor.path)
        for opening, proof in zip(task.evidence.openings, task.evidence.proofs, strict=True):
            try:
                chain.certify_record(
                    task.evidence.statement,
                    task.evidence.signature,
                    place,
                    opening,
                    proof.proofs[0],
                    certificate.circuit.vka,
                )
            except RevertError as error:
                return error.name
    return "accepted"
