"""Peers that time their bytes, stalls and ends so that a proxy loses count of whose they are."""
import os
import resource
import socket
import threading
import time

import pytest

from lib import client
from lib import proxy as proxy_lib
from lib.backend import TcpBackend
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy, typed

pytestmark = pytest.mark.quick

LEFT_BEHIND = b"GET /left-behind HTTP/1.1\r\nHost: x\r\n\r\n"


def serve(run_proxy, server, action=None, **fields):
    to = {"cluster": "a", **(action or {})}
    return run_proxy(bootstrap(listener(hcm([route("/", to)], **fields)), [cluster("a", server.port)]))


def read_head(connection):
    """Byte by byte: what comes behind the head stays in the kernel."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def rest_of(connection, within):
    """What comes after the response until silence, and whether the connection was closed."""
    connection.socket.settimeout(within)
    rest = b""
    try:
        while part := connection.socket.recv(65536):
            rest += part
        return rest, True
    except TimeoutError:
        return rest, False
    except OSError:
        return rest, True


@pytest.mark.slow
def test_body_that_a_stalled_server_did_not_take_is_no_request(run_proxy):
    """An early response ends the request; what the proxy still had in hand of its body must not be read as the next one."""
    def stalled(connection):
        if read_head(connection):
            time.sleep(0.15)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            time.sleep(0.3)

    server = TcpBackend(stalled)
    server.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    proxy = serve(run_proxy, server)

    def stays_open(size):
        body = (LEFT_BEHIND * (size // len(LEFT_BEHIND) + 1))[:size]
        with client.Connection(proxy.port) as connection:
            def push():
                try:
                    connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + body)
                except OSError:
                    pass

            sender = threading.Thread(target=push)
            sender.start()
            assert connection.response().status == 200
            rest, is_closed = rest_of(connection, 0.2)
            assert rest == b"", f"a body of {size} bytes was answered again"
        sender.join(5)
        return not is_closed

    # how much fits between the proxy and the server is the kernel's secret: the last size that fits is looked for
    fits, too_large = 1024, 4 << 20
    while too_large - fits > 2048:
        middle = (fits + too_large) // 2
        if stays_open(middle):
            fits = middle
        else:
            too_large = middle
    for size in range(fits - 8192, fits + 24576, 2048):
        stays_open(max(size, 1))
    server.close()


def test_body_that_arrives_between_two_tries_follows_the_first_part(run_proxy):
    bodies, first_is_over = [], threading.Event()

    def server_side(connection):
        if not read_head(connection):
            return
        if not first_is_over.is_set():
            connection.recv(10, socket.MSG_WAITALL)
            first_is_over.set()
            return
        bodies.append(connection.recv(20, socket.MSG_WAITALL))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    server = TcpBackend(server_side)
    proxy = serve(run_proxy, server, {"retry_policy": {
        "retry_on": "reset", "num_retries": 3, "retry_back_off": {"base_interval": "0.5s", "max_interval": "0.5s"}}})
    with client.Connection(proxy.port) as connection:
        connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n0123456789")
        assert first_is_over.wait(5)
        connection.send(b"abcdefghij")
        assert connection.response().status == 200
    assert bodies == [b"0123456789abcdefghij"]
    server.close()


def test_response_and_end_in_one_segment(run_proxy):
    """The server's end comes with its response and without a word in it: the connection is not used again."""
    def once(connection):
        if read_head(connection):
            connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", socket.MSG_MORE)
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.05)

    server = TcpBackend(once)
    proxy = serve(run_proxy, server)
    with client.Connection(proxy.port) as connection:
        statuses = []
        for _ in range(30):
            connection.request()
            statuses.append(connection.response().status)
    assert statuses == [200] * 30
    server.close()


def test_tunnel_outlives_the_timeout_of_its_route(run_proxy):
    def echo(connection):
        read_head(connection)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        while part := connection.recv(100):
            connection.sendall(part)

    server = TcpBackend(echo)
    proxy = serve(run_proxy, server, {"timeout": "0.3s"}, upgrade_configs=[{"upgrade_type": "websocket"}])
    with client.Connection(proxy.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert read_head(connection.socket).startswith(b"HTTP/1.1 101")
        time.sleep(0.7)
        connection.send(b"ping")
        assert connection.socket.recv(100) == b"ping"
    server.close()


@pytest.mark.parametrize("goes_on", [True, False])
def test_inspection_that_runs_out_of_time(run_proxy, goes_on):
    """A server that speaks first, behind an inspector that waits for the client."""
    server = TcpBackend(lambda connection: (connection.sendall(b"hello"), connection.recv(1)))
    inspector = {"name": "http", "typed_config": typed("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector")}
    proxy = run_proxy(bootstrap(
        listener(tcp_proxy("a"), listener_filters=[inspector], listener_filters_timeout="0.3s",
                 continue_on_listener_filters_timeout=goes_on), [cluster("a", server.port)]))
    with client.Connection(proxy.port) as connection:
        assert connection.socket.recv(5) == (b"hello" if goes_on else b"")
    server.close()


@pytest.mark.lateen_only  # Envoy asks the kernel again and again until a descriptor comes free
def test_without_descriptors_it_waits(run_proxy, backends):
    server = backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port)]))
    pid = proxy.process.pid
    served = client.Connection(proxy.port)
    served.request()
    assert served.response().status == 200
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 2, limits[1]))
    waiting = [client.Connection(proxy.port, deadline=30) for _ in range(20)]

    def cpu_s():
        fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu_s()
    time.sleep(1)
    assert cpu_s() - before < 0.5, "it spins"
    served.request()
    assert served.response().status == 200
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    for connection in waiting:
        connection.request()
        assert connection.response().status == 200
    assert proxy.stats()["lateen.accept_pauses"] > 0


@pytest.mark.lateen_only  # Envoy leaves that to whoever starts it
def test_a_shells_limit_of_descriptors_is_none(backends, workdir):
    server = backends("a")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = 256 + max(int(fd) for fd in os.listdir("/proc/self/fd"))  # this process has descriptors of its own
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        proxy = proxy_lib.start("lateen", bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port)]), workdir)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    proxy.stop()
