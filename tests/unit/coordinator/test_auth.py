"""Sign-in: a message is good once, for five minutes, for one address; a token for half an hour."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from coordinator.auth import CHALLENGE_MS
from coordinator.roles import ANY
from coordinator.services import Coordinator
from coordinator.tables import LoginRow, TokenRow
from rexis.protocol.errors import AuthError, ForbiddenError, SignatureError
from rexis.protocol.signing import address_of, new_account, sign_text
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene

TOKEN_MS = 1_800_000
HOST = ("127.0.0.1:8080", "http://127.0.0.1:8080")


@pytest.mark.each_database
def test_a_signed_message_gives_a_token_once(coordinator: Coordinator) -> None:
    account = new_account()
    message = coordinator.auth.challenge(address_of(account), *HOST).message
    token = coordinator.auth.token(message, sign_text(account, message))
    assert coordinator.auth.caller(token.token, ANY).address == address_of(account)
    with pytest.raises(AuthError, match="used"):
        coordinator.auth.token(message, sign_text(account, message))


@pytest.mark.each_database
def test_messages_and_tokens_grow_old(coordinator: Coordinator, clock: FakeClock, scene: Scene) -> None:
    account = new_account()
    message = coordinator.auth.challenge(address_of(account), *HOST).message
    clock.now += CHALLENGE_MS
    with pytest.raises(AuthError, match="too old"):
        coordinator.auth.token(message, sign_text(account, message))
    token = scene.token(account)
    clock.now += TOKEN_MS - 1
    coordinator.auth.caller(token, ANY)
    clock.now += 1
    with pytest.raises(AuthError, match="expired"):
        coordinator.auth.caller(token, ANY)


def test_another_account_cannot_sign_and_the_message_stays_good(coordinator: Coordinator) -> None:
    account = new_account()
    message = coordinator.auth.challenge(address_of(account), *HOST).message
    with pytest.raises(SignatureError):
        coordinator.auth.token(message, sign_text(new_account(), message))
    coordinator.auth.token(message, sign_text(account, message))


def test_a_message_that_was_not_issued_is_refused(coordinator: Coordinator) -> None:
    account = new_account()
    message = coordinator.auth.challenge(address_of(account), *HOST).message.replace("Nonce: ", "Nonce: a")
    with pytest.raises(AuthError):
        coordinator.auth.token(message, sign_text(account, message))


@pytest.mark.each_database
def test_nobody_can_use_sign_ins_up(coordinator: Coordinator, scene: Scene) -> None:
    """10,000 requests without a wallet kept everybody out for five minutes."""
    for _ in range(10_001):
        coordinator.auth.challenge(address_of(scene.owner), *HOST)
    with coordinator._store.reading() as session:
        assert session.exec(select(LoginRow)).all() == []
    assert scene.token(new_account())


def test_a_message_outlives_a_restart(tmp_path: Path, database: str) -> None:
    account, ledger = new_account(), FakeLedger(new_account())
    before = make_coordinator(tmp_path, ledger, database_url=database)
    message = before.auth.challenge(address_of(account), *HOST).message
    signature = sign_text(account, message)
    before.close()
    after = make_coordinator(tmp_path, ledger, database_url=database)
    after.auth.token(message, signature)
    with pytest.raises(AuthError):
        after.auth.token(message, signature)
    stranger = make_coordinator(tmp_path / "other", ledger)
    with pytest.raises(AuthError):
        stranger.auth.token(message, signature)
    after.close()
    stranger.close()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Chain ID: 31337", "Chain ID: 1"),
        ("T08:05", "T09:05"),
        ("127.0.0.1", "127.0.0.2"),
        ("\n", "\r\n"),
        ("ign", "\ud800"),
    ],
)
def test_a_message_that_was_changed_is_refused(coordinator: Coordinator, old: str, new: str) -> None:
    account = new_account()
    message = coordinator.auth.challenge(address_of(account), *HOST).message
    assert old in message
    with pytest.raises(AuthError):
        coordinator.auth.token(message.replace(old, new), bytes(65))


def test_the_database_holds_no_token(coordinator: Coordinator, scene: Scene) -> None:
    token = scene.token(new_account())
    with coordinator._store.reading() as session:
        rows = session.exec(select(TokenRow)).all()
    assert all(token not in (row.token_digest, row.address) for row in rows)


def test_strangers_are_kept_out_where_there_are_members(tmp_path: Path) -> None:
    member = new_account()
    coordinator = make_coordinator(tmp_path, FakeLedger(new_account()), members=[address_of(member)])
    for account, welcome in ((member, True), (new_account(), False)):
        message = coordinator.auth.challenge(address_of(account), *HOST).message
        if welcome:
            coordinator.auth.token(message, sign_text(account, message))
        else:
            with pytest.raises(ForbiddenError):
                coordinator.auth.token(message, sign_text(account, message))
    coordinator.close()


@pytest.mark.parametrize("host", ["203.0.113.9", "203.0.113.9:8080", "[2001:db8::1]", "localhost:9"])
def test_the_message_never_names_a_host_that_is_not_ours(http: TestClient, host: str) -> None:
    body = b'{"address":"%s"}' % address_of(new_account()).encode()
    message = http.post("/v1/auth/challenge", content=body, headers={"Host": host}).json()["message"]
    assert message.startswith("127.0.0.1:8080 wants you")
