"""``rexis lineage``: what certificates say of a model's origin, drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rexis.lineage import lineages
from rexis.protocol.errors import EvidenceError
from rexis.protocol.training_certificate import TrainingCertificate, parse_certificate

from .conftest import Cli

VECTORS = Path(__file__).parents[2] / "vectors/training"
TWICE = VECTORS / "trained-twice"
FIRST = parse_certificate((TWICE / "certificate.json").read_bytes())
SECOND = parse_certificate((TWICE / "certificate-2.json").read_bytes())


def test_a_folder_as_json(cli: Cli) -> None:
    (root,) = json.loads(cli("lineage", TWICE, "--json").out)
    assert isinstance(FIRST, TrainingCertificate)
    assert isinstance(SECOND, TrainingCertificate)
    assert root["model"] == str(FIRST.request.model_digest)
    (first,) = root["trainings"]
    assert first["transcriptRoot"] == str(FIRST.evidence.statement.output_root)
    assert first["made"]["model"] == str(FIRST.trained_model) == str(SECOND.request.model_digest)
    (second,) = first["made"]["trainings"]
    assert second["made"]["model"] == str(SECOND.trained_model)
    assert [len(each["evaluations"]) for each in (root, first["made"], second["made"])] == [1, 1, 1]


def test_a_tree_has_whole_digests(cli: Cli) -> None:
    drawn = cli("lineage", TWICE).out
    assert isinstance(SECOND, TrainingCertificate)
    for digest in (SECOND.request.input_root, SECOND.evidence.statement.output_root, SECOND.trained_model):
        assert str(digest) in drawn


@pytest.mark.parametrize(("drawing", "start"), [("mermaid", "flowchart"), ("dot", "digraph"), ("svg", "<svg")])
def test_other_drawings(cli: Cli, drawing: str, start: str) -> None:
    drawn = cli("lineage", TWICE, "--as", drawing).out
    assert drawn.startswith(start)
    assert drawn.count("evaluation") >= 3


def test_a_model_leaves_its_own_tree_only(cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(TWICE, tmp_path / "twice")
    shutil.copytree(VECTORS / "evaluation-of-another-model_fail", tmp_path / "another")
    assert isinstance(SECOND, TrainingCertificate)
    assert len(json.loads(cli("lineage", tmp_path, "--json").out)) == 2
    assert len(json.loads(cli("lineage", tmp_path, str(SECOND.trained_model), "--json").out)) == 1
    ran = cli("lineage", tmp_path, "0x" + "0" * 64)
    assert ran.code == 1
    assert "no certificate here is about such a model" in ran.err


def test_models_that_come_from_each_other() -> None:
    assert isinstance(FIRST, TrainingCertificate)
    last = FIRST.evidence.transcript[-1]
    back = last.model_copy(
        update={"checkpoint": last.checkpoint.model_copy(update={"model_digest": FIRST.request.model_digest})}
    )
    evidence = FIRST.evidence.model_copy(update={"transcript": [*FIRST.evidence.transcript[:-1], back]})
    with pytest.raises(EvidenceError, match="trained from what was trained from it"):
        lineages([FIRST.model_copy(update={"evidence": evidence})])
