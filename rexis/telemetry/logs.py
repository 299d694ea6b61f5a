"""Log lines with the ids of what was being done: one JSON object a line, or text for people.

The standard library's logging does it all: a formatter, and a context variable that holds the ids. Every line is
scrubbed as its last step, exceptions included, so that a secret in somebody else's message does not get out either.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import TextIO

from rexis.protocol.errors import MalformedError

VARIABLE = "REXIS_LOG_FORMAT"
HIDDEN = "[hidden]"

_LONGEST = 4000
_SHORTEST_SECRET = 4
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_bound: ContextVar[dict[str, str] | None] = ContextVar("rexis_log_ids", default=None)
_secrets: set[str] = set()

# What looks like a secret, wherever it comes from. Digests (0x and 64 hexadecimal digits) are names, and stay.
_SCRUBBED = (
    # A URL is cut to scheme and host: user, password, path and query may each hold a provider's key.
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/@'\"]*@)?([^\s/?#'\"<>]*)[^\s'\"<>]*", re.IGNORECASE), r"\1\2"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"AGE-SECRET-KEY-[0-9A-Z]+", re.IGNORECASE), HIDDEN),
    # Signatures, proofs, bodies.
    (re.compile(r"(?<![0-9A-Za-z])(?:0x)?[0-9a-fA-F]{128,}"), HIDDEN),
    # Bearer tokens are 64 hexadecimal digits without 0x, as no name of ours is.
    (re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{64}(?![0-9A-Za-z])"), HIDDEN),
)


class LogFormat(StrEnum):
    """How a log line looks."""

    TEXT = "text"
    JSON = "json"

    @classmethod
    def chosen(cls) -> LogFormat:
        """What ``REXIS_LOG_FORMAT`` says; text without it.

        Raises
        ------
        MalformedError
            It says something else.
        """
        value = os.environ.get(VARIABLE, cls.TEXT)
        try:
            return cls(value)
        except ValueError:
            raise MalformedError(f"{value!r} is neither json nor text", field=VARIABLE) from None


def formatter(wanted: LogFormat | None = None) -> logging.Formatter:
    """The formatter of the chosen format."""
    return JsonFormatter() if (wanted or LogFormat.chosen()) == LogFormat.JSON else TextFormatter()


def install(stream: TextIO, level: int = logging.INFO) -> None:
    """Send every logger of this process, uvicorn's among them, to one stream in the chosen format."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Name what is being done in every line that is logged within the block, in this task and threads that it calls."""
    token = _bound.set({**(_bound.get() or {}), **ids})
    try:
        yield
    finally:
        _bound.reset(token)


def bind(**ids: str) -> None:
    """Add ids to the innermost block, for whoever shares it: they may be known only in one of its threads."""
    found = _bound.get()
    if found is not None:
        found.update(ids)


def bound_ids() -> dict[str, str]:
    """The ids that lines would name now."""
    return dict(_bound.get() or {})


def hide(*values: str | None) -> None:
    """Never log these values: passphrases, passwords, keys that are known at the start."""
    _secrets.update(value for value in values if value is not None and len(value) >= _SHORTEST_SECRET)


def scrub(text: str) -> str:
    """A text without what is, or looks like, a secret."""
    for value in _secrets:
        text = text.replace(value, HIDDEN)
    for pattern, replacement in _SCRUBBED:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "logger", "event", ids …, fields …}``; an exception's trace is a field of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = scrub(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=True)


class TextFormatter(logging.Formatter):
    """``time LEVEL logger event name=value …``; what follows an exception stands on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, more for an exception."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {record.name} {_event(record)}{fields}"
        return line + ("\n" + scrub(self.formatException(record.exc_info)) if record.exc_info else "")


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _event(record: logging.LogRecord) -> str:
    """The message on one line: nothing in it may look like another line."""
    return _one_line(record.getMessage())


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """The ids that are bound, and what the call gave by ``extra``; not what libraries (Ray) add to every record."""
    given = {name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")}
    found = {**(_bound.get() or {}), **given}
    return {name: value if isinstance(value, int | float) else _one_line(str(value)) for name, value in found.items()}


def _one_line(text: str) -> str:
    text = scrub(text)  # whole: half a secret would not be known as one
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
