"""An audit log that was changed is not the chain that it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexis.api import AuditEntry, AuditHead
from rexis.auditlog import START, AuditError, head_of, next_entry, verify_log


def log(count: int = 6) -> list[AuditEntry]:
    head, entries = START, []
    for number in range(count):
        entry = next_entry(head, at=number, actor="a", action="job.submit", object=f"job {number}", outcome="done")
        entries.append(entry)
        head = head_of(entry)
    return entries


def chained(entries: list[AuditEntry], start: AuditHead) -> list[AuditEntry]:
    """The same contents again, with digests that fit."""
    made, head = [], start
    for entry in entries:
        made.append(next_entry(head, **entry.model_dump(exclude={"position", "previous", "digest"})))
        head = head_of(made[-1])
    return made


def test_a_log_is_a_chain_from_its_start() -> None:
    entries = log()
    assert verify_log(entries) == head_of(entries[-1])
    assert verify_log([]) == START
    assert verify_log(entries, known=[START, *map(head_of, entries)]).position == 6
    again = [AuditEntry.from_json(entry.to_json()) for entry in entries]
    assert again == entries


@given(st.integers(0, 5), st.sampled_from(["at", "actor", "action", "object", "outcome", "previous", "digest"]))
def test_a_changed_entry_is_noticed(number: int, field: str) -> None:
    entries = log()
    value = {"at": 99, "previous": START.digest, "digest": START.digest}.get(field, "another")
    if getattr(entries[number], field) == value:
        return
    entries[number] = entries[number].model_copy(update={field: value})
    with pytest.raises(AuditError):
        verify_log(entries)


@given(st.permutations(range(6)))
def test_another_order_is_noticed(order: list[int]) -> None:
    entries = log()
    if order == list(range(6)):
        return
    with pytest.raises(AuditError):
        verify_log([entries[number] for number in order])


@given(st.integers(0, 4))
def test_a_removed_entry_is_noticed(number: int) -> None:
    entries = log()
    del entries[number]
    with pytest.raises(AuditError, match="goes on with"):
        verify_log(entries)


@given(st.integers(1, 6))
def test_a_cut_off_end_is_noticed_by_who_knows_a_later_head(kept: int) -> None:
    entries = log()
    head = head_of(entries[-1])
    assert verify_log(entries[:kept]).position == kept  # consistent in itself
    if kept < 6:
        with pytest.raises(AuditError, match="was noted"):
            verify_log(entries[:kept], known=[head])


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_log_that_was_written_again_is_noticed_by_who_knows_a_head(changed: int, noted: int) -> None:
    """The digests fit; they are just not those that somebody saw."""
    entries = log()
    head = head_of(entries[noted])
    forged = [*entries]
    forged[changed] = forged[changed].model_copy(update={"actor": "somebody else"})
    forged = chained(forged, START)
    verify_log(forged)
    if noted >= changed:
        with pytest.raises(AuditError, match="noted"):
            verify_log(forged, known=[head])
    else:
        verify_log(forged, known=[head])


def test_another_beginning_is_noticed() -> None:
    other = AuditHead(position=0, digest=log()[0].digest)
    with pytest.raises(AuditError):
        verify_log(chained(log(), other))
    with pytest.raises(AuditError, match="begins"):
        verify_log(log(), known=[other])
