"""What docs/operations.md says of rotating the key of sign-in messages: pending sign-ins begin again, tokens stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import col, delete
from starlette.testclient import TestClient

from coordinator.app import create_app
from coordinator.tables import SecretRow
from rexis.protocol.errors import AuthError
from rexis.protocol.signing import address_of, sign_text
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene

URL = "http://127.0.0.1:8080"


def test_a_new_sign_in_key(scene: Scene, ledger: FakeLedger, clock: FakeClock, database: str, tmp_path: Path) -> None:
    requester = scene.requester
    token = scene.headers(requester)
    pending = scene.coordinator.auth.challenge(address_of(requester), "127.0.0.1:8080", URL).message
    with scene.coordinator._store.writing() as session:
        session.exec(delete(SecretRow).where(col(SecretRow.name) == "sign-in messages"))
    restarted = make_coordinator(tmp_path, ledger, clock, database_url=database)
    try:
        with pytest.raises(AuthError, match="unknown, used or too old"):
            restarted.auth.token(pending, sign_text(requester, pending))
        assert TestClient(create_app(restarted), base_url=URL).get("/v1/jobs", headers=token).status_code == 200
        Scene(restarted, ledger, requester=requester).headers(requester)
    finally:
        restarted.close()
