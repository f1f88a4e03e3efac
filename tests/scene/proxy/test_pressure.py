"""Peers that don't read: what the proxy takes from one side stops when the other takes no more, and memory stays flat."""
import socket
import threading

import pytest

from lib import client, h2
from lib.backend import TcpBackend
from lib.proxy import bootstrap, cluster, hcm, listener, route
from lib.watch import anonymous, at_rest

pytestmark = pytest.mark.quick

SIZE, PART = 32 * 1024 * 1024, b"p" * 65536
SMALL = 65536  # kernel buffers of the peers
# of the proxy's sockets, which the kernel lets grow by itself, and of what it reads ahead itself
BETWEEN = 20 * 1024 * 1024
PAIRS = [(down, up) for down in ("h1", "h2") for up in ("h1", "h2")]


def small_buffers(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)


class Source:
    """A host of either version that sends SIZE bytes and counts what it got rid of."""

    def __init__(self, version):
        self.sent = 0
        self.server = TcpBackend(self.serve_h1) if version == "h1" else h2.Backend("a", behaviour=self.serve_h2)
        self.port = self.server.port

    def serve_h1(self, connection):
        small_buffers(connection)
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE)
        self.pour(connection.sendall)

    def serve_h2(self, stream):
        stream.send_headers([(":status", "200"), ("content-length", str(SIZE))])
        self.pour(lambda part: stream.send(part, end=self.sent + len(part) == SIZE, within=60))
        return True

    def pour(self, send):
        while self.sent < SIZE:
            send(PART)
            self.sent += len(PART)


class Sink:
    """A host of either version that reads nothing until `go`, then all, and answers with how much that was."""

    def __init__(self, version):
        self.go = threading.Event()
        self.server = (TcpBackend(self.serve_h1) if version == "h1" else
                       h2.Backend("a", behaviour=self.serve_h2, gives_credit=False, conn_window=0, keeps_body=False))
        self.port = self.server.port

    def serve_h1(self, connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self.go.wait(60)
        head, _, rest = connection.recv(65536).partition(b"\r\n\r\n")
        got = len(rest)
        while got < SIZE and (part := connection.recv(1 << 20)):
            got += len(part)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%d" % (len(str(got)), got))

    def serve_h2(self, stream):
        self.go.wait(60)
        given = 0
        while not stream.is_over:
            with stream.peer.lock:
                ready, given = stream.arrived - given, stream.arrived
            if ready:
                stream.credit(ready)
            stream.wait(lambda s: s.is_over or s.arrived > given, within=30)
        stream.send_headers([(":status", "200")])
        stream.send(str(stream.arrived).encode(), end=True)
        return True


# of a real Envoy's own choice 24 MiB may wait inside it
WINDOWS = {"initial_stream_window_size": 262144, "initial_connection_window_size": 1048576}


def serve(run_proxy, host, up, windows=WINDOWS):
    options = h2.explicit(**windows) if up == "h2" else {}
    manager = hcm([route("/", {"cluster": "a", "timeout": "0s"})], http2_protocol_options=windows)
    return run_proxy(bootstrap(listener(manager), [cluster("a", host.port, **options)]))


@pytest.mark.parametrize("down, up", PAIRS, ids=str)
def test_a_client_that_does_not_read(run_proxy, kind, down, up):
    host = Source(up)
    proxy = serve(run_proxy, host, up)
    before = anonymous(proxy.process.pid)
    if down == "h1":
        connection = client.Connection(proxy.port)
        small_buffers(connection.socket)
        connection.request()
    else:
        peer = h2.connect(proxy.port, gives_credit=False, conn_window=0, keeps_body=False, receive_buffer=SMALL)
        stream = peer.open()
    client.wait_until(lambda: host.sent > 0)
    held = at_rest(lambda: host.sent)
    assert held < BETWEEN
    if kind == "lateen":
        assert anonymous(proxy.process.pid) - before < 1024 * 1024
    if down == "h1":
        assert len(connection.response().body) == SIZE
        connection.close()
    else:
        given = 0
        while not stream.is_over:
            with peer.lock:
                ready, given = stream.arrived - given, stream.arrived
            if ready:
                stream.credit(ready)
            stream.wait(lambda s: s.is_over or s.arrived > given, within=30)
        assert stream.arrived == SIZE
        peer.close()
    host.server.close()


@pytest.mark.parametrize("down, up", PAIRS, ids=str)
def test_a_host_that_does_not_read(run_proxy, kind, down, up):
    host = Sink(up)
    proxy = serve(run_proxy, host, up)
    before = anonymous(proxy.process.pid)
    sent, answer = [0], []

    def pour():
        if down == "h1":
            with client.Connection(proxy.port, deadline=60) as connection:
                small_buffers(connection.socket)
                connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
                while sent[0] < SIZE:
                    connection.send(PART)
                    sent[0] += len(PART)
                answer.append(connection.response().body)
        else:
            with h2.connect(proxy.port) as peer:
                stream = peer.open("POST", headers=[("content-length", str(SIZE))], end=False)
                while sent[0] < SIZE:
                    sent[0] += len(PART)
                    stream.send(PART, end=sent[0] == SIZE, within=60)
                answer.append(stream.wait(within=60).body)

    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    client.wait_until(lambda: sent[0] > 0)
    held = at_rest(lambda: sent[0])
    assert held < BETWEEN
    if kind == "lateen":
        assert anonymous(proxy.process.pid) - before < 1024 * 1024
    host.go.set()
    thread.join(60)
    assert answer == [str(SIZE).encode()]
    host.server.close()


def test_a_client_that_does_not_read_stops_no_other(run_proxy, kind):
    """Both are served over one connection to the host, whose credit is for all."""
    host = h2.Backend("a")
    proxy = serve(run_proxy, host, "h2", {})
    with h2.connect(proxy.port, gives_credit=False, conn_window=0, keeps_body=False) as slow, h2.connect(proxy.port) as quick:
        held = [slow.open(path="/bytes/1000000") for _ in range(20)]
        client.wait_until(lambda: len(host.streams) == 20)
        at_rest(lambda: sum(s.room() for s in host.streams))
        for size in (10, 100000, 300000):
            assert len(quick.ask(path=f"/bytes/{size}").body) == size
        if kind == "lateen":
            assert host.connections == 1
        assert not any(stream.is_over for stream in held)
    host.close()


@pytest.mark.lateen_only  # the bound is our own
def test_a_thousand_streams_that_nobody_reads(run_proxy):
    """What one client can make the proxy hold has a bound, and goes when the client does."""
    host = h2.Backend("a")
    proxy = serve(run_proxy, host, "h2", {})
    assert h2.ask(proxy.port).status == 200
    before = anonymous(proxy.process.pid)
    with h2.connect(proxy.port, gives_credit=False, conn_window=0, keeps_body=False) as slow:
        slow.wait(lambda: slow.has_settings)
        for _ in range(1000):
            slow.open(path="/bytes/200000")
        client.wait_until(lambda: len(host.streams) == 1001, within=30)
        held = at_rest(lambda: anonymous(proxy.process.pid) // (1 << 20)) - before // (1 << 20)
        assert held < 150
        assert h2.ask(proxy.port, path="/bytes/100000").status == 200
    client.wait_until(lambda: anonymous(proxy.process.pid) - before < 12 << 20, within=20, what="memory to be given back")
    host.close()


def test_a_window_of_one_byte(run_proxy):
    host = h2.Backend("a")
    proxy = serve(run_proxy, host, "h2")
    with h2.connect(proxy.port, settings={4: 1}) as peer:
        assert peer.ask(path="/bytes/300", within=30).body == b"x" * 300
    host.close()
