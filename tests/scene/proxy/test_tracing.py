"""Trace contexts: who is traced, what x-request-id says of it, and the headers that the host gets."""
import re

import pytest

from lib import client
from lib.proxy import bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "05e3ac9a4f6e3b90"
SHOWN = ("traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags")
ID = "00000000-0000-{}000-8000-000000000000"


def zipkin(**fields):
    return {"name": "envoy.tracers.zipkin", "typed_config": typed(
        "envoy.config.trace.v3.ZipkinConfig", collector_cluster="a", collector_endpoint="/spans", collector_endpoint_version="HTTP_JSON",
        **{"trace_id_128bit": True, "shared_span_context": False, **fields})}


def otel():
    return {"name": "envoy.tracers.opentelemetry", "typed_config": typed(
        "envoy.config.trace.v3.OpenTelemetryConfig", service_name="x", grpc_service={"envoy_grpc": {"cluster_name": "a"}, "timeout": "1s"})}


def tracing(provider=None, random=100, client_=100, overall=100, **fields):
    return {"random_sampling": {"value": random}, "client_sampling": {"value": client_}, "overall_sampling": {"value": overall},
            **({"provider": provider} if provider else {}), **fields}


class Asker:
    """Sends headers through a proxy, tells those that the backend got."""

    def __init__(self, run_proxy, backends, config, direction=None, **fields):
        self.server = backends()
        kind = {"traffic_direction": direction} if direction else {}
        self.proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")], tracing=config, **fields), **kind), [cluster("a", self.server.port)]))

    def ask(self, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.reply = client.get(self.proxy.port, "/asked", headers=headers)
        assert self.reply.status == 200
        self.seen = [request for request in self.server.requests if request.path == "/asked"][-1]
        return {name: self.seen.header(name) for name in SHOWN if self.seen.header(name) is not None}

    def reason(self, **headers):
        self.ask(**headers)
        return self.seen.header("x-request-id")[14:15]


def test_ids_say_who_is_traced(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing())
    assert asker.reason() == "9" and asker.reason(x_client_trace_id="c") == "b"
    assert asker.reason(x_request_id=ID.format("4")) == "9" and asker.seen.header("x-request-id") == ID.format("9")
    assert asker.reason(x_request_id=ID.format("a")) == "a"
    asker.ask(x_request_id="nonsense")
    assert asker.seen.header("x-request-id") == "nonsense" and asker.reply.header("x-request-id") is None


@pytest.mark.parametrize("config, expected", [
    (tracing(random=0), {"": "4", "c": "b"}), (tracing(random=0, client_=0), {"": "4", "c": "4"}), (tracing(overall=0), {"": "4", "c": "4"})])
def test_sampling(run_proxy, backends, config, expected):
    asker = Asker(run_proxy, backends, config, always_set_request_id_in_response=True)
    assert asker.reason() == expected[""] and asker.reason(x_client_trace_id="c") == expected["c"]
    assert asker.reply.header("x-request-id") == asker.seen.header("x-request-id")


def test_a_share_is_sampled_by_the_id(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing(random=50))
    assert asker.reason(x_request_id="00001387-0000-4000-8000-000000000000") == "9"  # 4999 of 10000
    assert asker.reason(x_request_id="00001388-0000-4000-8000-000000000000") == "4"


def test_ids_of_strangers(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing(), use_remote_address=True)
    assert asker.reason(x_request_id=ID.format("4")) == "9" and asker.seen.header("x-request-id") != ID.format("9")
    asker = Asker(run_proxy, backends, tracing(), use_remote_address=True, preserve_external_request_id=True)
    assert asker.reason(x_request_id=ID.format("4")) == "9" and asker.seen.header("x-request-id") == ID.format("9")


def test_reason_stays_out_of_the_id(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing(), request_id_extension={
        "typed_config": typed("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)})
    assert asker.reason() == "4"


def test_b3_by_several_headers(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing(zipkin()))
    first = asker.ask()
    assert re.fullmatch("[0-9a-f]{32}", first["x-b3-traceid"]) and first["x-b3-traceid"].endswith(first["x-b3-spanid"])
    assert first["x-b3-sampled"] == "1" and "x-b3-parentspanid" not in first
    child = asker.ask(x_b3_traceid=TRACE, x_b3_spanid=SPAN, x_b3_parentspanid=PARENT, x_b3_sampled="0")
    assert (child["x-b3-traceid"], child["x-b3-parentspanid"], child["x-b3-sampled"]) == (TRACE, SPAN, "0")
    assert child["x-b3-spanid"] != SPAN and re.fullmatch("[0-9a-f]{16}", child["x-b3-spanid"])
    assert asker.ask(x_b3_sampled="0")["x-b3-sampled"] == "0"
    assert asker.ask(x_b3_traceid="zz", x_b3_spanid=SPAN) == {"x-b3-traceid": "zz", "x-b3-spanid": SPAN}  # as it came


def test_b3_by_one_header(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing(zipkin()))
    assert re.fullmatch(f"{TRACE}-[0-9a-f]{{16}}-1-{SPAN}", asker.ask(b3=f"{TRACE}-{SPAN}-1")["b3"])
    assert re.fullmatch(f"{TRACE}-[0-9a-f]{{16}}-0-{SPAN}", asker.ask(b3=f"{TRACE}-{SPAN}-0-{PARENT}")["b3"])
    for flag, sampled in (("0", "0"), ("1", "1"), ("d", "1")):
        assert re.fullmatch(f"[0-9a-f]{{32}}-[0-9a-f]{{16}}-{sampled}", asker.ask(b3=flag)["b3"])
    assert asker.ask(b3="nonsense") == {"b3": "nonsense"}


def test_a_server_may_share_the_span(run_proxy, backends):
    came = {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-parentspanid": PARENT, "x-b3-sampled": "1"}
    asker = Asker(run_proxy, backends, tracing(zipkin(shared_span_context=True)))
    assert asker.ask(**came) == came
    asker = Asker(run_proxy, backends, tracing(zipkin(shared_span_context=True)), "OUTBOUND")
    assert asker.ask(**came)["x-b3-parentspanid"] == SPAN


def test_b3_with_w3c(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing(zipkin(trace_context_option="USE_B3_WITH_W3C_PROPAGATION")))
    got = asker.ask(traceparent=f"00-{TRACE}-{SPAN}-00", tracestate="a=b")
    assert (got["x-b3-traceid"], got["x-b3-parentspanid"], got["x-b3-sampled"], got["tracestate"]) == (TRACE, SPAN, "0", "a=b")
    assert got["traceparent"] == f"00-{TRACE}-{got['x-b3-spanid']}-00"


def test_w3c(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing(otel()))
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", asker.ask()["traceparent"])
    for version, flags in (("00", "01"), ("00", "00"), ("01", "01")):
        got = asker.ask(traceparent=f"{version}-{TRACE}-{SPAN}-{flags}", tracestate="a=b")
        assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-{flags}", got["traceparent"]) and SPAN not in got["traceparent"] and got["tracestate"] == "a=b"
    assert asker.ask(traceparent="00-bad", tracestate="a=b") == {"traceparent": "00-bad", "tracestate": "a=b"}


def test_contexts_stay_at_home(run_proxy, backends):
    asker = Asker(run_proxy, backends, tracing(otel(), no_context_propagation=True))
    assert asker.ask() == {} and asker.reason() == "9"


@pytest.mark.parametrize("direction, fields, decorator, asked, up, down", [
    (None, {}, {"operation": "deco"}, None, None, "deco"), (None, {}, {"operation": "deco"}, "theirs", None, "host"),
    (None, {}, {"operation": "deco", "propagate": False}, None, None, "host"), (None, {}, None, None, None, "host"),
    (None, {"use_remote_address": True}, {"operation": "deco"}, "theirs", None, "deco"),
    ("OUTBOUND", {}, {"operation": "deco"}, "theirs", "deco", None), ("OUTBOUND", {}, {"operation": "deco"}, None, "deco", None),
    ("OUTBOUND", {}, {"operation": "deco", "propagate": False}, "theirs", "theirs", None)], ids=str)
@pytest.mark.parametrize("sampled", [0, 100])
def test_operations_are_named(run_proxy, backends, direction, fields, decorator, asked, up, down, sampled):
    """Clients' sides name the route's operation to the host, servers' sides to the client that has not named one."""
    name = "x-envoy-decorator-operation"
    server = backends(behaviour=lambda *_: (200, [(name, "host")], b""))
    entry = route("/", "a", **({"decorator": decorator} if decorator else {}))
    kind = {"traffic_direction": direction} if direction else {}
    proxy = run_proxy(bootstrap(listener(hcm([entry], tracing=tracing(random=sampled), **fields), **kind), [cluster("a", server.port)]))
    reply = client.get(proxy.port, headers={name: asked} if asked else {})
    assert (server.requests[0].header(name), reply.header(name)) == (up, down)


def test_operations_of_who_does_not_trace(run_proxy, backends):
    server = backends()
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a", decorator={"operation": "deco"})])), [cluster("a", server.port)]))
    reply = client.get(proxy.port, headers={"x-envoy-decorator-operation": "theirs"})
    assert (server.requests[0].header("x-envoy-decorator-operation"), reply.header("x-envoy-decorator-operation")) == ("theirs", None)
