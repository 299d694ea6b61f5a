"""Write the certificate vectors: ``python -m tests.vectors.certificates.generate``.

Everything is made anew: chain, SRS, keys, proofs (which are random), certificates. Names of cases given as arguments
only choose what is printed, not what is written.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.srs import Srs, ensure_development_srs
from rexis.protocol.digests import sha256
from rexis.protocol.parsing import canonical_json
from tests.vectors.certificates import attacks
from tests.vectors.certificates.case import CASES, Case
from tests.vectors.certificates.issuer import ONSITE_PROFILE, PROFILE, Issuer
from tests.vectors.certificates.recorded_chain import STATE, recording_chain
from verifier.artifacts import artifact_name

HERE = Path(__file__).parent
ARTIFACTS = HERE / "artifacts"
_TABLE = "<!-- cases -->\n"


def main() -> None:
    """Make all cases, then replace the ones in the tree."""
    assert attacks.__all__
    with TemporaryDirectory(prefix="rexis-vectors-") as name:
        made = Path(name, "made")
        with EzklProcess() as ezkl, recording_chain(Path(name, "state")) as dev:
            srs = [_srs(Path(name, folder), PROFILE) for folder in ("srs", "other-srs")]
            srs.append(_srs(Path(name, "srs"), ONSITE_PROFILE))
            issuer = Issuer(dev, ezkl, *srs, cache=Path(name, "cache"))
            for case in CASES:
                _write(case, issuer, made / case.folder)
                print(case.folder)
            _write_artifacts(issuer, made / ARTIFACTS.name)
        _replace(made, Path(name, "state"))
    _write_table()


def _srs(folder: Path, profile: CircuitProfile) -> Srs:
    return ensure_development_srs(profile.logrows, folder)


def _write(case: Case, issuer: Issuer, folder: Path) -> None:
    folder.mkdir(parents=True)
    document = case.make(issuer)
    data = document if isinstance(document, bytes) else canonical_json(document)
    (folder / "certificate.json").write_bytes(data)
    text = json.dumps(case.to_object(issuer), indent=2, ensure_ascii=False)
    (folder / "case.json").write_text(text + "\n", encoding="utf-8")


def _write_artifacts(issuer: Issuer, folder: Path) -> None:
    folder.mkdir(parents=True)
    for data in (
        issuer.srs.path.read_bytes(),
        issuer.other_srs.path.read_bytes(),
        issuer.onsite_srs.path.read_bytes(),
        issuer.model.onnx,
        issuer.other_model.onnx,
        issuer.onsite_model.onnx,
        issuer.segmented_model.onnx,
        *issuer.artifacts,
    ):
        (folder / artifact_name(sha256(data))).write_bytes(data)


def _replace(made: Path, state: Path) -> None:
    for old in HERE.iterdir():
        if (old / "case.json").is_file() or old == ARTIFACTS:
            shutil.rmtree(old)
    for folder in made.iterdir():
        shutil.copytree(folder, HERE / folder.name)
    shutil.copyfile(state, STATE)


def _write_table() -> None:
    rows = ["| case | step | who colludes | what was done | Certifier |", "| --- | --- | --- | --- | --- |"]
    for case in sorted(CASES, key=lambda case: (case.step or 0, case.folder)):
        step = "valid" if case.step is None else str(case.step)
        rows.append(
            f"| `{case.folder}` | {step} | {', '.join(case.colludes)} | {case.attack} | {case.solidity or ''} |"
        )
    readme = HERE / "README.md"
    head = readme.read_text(encoding="utf-8").split(_TABLE)[0]
    readme.write_text(head + _TABLE + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
