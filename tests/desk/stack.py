"""What the desk meets in its browser tests: ``python -m tests.desk.stack ORIGIN`` runs it until SIGTERM.

The recorded chains of the vectors, manifests of the quorums on them, a coordinator that allows the desk at `ORIGIN`,
with a finished job, and a folder with a report of each kind. Prints one line of JSON, whose names the tests take for
environment variables.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.costs.document import document
from rexis.client import RexisClient
from rexis.ee.attack_card import AttackReport, attack_card, skipped, structure_of
from rexis.ee.card import card_of_graph, with_attacks
from rexis.ee.graph import Graph
from rexis.protocol.signing import new_account
from tests.unit.bench.sample_report import sample_report
from tests.unit.coordinator.fakes import FakeLedger
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.serving import serving
from tests.unit.coordinator.test_recovery import finish
from tests.vectors.certificates.quorum import QUORUMS, manifest_of
from tests.vectors.certificates.recorded_chain import STATE, recorded_chain

_MODEL = Path(__file__).parents[2] / "models/onnx/breast_cancer.onnx"
_TRAINING_STATE = Path(__file__).parents[1] / "vectors" / "training" / STATE.name


def main(origin: str) -> int:
    """Serve all of it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the chains end, too
    with ExitStack() as stack:
        folder, ledger = Path(stack.enter_context(TemporaryDirectory())), FakeLedger(new_account())
        scene = Scene(stack.enter_context(serving(folder, ledger, desk_origins=[origin])), ledger)
        scene.publish()
        job = scene.submit()
        scene.do_all()
        finish(scene)
        write_reports(folder)
        for path in QUORUMS.glob("*.json"):
            (folder / f"quorum-{path.name}").write_bytes(manifest_of(path.stem).to_json())
        coordinator = f"http://127.0.0.1:{scene.coordinator.settings.port}"
        found = {
            "CHAIN_OF_CERTIFICATES": stack.enter_context(recorded_chain()).url,
            "CHAIN_OF_TRAINING": stack.enter_context(recorded_chain(_TRAINING_STATE)).url,
            "REPORTS": str(folder),
            "QUORUMS": str(folder),
            "COORDINATOR_URL": coordinator,
            "JOB_ID": str(job.job_id),
            "TOKEN": stack.enter_context(RexisClient(coordinator, scene.requester)).login(),
        }
        print(json.dumps(found), flush=True)
        signal.pause()
    return 0


def write_reports(folder: Path) -> None:
    """`bench.json`, `card.json` and `attacks.json`, by what writes the real ones."""
    model = _MODEL.read_bytes()
    attacks = [
        attack_card(
            "known_plaintext",
            "R²",
            "20 pairs",
            score=0.97,
            ceiling=1.0,
            floor=0.0,
            says="20 known pairs open the others.",
        ),
        attack_card(
            "linkage", "accuracy", "both sides", score=0.3, ceiling=0.9, floor=0.1, says="Some records are linked."
        ),
        skipped("causal_mask", "the model has no causal mask"),
    ]
    report = AttackReport(structure=structure_of(Graph(model)), private=100, public=200, base=False, attacks=attacks)
    card = with_attacks(card_of_graph(model), Graph(model), report)
    (folder / "card.json").write_bytes(card.to_json())
    (folder / "attacks.json").write_bytes(report.to_json())
    (folder / "bench.json").write_text(json.dumps(document(sample_report())), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
