"""Roles: by setting, by an operator, of everybody; and what an operator cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coordinator.app import create_app
from coordinator.roles import ANY, EVERYBODY, read_members
from coordinator.settings import Settings
from rexis.api import AuditPage, MemberList, MemberView, Role
from rexis.auditlog import verify_log
from rexis.protocol.errors import AuthError, ForbiddenError, MalformedError
from rexis.protocol.parsing import Address, canonical_json
from rexis.protocol.signing import address_of, new_account
from tests.unit.coordinator.fakes import FakeClock, FakeLedger, make_coordinator
from tests.unit.coordinator.scene import Scene

OPERATOR = new_account()


def scene(folder: Path, **settings: object) -> Scene:
    ledger = FakeLedger(new_account())
    return Scene(make_coordinator(folder, ledger, operators=[address_of(OPERATOR)], **settings), ledger)


def roles(of: Scene, address: Address) -> set[Role]:
    with of.coordinator._store.reading() as session:
        return set(of.coordinator.members.require(address, of.coordinator.members.given(session, address), ANY))


def test_everybody_at_an_open_coordinator(tmp_path: Path) -> None:
    made, somebody = scene(tmp_path), address_of(new_account())
    assert roles(made, somebody) == set(EVERYBODY)
    assert roles(made, address_of(OPERATOR)) == {*EVERYBODY, Role.OPERATOR}
    made.coordinator.members.give(address_of(OPERATOR), somebody, [Role.AUDITOR])
    assert roles(made, somebody) == {*EVERYBODY, Role.AUDITOR}
    assert not {Role.VALIDATOR, Role.OPERATOR, Role.AUDITOR} & EVERYBODY


def test_a_file_names_roles_and_a_list_members(tmp_path: Path) -> None:
    one, two, three = (address_of(new_account()) for _ in range(3))
    file = tmp_path / "members.json"
    file.write_bytes(canonical_json({one: ["auditor"], two: ["worker"]}))
    made = scene(tmp_path, members=[two], members_file=file)
    assert roles(made, one) == {Role.AUDITOR}
    assert roles(made, two) == set(EVERYBODY)
    with pytest.raises(ForbiddenError, match="not a member"):
        roles(made, three)
    assert roles(made, address_of(OPERATOR)) == {Role.OPERATOR}


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b"{",
        b'{"0x12":[]}',
        b'{"%s":["king"]}',
        b'{"%s":{"a":1}}',
        b'{"%s":[[]]}',
        b'{"%s":3}',
        b'{"%s":"worker"}',
    ],
)
def test_a_bad_members_file_is_refused(document: bytes) -> None:
    with pytest.raises(MalformedError):
        read_members(document.replace(b"%s", address_of(OPERATOR).encode()))


def test_no_file_makes_an_operator(tmp_path: Path) -> None:
    somebody = address_of(new_account())
    file = tmp_path / "members.json"
    file.write_bytes(canonical_json({somebody: ["operator", "auditor"]}))
    assert roles(scene(tmp_path, members_file=file), somebody) == {Role.AUDITOR}


def test_an_operator_gives_and_takes_over_http(tmp_path: Path) -> None:
    made = scene(tmp_path, members=[])
    http = TestClient(create_app(made.coordinator), base_url="http://127.0.0.1:8080")
    headers, account = made.headers(OPERATOR), new_account()
    url = f"/v1/members/{address_of(account)}"
    with pytest.raises(ForbiddenError):
        made.token(account)
    given = MemberView.from_json(http.put(url, content=b'{"roles":["worker","auditor"]}', headers=headers).content)
    assert (given.roles, given.named, given.revoked) == ([Role.WORKER, Role.AUDITOR], [], False)
    theirs = {"Authorization": f"Bearer {made.token(account)}"}
    assert http.get("/v1/workers", headers=theirs).status_code == 200
    assert http.get("/v1/jobs", headers=theirs).status_code == 403
    listed = MemberList.from_json(http.get("/v1/members", headers=headers).content)
    assert listed.everybody == []
    assert {one.address for one in listed.members} == {address_of(OPERATOR), address_of(account)}
    assert http.post(f"{url}/revoke", headers=headers).json()["revoked"]
    assert http.get("/v1/workers", headers=theirs).status_code == 401
    with pytest.raises(ForbiddenError, match="shut out"):
        made.token(account)
    assert http.delete(url, headers=headers).status_code == 204
    assert http.delete(url, headers=headers).status_code == 404
    found = AuditPage.from_json(http.get("/v1/audit", headers=headers).content).entries
    assert [entry.action for entry in found if entry.action.startswith("member")] == [
        "member.give", "member.revoke", "member.remove",
    ]  # fmt: skip
    assert {entry.actor for entry in found} == {address_of(OPERATOR), address_of(account)}
    verify_log(found)


def test_operators_are_not_made_nor_shut_out_by_each_other(tmp_path: Path) -> None:
    made = scene(tmp_path)
    http = TestClient(create_app(made.coordinator), base_url="http://127.0.0.1:8080")
    headers = made.headers(OPERATOR)
    somebody, operator = address_of(new_account()), address_of(OPERATOR)
    assert http.put(f"/v1/members/{somebody}", content=b'{"roles":["operator"]}', headers=headers).status_code == 422
    assert http.post(f"/v1/members/{operator}/revoke", headers=headers).status_code == 403


def test_a_revocation_counts_at_an_open_coordinator_too(tmp_path: Path) -> None:
    made, account = scene(tmp_path), new_account()
    token = made.token(account)
    made.coordinator.members.revoke(address_of(OPERATOR), address_of(account))
    with pytest.raises(AuthError, match="unknown"):
        made.coordinator.auth.caller(token, ANY)
    with pytest.raises(ForbiddenError, match="shut out"):
        made.token(account)


def test_another_process_knows_at_once(tmp_path: Path) -> None:
    """Two coordinators over one database: what one is told, the other follows."""
    one = scene(tmp_path, members=[])
    other = Scene(make_coordinator(tmp_path, one.ledger, members=[]), one.ledger)
    account = new_account()
    one.coordinator.members.give(address_of(OPERATOR), address_of(account), [Role.WORKER])
    token = one.token(account)
    assert other.coordinator.auth.caller(token, ANY).roles == {Role.WORKER}
    one.coordinator.members.revoke(address_of(OPERATOR), address_of(account))
    with pytest.raises(AuthError):
        other.coordinator.auth.caller(token, ANY)


def test_signing_out_ends_one_token(tmp_path: Path) -> None:
    made, account = scene(tmp_path), new_account()
    http = TestClient(create_app(made.coordinator), base_url="http://127.0.0.1:8080")
    first, second = ({"Authorization": f"Bearer {made.token(account)}"} for _ in range(2))
    assert http.delete("/v1/auth/token", headers=first).status_code == 204
    assert http.get("/v1/jobs", headers=first).status_code == 401
    assert http.get("/v1/jobs", headers=second).status_code == 200


def test_the_oldest_tokens_of_an_address_end(tmp_path: Path) -> None:
    clock, ledger = FakeClock(), FakeLedger(new_account())
    made, account = Scene(make_coordinator(tmp_path, ledger, clock), ledger), new_account()
    tokens = []
    for _ in range(65):
        tokens.append(made.token(account))
        clock.now += 1
    with pytest.raises(AuthError):
        made.coordinator.auth.caller(tokens[0], ANY)
    for token in tokens[1:]:
        made.coordinator.auth.caller(token, ANY)


def test_the_default_is_a_token_of_at_most_an_hour() -> None:
    assert Settings.model_fields["token_seconds"].default <= 3600
