"""One trace per job, across requester, coordinator and workers (OpenTelemetry; extra ``rexis[traces]``).

Without the packages, or without a place to send to, everything here does nothing; a trace context that others gave is
passed on all the same. What a span says is bounded: names, ids, counts and sizes. Never a record, output, key or token.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

HEADER = "traceparent"
# W3C Trace Context, version 00.
_PARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
_SWITCH = "REXIS_TRACES"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_log = logging.getLogger(__name__)

Value = str | int | bool
_provider: TracerProvider | None = None


def is_wanted() -> bool:
    """Whether the environment asks for traces: ``REXIS_TRACES``, else whether it names where to send them."""
    switch = os.environ.get(_SWITCH)
    if switch is not None:
        return switch not in ("", "0")
    return any(os.environ.get(name) for name in _ENDPOINTS)


def start(service: str) -> None:
    """Send this process's spans by OTLP over HTTP, as the standard ``OTEL_…`` variables say, if they are wanted."""
    if not is_wanted():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("traces are wanted, but the extra rexis[traces] is not installed")
        return
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)


def use(provider: TracerProvider | None) -> None:
    """Make spans with this provider from now on; None for no more."""
    global _provider  # a process has one, as it has one logging
    _provider = provider


def stop() -> None:
    """Send what is left. Waits for it, but not for ever."""
    if _provider is not None:
        _provider.shutdown()
        use(None)


def is_on() -> bool:
    """Whether spans are made."""
    return _provider is not None


@contextmanager
def span(name: str, parent: str | None = None, /, **attributes: Value) -> Iterator[None]:
    """A span around the block: within the one that is open here, or within `parent` where that is given.

    Parameters
    ----------
    parent
        A ``traceparent`` from elsewhere.
    """
    if _provider is None:
        yield
        return
    from opentelemetry.trace import Status, StatusCode

    tracer = _provider.get_tracer("rexis")
    with tracer.start_as_current_span(
        name, context=_context(parent), attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield
        except BaseException as error:
            made.set_status(Status(StatusCode.ERROR, type(error).__name__))  # its text may repeat what was sent
            raise


def record(name: str, parent: str | None, begun_ns: int, ended_ns: int, /, **attributes: Value) -> None:
    """A span of something that is over. Without a parent there is none: it would belong to nobody's trace."""
    if _provider is None or parent is None:
        return
    made = _provider.get_tracer("rexis").start_span(
        name, context=_context(parent), start_time=begun_ns, attributes=attributes
    )
    made.end(ended_ns)


def annotate(**attributes: Value) -> None:
    """Add to the span that is open here."""
    if _provider is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(attributes)


def rename(name: str) -> None:
    """Call the span that is open here by what it turned out to be."""
    if _provider is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().update_name(name)


def current() -> str | None:
    """The ``traceparent`` of the span that is open here; None if there is none."""
    if _provider is None:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def headers() -> dict[str, str]:
    """What a request carries, so that the other side's spans belong to the one that is open here."""
    found = current()
    return {} if found is None else {HEADER: found}


def given(request_headers: Mapping[str, str]) -> str | None:
    """The ``traceparent`` that a request carries, if it is one."""
    found = request_headers.get(HEADER, "")
    return found if _PARENT.match(found) else None


def _context(parent: str | None) -> Context | None:
    if parent is None:
        return None
    from opentelemetry import trace

    _, trace_id, span_id, flags = parent.split("-")
    remote = trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(remote))
