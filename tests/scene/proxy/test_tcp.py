"""Raw TCP: bytes both ways, half-closes, weights, and a TCP chain beside an HTTP one."""
import socket

import pytest

from lib import client
from lib.backend import TcpBackend, free_port
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy, typed

pytestmark = pytest.mark.quick


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def read_all(connection):
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def test_echo_and_half_close(run_proxy):
    server = TcpBackend(echo)
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a")), [cluster("a", server.port)]))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        connection.sendall(b"last")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"last"
    server.close()


def test_server_speaks_first(run_proxy):
    server = TcpBackend(lambda connection: (connection.sendall(b"220 ready\r\n"), echo(connection)))
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a")), [cluster("a", server.port)]))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        assert connection.recv(100) == b"220 ready\r\n"
    server.close()


def test_large_transfer_both_ways(run_proxy):
    server = TcpBackend(lambda connection: connection.sendall(read_all(connection)))
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a")), [cluster("a", server.port)]))
    payload = bytes(range(256)) * 20000
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        connection.sendall(payload)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == payload
    server.close()


def test_upstream_refused_closes_the_client(run_proxy):
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a")), [cluster("a", free_port())]))
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            assert connection.recv(10) == b""
    except ConnectionResetError:
        pass  # as good an end


def test_http_inspector_chooses_the_chain(run_proxy, backends):
    web = backends("web")
    raw = TcpBackend(lambda connection: (connection.recv(100), connection.sendall(b"raw")))
    inspector = {"name": "envoy.filters.listener.http_inspector",
                 "typed_config": typed("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector")}
    chains = [
        {"filter_chain_match": {"application_protocols": ["http/1.1", "h2c"]}, "filters": [hcm([route("/", "web")])]},
        {"filters": [tcp_proxy("raw")]},
    ]
    proxy = run_proxy(bootstrap(listener(chains=chains, listener_filters=[inspector]),
                                [cluster("web", web.port), cluster("raw", raw.port)]))
    assert client.get(proxy.port).json()["server"] == "web"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(b"\x00\x01binary")
        assert connection.recv(10) == b"raw"
    raw.close()
