"""
Hosts that are not well: outlier detection and active health checks take them out and in. Times are short, and every step waits for
what it expects; what a host answers can be changed while the scene runs.
"""
import socket
import subprocess
import time

import pytest

from lib import client
from lib import proxy as p
from lib.backend import TcpBackend, free_port


class Moody:
    """A backend whose answers can be changed: status, headers, or None for no answer at all."""

    def __init__(self, make, name):
        self.status, self.headers, self.checks = 200, [], 0
        self.check_status, self.check_headers = 200, []
        self.server = make(name, behaviour=self.behave)
        self.name, self.port = name, self.server.port

    def behave(self, request, _handler):
        if request.path.startswith("/healthz"):
            self.checks += 1
            self.last_check = request
            return self.check_status, self.check_headers, b"check"
        if self.status is None:
            time.sleep(20)
        return self.status, [("x-backend", self.name), *self.headers], b"x"


@pytest.fixture
def moody(backends):
    return lambda count: [Moody(backends, f"b{i}") for i in range(count)]


def run_cluster(run_proxy, hosts, *routes, concurrency=1, **fields):
    fields.setdefault("common_lb_config", {"healthy_panic_threshold": {}})
    made = p.cluster("c", *[h.port if hasattr(h, "port") else h for h in hosts], **fields)
    return run_proxy(p.bootstrap(p.listener(p.hcm(list(routes) or [p.route("/", "c")])), [made]), concurrency=concurrency)


def ask(proxy, count):
    """Backends that answered, in order; the status where it was none."""
    with client.Connection(proxy.port) as connection:
        names = []
        for _ in range(count):
            connection.request()
            response = connection.response()
            names.append(response.header("x-backend") or response.status)
        return names


def flags(proxy, port):
    lines = proxy.admin_get("/clusters").body.decode().splitlines()
    return next(line.split("::")[-1] for line in lines if f":{port}::health_flags::" in line)


def reaches(proxy, wanted, within=10):
    """Waits until requests reach exactly these backends."""
    client.wait_until(lambda: set(ask(proxy, 12)) == set(wanted), within=within, what=f"only {wanted}")


# --- outlier detection ---

FAST = {"interval": "0.2s", "base_ejection_time": "1s", "max_ejection_percent": 100}


@pytest.mark.quick
def test_consecutive_5xx(run_proxy, moody):
    hosts = moody(3)
    proxy = run_cluster(run_proxy, hosts, outlier_detection={**FAST, "consecutive_5xx": 3})
    hosts[0].status = 500
    client.wait_until(lambda: "/failed_outlier_check" in flags(proxy, hosts[0].port) or not ask(proxy, 3))
    assert set(ask(proxy, 12)) == {"b1", "b2"}
    stats = proxy.stats()
    assert stats["cluster.c.outlier_detection.ejections_active"] == 1
    assert stats["cluster.c.outlier_detection.ejections_enforced_consecutive_5xx"] == 1
    assert stats["cluster.c.outlier_detection.ejections_enforced_total"] == 1
    hosts[0].status = 200
    reaches(proxy, {"b0", "b1", "b2"})
    assert flags(proxy, hosts[0].port) == "healthy"
    assert proxy.stats()["cluster.c.outlier_detection.ejections_active"] == 0


def test_all_workers_know(run_proxy, moody):
    """The row of failures is counted, and the host taken out, for all workers together."""
    hosts = moody(2)
    proxy = run_cluster(run_proxy, hosts, outlier_detection={**FAST, "consecutive_5xx": 20, "base_ejection_time": "60s"}, concurrency=2)
    hosts[0].status = 503
    for _ in range(100):  # connections of their own: both workers take part
        client.get(proxy.port)
    client.wait_until(lambda: "failed_outlier_check" in flags(proxy, hosts[0].port))
    assert {client.get(proxy.port).header("x-backend") for _ in range(30)} == {"b1"}


def test_gateway_failures_alone(run_proxy, moody):
    hosts = moody(2)
    proxy = run_cluster(run_proxy, hosts, outlier_detection={**FAST, "consecutive_5xx": 1000, "consecutive_gateway_failure": 3,
                                                             "enforcing_consecutive_gateway_failure": 100, "base_ejection_time": "60s"})
    hosts[0].status = 500
    ask(proxy, 20)
    assert flags(proxy, hosts[0].port) == "healthy"
    hosts[0].status = 502
    client.wait_until(lambda: ask(proxy, 4) and "failed_outlier_check" in flags(proxy, hosts[0].port))
    assert proxy.stats()["cluster.c.outlier_detection.ejections_enforced_consecutive_gateway_failure"] == 1


def test_local_origin_failures(run_proxy, moody):
    """Told apart from answers, hosts that nobody can connect to have a row of their own."""
    dead = free_port()
    host = moody(1)[0]
    proxy = run_cluster(run_proxy, [dead, host], outlier_detection={
        **FAST, "split_external_local_origin_errors": True, "consecutive_local_origin_failure": 3, "consecutive_5xx": 1000,
        "base_ejection_time": "60s"})
    client.wait_until(lambda: ask(proxy, 4) and "failed_outlier_check" in flags(proxy, dead))
    assert set(ask(proxy, 10)) == {"b0"}
    assert proxy.stats()["cluster.c.outlier_detection.ejections_enforced_consecutive_local_origin_failure"] == 1


def test_connect_failures_count_as_503(run_proxy, moody):
    dead = free_port()
    proxy = run_cluster(run_proxy, [dead, moody(1)[0]], outlier_detection={**FAST, "consecutive_5xx": 3, "base_ejection_time": "60s"})
    client.wait_until(lambda: ask(proxy, 4) and "failed_outlier_check" in flags(proxy, dead))


def test_tcp(run_proxy, moody):
    dead = free_port()
    made = p.cluster("c", dead, moody(1)[0].port, outlier_detection={**FAST, "consecutive_5xx": 2, "base_ejection_time": "60s"},
                     common_lb_config={"healthy_panic_threshold": {}})
    proxy = run_proxy(p.bootstrap(p.listener(p.tcp_proxy("c")), [made]))

    def try_once():
        try:
            return client.get(proxy.port)
        except OSError:
            return None
    client.wait_until(lambda: [try_once() for _ in range(4)] and "failed_outlier_check" in flags(proxy, dead))
    assert all(client.get(proxy.port).status == 200 for _ in range(5))


@pytest.mark.parametrize("percent, ejected", [(10, 0), (50, 2)])
def test_at_most_so_many(run_proxy, moody, percent, ejected):
    hosts = moody(4)
    proxy = run_cluster(run_proxy, hosts, outlier_detection={**FAST, "consecutive_5xx": 1, "max_ejection_percent": percent,
                                                             "base_ejection_time": "60s"})
    for host in hosts:
        host.status = 500
    ask(proxy, 16)
    client.wait_until(lambda: proxy.stats()["cluster.c.outlier_detection.ejections_overflow"] >= 2)
    assert sum("failed_outlier_check" in flags(proxy, h.port) for h in hosts) == ejected


def test_failure_percentage(run_proxy, moody):
    hosts = moody(3)
    proxy = run_cluster(run_proxy, hosts, outlier_detection={
        **FAST, "consecutive_5xx": 10000, "enforcing_success_rate": 0, "failure_percentage_minimum_hosts": 3,
        "failure_percentage_request_volume": 5, "failure_percentage_threshold": 60, "enforcing_failure_percentage": 100,
        "base_ejection_time": "60s"})
    hosts[1].status = 500
    client.wait_until(lambda: ask(proxy, 30) and "failed_outlier_check" in flags(proxy, hosts[1].port))
    assert proxy.stats()["cluster.c.outlier_detection.ejections_enforced_failure_percentage"] == 1


def test_success_rate(run_proxy, moody):
    hosts = moody(6)
    proxy = run_cluster(run_proxy, hosts, outlier_detection={
        **FAST, "interval": "0.5s", "consecutive_5xx": 10000, "success_rate_minimum_hosts": 5, "success_rate_request_volume": 5,
        "success_rate_stdev_factor": 1000, "base_ejection_time": "60s"})
    hosts[3].status = 500
    client.wait_until(lambda: ask(proxy, 60) and "failed_outlier_check" in flags(proxy, hosts[3].port))
    assert proxy.stats()["cluster.c.outlier_detection.ejections_enforced_success_rate"] == 1


# --- active health checks ---

def check(kind, interval="0.1s", **fields):
    return [{"timeout": "0.5s", "interval": interval, "no_traffic_interval": interval, "unhealthy_threshold": 2, "healthy_threshold": 2,
             **kind, **fields}]


HTTP = {"http_health_check": {"path": "/healthz?deep=1", "host": "health.example",
                              "request_headers_to_add": [{"header": {"key": "x-check", "value": "yes"}}]}}


def test_http_check(run_proxy, moody):
    hosts = moody(2)
    hosts[0].check_status = 503
    proxy = run_cluster(run_proxy, hosts, health_checks=check(HTTP))
    assert set(ask(proxy, 10)) == {"b1"}  # from the first request on: the cluster waits for its checks
    assert flags(proxy, hosts[0].port) == "/failed_active_hc"
    request = hosts[1].last_check
    assert (request.method, request.path, request.header("host")) == ("GET", "/healthz?deep=1", "health.example")
    assert (request.header("user-agent"), request.header("x-check")) == ("Envoy/HC", "yes")
    hosts[0].check_status = 200
    reaches(proxy, {"b0", "b1"})
    hosts[1].check_status = 404
    reaches(proxy, {"b0"})
    stats = proxy.stats()
    assert stats["cluster.c.health_check.attempt"] >= stats["cluster.c.health_check.success"] > 0
    assert stats["cluster.c.health_check.failure"] > 0
    assert stats["cluster.c.health_check.healthy"] == 1
    assert hosts[1].server.connections <= 3  # one for the checks, one for requests, and one that the backend may have closed


def test_expected_and_retriable_statuses(run_proxy, moody):
    hosts = moody(2)
    kind = {"http_health_check": {"path": "/healthz", "expected_statuses": [{"start": 200, "end": 201}, {"start": 418, "end": 419}],
                                  "retriable_statuses": [{"start": 503, "end": 504}]}}
    proxy = run_cluster(run_proxy, hosts, health_checks=check(kind, unhealthy_threshold=1000))
    hosts[0].check_status = 418
    hosts[1].check_status = 503  # counts up to the threshold, which is far
    seen = [h.checks for h in hosts]
    client.wait_until(lambda: all(h.checks > n + 5 for h, n in zip(hosts, seen)))
    assert set(ask(proxy, 10)) == {"b0", "b1"}
    hosts[1].check_status = 500  # no threshold
    reaches(proxy, {"b0"})


def test_degraded_by_check(run_proxy, moody):
    hosts = moody(2)
    proxy = run_cluster(run_proxy, hosts, health_checks=check(HTTP))
    hosts[0].check_headers = [("x-envoy-degraded", "")]
    client.wait_until(lambda: "/degraded_active_hc" in flags(proxy, hosts[0].port))
    assert "b1" in ask(proxy, 20)


def test_no_answer(run_proxy, moody):
    """A host that hangs is given up after the timeout, as often as the threshold says."""
    def hang(connection):
        while connection.recv(4096):
            pass
    silent = TcpBackend(hang)
    host = moody(1)[0]
    proxy = run_cluster(run_proxy, [silent, host], health_checks=check(HTTP, timeout="0.2s"))
    assert set(ask(proxy, 6)) == {"b0"}
    client.wait_until(lambda: "/active_hc_timeout" in flags(proxy, silent.port))
    assert proxy.stats()["cluster.c.health_check.network_failure"] >= 1
    silent.close()


def test_tcp_check(run_proxy, moody):
    word = {"say": b"PONG"}

    def pong(connection):
        while connection.recv(64):
            connection.sendall(word["say"][:2])
            connection.sendall(word["say"][2:])
    server = TcpBackend(pong)
    kind = {"tcp_health_check": {"send": {"text": b"PING".hex()}, "receive": [{"text": b"PO".hex()}, {"text": b"NG".hex()}]}}
    proxy = run_cluster(run_proxy, [server], health_checks=check(kind))
    assert flags(proxy, server.port) == "healthy"
    word["say"] = b"NOPE"
    client.wait_until(lambda: "/failed_active_hc" in flags(proxy, server.port))
    word["say"] = b"xxPOyyNGzz"
    client.wait_until(lambda: flags(proxy, server.port) == "healthy")
    server.close()


def test_tcp_connect_check(run_proxy, moody):
    host, dead = moody(1)[0], free_port()
    proxy = run_cluster(run_proxy, [host, dead], health_checks=check({"tcp_health_check": {}}))
    assert flags(proxy, host.port) == "healthy"
    assert "/failed_active_hc" in flags(proxy, dead)
    assert set(ask(proxy, 6)) == {"b0"}


@pytest.fixture
def grpc_health():
    """A gRPC server with the standard health service; status(name) can be changed."""
    import grpc
    from concurrent import futures

    state = {"": 1, "web": 1, "seen": []}

    def reply(data, context):
        name = data[2:].decode() if data else ""
        state["seen"].append((name, dict(context.invocation_metadata())))
        if state[name] is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        return bytes([8, state[name]])

    handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(reply)})
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    state["port"] = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield state
    server.stop(None)


def test_grpc_check(run_proxy, grpc_health):
    kind = {"grpc_health_check": {"service_name": "web", "authority": "health.example"}}
    port = grpc_health["port"]
    proxy = run_cluster(run_proxy, [port], health_checks=check(kind), http2_protocol_options={})
    assert flags(proxy, port) == "healthy"
    name, metadata = grpc_health["seen"][0]
    assert (name, metadata["user-agent"].split()[0]) == ("web", "Envoy/HC")
    for status in (2, None):  # NOT_SERVING, and a call that fails
        grpc_health["web"] = status
        client.wait_until(lambda: "/failed_active_hc" in flags(proxy, port))
        grpc_health["web"] = 1
        client.wait_until(lambda: flags(proxy, port) == "healthy")


def test_http2_check(run_proxy, tmp_path):
    """The check speaks HTTP/2 to a server that speaks nothing else, and keeps the connection."""
    port, page = free_port(), tmp_path / "healthz"
    page.write_text("well")
    server = subprocess.Popen(["nghttpd", "--no-tls", str(port), "-d", str(tmp_path)], stdout=subprocess.DEVNULL)
    try:
        client.wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        kind = {"http_health_check": {"path": "/healthz", "codec_client_type": "HTTP2"}}
        proxy = run_cluster(run_proxy, [port], health_checks=check(kind), http2_protocol_options={})
        client.wait_until(lambda: proxy.stats()["cluster.c.health_check.success"] > 3)
        assert proxy.stats().get("cluster.c.health_check.network_failure", 0) == 0
        page.unlink()  # 404 from now on
        client.wait_until(lambda: "/failed_active_hc" in flags(proxy, port))
    finally:
        server.kill()
        server.wait()


def test_immediate_fail(run_proxy, moody):
    """A response to anybody may say that the host is not well."""
    hosts = moody(2)
    proxy = run_cluster(run_proxy, hosts, health_checks=check(HTTP, interval="60s"))
    hosts[0].headers = [("x-envoy-immediate-health-check-fail", "true")]
    client.wait_until(lambda: ask(proxy, 4) and "/failed_active_hc" in flags(proxy, hosts[0].port))
    assert "/excluded_via_immediate_hc_fail" in flags(proxy, hosts[0].port)
    assert set(ask(proxy, 6)) == {"b1"}
    assert proxy.stats()["cluster.c.health_check.passive_failure"] == 1


def test_check_takes_back_outlier(run_proxy, moody):
    hosts = moody(2)
    proxy = run_cluster(run_proxy, hosts, health_checks=check(HTTP, interval="0.5s"),
                        outlier_detection={**FAST, "consecutive_5xx": 1, "base_ejection_time": "600s"})
    hosts[0].status = 500
    ask(proxy, 4)
    hosts[0].status = 200
    reaches(proxy, {"b0", "b1"})


def test_tls_check(run_proxy, backends, tmp_path):
    """The check goes through the cluster's own transport socket."""
    import ssl
    from lib import certs
    root = certs.Root()
    leaf = root.leaf("spiffe://cluster.local/ns/a/sa/b")
    chain = tmp_path / "leaf.pem"
    chain.write_text(leaf[0] + leaf[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server = backends("tls", ssl_context=context)
    made = p.cluster("c", server.port, health_checks=check({"http_health_check": {"path": "/status/200"}}),
                     transport_socket=certs.upstream(None, root), common_lb_config={"healthy_panic_threshold": {}})
    proxy = run_proxy(p.bootstrap(p.listener(p.hcm([p.route("/", "c")])), [made]))
    assert client.get(proxy.port).status == 200
    assert any(r.path == "/status/200" for r in server.requests)


def test_endpoints_own_check(run_proxy, moody):
    """An endpoint may be checked at another port, or not at all."""
    hosts, other = moody(2), moody(1)[0]
    hosts[0].check_status = hosts[1].check_status = 500
    made = p.cluster("c", *[h.port for h in hosts], health_checks=check(HTTP), common_lb_config={"healthy_panic_threshold": {}})
    endpoints = made["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoints[0]["endpoint"]["health_check_config"] = {"port_value": other.port, "hostname": "own.example"}
    endpoints[1]["endpoint"]["health_check_config"] = {"disable_active_health_check": True}
    proxy = run_proxy(p.bootstrap(p.listener(p.hcm([p.route("/", "c")])), [made]))
    assert set(ask(proxy, 10)) == {"b0", "b1"}
    assert other.last_check.header("host") == "own.example"
    assert hosts[1].checks == 0


def test_hostile_host(run_proxy, moody):
    """What a checked host sends is bounded, and harms nobody else."""
    def babble(connection):
        connection.recv(4096)
        try:
            while True:
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"y" * 60000 + b"\r\n")
        except OSError:
            pass
    server = TcpBackend(babble)
    host = moody(1)[0]
    proxy = run_cluster(run_proxy, [server, host], health_checks=check(HTTP))
    client.wait_until(lambda: proxy.stats()["cluster.c.health_check.attempt"] > 10)
    assert "/failed_active_hc" in flags(proxy, server.port)
    assert set(ask(proxy, 6)) == {"b0"}
    server.close()
