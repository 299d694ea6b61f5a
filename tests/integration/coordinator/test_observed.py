"""A coordinator and a worker as real processes, seen from outside: traces, figures, streams, alerts, dashboard."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import promql_parser
import pytest
import yaml
from eth_account.signers.local import LocalAccount
from onnx import TensorProto, helper
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contracts.chain import Deployment
from contracts.devchain import DevChain
from rexis.api import JobChange, JobProgress, JobState
from rexis.files import write_file
from rexis.protocol.signing import new_account
from rexis.telemetry import traces
from rexis.watching import Watcher, job_events, watch_job
from tests.integration.coordinator.rig import PASSPHRASE, Rig

DEPLOY = Path(__file__).parents[3] / "deploy"
# Not rexis' own: Prometheus makes them.
OF_PROMETHEUS = {"up"}


class Collector:
    """An OTLP receiver over real HTTP."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                    collector.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Observed:
    """One job done by a real worker, with everything turned on; and what was seen of it."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.collector = rig, Collector()
        self.ports = {"coordinator": free_port(), "worker": free_port()}
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "REXIS_LOG_FORMAT": "json",
        }
        rig.start(**settings, REXIS_METRICS_PORT=str(self.ports["coordinator"]))
        rig.publish()
        account = new_account()
        wallet = rig.folder / "worker.json"
        write_file(wallet, json.dumps(account.encrypt(PASSPHRASE, iterations=2)).encode(), private=True)
        self.worker_log = (rig.folder / "worker.log").open("wb")
        self.worker = subprocess.Popen(
            [
                sys.executable, "-c", "from rexis.cli.main import run; run()", "worker", "run",
                "--coordinator", rig.url,
                "--rpc", rig.dev.url, "--wallet", str(wallet), "--name", "w", "--tiers", "commit", "--provers", "1",
                "--cache", str(rig.folder / "cache"), "--metrics-port", str(self.ports["worker"]),
            ],
            env={**os.environ, **settings, "REXIS_PASSPHRASE": PASSPHRASE},
            stdout=self.worker_log, stderr=self.worker_log,
        )  # fmt: skip
        self.changes: list[JobChange] = []
        self.progress: list[JobProgress] = []
        self._do_a_job()
        wallet = rig.folder / "requester.json"
        write_file(wallet, json.dumps(rig.requester.encrypt(PASSPHRASE, iterations=2)).encode(), private=True)
        self.watched = subprocess.run(
            [
                sys.executable, "-c", "from rexis.cli.main import run; run()", "job", "watch", str(self.job), "--json",
                "--coordinator", rig.url, "--wallet", str(wallet),
            ],
            env={**os.environ, "REXIS_PASSPHRASE": PASSPHRASE}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.scraped = {name: httpx.get(f"http://127.0.0.1:{port}/metrics").text for name, port in self.ports.items()}
        self.worker.send_signal(signal.SIGTERM)
        self.worker.wait(30)
        rig.stop()

    def _do_a_job(self) -> None:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        traces.use(provider)
        client = self.rig.client(self.rig.requester)
        try:
            with traces.span("submit"):
                self.job = client.submit_job(self.rig.request()).job_id
            watcher = Watcher(self.changes.append, self.progress.append)
            self.view = watch_job(client, self.job, watcher, poll_seconds=0.1)
            self.token = client._transport._token
        finally:
            traces.use(None)
        (self.requested,) = exporter.get_finished_spans()

    def close(self) -> None:
        if self.worker.poll() is None:
            self.worker.kill()
            self.worker.wait()
        self.worker_log.close()
        self.collector.close()


class ModelRig(Rig):
    """A rig with a model that a real worker can run."""

    @property
    def model(self) -> bytes:
        """Twice its input; a rig's own, since a digest has one owner on chain."""
        batch = ["n", 4]
        node = helper.make_node("Add", ["x", "x"], ["y"])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, batch) for name in ("x", "y")]
        graph = helper.make_graph([node], "double", ends[:1], ends[1:])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        made.producer_name = self.owner.address
        data: bytes = made.SerializeToString(deterministic=True)
        return data


@pytest.fixture(scope="module")
def observed(
    tmp_path_factory: pytest.TempPathFactory,
    dev: DevChain,
    deployment: Deployment,
    funded: Callable[[], LocalAccount],
) -> Iterator[Observed]:
    rig = ModelRig(tmp_path_factory.mktemp("observed"), dev, deployment, owner=funded(), account=funded())
    made = Observed(rig)
    yield made
    made.close()
    rig.close()


def test_the_job_was_followed_by_its_events(observed: Observed) -> None:
    assert observed.view.state == JobState.CERTIFIED, observed.view.reason
    states = [change.after for change in observed.changes if change.entity == "job"]
    assert states == ["queued", "running", "anchoring", "certified"]
    assert observed.progress[-1].done == observed.progress[-1].tasks == 2


def test_the_command_prints_each_change(observed: Observed) -> None:
    assert observed.watched.returncode == 0, observed.watched.stderr
    changes = [json.loads(line) for line in observed.watched.stdout.splitlines()]
    assert [change.to_object() for change in observed.changes] == changes


def test_one_trace_has_the_spans_of_all_three(observed: Observed) -> None:
    trace = observed.requested.context.trace_id.to_bytes(16, "big")
    found = [(service, span) for service, span in observed.collector.spans if span.trace_id == trace]
    named: dict[tuple[str, str], list[Span]] = {}
    for service, span in found:
        named.setdefault((service.removeprefix("rexis-"), span.name), []).append(span)
    asked, submitted = named["coordinator", "POST /v1/jobs"]  # the first is answered 401, and then it signs in
    assert (_status(asked), _status(submitted)) == (401, 201)
    assert submitted.parent_span_id == observed.requested.context.span_id.to_bytes(8, "big")
    tasks = named["worker", "task"]
    assert {task.parent_span_id for task in tasks} == {submitted.span_id}
    assert len(tasks) == 2
    of_tasks = {task.span_id for task in tasks}
    for step in ("fetch", "setup", "run", "prove", "upload", "hand-in"):
        assert {span.parent_span_id for span in named["worker", step]} == of_tasks, step
    handed_in = {span.span_id for span in named["worker", "hand-in"]}
    received = named["coordinator", "POST /v1/leases/{lease_id}/evidence"]
    assert {span.parent_span_id for span in received} == handed_in
    assert {span.parent_span_id for span in named["coordinator", "check"]} == {span.span_id for span in received}
    for name in ("anchor", "certificate"):
        assert {span.parent_span_id for span in named["coordinator", name]} == {submitted.span_id}, name


def _status(span: Span) -> int:
    return next(one.value.int_value for one in span.attributes if one.key == "http.response.status_code")


def test_spans_and_logs_hold_no_secret(observed: Observed) -> None:
    logs = observed.rig.log + (observed.rig.folder / "worker.log").read_text()
    spans = "".join(str(span) for _, span in observed.collector.spans)
    assert observed.token is not None
    for secret in (PASSPHRASE, observed.token, "Bearer"):
        assert secret not in logs
        assert secret not in spans


def test_every_log_line_is_json_and_names_what_it_is_about(observed: Observed) -> None:
    lines = [line for line in observed.rig.log.splitlines() if not line.startswith("coordinator 0x")]
    found = [json.loads(line) for line in lines]
    assert all({"time", "level", "logger", "event"} <= line.keys() for line in found)
    evidence = [line for line in found if line["event"] == "request" and line["path"].endswith("/evidence")]
    assert len(evidence) == 2
    assert all({"request_id", "lease_id", "task_id", "job_id", "caller"} <= line.keys() for line in evidence)
    worker = [json.loads(line) for line in (observed.rig.folder / "worker.log").read_text().splitlines()]
    accepted = [line for line in worker if line["event"].startswith("accepted")]
    assert {line["task_id"] for line in accepted} == {line["task_id"] for line in evidence}
    assert any("uvicorn" in line["logger"] for line in found)


# --- what is in deploy/ loads, and asks for what is there ------------------------------------------------------------


def names_in(expression: str) -> set[str]:
    """Metrics that a PromQL expression asks for; raises if it is none."""
    promql_parser.parse(expression)
    bare = re.sub(r'"[^"]*"|\{[^}]*\}', "", expression)
    return {
        name
        for name in re.findall(r"\b[a-z_]+[a-z0-9_]*\b(?!\()", bare)
        if name.startswith(("rexis_", "process_", "up"))
    }


def exported(observed: Observed) -> dict[str, str]:
    """The kind of each metric that coordinator and worker export."""
    found = (re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE) for text in observed.scraped.values())
    return {name: kind for text in found for name, kind in text}


def series(metrics: dict[str, str]) -> set[str]:
    """Names that an expression can ask for."""
    histograms = {name for name, kind in metrics.items() if kind == "histogram"}
    parts = {name + part for name in histograms for part in ("_bucket", "_sum", "_count")}
    return (metrics.keys() - histograms) | parts


def expressions() -> list[str]:
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    dashboard = json.loads((DEPLOY / "grafana/rexis.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return found + [target["expr"] for panel in panels for target in panel["targets"]]


def test_alerts_and_dashboard_ask_only_for_metrics_that_are_exported(observed: Observed) -> None:
    known = series(exported(observed)) | OF_PROMETHEUS
    assert len(expressions()) >= 40
    for expression in expressions():
        asked = names_in(expression)
        assert asked, expression
        assert asked <= known, (expression, asked - known)


def test_the_documented_metrics_are_the_exported_ones(observed: Observed) -> None:
    page = (DEPLOY.parent / "docs/operations.md").read_text().split("### Metrics")[1].split("\n### ")[0]
    documented = set(re.findall(r"`(rexis_[a-z_]+)", page))
    families = {name for name in exported(observed) if name.startswith("rexis_")}
    assert documented == families


def test_labels_have_few_values(observed: Observed) -> None:
    for text in observed.scraped.values():
        assert str(observed.job) not in text
        assert "0x" not in text
        assert len(text) < 200_000


# --- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_goes_on_after_a_dropped_connection_and_at_another_process(rig: Rig) -> None:
    rig.publish()
    client = rig.client(rig.requester)
    job = client.submit_job(rig.request()).job_id
    events = job_events(client, job)
    first = next(event for event in events if event.number is not None)
    events.close()  # drops the connection
    rig.stop(signal.SIGKILL)
    rig.start()
    worker = rig.worker()
    numbers: list[int] = []

    def follow() -> None:
        numbers.extend(event.number for event in job_events(client, job, first.number or 0) if event.number)

    follower = threading.Thread(target=follow)
    follower.start()
    for _ in range(2):
        worker.do_one(rig.dataset)
    follower.join(30)
    assert not follower.is_alive(), "the stream did not end with its job"
    everything = [event.number for event in job_events(client, job) if event.number]
    assert numbers == everything[1:]
    assert everything == sorted(set(everything))
