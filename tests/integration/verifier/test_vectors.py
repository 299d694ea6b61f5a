"""Every certificate vector against the Python verifier, the command line and the Certifier contract."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import contracts.accountability
from contracts.accountability import Accountability
from contracts.artefacts import Artefact, ContractName
from contracts.chain import AnchorProof, Chain, RevertError
from contracts.devchain import DevChain
from rexis.cli.main import main
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import Address
from rexis.protocol.signing import address_of, new_account
from tests.vectors.certificates.quorum import QUORUMS, TERMS, manifest_of, write_quorums
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
    def outcome(self) -> Outcome:
        if self.folder.name.endswith("_fail"):
            return Outcome.INVALID
        return Outcome.UNDECIDED if self.folder.name.endswith("_undecided") else Outcome.VALID

    @property
    def manifest(self) -> Accountability | None:
        """Of the quorum that the auditor names."""
        name = self.expected["options"].get("quorum")
        return None if name is None else manifest_of(name)

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
        given["quorum"] = self.manifest
        return VerifyOptions(rpc_url=None if given["offline"] else rpc_url, artifacts=ARTIFACTS, **given)

    def arguments(self, rpc_url: str, folder: Path) -> list[str]:
        """As :meth:`options`, on the command line; the manifest is written to a folder."""
        found = ["verify", str(self.folder / "certificate.json"), "--json", "--artifacts", str(ARTIFACTS)]
        options = self.expected["options"]
        if not options["offline"]:
            found += ["--rpc", rpc_url]
        if self.manifest is not None:
            path = folder / "accountability.json"
            path.write_bytes(self.manifest.to_json())
            found += ["--quorum", str(path)]
        for name, value in options.items():
            if name == "quorum":
                continue
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
    """All but the forged ones, and of those the first of each step: the command line adds no judgement of its own."""
    forged: dict[int, Vector] = {}
    for vector in vectors:
        if vector.outcome == Outcome.INVALID:
            forged.setdefault(vector.expected["step"], vector)
    return [vector for vector in vectors if vector.outcome != Outcome.INVALID] + list(forged.values())


EXITS = {Outcome.VALID: 0, Outcome.INVALID: 1, Outcome.UNDECIDED: 2}
ALL = _vectors()
ON_COMMAND_LINE = _one_a_step(ALL)
ON_CHAIN = [vector for vector in ALL if vector.expected["solidity"] is not None]


def _name(vector: Vector) -> str:
    return vector.folder.name


def test_there_are_vectors() -> None:
    assert sum(vector.outcome == Outcome.INVALID for vector in ALL) >= 25
    assert sum(vector.outcome == Outcome.VALID for vector in ALL) >= 3
    assert sum(vector.outcome == Outcome.UNDECIDED for vector in ALL) >= 1


def test_quorums_of_the_vectors_are_those_of_the_generator(tmp_path: Path) -> None:
    write_quorums(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in QUORUMS.iterdir()
    }


def test_a_quorum_stands_where_it_stands_whatever_the_other_contracts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the recorded chain outlives a change to ``Disputes``; of a manifest only other addresses change."""
    before = TERMS["validators"].manifest()
    real = contracts.accountability.load

    def changed(name: ContractName) -> Artefact:
        return replace(real(name), bytecode=real(name).bytecode + b"\0") if name == "Disputes" else real(name)

    monkeypatch.setattr(contracts.accountability, "load", changed)
    after = TERMS["validators"].manifest()
    assert after.validator_quorum == before.validator_quorum
    assert (after.disputes, after.job_escrow) != (before.disputes, before.job_escrow)


@pytest.mark.parametrize("vector", ALL, ids=_name)
def test_verifier(vector: Vector, chain_of_vectors: DevChain) -> None:
    verdict = verify_certificate(vector.data, vector.options(chain_of_vectors.url))
    assert verdict.outcome == vector.outcome, [step for step in verdict.steps if step.status != "ok"]
    if vector.outcome == Outcome.VALID:
        assert vector.expected["step"] is None
        return
    (decisive,) = [verdict.failed] if vector.outcome == Outcome.INVALID else verdict.unchecked
    assert decisive is not None
    assert decisive.number == vector.expected["step"], decisive
    assert vector.expected["match"] in decisive.detail


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
def test_command_line(
    vector: Vector, chain_of_vectors: DevChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(vector.arguments(chain_of_vectors.url, tmp_path))
    report = json.loads(capsys.readouterr().out)
    assert code == report["exitCode"] == vector.expected["exit"] == EXITS[vector.outcome]
    decisive = [step["number"] for step in report["steps"] if step["status"] in ("failed", "unchecked")]
    assert decisive == ([] if vector.outcome == Outcome.VALID else [vector.expected["step"]])
    assert bool(report["shows"]) == (vector.outcome == Outcome.VALID)


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
