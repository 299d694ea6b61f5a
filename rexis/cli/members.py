"""Members and their roles, for operators; and the audit log."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rexis.cli.console import emit, say
from rexis.cli.options import Coordinator, Json, PassphraseFile, Wallet, address, connect, digest

if TYPE_CHECKING:
    from rexis.api import AuditHead, MemberView

members = typer.Typer(help="Who may do what at a coordinator.", no_args_is_help=True)
audit = typer.Typer(help="A coordinator's audit log.", no_args_is_help=True)

Who = Annotated[str, typer.Argument(metavar="ADDRESS", help="The member's address.")]
_MAX_LOG = 1 << 30
_HEAD = re.compile(r"(\d{1,15}):(0x[0-9a-f]{64})")


@members.command("list")
def list_members(
    coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """List everybody with roles of their own, and the roles that anybody has."""
    with connect(coordinator, wallet, passphrase_file) as client:
        found = client.members()
    if as_json:
        emit(found.to_object())
        return
    say(f"everybody  {', '.join(found.everybody) or 'no role: only members sign in'}")
    for member in found.members:
        _say(member)


@members.command("add")
def add(
    who: Who,
    role: Annotated[list[str], typer.Option("--role", metavar="ROLE", help="May be repeated.")],
    coordinator: Coordinator,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Give an address roles, in place of those given before. Lifts a revocation."""
    from rexis.api import Role

    if unknown := set(role) - set(Role):
        raise typer.BadParameter(f"{min(unknown)!r} is none of {', '.join(Role)}", param_hint="--role")
    with connect(coordinator, wallet, passphrase_file) as client:
        _show(client.give_roles(address(who, "ADDRESS"), [Role(each) for each in role]), as_json)


@members.command("remove")
def remove(who: Who, coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None) -> None:
    """Take back what was given to an address, also a revocation. What the settings say of it stays."""
    with connect(coordinator, wallet, passphrase_file) as client:
        client.remove_member(address(who, "ADDRESS"))


@members.command("revoke")
def revoke(
    who: Who, coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """Shut an address out: its tokens end now, its leases run out."""
    with connect(coordinator, wallet, passphrase_file) as client:
        _show(client.revoke_member(address(who, "ADDRESS")), as_json)


@audit.command("head")
def head(
    coordinator: Coordinator, wallet: Wallet, passphrase_file: PassphraseFile = None, as_json: Json = False
) -> None:
    """Show the log's last entry as NUMBER:DIGEST. Keep it where the operator cannot change it."""
    with connect(coordinator, wallet, passphrase_file) as client:
        found = client.audit_head()
    if as_json:
        emit(found.to_object())
        return
    say(f"{found.position}:{found.digest}")


@audit.command("export")
def export(
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write, an entry a line.")],
    coordinator: Coordinator,
    wallet: Wallet,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Download the log, for operators, and check it."""
    from rexis.auditlog import verify_log
    from rexis.files import require_absent, write_file

    require_absent(out)
    with connect(coordinator, wallet, passphrase_file) as client:
        entries = list(client.audit_log())
    found = verify_log(entries)
    write_file(out, b"".join(entry.to_json() for entry in entries), private=True)
    say(f"{out}: {found.position} entries, head {found.position}:{found.digest}")


@audit.command("verify")
def verify(
    log: Annotated[Path, typer.Argument(metavar="FILE", help="What `rexis audit export` wrote.")],
    head: Annotated[
        list[str] | None, typer.Option("--head", metavar="NUMBER:DIGEST", help="A head noted before. May be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that nothing in a log was changed, removed or put elsewhere; needs no coordinator.

    Without a head that was noted before, it cannot be seen that the last entries are missing, or that the whole log
    was written anew.
    """
    from rexis.api import AuditEntry
    from rexis.auditlog import verify_log
    from rexis.files import read_file

    lines = read_file(log, "audit log", max_bytes=_MAX_LOG).splitlines(keepends=True)
    found = verify_log((AuditEntry.from_json(line) for line in lines), known=[_head(each) for each in head or []])
    if as_json:
        emit(found.to_object())
        return
    noted = f"; {len(head)} noted heads are in it" if head else ""
    say(f"{found.position} entries, each follows the one before; head {found.position}:{found.digest}{noted}")


def _head(text: str) -> AuditHead:
    from rexis.api import AuditHead

    found = _HEAD.fullmatch(text)
    if found is None:
        raise typer.BadParameter("write NUMBER:0x…, as `rexis audit head` does", param_hint="--head")
    return AuditHead(position=int(found[1]), digest=digest(found[2], "--head"))


def _show(member: MemberView, as_json: bool) -> None:
    if as_json:
        emit(member.to_object())
    else:
        _say(member)


def _say(member: MemberView) -> None:
    what = "shut out" if member.revoked else ", ".join(member.roles)
    named = f"  (by setting: {', '.join(member.named)})" if member.named else ""
    say(f"{member.address}  {what}{named}")
