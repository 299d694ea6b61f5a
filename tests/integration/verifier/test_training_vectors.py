"""Every training vector against the Python verifier, and one a step on the command line."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import verifier.retraining
from contracts.devchain import DevChain
from rexis.cli.main import main
from rexis.protocol.digests import Digest
from rexis.protocol.parsing import canonical_json
from tests.retraining import in_a_thread
from tests.vectors.certificates.issuer import seal
from verifier.certificate import VerifiedCertificate, VerifyOptions, verify_certificate
from verifier.lineage import verify_lineage
from verifier.report import Outcome

VECTORS = Path(__file__).parents[2] / "vectors/training"


@dataclass(frozen=True)
class Vector:
    """A folder of the vectors, read."""

    folder: Path
    expected: dict[str, Any]

    @property
    def certificates(self) -> list[Path]:
        return sorted(self.folder.glob("certificate*.json"), key=lambda path: (len(path.name), path.name))

    @property
    def valid(self) -> bool:
        return not self.folder.name.endswith("_fail")

    def verify(self, rpc_url: str, artifacts: Path) -> VerifiedCertificate:
        given = dict(self.expected["options"])
        if "model_digest" in given:
            given["model_digest"] = Digest.parse(given["model_digest"])
        options = VerifyOptions(rpc_url=None if given["offline"] else rpc_url, artifacts=artifacts, **given)
        if len(self.certificates) == 1:
            return verify_certificate(self.certificates[0].read_bytes(), options)
        return verify_lineage([(path.name, path.read_bytes()) for path in self.certificates], options)

    def arguments(self, rpc_url: str, artifacts: Path) -> list[str]:
        """As :meth:`verify`, on the command line."""
        found = ["verify", *map(str, self.certificates), "--json", "--artifacts", str(artifacts)]
        options = self.expected["options"]
        if not options["offline"]:
            found += ["--rpc", rpc_url]
        for name, value in options.items():
            option = "--" + name.replace("_", "-")
            if value is True:
                found.append(option)
            elif value is not False:
                found += [option, str(value)]
        return found


def _vectors() -> list[Vector]:
    found = [path.parent for path in sorted(VECTORS.glob("*/case.json"))]
    return [Vector(folder, json.loads((folder / "case.json").read_text(encoding="utf-8"))) for folder in found]


ALL = _vectors()
_FIRST = {vector.expected["step"]: vector for vector in reversed(ALL)}
ON_COMMAND_LINE = [*_FIRST.values(), *(vector for vector in ALL if vector.folder.name == "trained-twice")]


def _name(vector: Vector) -> str:
    return vector.folder.name


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier.retraining, "_process", in_a_thread)


def test_there_are_vectors_of_each_kind() -> None:
    assert sum(not vector.valid for vector in ALL) >= 50
    assert {vector.expected["step"] for vector in ALL} >= {None, *range(1, 5), 6, 7, 11, *range(14, 18), *range(21, 28)}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("vector", ALL, ids=_name)
def test_verifier(vector: Vector, chain_of_trainings: DevChain, trainings_files: Path) -> None:
    verdict = vector.verify(chain_of_trainings.url, trainings_files)
    failed = verdict.failed
    if vector.valid:
        assert verdict.outcome == Outcome.VALID, failed or verdict.unchecked
        assert vector.expected["match"] in "\n".join(verdict.shows)
    else:
        assert verdict.outcome == Outcome.INVALID, [step for step in verdict.steps if step.status != "ok"]
        assert failed is not None
        assert failed.number == vector.expected["step"], failed
        assert vector.expected["match"] in failed.detail


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("vector", ON_COMMAND_LINE, ids=_name)
def test_command_line(
    vector: Vector, chain_of_trainings: DevChain, trainings_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(vector.arguments(chain_of_trainings.url, trainings_files))
    report = json.loads(capsys.readouterr().out)
    assert code == report["exitCode"] == vector.expected["exit"]
    failed = [step["number"] for step in report["steps"] if step["status"] == "failed"]
    assert failed == ([] if vector.valid else [vector.expected["step"]])
    assert bool(report["shows"]) == vector.valid


# What nobody signed but the coordinator, and nothing rests on: docs/protocol.md §6.
UNSIGNED = {"evidence.computeMs", *(f"evidence.platform.{name}" for name in ("device", "machine", "threads", "torch"))}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", ["commit", "sampled"])
def test_any_value_that_is_changed_and_sealed_again_is_refused(
    name: str, chain_of_trainings: DevChain, trainings_files: Path
) -> None:
    """The coordinator itself changes one value at a time; what it says where a state can be fetched is no claim."""
    document = json.loads((VECTORS / name / "certificate.json").read_text())
    options = VerifyOptions(rpc_url=chain_of_trainings.url, artifacts=trainings_files, allow_development_chain=True)
    refused = 0
    for path, value in _values(document):
        if path[0] == "seal" or path[-1] == "stateDigest" or value is None:
            continue
        forged = deepcopy(document)
        place = reduce(operator.getitem, path[:-1], forged)
        place[path[-1]] = _other(value)
        verdict = verify_certificate(canonical_json(seal(forged)), options)
        where = ".".join(map(str, path))
        assert (verdict.outcome == Outcome.INVALID) == (where not in UNSIGNED), (where, verdict.outcome)
        refused += verdict.outcome == Outcome.INVALID
    assert refused > 100


def _values(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if not isinstance(document, dict | list):
        yield path, document
        return
    for name, value in document.items() if isinstance(document, dict) else enumerate(document):
        yield from _values(value, (*path, name))


def _other(value: Any) -> Any:
    """A value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if value.startswith("0x"):
        return value[:-1] + ("1" if value[-1] == "0" else "0")
    return value + "x"


@pytest.mark.parametrize("name", ["other-data_fail"])
def test_in_a_process_of_its_own(name: str, chain_of_trainings: DevChain, trainings_files: Path) -> None:
    vector = next(vector for vector in ALL if vector.folder.name == name)
    assert vector.verify(chain_of_trainings.url, trainings_files).outcome == (
        Outcome.VALID if vector.valid else Outcome.INVALID
    )


def test_without_torch_the_steps_are_not_taken_again(
    chain_of_trainings: DevChain, trainings_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier.retraining, "can_retrain", lambda: False)
    for vector in ALL:
        if vector.folder.name in ("sampled", "other-data_fail"):
            verdict = vector.verify(chain_of_trainings.url, trainings_files)
            assert verdict.outcome == Outcome.UNDECIDED
            assert [(step.number, step.hint) for step in verdict.unchecked] == [(26, "pip install 'rexis[training]'")]


def test_without_files_the_rest_is_checked(chain_of_trainings: DevChain, tmp_path: Path) -> None:
    vector = next(vector for vector in ALL if vector.folder.name == "sampled")
    verdict = vector.verify(chain_of_trainings.url, tmp_path)
    assert verdict.outcome == Outcome.UNDECIDED
    assert [step.number for step in verdict.unchecked] == [23, 24, 25, 26]
    assert [step.number for step in verdict.steps[-6:]] == [14, 15, 16, 17, 18, 19]
