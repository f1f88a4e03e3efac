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


def test_much_and_slowly(run_proxy):
    """What goes through the kernel arrives whole, however it is read, with its end; and what is short after much, too."""
    import hashlib
    import threading
    import time

    def serve(connection):
        digest, seen = hashlib.sha256(), 0
        while part := connection.recv(200000):
            digest.update(part)
            seen += len(part)
            if seen % 7 == 0:
                time.sleep(0.001)
        connection.sendall(digest.digest())
        connection.sendall(b"end")

    server = TcpBackend(serve)
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a")), [cluster("a", server.port)]))

    def transfer(number, results):
        payload = bytes([number]) + bytes(range(251)) * 60000
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
            connection.sendall(payload)
            connection.sendall(b"small")
            connection.shutdown(socket.SHUT_WR)
            results[number] = read_all(connection) == hashlib.sha256(payload + b"small").digest() + b"end"

    results = {}
    threads = [threading.Thread(target=transfer, args=(number, results)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: True for number in range(5)}
    server.close()


def test_a_side_that_goes_in_the_middle_takes_the_other_along(run_proxy):
    """A reset while much is under way: nobody waits for the rest."""
    server = TcpBackend(lambda connection: connection.recv(1 << 20))
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a")), [cluster("a", server.port)]))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        with pytest.raises(OSError):
            for _ in range(1000):
                connection.sendall(bytes(1 << 20))
    client.wait_until(lambda: proxy.stats().get("cluster.a.upstream_cx_active") == 0, what="the end of the connection")
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
