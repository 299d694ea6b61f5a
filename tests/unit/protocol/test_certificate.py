"""Certificates are read task by task; that must accept, and say, what reading them as a whole does."""

from __future__ import annotations

from pathlib import Path

import pytest

from rexis.protocol.certificate import Certificate
from rexis.protocol.errors import MalformedError
from rexis.protocol.parsing import load_json
from rexis.protocol.training_certificate import parse_certificate

VECTORS = Path(__file__).parents[2] / "vectors"
CERTIFICATES = sorted(path.parent.name for path in (VECTORS / "certificates").glob("*/certificate.json"))
HONEST = (VECTORS / "certificates/commit/certificate.json").read_bytes()


def whole(data: bytes) -> Certificate | str:
    """Read at once; the error's text if it is refused."""
    try:
        certificate = Certificate.from_object(load_json(data))
        certificate.require_canonical(data)
    except MalformedError as error:
        return str(error)
    return certificate


def by_task(data: bytes) -> Certificate | str:
    try:
        return Certificate.parse(data)
    except MalformedError as error:
        return str(error)


@pytest.mark.parametrize("name", CERTIFICATES)
def test_both_ways_of_reading_agree(name: str) -> None:
    data = (VECTORS / "certificates" / name / "certificate.json").read_bytes()
    found = whole(data)
    assert by_task(data) == found
    assert (Certificate.read_by_task(data) is None) == isinstance(found, str)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'},{"anchor":', b'}, {"anchor":'),
        (b'},{"anchor":', b'} ,{"anchor":'),
        (b'},{"anchor":', b'},,{"anchor":'),
        (b'},{"anchor":', b'}{"anchor":'),
        (b'},{"anchor":', b'},{"anchor":1},{"anchor":'),
        (b'},{"anchor":', b'}],"tasks":[{"anchor":'),
        (b',"tasks":[', b',"tasks": ['),
        (b',"tasks":[', b',"tasks":[],"tasks":['),
        (b',"tasks":[', b',"tasks":1,"tasks":['),
        (b',"tasks":[', b',"tasks":[ '),
        (b',"tasks":[', b',"seal2":0,"tasks":['),
        (b"]}\n", b"]}"),
        (b"]}\n", b"] }\n"),
        (b"]}\n", b"]}\r\n"),
        (b"]}\n", b"]}\n\n"),
        (b"]}\n", b'],"zzz":[]}\n'),
        (b"]}\n", b"],}\n"),
        (b'"openings":[', b'"openings":[ '),
        (b'"openings":[', b'"openings":[],"openings":['),
        (b'],"outputsDigest":', b',],"outputsDigest":'),
        (b'],"outputsDigest":', b'] ,"outputsDigest":'),
        (b'"proofs":[', b'"proofs":[{}'),
        (b'"proofs":[', b'"proofs":[],"proofs":['),
        (b'"proofs":[]', b'"proofs":0'),
        (b'],"signature":', b' ],"signature":'),
        (b'{"circuit":', b'{ "circuit":'),
        (b'{"circuit":', b'{"circuit":null,"circuit":'),
        (b'{"circuit":', b'[{"circuit":'),
        (b'"format":', b'"form\\u0061t":'),
    ],
)
def test_other_forms_are_refused_with_the_same_words(before: bytes, after: bytes) -> None:
    assert before in HONEST
    for data in (HONEST.replace(before, after, 1), after.join(HONEST.rsplit(before, 1))):
        assert isinstance(found := by_task(data), str)
        assert found == whole(data)


@pytest.mark.parametrize("before", [b'},{"index":', b'},{"boundaries":'])
@pytest.mark.parametrize(
    "after", [b'}, {"index":', b'},,{"index":', b'}{"index":', b'},{"boundaries":', b'}],[{"index":'], ids=repr
)
def test_other_forms_of_records_are_refused_with_the_same_words(before: bytes, after: bytes) -> None:
    data = (VECTORS / "certificates/zk/certificate.json").read_bytes()
    assert before in data
    changed = data.replace(before, after, 1)
    assert changed == data or isinstance(by_task(changed), str)
    assert by_task(changed) == whole(changed)


def test_no_tasks_and_no_certificate() -> None:
    head, _, _ = HONEST.partition(b',"tasks":[')
    for data in (head + b',"tasks":[]}\n', head + b"}\n", b'{"circuit":,"tasks":[]}\n', b"", b"{}\n", b"[]\n"):
        assert isinstance(found := by_task(data), str)
        assert found == whole(data)


def test_what_tasks_share_is_there_once() -> None:
    certificate = parse_certificate(HONEST)
    assert isinstance(certificate, Certificate)
    first, second = (task.evidence.statement for task in certificate.tasks)
    assert first.circuit is second.circuit
    assert first.model_fields_set is second.model_fields_set
    changed = first.model_copy(update={"record_count": 1})
    assert changed.model_fields_set == second.model_fields_set
    assert changed.model_fields_set is not second.model_fields_set
