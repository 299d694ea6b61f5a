"""Write the training vectors: ``python -m tests.vectors.training.generate``.

Everything is made anew: chain, states, certificates. On one machine the result has the same bytes each time; elsewhere
the states' last bits may be others.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from rexis.protocol.digests import Digest
from rexis.protocol.parsing import canonical_json
from tests.vectors.certificates.recorded_chain import recording_chain
from tests.vectors.training import documents, honest, lineages, steps
from tests.vectors.training.case import CASES, Case
from tests.vectors.training.issuer import TrainingIssuer
from verifier.artifacts import artifact_name

HERE = Path(__file__).parent
STATE = HERE / "chain-state.json.xz"
ARTIFACTS = HERE / "artifacts.zip"
_TABLE = "<!-- cases -->\n"
_TIME = (2026, 1, 2, 0, 0, 0)


def main() -> None:
    """Make all cases, then replace the ones in the tree."""
    assert all((documents, honest, lineages, steps))
    with TemporaryDirectory(prefix="rexis-vectors-") as name:
        made, state = Path(name, "made"), Path(name, "state")
        with recording_chain(state) as dev:
            issuer = TrainingIssuer(dev)
            for case in CASES:
                _write(case, issuer, made / case.folder)
                print(case.folder)
        for old in HERE.glob("*/case.json"):
            shutil.rmtree(old.parent)
        for folder in made.iterdir():
            shutil.copytree(folder, HERE / folder.name)
        shutil.copyfile(state, STATE)
        _write_artifacts(issuer.artifacts)
    _write_table()


def _write(case: Case, issuer: TrainingIssuer, folder: Path) -> None:
    folder.mkdir(parents=True)
    found = case.make(issuer)
    for number, document in enumerate(found if isinstance(found, list) else [found], 1):
        data = document if isinstance(document, bytes) else canonical_json(document)
        name = "certificate.json" if number == 1 else f"certificate-{number}.json"
        (folder / name).write_bytes(data)
    text = json.dumps(case.to_object(), indent=2, ensure_ascii=False)
    (folder / "case.json").write_text(text + "\n", encoding="utf-8")


def _write_artifacts(artifacts: Mapping[Digest, bytes]) -> None:
    with zipfile.ZipFile(ARTIFACTS, "w", zipfile.ZIP_LZMA) as archive:
        for digest, data in sorted(artifacts.items()):
            archive.writestr(zipfile.ZipInfo(artifact_name(digest), _TIME), data, zipfile.ZIP_LZMA)


def _write_table() -> None:
    rows = ["| case | step | who colludes | what was done |", "| --- | --- | --- | --- |"]
    for case in sorted(CASES, key=lambda case: (case.step or 0, case.folder)):
        step = "valid" if case.step is None else str(case.step)
        rows.append(f"| `{case.folder}` | {step} | {', '.join(case.colludes)} | {case.attack} |")
    readme = HERE / "README.md"
    head = readme.read_text(encoding="utf-8").split(_TABLE)[0]
    readme.write_text(head + _TABLE + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
