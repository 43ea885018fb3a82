"""The trace that calls belong to, where there is one: as the W3C `traceparent`.

OpenTelemetry is never imported here: who traces has it loaded.
"""

from __future__ import annotations

import sys


def trace() -> str | None:
    """The `traceparent` of whatever runs: of the current span, else of the call that this is in."""
    api = sys.modules.get("opentelemetry.trace")
    if api is not None:
        found = _of_span(api)
        if found is not None:
            return found
    worker = sys.modules.get("rhd.worker.call")
    if worker is not None:
        call = worker.current.get()
        if call is not None:
            return call.trace  # type: ignore[no-any-return]
    return None


def _of_span(api: object) -> str | None:
    try:
        span = api.get_current_span().get_span_context()  # type: ignore[attr-defined]
        if not span.is_valid:
            return None
        return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"
    except AttributeError:  # it is being imported
        return None


def enter(traceparent: str) -> None:
    """Makes the span of a call the current one of this context, where OpenTelemetry is in use."""
    api = sys.modules.get("opentelemetry.trace")
    context = sys.modules.get("opentelemetry.context")
    if api is None or context is None:
        return
    try:
        _, trace_id, span_id, flags = traceparent.split("-")
        span = api.SpanContext(
            int(trace_id, 16), int(span_id, 16), True, api.TraceFlags(int(flags, 16))
        )
        context.attach(api.set_span_in_context(api.NonRecordingSpan(span)))
    except (AttributeError, ValueError):  # it is being imported; no traceparent of this version
        return
