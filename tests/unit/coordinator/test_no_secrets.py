"""Canaries: a wallet's key, a passphrase, tokens and signatures turn up in no log, answer, row, blob or audit entry."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coordinator.app import create_app
from rexis.protocol.parsing import canonical_json
from rexis.protocol.signing import address_of, new_account, sign_text
from tests.unit.coordinator.fakes import FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene
from tests.unit.coordinator.test_recovery import finish

PASSPHRASE = "canary-passphrase-7719"


def test_no_secret_is_written_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    operator, ledger = new_account(), FakeLedger(new_account())
    made = make_coordinator(tmp_path, ledger, passphrase=PASSPHRASE, operators=[address_of(operator)])
    scene = Scene(made, ledger)
    http = TestClient(create_app(made), base_url="http://127.0.0.1:8080")
    answers: list[str] = []

    def ask(method: str, path: str, **more: object) -> str:
        answer = http.request(method, path, **more)  # type: ignore[arg-type]
        answers.append(answer.text + str(dict(answer.headers)))
        return answer.text

    message = made.auth.challenge(address_of(scene.requester), "127.0.0.1:8080", "http://127.0.0.1:8080").message
    signature = sign_text(scene.requester, message)
    body = canonical_json({"message": message, "signature": "0x" + signature.hex()})
    token = http.post("/v1/auth/token", content=body).json()["token"]
    mine = {"Authorization": f"Bearer {token}"}
    ask("POST", "/v1/auth/token", content=body)  # used
    ask("POST", "/v1/auth/token", content=body.replace(b"Chain ID", b"chain id"))

    scene.publish()
    scene.submit()
    scene.do_all()
    finish(scene)
    for path in ("/v1/jobs", f"/v1/jobs/0x{'0' * 64}", "/v1/audit", "/nothing", "/v1/audit/head"):
        ask("GET", path, headers=mine)
        ask("GET", path, headers={"Authorization": f"Bearer {token}x"})
        ask("GET", path, headers={"Authorization": f"Basic {token}"})
    ask("GET", "/v1/audit", headers=scene.headers(operator))
    ask("DELETE", "/v1/auth/token", headers=mine)
    made.audit.chain()
    made.close()

    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"job.submit" in stored or b"job.queued" in stored  # what is looked through is there
    written = stored + caplog.text.encode() + "".join(answers).encode() + repr(made.settings).encode()
    keys = [account.key for account in (operator, scene.requester, scene.owner, ledger.account)]
    canaries = {"passphrase": PASSPHRASE.encode(), "token": token.encode(), "signature": signature.hex().encode()}
    canaries |= {f"key {number}": key.hex().removeprefix("0x").encode() for number, key in enumerate(keys)}
    canaries |= {f"raw key {number}": bytes(key) for number, key in enumerate(keys)}
    for name, canary in canaries.items():
        assert canary not in written, name
