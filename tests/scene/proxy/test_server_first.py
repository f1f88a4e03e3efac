"""
A port whose protocol nobody declared, and a server that speaks first: both inspectors wait for the client, as istiod asks for them to
(no timeout), and the client waits for the server.
"""
import json
import socket
import time

import pytest

from lib import client, pki
from lib.backend import TcpBackend, free_port
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy, typed

pytestmark = pytest.mark.quick
INSPECTORS = [{"name": f"envoy.filters.listener.{name}", "typed_config": typed(f"envoy.extensions.filters.listener.{name}.v3.{kind}")}
              for name, kind in (("tls_inspector", "TlsInspector"), ("http_inspector", "HttpInspector"))]
LOG = {"name": "envoy.access_loggers.file", "typed_config": typed(
    "envoy.extensions.access_loggers.file.v3.FileAccessLog", path="log.json",
    log_format={"json_format": {"sent": "%BYTES_SENT%", "received": "%BYTES_RECEIVED%", "flags": "%RESPONSE_FLAGS%"}})}


class Mysql:
    """Greets, then answers each line."""

    def __init__(self):
        self.heard = []
        self.backend = TcpBackend(self.serve)
        self.port = self.backend.port

    def serve(self, connection):
        heard = []
        self.heard.append(heard)
        connection.sendall(b"8.0.30 greetings\n")
        while data := connection.recv(1000):
            heard.append(data)
            connection.sendall(b"ok " + data)


class Echo(Mysql):
    """Speaks when it is spoken to."""

    def serve(self, connection):
        heard = []
        self.heard.append(heard)
        while data := connection.recv(1000):
            heard.append(data)
            connection.sendall(b"echo " + data)


@pytest.fixture
def start(run_proxy, backends, workdir):
    made = []

    def run(server, port=None, **fields):
        web = backends("web")
        root = pki.root()
        tls = pki.downstream(root.leaf("s"))
        chains = [{"filter_chain_match": {"transport_protocol": "tls"}, "filters": [hcm([route("/", "web")], stat_prefix="tls")],
                   "transport_socket": tls},
                  {"filter_chain_match": {"application_protocols": ["http/1.0", "http/1.1", "h2c"]}, "filters": [hcm([route("/", "web")])]},
                  {"filters": [tcp_proxy("raw", access_log=[LOG])]}]
        options = {"listener_filters_timeout": "0s", "continue_on_listener_filters_timeout": True, **fields}
        made.append(server.backend)
        return run_proxy(bootstrap(listener(chains=chains, listener_filters=INSPECTORS, **options),
                                   [cluster("web", web.port), cluster("raw", port or server.port)])), web

    yield run
    for backend in made:
        backend.close()


def log(workdir):
    path = workdir / "log.json"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.lateen_only  # Envoy waits for ever
def test_the_server_begins(start, workdir):
    server = Mysql()
    proxy, _ = start(server)
    for number in range(3):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            assert connection.recv(100) == b"8.0.30 greetings\n"
            connection.sendall(b"select 1")
            assert connection.recv(100) == b"ok select 1"
        client.wait_until(lambda number=number: len(log(workdir)) == number + 1, what="the log")
    assert log(workdir)[0] == {"sent": 28, "received": 8, "flags": "-"}
    assert server.heard == [[b"select 1"]] * 3


@pytest.mark.parametrize("pause", (0, 0.1))
def test_http_is_http_however_late(start, pause):
    server = Mysql()
    proxy, web = start(server) if pause == 0 else start(Echo())
    with client.Connection(proxy.port) as connection:
        time.sleep(pause)
        for _ in range(2):
            connection.request()
            assert connection.response().json()["server"] == "web"
    assert len(web.requests) == 2


@pytest.mark.parametrize("pause", (0, 0.1))
def test_tls_is_tls_however_late(start, workdir, pause):
    proxy, web = start(Echo())
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as plain:
        time.sleep(pause)
        with pki.context(workdir).wrap_socket(plain) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert tls.recv(1000).startswith(b"HTTP/1.1 200")
    assert len(web.requests) == 1


@pytest.mark.parametrize("pause", (0, 0.1))
def test_a_client_that_begins(start, workdir, pause):
    """Neither TLS nor HTTP: the connection that was made meanwhile is the one that is used."""
    server = Echo()
    proxy, _ = start(server)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        time.sleep(pause)
        connection.sendall(b"\x00\x01hello")
        assert connection.recv(100) == b"echo \x00\x01hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert server.heard == [[b"\x00\x01hello"]]
    client.wait_until(lambda: log(workdir) == [{"sent": 12, "received": 7, "flags": "-"}], what="the log")


@pytest.mark.parametrize("gone", ("refused", "closed"))
def test_a_guess_that_comes_to_nothing(start, workdir, gone):
    """Nobody is told, and the client may still be anything."""
    server = Echo()
    server.serve = lambda connection: None
    server.backend.close()
    server.backend = TcpBackend(lambda connection: None)
    proxy, web = start(server, port=free_port() if gone == "refused" else server.backend.port)
    with client.Connection(proxy.port) as connection:
        time.sleep(0.1)
        connection.request()
        assert connection.response().json()["server"] == "web"
    assert len(web.requests) == 1 and log(workdir) == []


def test_no_guess_where_a_silent_client_is_not_let_on(start):
    server = Mysql()
    proxy, _ = start(server, listener_filters_timeout="0.3s", continue_on_listener_filters_timeout=False)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        try:
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass
    assert server.heard == []
