"""
Connections to hosts: how long one is kept, whom it may serve, what its socket is like, and whom TLS must find at its other end.
"""
import ipaddress
import socket
import ssl
import subprocess
import time

import pytest
from cryptography import x509

from lib import certs, client
from lib import proxy as p
from lib.backend import TcpBackend, free_port

OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def options(h2=False, upstream=None, **common):
    protocol = {"http2_protocol_options": {}} if h2 else {"http_protocol_options": {}}
    return {"typed_extension_protocol_options": {OPTIONS: p.typed(
        OPTIONS, explicit_http_config=protocol, common_http_protocol_options=common, upstream_http_protocol_options=upstream or {})}}


def simple(port, *filters, **fields):
    manager = filters or [p.hcm([p.route("/", "c")])]
    return p.bootstrap(p.listener(*manager), [p.cluster("c", *(port if isinstance(port, list) else [port]), **fields)])


def stat(proxy, name):
    return proxy.stats().get(f"cluster.c.{name}", 0)


def ask(proxy, count, **request):
    with client.Connection(proxy.port) as connection:
        for _ in range(count):
            connection.request(**request)
            assert connection.response().status == 200


@pytest.fixture
def h2_server(tmp_path):
    """nghttpd with a page at /; its port."""
    (tmp_path / "index.html").write_text("page")
    port = free_port()
    server = subprocess.Popen(["nghttpd", "--no-tls", str(port), "-d", str(tmp_path)], stdout=subprocess.DEVNULL)
    client.wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    yield port
    server.kill()
    server.wait()


# --- how long ---

@pytest.mark.quick
def test_requests_of_a_connection(run_proxy, backends):
    server = backends()
    proxy = run_proxy(simple(server.port, **options(max_requests_per_connection=2)))
    ask(proxy, 6)
    assert server.connections == 3
    assert stat(proxy, "upstream_cx_max_requests") == 3 and stat(proxy, "upstream_cx_http1_total") == 3


def test_requests_of_an_h2_connection(run_proxy, h2_server):
    proxy = run_proxy(simple(h2_server, **options(h2=True, max_requests_per_connection=2)))
    ask(proxy, 6)
    assert stat(proxy, "upstream_cx_total") == stat(proxy, "upstream_cx_http2_total") == 3
    assert stat(proxy, "upstream_cx_max_requests") == 3


@pytest.mark.parametrize("h2", [False, True])
def test_idle_connections_end(run_proxy, backends, h2_server, h2):
    proxy = run_proxy(simple(h2_server if h2 else backends().port, **options(h2=h2, idle_timeout="0.4s")))
    ask(proxy, 3)
    assert stat(proxy, "upstream_cx_total") == 1
    client.wait_until(lambda: stat(proxy, "upstream_cx_active") == 0)
    assert stat(proxy, "upstream_cx_idle_timeout") == 1
    ask(proxy, 1)
    assert stat(proxy, "upstream_cx_total") == 2


def test_use_keeps_a_connection(run_proxy, backends):
    server = backends()
    proxy = run_proxy(simple(server.port, **options(idle_timeout="2s")))
    end = time.monotonic() + 4
    while time.monotonic() < end:
        ask(proxy, 1)
        time.sleep(0.1)
    assert server.connections == 1


@pytest.mark.parametrize("h2", [False, True])
def test_old_connections_end(run_proxy, backends, h2_server, h2):
    """One that serves a request when its time has come serves it, and no other."""
    server = backends()
    proxy = run_proxy(simple(h2_server if h2 else server.port, **options(h2=h2, max_connection_duration="0.5s")))
    ask(proxy, 3)
    assert stat(proxy, "upstream_cx_total") == 1
    client.wait_until(lambda: stat(proxy, "upstream_cx_active") == 0)
    assert stat(proxy, "upstream_cx_max_duration_reached") == 1
    if not h2:
        ask(proxy, 1, path="/delay/1")
        assert server.connections == 2
        ask(proxy, 1)
        assert server.connections == 3


# --- for whom ---

def test_shared_between_clients(run_proxy, backends):
    server = backends()
    proxy = run_proxy(simple(server.port))
    for _ in range(3):
        ask(proxy, 2)
    assert server.connections == 1


def test_each_client_its_own(run_proxy, backends):
    server = backends()
    proxy = run_proxy(simple(server.port, connection_pool_per_downstream_connection=True))
    for _ in range(3):
        ask(proxy, 2)
    assert server.connections == 3


# --- the socket ---

def test_source_address(run_proxy, backends):
    peers = []
    server = backends(behaviour=lambda _request, handler: peers.append(handler.client_address[0]))
    proxy = run_proxy(simple(server.port, upstream_bind_config={"source_address": {"address": "127.0.0.9", "port_value": 0}}))
    ask(proxy, 1)
    assert peers == ["127.0.0.9"]


def test_tcp_keepalive(run_proxy, backends):
    server = backends()
    proxy = run_proxy(simple(server.port, upstream_connection_options={
        "tcp_keepalive": {"keepalive_time": 77, "keepalive_interval": 11, "keepalive_probes": 3}}))
    ask(proxy, 1)
    shown = subprocess.run(["ss", "-Htno", "state", "established", f"dport = :{server.port}"], capture_output=True, text=True, check=True).stdout
    timers = [line for line in shown.splitlines() if "timer:(keepalive," in line]
    assert timers and "1min1" in timers[0], shown


def test_connect_timeout(run_proxy):
    """A listener whose queue is full answers nothing: the attempt ends after the cluster's time."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        made = p.cluster("c", listener.getsockname()[1], connect_timeout="0.3s")
        proxy = run_proxy(p.bootstrap(p.listener(p.hcm([p.route("/", "c")])), [made]))
        response = client.get(proxy.port)
        assert (response.status, response.body) == (
            503, b"upstream connect error or disconnect/reset before headers. reset reason: connection timeout")
        assert stat(proxy, "upstream_cx_connect_timeout") == 1
        for filler in fillers:
            filler.close()


def test_tcp_ends_with_the_health_of_its_host(run_proxy, workdir):
    """close_connections_on_host_health_failure."""
    good = TcpBackend(lambda connection: connection.recv(1))
    check = free_port()
    listening = socket.create_server(("127.0.0.1", check))
    made = p.cluster("c", good.port, close_connections_on_host_health_failure=True, health_checks=[
        {"timeout": "1s", "interval": "0.1s", "no_traffic_interval": "0.1s", "unhealthy_threshold": 1, "healthy_threshold": 1,
         "tcp_health_check": {}}])
    made["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["health_check_config"] = {"port_value": check}
    proxy = run_proxy(p.bootstrap(p.listener(p.tcp_proxy("c")), [made]))
    with client.Connection(proxy.port) as connection:
        client.wait_until(lambda: stat(proxy, "upstream_cx_active") == 1)
        listening.close()
        assert connection.is_closed(within=10)
    good.close()


# --- TLS: whom the request is for ---

NAMES = [x509.DNSName("a.example"), x509.DNSName("*.wild.example"), x509.IPAddress(ipaddress.ip_address("10.1.2.3"))]


class Named:
    """A TLS server for a.example, *.wild.example and 10.1.2.3 that notes what name it was asked for."""

    def __init__(self, backends, folder):
        self.root, self.names = certs.Root(), []
        chain = folder / "named.pem"
        chain.write_text("".join(self.root.leaf(names=NAMES)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self.server = backends("named", ssl_context=context)

    def run(self, run_proxy, upstream=None, sans=(), route=None, hostname=None, trusted=True, **tls):
        transport = certs.upstream(None, self.root, sans, sni="")
        transport["typed_config"].update(tls)
        if not trusted:
            del transport["typed_config"]["common_tls_context"]["validation_context"]
        made = p.cluster("c", self.server.port, transport_socket=transport, **options(upstream=upstream))
        if hostname:
            made["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["hostname"] = hostname
        return run_proxy(p.bootstrap(p.listener(p.hcm([p.route("/", {"cluster": "c", **(route or {})})])), [made]))


@pytest.fixture
def named(backends, tmp_path):
    return Named(backends, tmp_path)


AUTO = {"auto_sni": True, "auto_san_validation": True}


def statuses(proxy, *hosts, **request):
    return [client.get(proxy.port, host=host, **request).status for host in hosts]


@pytest.mark.quick
def test_name_of_the_request(run_proxy, named):
    """The server must have the name that was asked for; a connection that was made for one name serves no other."""
    proxy = named.run(run_proxy, AUTO)
    assert statuses(proxy, "a.example", "b.wild.example", "a.example:80", "B.wild.example", "other.example") == [200, 200, 200, 200, 503]
    assert named.names == ["a.example", "b.wild.example", "other.example"]
    assert statuses(proxy, "a.example", "other.example") == [200, 503]
    assert named.names[3:] == ["other.example"]


def test_address_of_the_request(run_proxy, named):
    """An IP address is no SNI, but the server must have it."""
    proxy = named.run(run_proxy, AUTO)
    assert statuses(proxy, "10.1.2.3:80", "10.1.2.4", "[::1]:80") == [200, 503, 503]
    assert named.names == [None, None, None]


def test_no_name_is_nobody(run_proxy, named):
    proxy = named.run(run_proxy, AUTO)
    assert statuses(proxy, "") == [503]


def test_name_after_rewrites(run_proxy, named):
    proxy = named.run(run_proxy, AUTO, route={"host_rewrite_literal": "a.example"})
    assert statuses(proxy, "other.example") == [200]
    assert named.names == ["a.example"]


def test_name_of_a_header(run_proxy, named):
    proxy = named.run(run_proxy, {**AUTO, "override_auto_sni_header": "X-Sni"})
    assert statuses(proxy, "other.example", headers={"x-sni": "a.example"}) == [200]
    assert statuses(proxy, "a.example") == [200]
    assert statuses(proxy, "a.example", headers={"x-sni": "bad.example"}) == [503]
    assert named.names == ["a.example", "bad.example"]


def test_names_that_were_asked_for_anyway(run_proxy, named):
    """Besides the request's name the configured ones must be there."""
    proxy = named.run(run_proxy, AUTO, sans=[{"exact": "spiffe://cluster.local/x"}])
    assert statuses(proxy, "a.example") == [503]


def test_name_without_trust(run_proxy, named):
    proxy = named.run(run_proxy, AUTO, trusted=False)
    assert statuses(proxy, "a.example") == [503]


def test_sni_alone(run_proxy, named):
    """auto_sni comes before the configured name; without validation any server will do."""
    proxy = named.run(run_proxy, {"auto_sni": True}, sni="configured.example")
    assert statuses(proxy, "other.example", "10.9.9.9") == [200, 200]
    assert named.names == ["other.example", "configured.example"]


def test_name_of_the_endpoint(run_proxy, named):
    proxy = named.run(run_proxy, hostname="a.example", auto_host_sni=True, auto_sni_san_validation=True, sni="bad.example")
    assert statuses(proxy, "other.example") == [200]
    assert named.names == ["a.example"]


@pytest.mark.parametrize("sni, status", [("a.example", 200), ("bad.example", 503)])
def test_sni_is_who_must_be_there(run_proxy, named, sni, status):
    """auto_sni_san_validation: in place of the configured names."""
    proxy = named.run(run_proxy, sni=sni, auto_sni_san_validation=True, sans=[{"exact": "spiffe://cluster.local/x"}])
    assert statuses(proxy, "other.example") == [status]


def test_name_in_h2(run_proxy, named, tmp_path):
    """Streams for different names don't share a connection."""
    chain = tmp_path / "h2.pem"
    key = tmp_path / "h2.key"
    pem, secret = named.root.leaf(names=NAMES)
    chain.write_text(pem)
    key.write_text(secret)
    (tmp_path / "index.html").write_text("page")
    port = free_port()
    server = subprocess.Popen(["nghttpd", str(port), str(key), str(chain), "-d", str(tmp_path)], stdout=subprocess.DEVNULL)
    try:
        client.wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        transport = certs.upstream(None, named.root, sni="")
        transport["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2"]
        proxy = run_proxy(simple(port, transport_socket=transport, **options(h2=True, upstream=AUTO)))
        assert statuses(proxy, "a.example", "b.wild.example", "a.example", "other.example") == [200, 200, 200, 503]
        assert stat(proxy, "upstream_cx_http2_total") == 3
    finally:
        server.kill()
        server.wait()
