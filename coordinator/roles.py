"""Who may do what: the roles that routes ask for, and who has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlmodel import Session, col, delete, select

from coordinator.audit import record
from coordinator.store import Store
from coordinator.tables import MemberRow, TokenRow
from coordinator.times import Clock, rfc3339
from rexis.api import MemberList, MemberView, Role
from rexis.protocol.errors import ForbiddenError, MalformedError, NotFoundError
from rexis.protocol.parsing import Address, load_json

EVERYBODY = frozenset({Role.REQUESTER, Role.MODEL_OWNER, Role.WORKER})
"""At an open coordinator; also of a member whose roles nobody named."""

ANY = frozenset(Role)
PARTIES = frozenset({Role.REQUESTER, Role.MODEL_OWNER, Role.WORKER})
"""Between whom blobs travel; who reads which one is said by :mod:`coordinator.access`."""

READERS = PARTIES | {Role.VALIDATOR}
"""Who may be given a blob: validators check with some."""

_NOBODY: frozenset[Role] = frozenset()


def read_members(document: bytes) -> dict[Address, frozenset[Role]]:
    """A members file: a JSON object with a list of roles for each address.

    Raises
    ------
    MalformedError
        Names the address at fault.
    """
    found = load_json(document)
    if not isinstance(found, dict):
        raise MalformedError("not an object of addresses and their roles", field="members file")
    members = {}
    for name, roles in found.items():
        address = Address.parse(name, f"members file, {name[:42]}")
        try:
            members[address] = frozenset(Role(role) for role in roles)
        except (ValueError, TypeError):
            raise MalformedError(
                "not a list of roles", field=f"members file, {address}", hint=f"roles are {', '.join(Role)}"
            ) from None
    return members


class Given(NamedTuple):
    """What an operator said of an address."""

    roles: frozenset[Role]
    revoked: bool


class Members:
    """The roles of each address: what the settings name, what an operator gave, and what everybody has.

    Roles are read with each request, so that a change counts at once, at every process.

    Parameters
    ----------
    named
        Members by setting; None if the coordinator is open, so that everybody has :data:`EVERYBODY`.
    operators
        By setting only: no operator can make another, or shut one out.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        named: Mapping[Address, frozenset[Role]] | None,
        operators: Collection[Address] = (),
    ) -> None:
        self._store, self._clock, self._operators = store, clock, frozenset(operators)
        self.closed = named is not None
        self._everybody = _NOBODY if self.closed else EVERYBODY
        self._named = {address: roles - {Role.OPERATOR} for address, roles in (named or {}).items()}
        for operator in self._operators:
            self._named[operator] = self._named.get(operator, _NOBODY) | {Role.OPERATOR}

    def require(self, address: Address, given: Given | None, roles: Collection[Role]) -> frozenset[Role]:
        """Refuse an address that has none of the roles; returns all those that it has.

        Raises
        ------
        ForbiddenError
            Says which roles it would take.
        """
        has = self._effective(address, given)
        if not has.isdisjoint(roles):
            return has
        if given is not None and given.revoked:
            raise ForbiddenError(f"{address} was shut out by the operator")
        if not has:
            raise ForbiddenError(f"{address} is not a member here", hint="ask the operator")
        wanted = " or ".join(role for role in Role if role in roles)
        raise ForbiddenError(f"this takes the role {wanted}; {address} has none of that", hint="ask the operator")

    def given(self, session: Session, address: Address) -> Given | None:
        """What an operator said of an address."""
        row = session.get(MemberRow, address)
        return None if row is None else given_to(row.roles, row.revoked)

    def all(self) -> MemberList:
        """Everybody whom the settings or an operator named."""
        with self._store.reading() as session:
            rows = {Address.parse(row.address): row for row in session.exec(select(MemberRow))}
        return MemberList(
            everybody=_sorted(self._everybody),
            members=[self._view(address, rows.get(address)) for address in sorted({*rows, *self._named})],
        )

    def give(self, by: Address, address: Address, roles: Collection[Role]) -> MemberView:
        """Give an address these roles, in place of those given before; lifts a revocation.

        Raises
        ------
        MalformedError
            The operator's role is among them.
        """
        if Role.OPERATOR in roles:
            raise MalformedError("operators are named by setting only", field="roles", hint="REXIS_OPERATORS")
        with self._store.writing() as session:
            row = self._row(session, address)
            row.roles, row.revoked = " ".join(_sorted(roles)), False
            session.add(row)
            record(session, self._clock(), by, "member.give", address, row.roles)
            return self._view(address, row)

    def remove(self, by: Address, address: Address) -> None:
        """Take back what an operator gave, also a revocation; what the settings say stays.

        Raises
        ------
        NotFoundError
            No operator has given it anything.
        """
        with self._store.writing() as session:
            row = session.get(MemberRow, address)
            if row is None:
                raise NotFoundError(f"nothing was given to {address} here", hint="`rexis members revoke` shuts out")
            session.delete(row)
            record(session, self._clock(), by, "member.remove", address)

    def revoke(self, by: Address, address: Address) -> MemberView:
        """Shut an address out, and end its tokens. What it holds (leases) runs out by itself.

        Raises
        ------
        ForbiddenError
            It is an operator's.
        """
        if address in self._operators:
            raise ForbiddenError("operators are named by setting only", hint="REXIS_OPERATORS")
        with self._store.writing() as session:
            row = self._row(session, address)
            row.roles, row.revoked = "", True
            session.add(row)
            session.exec(delete(TokenRow).where(col(TokenRow.address) == address))
            record(session, self._clock(), by, "member.revoke", address)
            return self._view(address, row)

    def _row(self, session: Session, address: Address) -> MemberRow:
        row = session.get(MemberRow, address) or MemberRow(address=address, changed_at=0)
        row.changed_at = self._clock()
        return row

    def _effective(self, address: Address, given: Given | None) -> frozenset[Role]:
        named = self._named.get(address, _NOBODY)
        if given is None:
            return named | self._everybody
        if given.revoked and address not in self._operators:
            return _NOBODY
        return named | self._everybody | given.roles

    def _view(self, address: Address, row: MemberRow | None) -> MemberView:
        return MemberView(
            address=address,
            roles=_sorted(self._effective(address, None if row is None else given_to(row.roles, row.revoked))),
            named=_sorted(self._named.get(address, _NOBODY)),
            revoked=row is not None and row.revoked,
            changed_at=None if row is None else rfc3339(row.changed_at),
        )


def given_to(roles: str | None, revoked: bool | None) -> Given | None:
    """What two columns of a member's row say; None if there is no such row."""
    return None if roles is None else Given(frozenset(Role(role) for role in roles.split()), bool(revoked))


def _sorted(roles: Collection[Role]) -> list[Role]:
    return [role for role in Role if role in roles]
