"""A host that ends a connection just as a request is on its way: what may come twice is sent again, nothing else is."""
import socket
import threading

import pytest

from lib import client, h2
from lib.backend import TcpBackend
from lib.proxy import bootstrap, cluster, hcm, listener, route

# lateen_only: without a retry policy Envoy answers 503 to each of these
pytestmark = [pytest.mark.quick, pytest.mark.lateen_only]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
RESET = b"\1\0\0\0\0\0\0\0"


def read_head(connection):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


class Leaver:
    """Answers the first request of each connection, and leaves when the second has come, or at once."""

    def __init__(self, leave):
        self.heads, self.leave = [], leave
        self.backend = TcpBackend(self.serve)
        self.port = self.backend.port

    def serve(self, connection):
        for number in range(2):
            head = read_head(connection)
            if not head:
                return
            self.heads.append(head.split(b" ")[0].decode())
            if number == 1:
                self.leave(connection)
                return
            connection.sendall(OK)


def ends(connection):
    connection.shutdown(socket.SHUT_RDWR)


def resets(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def says_half_a_word(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-half: ")


def answered(run_proxy, leaver, method, **options):
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", leaver.port)]))
    assert client.get(proxy.port).status == 200
    with client.Connection(proxy.port) as connection:
        connection.request(method, **options)
        response = connection.response(method)
    leaver.backend.close()
    return response.status, proxy.stats().get("cluster.a.upstream_rq_retry", 0)


@pytest.mark.parametrize("leave", [ends, resets])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_what_may_come_twice_is_sent_again(run_proxy, method, leave):
    leaver = Leaver(leave)
    assert answered(run_proxy, leaver, method) == (200, 1)
    assert leaver.heads == ["GET", method, method]


@pytest.mark.parametrize("leave", [ends, resets])
@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK"])
def test_what_may_not_is_not(run_proxy, method, leave):
    leaver = Leaver(leave)
    assert answered(run_proxy, leaver, method, headers={"content-length": "0"}) == (503, 0)
    assert leaver.heads == ["GET", method]


def test_what_was_not_kept_is_not(run_proxy):
    """Without a policy that asks for it no body is kept."""
    leaver = Leaver(ends)
    assert answered(run_proxy, leaver, "PUT", body=b"body") == (503, 0)
    assert leaver.heads == ["GET", "PUT"]


def test_a_response_that_has_begun_is_the_response(run_proxy):
    leaver = Leaver(says_half_a_word)
    status, retries = answered(run_proxy, leaver, "GET")
    assert (status, retries) == (503, 0) and leaver.heads == ["GET", "GET"]


def test_once_and_not_for_ever(run_proxy):
    """Who ends fresh connections, too, does not want it."""
    heads = []

    def serve(connection):
        if read_head(connection) and not heads.append(1) and len(heads) == 1:
            connection.sendall(OK)
            read_head(connection)
            heads.append(1)

    server = TcpBackend(serve)
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port)]))
    assert client.get(proxy.port).status == 200
    assert client.get(proxy.port).status == 503
    assert len(heads) == 3
    assert client.get(proxy.port).status == 503  # on a fresh connection: nothing says that it may come twice
    assert len(heads) == 4
    server.close()


def test_a_host_that_ends_idle_connections_all_the_time(run_proxy):
    """Its connections end a moment after each response, as with a keep-alive timeout that is too short."""
    def serve(connection):
        try:
            while read_head(connection):
                connection.sendall(OK)
                connection.settimeout(0.003)
        except TimeoutError:
            pass

    server = TcpBackend(serve)
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port)]))
    statuses, lock = [], threading.Lock()

    def ask():
        with client.Connection(proxy.port) as connection:
            for i in range(300):
                connection.request()
                status = connection.response().status
                with lock:
                    statuses.append(status)
                if i % 3 == 0:
                    threading.Event().wait(0.003)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 1200
    server.close()


# --- HTTP/2 ---

def h2_proxy(run_proxy, server):
    return run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port, **h2.explicit())]))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_stream_is_sent_again(run_proxy, method):
    """The host says that it has not looked at it: even what may not come twice is safe."""
    refused = []

    def behaviour(stream):
        if stream.header(":path") == "/" and not refused:
            refused.append(stream)
            stream.cancel(7)
            return True
        return False

    server = h2.Backend(behaviour=behaviour)
    proxy = h2_proxy(run_proxy, server)
    with h2.connect(proxy.port) as peer:
        assert peer.ask(method).status == 200
    assert len(refused) == 1 and len(server.requests) == 1
    server.close()


def test_refused_once_and_not_for_ever(run_proxy):
    streams = []

    def behaviour(stream):
        streams.append(stream)
        stream.cancel(7)
        return True

    server = h2.Backend(behaviour=behaviour)
    proxy = h2_proxy(run_proxy, server)
    assert client.get(proxy.port).status == 503
    assert len(streams) == 2
    server.close()
