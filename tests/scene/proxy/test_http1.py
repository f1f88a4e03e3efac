"""HTTP/1.1 as it is on the wire: framing, connections, what is refused."""
import socket
import threading

import pytest

from lib import client
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick


@pytest.fixture
def proxied(run_proxy, backends):
    server = backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port)]))
    return proxy, server


def test_keep_alive_uses_one_upstream_connection(proxied):
    proxy, server = proxied
    with client.Connection(proxy.port) as connection:
        for i in range(20):
            connection.request(path=f"/{i}")
            assert connection.response().json()["path"] == f"/{i}"
    assert server.connections == 1


def test_pipelined_requests_are_answered_in_order(proxied):
    proxy, _ = proxied
    with client.Connection(proxy.port) as connection:
        connection.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(10)))
        assert [connection.response().json()["path"] for _ in range(10)] == [f"/{i}" for i in range(10)]


@pytest.mark.parametrize("size", [0, 1, 1000, 16384, 70000, 3000000])
def test_bodies_both_ways(proxied, size):
    proxy, server = proxied
    with client.Connection(proxy.port) as connection:
        connection.request("POST", "/", body=b"y" * size, headers=[("Content-Length", str(size))])
        assert len(connection.response().json()["body"]) == size
        connection.request(path=f"/bytes/{size}")
        assert connection.response().body == b"x" * size


def test_chunked_both_ways(proxied):
    proxy, server = proxied
    with client.Connection(proxy.port) as connection:
        connection.request("POST", "/", headers=[("Transfer-Encoding", "chunked")])
        for part in (b"5\r\nhello\r\n", b"1;ext=1\r\n \r\n", b"5\r\nworld\r\n", b"0\r\n\r\n"):
            connection.send(part)
        assert connection.response().json()["body"] == "hello world"
        connection.request(path="/chunked/2000")
        response = connection.response()
        assert response.header("transfer-encoding") == "chunked"
        assert len(response.body) == 12000 and response.body.startswith(b"chunk0chunk1")


def test_byte_by_byte(proxied):
    proxy, _ = proxied
    with client.Connection(proxy.port) as connection:
        for byte in b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            connection.send(bytes([byte]))
        assert connection.response().json()["body"] == "abc"


def test_head_204_304(proxied):
    proxy, _ = proxied
    with client.Connection(proxy.port) as connection:
        connection.request("HEAD", "/bytes/50")
        response = connection.response("HEAD")
        assert (response.status, response.header("content-length")) == (200, "50")
        for status in (204, 304):
            connection.request(path=f"/status/{status}")
            assert connection.response().status == status
        connection.request(path="/still-open")
        assert connection.response().status == 200


def test_headers_that_a_proxy_adds(proxied):
    proxy, server = proxied
    response = client.get(proxy.port, headers={"User-Agent": "scene", "Connection": "x-hop", "X-Hop": "1"})
    seen = server.requests[0]
    assert seen.header("x-forwarded-proto") == "http"
    assert len(seen.header("x-request-id")) == 36
    assert seen.header("x-envoy-expected-rq-timeout-ms") == "15000"
    assert seen.header("x-hop") is None and seen.header("connection") is None
    assert seen.header("host") == "test.local"
    assert response.header("server") == "envoy"
    assert int(response.header("x-envoy-upstream-service-time")) >= 0
    assert response.header("date")


def test_http_1_0_is_refused_by_default(proxied):
    proxy, server = proxied
    with client.Connection(proxy.port) as connection:
        connection.request(version="HTTP/1.0")
        assert connection.response().status == 426
    assert not server.requests


def test_connection_close(proxied):
    proxy, _ = proxied
    with client.Connection(proxy.port) as connection:
        connection.request(headers={"Connection": "close"})
        response = connection.response()
        assert response.status == 200 and response.header("connection") == "close"
        assert connection.is_closed()


def test_expect_continue(run_proxy, backends):
    server = backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port)]))
    with client.Connection(proxy.port) as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.response().status == 100
        connection.send(b"ok")
        assert connection.response().json()["body"] == "ok"


def test_absolute_form(proxied):
    proxy, server = proxied
    with client.Connection(proxy.port) as connection:
        connection.send(b"GET http://other.test/path?q=1 HTTP/1.1\r\nHost: ignored.test\r\n\r\n")
        seen = connection.response().json()
    assert (seen["path"], seen["headers"]["host"]) == ("/path?q=1", "other.test")


BAD = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "bad version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "nul in value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunked": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "chunk size overflow": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "method with blank": b"GE T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_never_reach_the_backend(proxied, name):
    proxy, server = proxied
    with client.Connection(proxy.port) as connection:
        connection.send(BAD[name])
        response = connection.response()
        assert response is None or response.status in (400, 501, 426, 505), response.status
        assert connection.is_closed()
    assert not server.requests or name == "chunk size overflow"
    assert client.get(proxy.port).status == 200


@pytest.mark.lateen_only  # Envoy 1.40 takes a bare CR for a blank
def test_bare_cr_is_refused(proxied):
    proxy, server = proxied
    with client.Connection(proxy.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n")
        assert connection.response().status == 400
    assert not server.requests


def test_too_large_a_head_is_431(proxied):
    proxy, _ = proxied
    assert client.get(proxy.port, headers={"x-large": "a" * 70000}).status == 431


def test_early_disconnects_leave_nothing_behind(proxied):
    proxy, _ = proxied
    for data in (b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"):
        with client.Connection(proxy.port) as connection:
            connection.send(data)
    with client.Connection(proxy.port) as connection:
        connection.request(path="/bytes/5000000")
        connection.stream.read(1000)
    client.wait_until(lambda: client.get(proxy.port).status == 200)


def test_slow_reader_gets_everything(proxied):
    proxy, _ = proxied
    with client.Connection(proxy.port) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        connection.request(path="/bytes/1000000")
        assert len(connection.response().body) == 1000000


def test_many_connections_at_once(proxied):
    proxy, _ = proxied
    statuses = []

    def one():
        with client.Connection(proxy.port, deadline=30) as connection:
            for _ in range(10):
                connection.request()
                statuses.append(connection.response().status)

    threads = [threading.Thread(target=one) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 500


def test_websocket_upgrade(run_proxy, backends):
    def behaviour(request, handler):
        if request.header("upgrade") != "websocket":
            return None
        handler.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        handler.wfile.flush()
        while data := handler.connection.recv(4096):
            handler.connection.sendall(data.upper())
        raise OSError

    server = backends("a", behaviour=behaviour)
    manager = hcm([route("/", "a")], upgrade_configs=[{"upgrade_type": "websocket"}])
    proxy = run_proxy(bootstrap(listener(manager), [cluster("a", server.port)]))
    with client.Connection(proxy.port) as connection:
        connection.request(headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        response = connection.response()
        assert (response.status, response.header("upgrade")) == (101, "websocket")
        connection.send(b"hello")
        assert connection.stream.read(5) == b"HELLO"
