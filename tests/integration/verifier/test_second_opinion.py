"""``rexis verify --second-opinion``: ezkl and the Solidity verifier in an EVM about every proof of the vectors."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import verifier.evidence
from circuits.artefacts import CircuitArtefacts
from circuits.srs import read_srs
from circuits.verifying import Claim, check_proofs, require_vka
from contracts.chain import Chain
from contracts.devchain import DevChain
from contracts.onchain import FIELD
from rexis.cli.main import main
from rexis.protocol.certificate import Certificate
from rexis.protocol.errors import DigestMismatchError, RexisError
from rexis.protocol.evidence import RecordProof
from rexis.protocol.records import Encoding, LeafFormat, Opening, Side, boundary_values
from tests.evm import needs_evm
from verifier.artifacts import artifact_name
from verifier.certificate import VerifiedCertificate, VerifyOptions, verify_certificate
from verifier.circuit import artefacts_of
from verifier.report import Outcome, Status
from verifier.second_opinion import SECOND_OPINION, check_second_opinion, evm_answers

pytestmark = needs_evm

VECTORS = Path(__file__).parents[2] / "vectors/certificates"
ARTIFACTS = VECTORS / "artifacts"
_BASE_FIELD = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47  # EIP-196
OFFLINE = VerifyOptions(
    offline=True,
    artifacts=ARTIFACTS,
    allow_development_srs=True,
    allow_development_chain=True,
    second_opinion=True,
)
NAMES = sorted(path.parent.name for path in VECTORS.glob("*/case.json"))


def _read(name: str) -> bytes:
    return (VECTORS / name / "certificate.json").read_bytes()


def _verify(name: str, **options: object) -> VerifiedCertificate:
    return verify_certificate(_read(name), replace(OFFLINE, **options))


# --- both about every proof -------------------------------------------------------------------------------------


@dataclass
class Proofs:
    """All proofs that the vectors have for one circuit."""

    artefacts: CircuitArtefacts
    srs: Path
    names: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    proofs: list[RecordProof] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)

    def add(self, name: str, proof: RecordProof, opening: Opening) -> None:
        """Another proof, for the values that its opening has."""
        inputs, outputs = (
            [int(value) for value in LeafFormat(side=side, encoding=Encoding.FIXED, scale=0).values(payload)]
            for side, payload in ((Side.INPUT, opening.input), (Side.OUTPUT, opening.output))
        )
        boundaries = [boundary_values(payload).tolist() for payload in proof.boundaries]
        self.names.append(name)
        self.claims.append(Claim(proof.proofs, boundaries, inputs, outputs))
        self.proofs.append(proof)
        self.openings.append(opening)


def _by_circuit() -> list[Proofs]:
    """Every proof with a readable opening, in every vector whose circuit is one, whatever else is forged."""
    found: dict[bytes, Proofs] = {}
    for name in NAMES:
        try:
            certificate = Certificate.parse(_read(name))
            pinned = certificate.request.circuit
            key = pinned.hash_struct()
            if key not in found:
                artefacts = artefacts_of(certificate.circuit, pinned)
                srs = ARTIFACTS / artifact_name(pinned.srs_digest)
                require_vka(artefacts, read_srs(srs))
                found[key] = Proofs(artefacts, srs)
        except RexisError:  # step 1 or 5 fails: there is no vk and VKA of one circuit to ask two verifiers about
            continue
        for position, task in enumerate(certificate.tasks):
            openings = {opening.index: opening for opening in task.evidence.openings}
            for proof in task.evidence.proofs:
                with suppress(RexisError, KeyError):  # no record for it, or one that is no values: steps 8 and 9 fail
                    found[key].add(f"{name}, task {position}, record {proof.index}", proof, openings[proof.index])
    return list(found.values())


def test_ezkl_and_the_evm_agree_about_every_proof_of_the_vectors() -> None:
    verdicts: dict[bool, int] = {True: 0, False: 0}
    for group in _by_circuit():
        ezkl = [reason is None for reason in check_proofs(group.artefacts, group.claims, read_srs(group.srs))]
        evm, _ = evm_answers([segment.vka for segment in group.artefacts.segments], group.proofs, group.openings)
        for name, first, second in zip(group.names, ezkl, evm, strict=True):
            assert first == second, f"{name}: ezkl {first}, EVM {second}"
            verdicts[second] += 1
    assert verdicts[True] > 100
    assert verdicts[False] > 10


def _mutants(proof: bytes, rng: random.Random) -> Iterator[bytes]:
    """A proof with one thing changed that two readers of it might see differently."""
    words = [proof[at : at + 32] for at in range(0, len(proof), 32)]
    order, field_order = FIELD, _BASE_FIELD
    for _ in range(12):
        position = rng.randrange(len(words))
        value = int.from_bytes(words[position], "big")
        for changed in (
            bytes(32),
            b"\xff" * 32,
            rng.randbytes(32),
            words[position][::-1],
            words[rng.randrange(len(words))],
            (value ^ 1 << rng.randrange(256)).to_bytes(32, "big"),
            ((field_order - value) % field_order).to_bytes(32, "big"),  # a y-coordinate: the point's negative
            (value + order).to_bytes(33, "big")[-32:],
            (value + field_order).to_bytes(33, "big")[-32:],
        ):
            yield b"".join((*words[:position], changed, *words[position + 1 :]))
    yield from (proof[:-1], proof[:-32], proof + b"\0", proof + bytes(32), proof[32:], proof[:32], proof + proof)


def test_ezkl_and_the_evm_agree_about_mutants() -> None:
    """A hundred changes to a proof, most of which nobody accepts; both say the same of each."""
    certificate = Certificate.parse(_read("zk"))
    task, pinned = certificate.tasks[0], certificate.request.circuit
    group = Proofs(artefacts_of(certificate.circuit, pinned), ARTIFACTS / artifact_name(pinned.srs_digest))
    honest, opening = task.evidence.proofs[0], task.evidence.openings[0]
    mutants = [honest.proofs[0], *_mutants(honest.proofs[0], random.Random(19))]
    for number, data in enumerate(mutants):
        group.add(str(number), honest.model_copy(update={"proofs": [data]}), opening)
    ezkl = [reason is None for reason in check_proofs(group.artefacts, group.claims, read_srs(group.srs))]
    evm, _ = evm_answers([segment.vka for segment in group.artefacts.segments], group.proofs, group.openings)
    assert ezkl == evm
    same = [data == honest.proofs[0] for data in mutants]
    assert evm == same  # a word may have been replaced by an equal one


# --- as a step of the verification ------------------------------------------------------------------------------


def _step(verdict: VerifiedCertificate, status: Status) -> list[str]:
    return [step.detail for step in verdict.steps if (step.number, step.status) == (SECOND_OPINION, status)]


def _case(name: str) -> dict[str, Any]:
    case: dict[str, Any] = json.loads((VECTORS / name / "case.json").read_text(encoding="utf-8"))
    return case


@pytest.mark.parametrize("name", ["zk", "zk-two-tasks", "sampled", "sampled-everything", "circuit-of-another-model"])
def test_a_valid_certificate_stays_valid(name: str) -> None:
    verdict = _verify(name)
    assert verdict.outcome == Outcome.VALID, verdict.failed or verdict.unchecked
    assert verdict.certificate is not None
    found = _step(verdict, Status.OK)
    assert len(found) == len(verdict.certificate.tasks)
    assert all("as did ezkl" in text and "points are the SRS's" in text for text in found)


@pytest.mark.parametrize("name", [name for name in NAMES if _case(name)["step"] == 10])
def test_the_evm_rejects_too_what_ezkl_rejects(name: str) -> None:
    verdict = _verify(name)
    assert verdict.failed is not None
    assert verdict.failed.number == 10
    (text,) = _step(verdict, Status.FAILED)
    assert "the Solidity verifier rejects the proof of record" in text
    assert "too" in text


def test_tier_commit_has_nothing_to_ask_about() -> None:
    verdict = _verify("commit")
    assert verdict.outcome == Outcome.VALID
    assert _step(verdict, Status.SKIPPED)


@pytest.mark.parametrize("name", ["zk", "proof-bit-flipped_fail"])
def test_a_disagreement_is_a_failure_whoever_accepts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true = verifier.evidence.reasons_against
    monkeypatch.setattr(
        verifier.evidence,
        "reasons_against",
        lambda *given: [None if reason else "ezkl's fault" for reason in true(*given)],
    )
    verdict = _verify(name)
    assert verdict.outcome == Outcome.INVALID
    (text,) = _step(verdict, Status.FAILED)
    assert "DISAGREEMENT" in text


def test_what_only_the_evm_rejects_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier.evidence, "reasons_against", lambda *given: [None, None])
    verdict = _verify("wrong-outputs-committed_fail")
    assert verdict.failed is not None
    assert verdict.failed.number == SECOND_OPINION
    assert "ezkl accepts the proof of record 1, the Solidity verifier rejects it" in verdict.failed.detail


def test_the_evm_answers_where_ezkl_cannot(tmp_path: Path) -> None:
    """Without the SRS file ezkl checks nothing; the VKA has what the Solidity verifier needs of it."""
    verdict = _verify("zk", artifacts=tmp_path)
    assert verdict.outcome == Outcome.UNDECIDED
    (text,) = _step(verdict, Status.OK)
    assert "ezkl gave no answer" in text
    assert "no SRS" in text


def test_without_an_evm_nothing_is_decided(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pyrevm", None)
    arguments = ["verify", str(VECTORS / "zk/certificate.json"), "--offline", "--artifacts", str(ARTIFACTS)]
    code = main([*arguments, "--allow-development-srs", "--allow-development-chain", "--second-opinion", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == report["exitCode"] == 2
    (step,) = [step for step in report["steps"] if step["number"] == SECOND_OPINION]
    assert step["status"] == "unchecked"
    assert step["hint"] == "pip install 'rexis[second-opinion]'"


def test_a_vka_of_another_srs_is_seen_without_ezkl() -> None:
    certificate = Certificate.parse(_read("srs-not-of-the-vk_fail"))
    assert certificate.circuit is not None
    task, pinned = certificate.tasks[0], certificate.request.circuit
    srs = ARTIFACTS / artifact_name(pinned.srs_digest)
    with pytest.raises(DigestMismatchError, match="not those of the pinned SRS"):
        check_second_opinion(
            certificate.circuit, pinned, srs, task.evidence.proofs, task.evidence.openings, [None, None]
        )


def test_another_vka_than_the_pinned_one_is_not_asked() -> None:
    certificate = Certificate.parse(_read("vka-swapped_fail"))
    assert certificate.circuit is not None
    with pytest.raises(DigestMismatchError, match="not the pinned"):
        check_second_opinion(certificate.circuit, certificate.request.circuit, None, [], [], None)


def test_the_chain_has_the_code_that_was_run(chain_of_vectors: DevChain, monkeypatch: pytest.MonkeyPatch) -> None:
    online = {"offline": False, "rpc_url": chain_of_vectors.url}
    verdict = _verify("zk", **online)
    assert verdict.outcome == Outcome.VALID, verdict.failed or verdict.unchecked
    assert "are those that were run here" in _step(verdict, Status.OK)[-1]

    monkeypatch.setattr(Chain, "code", lambda chain, name: b"\x60\x01")
    failed = _verify("zk", **online).failed
    assert failed is not None
    assert failed.number == SECOND_OPINION
    assert "the chain's verifier has code" in failed.detail
