"""`rexis export ro-crate JOB` against a coordinator over a socket, read by the RO-Crate library."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from rexis.api import JobView, Role
from rexis.cli.main import main
from rexis.protocol.digests import ZERO_DIGEST
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import FakeLedger
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.serving import serving, use
from tests.unit.coordinator.test_recovery import finish

OPERATOR = new_account()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    ledger = FakeLedger(new_account())
    with serving(tmp_path / "coordinator", ledger, operators=[address_of(OPERATOR)]) as coordinator:
        made = Scene(coordinator, ledger)
        made.publish()
        use(monkeypatch, coordinator, made.requester, tmp_path / "wallet.json")
        yield made


def certified(scene: Scene) -> JobView:
    job = scene.submit()
    scene.do_all()
    finish(scene)
    return scene.job(job)


def test_a_finished_job_is_a_crate_with_its_outputs(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, out = certified(scene), tmp_path / "crate"
    assert main(["export", "ro-crate", str(job.job_id), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"written to {out}\n"
    assert (out / "outputs.safetensors").read_bytes() == scene.outputs(job)
    crate = ROCrate(out)
    parts = {part.id: part for part in crate.root_dataset["hasPart"]}
    assert set(parts) == {"certificate.json", "outputs.safetensors"}
    for name, part in parts.items():
        data = (out / name).read_bytes()
        assert part.type == "File"
        assert (part["sha256"], part["contentSize"]) == (sha256(data).hexdigest(), str(len(data)))
    (action,) = crate.root_dataset["mentions"]
    assert all(part in action["result"] for part in parts.values())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["coordinator", "crate"]
    # Written again, by the library, it is the same crate.
    crate.write(tmp_path / "again")
    assert {each.id for each in ROCrate(tmp_path / "again").get_entities()} == {
        each.id for each in crate.get_entities()
    }
    assert main(["export", "ro-crate", str(job.job_id), "--out", str(out)]) == 1
    assert "exists" in capsys.readouterr().err


def test_who_may_read_the_certificate_only_gets_a_crate_of_it(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job, auditor, out = certified(scene), new_account(), tmp_path / "crate"
    scene.coordinator.members.give(address_of(OPERATOR), address_of(auditor), [Role.AUDITOR])
    use(monkeypatch, scene.coordinator, auditor, tmp_path / "auditor.json")
    assert main(["export", "ro-crate", str(job.job_id), "--out", str(out)]) == 0
    assert "the wallet may not read that" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["certificate.json", "ro-crate-metadata.json"]


def test_what_is_no_finished_job_leaves_nothing(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished, out = scene.submit(), tmp_path / "crate"
    for job in (unfinished.job_id, ZERO_DIGEST):
        assert main(["export", "ro-crate", str(job), "--out", str(out)]) == 1
    monkeypatch.delenv("REXIS_WALLET")
    assert main(["export", "ro-crate", str(unfinished.job_id), "--out", str(out)]) == 1
    assert "--wallet" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coordinator", "wallet.json"]
