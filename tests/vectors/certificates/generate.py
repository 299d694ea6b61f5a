"""Write the certificate vectors: ``python -m tests.vectors.certificates.generate [--add]``.

Everything is made anew: chain, SRS, keys, proofs (which are random), certificates. With ``--add`` the cases that have
no folder yet, on the recorded chain and with its SRS; what is there keeps its bytes, and the chain its blocks.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from circuits.process import EzklProcess
from circuits.profile import CircuitProfile
from circuits.srs import Srs, ensure_development_srs, read_srs, srs_bytes
from rexis.protocol.certificate import Certificate
from rexis.protocol.digests import sha256
from rexis.protocol.parsing import canonical_json
from tests.vectors.certificates import attacks
from tests.vectors.certificates.case import CASES, Case
from tests.vectors.certificates.issuer import ONSITE_PROFILE, PROFILE, Issuer
from tests.vectors.certificates.quorum import write_quorums
from tests.vectors.certificates.recorded_chain import STATE, recording_chain
from verifier.artifacts import artifact_name

HERE = Path(__file__).parent
ARTIFACTS = HERE / "artifacts"
_TABLE = "<!-- cases -->\n"


def main(arguments: list[str] | None = None) -> None:
    """Make the cases, then replace the ones in the tree, or add to them."""
    assert attacks.__all__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", action="store_true", help="only the cases that have no folder yet")
    add = parser.parse_args(arguments).add
    cases = [case for case in CASES if not (add and (HERE / case.folder).is_dir())]
    with TemporaryDirectory(prefix="rexis-vectors-") as name:
        made, state = Path(name, "made"), Path(name, "state")
        with EzklProcess() as ezkl, recording_chain(state, STATE if add else None) as dev:
            srs = _recorded_srs() if add else _new_srs(Path(name))
            issuer = Issuer(dev, ezkl, *srs, cache=Path(name, "cache"))
            for case in cases:
                _write(case, issuer, made / case.folder)
                print(case.folder)
            _write_artifacts(issuer, made / ARTIFACTS.name)
        if not add:
            _remove()
        for folder in made.iterdir():
            shutil.copytree(folder, HERE / folder.name, dirs_exist_ok=True)
        shutil.copyfile(state, STATE)
    write_quorums()
    _write_table()


def _new_srs(folder: Path) -> tuple[Srs, Srs, Srs]:
    return _srs(folder / "srs", PROFILE), _srs(folder / "other-srs", PROFILE), _srs(folder / "srs", ONSITE_PROFILE)


def _recorded_srs() -> tuple[Srs, Srs, Srs]:
    """Those in the tree, the right one of two equally large ones first."""
    large = {read_srs(path) for path in ARTIFACTS.iterdir() if path.stat().st_size == srs_bytes(ONSITE_PROFILE.logrows)}
    small = {read_srs(path) for path in ARTIFACTS.iterdir() if path.stat().st_size == srs_bytes(PROFILE.logrows)}
    first = Certificate.parse((HERE / "zk/certificate.json").read_bytes()).request.circuit.srs_digest
    ((onsite,), (one, other)) = large, sorted(small, key=lambda srs: srs.digest != first)
    return one, other, onsite


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


def _remove() -> None:
    for old in HERE.iterdir():
        if (old / "case.json").is_file() or old == ARTIFACTS:
            shutil.rmtree(old)


def _write_table() -> None:
    rows = ["| case | step | who colludes | what was done | Certifier |", "| --- | --- | --- | --- | --- |"]
    for case in sorted(CASES, key=lambda case: (case.exit != 0, case.step or 0, case.folder)):
        step = "valid" if case.step is None else str(case.step) if case.decided else f"{case.step} stays open"
        rows.append(
            f"| `{case.folder}` | {step} | {', '.join(case.colludes)} | {case.attack} | {case.solidity or ''} |"
        )
    readme = HERE / "README.md"
    head = readme.read_text(encoding="utf-8").split(_TABLE)[0]
    readme.write_text(head + _TABLE + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
