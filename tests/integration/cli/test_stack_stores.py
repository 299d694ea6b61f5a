"""``rexis up`` with PostgreSQL and S3 by two settings: the stack's state is there, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from rexis.cli.stack import Stack
from rexis.client import RexisClient
from rexis.wallet import load_wallet
from tests.databases import Databases
from tests.s3 import serving_s3


def test_two_settings_move_the_state(tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_s3() as s3, databases.empty("postgresql", tmp_path) as database, Stack(tmp_path / "stack") as stack:
        bucket = s3.bucket()
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("REXIS_DATABASE_URL", database)
        monkeypatch.setenv("REXIS_BLOB_URL", f"s3://{bucket}/stack")
        stack.start()
        ready = httpx.get(f"{stack.coordinator_url}/readyz").json()
        assert {check["name"]: check["state"] for check in ready["checks"]}["blobs"] == "ok"
        _upload(stack, b"somebody's blob")
        assert any(key.startswith("stack/sha256/") for key in s3.keys(bucket))
        engine = create_engine(database)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM reader")).scalar() == 1
        engine.dispose()
        data = stack.folder / "coordinator"
        assert not list(data.rglob("*.sqlite"))
        assert not list(data.rglob("sha256*"))


def _upload(stack: Stack, data: bytes) -> None:
    account = load_wallet(stack.wallet("requester"), stack.passphrase_file.read_text().strip())
    with RexisClient(stack.coordinator_url, account) as client:
        client.upload_blob(data)
