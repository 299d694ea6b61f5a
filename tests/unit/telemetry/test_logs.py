"""Log lines: one a record, with ids, without secrets, in both formats."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from rexis.protocol.errors import MalformedError
from rexis.protocol.signing import new_account, sign_text
from rexis.telemetry import logs
from rexis.telemetry.logs import JsonFormatter, LogFormat, TextFormatter, bind, bound, bound_ids, hide, scrub

DIGEST = "0x" + "ab" * 32


@pytest.fixture(params=[JsonFormatter, TextFormatter])
def written(request: pytest.FixtureRequest) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(request.param())
    logger = logging.getLogger("rexis.test_logs")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger, out
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.fixture
def _forgets() -> Iterator[None]:
    before = set(logs._secrets)
    yield
    logs._secrets.clear()
    logs._secrets.update(before)


def test_json_has_time_level_event_ids_and_fields() -> None:
    record = logging.makeLogRecord(
        {"name": "a.b", "levelno": 20, "levelname": "INFO", "msg": "leased %s", "args": ("x",), "ms": 12, "_ray": 1}
    )
    record.created = 1_800_000_000.25
    record.msecs = 250.0
    with bound(request_id="abc", job_id=DIGEST):
        found = json.loads(JsonFormatter().format(record))
    assert found == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "info",
        "logger": "a.b",
        "event": "leased x",
        "request_id": "abc",
        "job_id": DIGEST,
        "ms": 12,
    }


def test_ids_nest_end_with_their_block_and_reach_threads() -> None:
    seen: list[dict[str, str]] = []
    with bound(worker="w"):
        with bound(lease_id="l"):
            thread = threading.Thread(target=copy_context().run, args=(lambda: bind(task_id="t"),))
            thread.start()
            thread.join()
            seen.append(bound_ids())
        seen.append(bound_ids())
    assert seen == [{"worker": "w", "lease_id": "l", "task_id": "t"}, {"worker": "w"}]
    bind(job_id="nobody's")
    assert bound_ids() == {}


@pytest.mark.parametrize("hostile", ["a\nlevel=error forged", 'a"}\n{"level": "error"', "a\x1b[2Jb\u2028c"])
def test_a_strangers_text_is_not_a_line(written: tuple[logging.Logger, io.StringIO], hostile: str) -> None:
    logger, out = written
    with bound(request_id=hostile):
        logger.info("%s", hostile, extra={"path": hostile})
    assert len(out.getvalue().splitlines()) == 1
    assert "\x1b" not in out.getvalue()


@pytest.mark.usefixtures("_forgets")
def test_canaries_do_not_get_out(written: tuple[logging.Logger, io.StringIO]) -> None:
    """Each kind of secret in a message, an argument, a field, an id, and an exception's text."""
    account = new_account()
    token = "5e" * 32
    passphrase = "correct horse battery"
    hide(passphrase, "dbpassword", None, "")
    canaries = {
        token: f"Authorization: Bearer {token}",
        "c2VjcmV0LXRva2Vu.abc": "authorization: basic c2VjcmV0LXRva2Vu.abc",
        sign_text(account, "hello").hex(): "signature " + sign_text(account, "hello").hex(),
        passphrase: f"cannot open the wallet with {passphrase}",
        "AGE-SECRET-KEY-1QQPQZ": "key AGE-SECRET-KEY-1QQPQZ",
        "alchemykey": "cannot reach https://eth.example.org/v2/alchemykey",
        "querykey": "https://eth.example.org/?token=querykey is down",
        "rpcuser": "http://rpcuser:rpcpass@node.example.org:8545",
        "rpcpass": "http://rpcuser:rpcpass@node.example.org:8545",
        "dbpassword": "postgresql+psycopg://rexis:dbpassword@db/rexis",
        "ab" * 80: "body " + "ab" * 80,
    }
    logger, out = written
    for text in canaries.values():
        with bound(request_id=text):
            logger.error(text, extra={"field": text})
            logger.error("failed: %s", text)
            logger.error("failed", exc_info=ValueError(text))
    for canary in canaries:
        assert canary not in out.getvalue(), canary
    assert "eth.example.org" in out.getvalue()  # which node it was stays visible


def test_a_secret_at_the_cut_is_not_half_shown(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = written
    logger.info("x" * 3980 + " " + "5e" * 32)
    assert "5e5e5e" not in out.getvalue()


def test_names_stay() -> None:
    text = f"job {DIGEST} of 0x52908400098527886E0F7030069857D2E4169EE7, lease {'0a' * 16}"
    assert scrub(text) == text


def test_the_format_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(logs.VARIABLE, raising=False)
    assert LogFormat.chosen() == LogFormat.TEXT
    monkeypatch.setenv(logs.VARIABLE, "json")
    assert isinstance(logs.formatter(), JsonFormatter)
    monkeypatch.setenv(logs.VARIABLE, "xml")
    with pytest.raises(MalformedError, match="neither json nor text"):
        LogFormat.chosen()
