"""One trace from a client through two daemons into the worker, sent to a collector of our own."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import rhd as rh
from conftest import hosted, until
from opentelemetry import trace as otel
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from test_http import ask

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
SPAN = 0xB7AD6B7169203331
PARENT = f"00-{TRACE:032x}-{SPAN:016x}-01"


class Collector:
    """Takes spans over OTLP/HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.hang = threading.Event()
        self.hang.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.hang.wait(60)
                if self.path == "/v1/traces":
                    outer.take(body)
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        """Decodes a request."""
        request = ExportTraceServiceRequest.FromString(body)
        for of in request.resource_spans:
            names = {a.key: a.value.string_value for a in of.resource.attributes}
            for scope in of.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]

    @property
    def variables(self) -> dict[str, str]:
        """What a daemon needs to export to it."""
        url = f"http://127.0.0.1:{self.server.server_port}"
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def of(self, trace: int, count: int) -> dict[str, Any]:
        """The spans of a trace by name, once there are so many."""

        def found() -> Any:
            spans = [s for _, s in self.spans if int.from_bytes(s.trace_id, "big") == trace]
            return spans if len(spans) >= count else None

        spans = until(found, f"{count} spans of the trace")
        assert len(spans) == count, [s.name for s in spans]
        return {span.name: span for span in spans}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.hang.set()
    made.server.shutdown()
    made.server.server_close()


def attributes(span: Any) -> dict[str, str]:
    return {a.key: a.value.string_value for a in span.attributes}


@contextlib.contextmanager
def within(trace: int, span: int) -> Iterator[None]:
    """Code that some tracer of the client's own watches."""
    context = otel.SpanContext(trace, span, False, otel.TraceFlags(1))
    with otel.use_span(otel.NonRecordingSpan(context)):
        yield


def seen() -> tuple[str | None, str | None]:
    """What the code of a call sees of its trace."""
    import rhd as rh
    from opentelemetry import trace as api

    current = api.get_current_span().get_span_context()
    return rh.trace(), f"{current.trace_id:032x}-{current.span_id:016x}"


async def seen_on_the_loop() -> tuple[str | None, str | None]:
    import rhd as rh
    from opentelemetry import trace as api

    current = api.get_current_span().get_span_context()
    return rh.trace(), f"{current.trace_id:032x}-{current.span_id:016x}"


def test_one_trace_from_client_to_worker(fresh: Any, collector: Collector) -> None:
    near, _ = fresh("near", **collector.variables), fresh("far", **collector.variables)
    fn = rh.function(seen, name="seen").to("far")
    fn()  # Whatever this loads, the next call has it.
    with within(TRACE, SPAN):
        inside, current = fn()
    spans = collector.of(TRACE, 3)
    call, serve, execute = spans["rhd.call"], spans["rhd.serve"], spans["rhd.execute"]
    assert int.from_bytes(call.parent_span_id, "big") == SPAN
    assert serve.parent_span_id == call.span_id
    assert execute.parent_span_id == serve.span_id
    last = f"{TRACE:032x}-{execute.span_id.hex()}"
    assert inside == f"00-{last}-01" and current == last
    assert [attributes(s)["rhd.node"] for s in (call, serve, execute)] == ["near", "far", "far"]
    assert attributes(call)["rpc.service"].endswith("/seen")
    kinds = (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL)
    assert (call.kind, serve.kind, execute.kind) == kinds
    assert {service for service, _ in collector.spans} == {"rhd"}

    import asyncio

    later = rh.function(seen_on_the_loop, name="later").to("far")
    asyncio.run(later.async_call())
    with within(TRACE + 1, SPAN):
        inside, current = asyncio.run(later.async_call())
    execute = collector.of(TRACE + 1, 3)["rhd.execute"]
    assert current == f"{TRACE + 1:032x}-{execute.span_id.hex()}"
    assert inside == f"00-{current}-01"

    # Over HTTP it comes and goes by header.
    parent = f"00-{TRACE + 2:032x}-{SPAN:016x}-01"
    url = hosted(near)["web"]
    answer = ask(url, "POST", "/seen", [], {"traceparent": parent})
    spans = collector.of(TRACE + 2, 3)
    call, execute = spans["rhd.call"], spans["rhd.execute"]
    assert int.from_bytes(call.parent_span_id, "big") == SPAN
    assert answer.headers["traceparent"] == f"00-{TRACE + 2:032x}-{call.span_id.hex()}-01"
    assert answer.json[1] == f"{TRACE + 2:032x}-{execute.span_id.hex()}"


def test_the_daemon_starts_a_trace_where_nobody_did(fresh: Any, collector: Collector) -> None:
    fresh("alone", **collector.variables)

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        rh.function(fail, name="fail").to("here")()
    spans = until(
        lambda: len(collector.spans) == 2 and [s for _, s in collector.spans], "two spans"
    )
    by_name = {span.name: span for span in spans}
    call, execute = by_name["rhd.call"], by_name["rhd.execute"]
    assert not call.parent_span_id and execute.parent_span_id == call.span_id
    assert execute.trace_id == call.trace_id
    for span in spans:
        assert span.status.code == 2 and attributes(span)["error.type"] == "remote"


def test_a_collector_that_hangs_holds_nothing_up(fresh: Any, collector: Collector) -> None:
    collector.hang.clear()
    variables = {**collector.variables, "OTEL_BSP_MAX_QUEUE_SIZE": "8"}
    node = fresh("stuck", **variables)

    def one(n: int) -> int:
        return n

    fn = rh.function(one, name="one").to("here")
    assert [fn(n) for n in range(100)] == list(range(100))
    began = time.monotonic()
    node.stop()
    # Its grace period is ten seconds, the last traces get two.
    assert time.monotonic() - began < 25
    assert not collector.spans


def test_what_was_traced_last_is_sent_when_the_node_ends(fresh: Any, collector: Collector) -> None:
    node = fresh("brief", **{**collector.variables, "OTEL_BSP_SCHEDULE_DELAY": "3600000"})
    rh.function(seen, name="seen").to("here")()
    assert not collector.spans
    node.stop()
    assert {span.name for _, span in collector.spans} == {"rhd.call", "rhd.execute"}


def test_without_a_collector_the_trace_is_passed_on(mesh: Any, where: str) -> None:
    fn = rh.function(seen).to(where)
    fn()
    with within(TRACE, SPAN):
        inside, current = fn()
    assert inside == PARENT and current == f"{TRACE:032x}-{SPAN:016x}"
    assert fn()[0] is None
