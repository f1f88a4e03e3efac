"""How a proxy asks its clients to leave: /drain_listeners, /healthcheck/fail, SIGTERM. HTTP/1 and HTTP/2, on both kinds."""
import select
import signal
import socket
import threading
import time

import pytest

from lib import client
from lib.frames import H2
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick
IMMEDIATE = ["--drain-time-s", "1", "--drain-strategy", "immediate"]


@pytest.fixture
def start(run_proxy, backends):
    """Three listeners: inbound, outbound, and one of drain_type MODIFY_ONLY."""
    def make(*extra):
        host = backends()
        def one(name, **fields):
            return listener(hcm([route(to="b")], stat_prefix=name, drain_timeout="0.5s"), name=name, **fields)
        return run_proxy(bootstrap([one("in", traffic_direction="INBOUND"), one("out", traffic_direction="OUTBOUND"),
                                    one("modify", drain_type="MODIFY_ONLY")], [cluster("b", host.port)]), extra=extra)
    return make


def is_asked(connection):
    """Whether the next response says that it is the last."""
    connection.request()
    response = connection.response()
    assert response.status == 200
    return response.header("connection") == "close"


def is_open(port):
    try:
        client.Connection(port).close()
    except ConnectionError:
        return False
    return True


def wait_closed(port, within=30):
    end = time.monotonic() + within
    while is_open(port):
        assert time.monotonic() < end, "the listener stays open"
        time.sleep(0.05)


@pytest.mark.parametrize("order, asked, closed, later", [
    ("/drain_listeners?graceful&inboundonly", [True, False, False], [], [0]),
    ("/drain_listeners?graceful", [True, True, True], [], [0, 1, 2]),
    ("/drain_listeners?inboundonly", [True, False, False], [0], [0]),
    ("/drain_listeners", [True, True, True], [0, 1, 2], [0, 1, 2]),
    ("/drain_listeners?graceful&skip_exit", [True, True, True], [], []),
    ("/drain_listeners?skip_exit", [True, True, True], [], []),
    ("/healthcheck/fail", [True, True, False], [], []),
])
def test_who_is_asked_and_what_closes(start, order, asked, closed, later):
    proxy = start(*IMMEDIATE)
    before = [client.Connection(port) for port in proxy.ports]
    assert [is_asked(connection) for connection in before] == [False, False, False]
    assert proxy.admin_get(order, "POST").status == 200
    assert [is_asked(connection) for connection in before] == asked
    for at, port in enumerate(proxy.ports):
        if at in closed:
            wait_closed(port)
        elif at not in later:  # those that close later may have done so by now
            assert is_asked(client.Connection(port)) == asked[at]
    for at in later:
        wait_closed(proxy.ports[at])
    assert [is_open(port) for port in proxy.ports] == [at not in later for at in range(3)]
    assert proxy.stats()["http.in.downstream_cx_drain_close"] >= 1
    assert proxy.admin_get("/ready").body == (b"DRAINING\n" if "health" in order else b"LIVE\n")


def test_a_check_that_fails_may_pass_again(start):
    proxy = start()
    connections = [client.Connection(proxy.port) for _ in range(2)]
    assert not any(is_asked(connection) for connection in connections)
    proxy.admin_get("/healthcheck/fail", "POST")
    assert proxy.admin_get("/ready").status == 503 and is_asked(connections[0])
    proxy.admin_get("/healthcheck/ok", "POST")
    assert proxy.admin_get("/ready").status == 200 and not is_asked(connections[1])


def test_gradually_means_one_after_the_other(start):
    """Of ten minutes, as good as nothing has gone by: as good as nobody is asked."""
    proxy = start("--drain-time-s", "600", "--drain-strategy", "gradual")
    connections = [client.Connection(proxy.port) for _ in range(40)]
    proxy.admin_get("/drain_listeners?graceful", "POST")
    assert sum(is_asked(connection) for connection in connections) < 20


# --- HTTP/2 ---

def test_http2_has_time_to_leave(start):
    """A notice first, under which streams are still taken, then the GOAWAY, then the end."""
    proxy = start(*IMMEDIATE)
    peer = H2(proxy.port)
    first = peer.ask()
    peer.read_until(lambda p: first in p.answered)
    proxy.admin_get("/drain_listeners?graceful&skip_exit", "POST")
    second = peer.ask()  # Envoy says it with a response
    peer.read_until(lambda p: second in p.answered and p.goaways)
    assert peer.goaways[0] == 2**31 - 1
    third = peer.ask()
    peer.read_until(lambda p: third in p.answered)
    peer.read_until(lambda p: p.ended)
    assert peer.goaways[1:] == [third]


@pytest.mark.lateen_only  # Envoy tells a connection only when it answers a request
def test_quiet_http2_connections_are_told_too(start):
    proxy = start(*IMMEDIATE)
    peer = H2(proxy.port)
    first = peer.ask()
    peer.read_until(lambda p: first in p.answered)
    proxy.admin_get("/drain_listeners?graceful&skip_exit", "POST")
    peer.read_until(lambda p: p.ended)
    assert peer.goaways == [2**31 - 1, first]


def test_http2_that_comes_during_a_drain_is_served_first(start):
    proxy = start(*IMMEDIATE)
    proxy.admin_get("/drain_listeners?graceful&skip_exit", "POST")
    peer = H2(proxy.port)
    first = peer.ask()
    peer.read_until(lambda p: p.goaways)
    peer.read_until(lambda p: first in p.answered)


# --- SIGTERM ---

@pytest.mark.lateen_only  # Envoy ends at once; pilot-agent kills it
def test_sigterm_waits_for_what_is_in_hand(run_proxy, backends):
    released, seen = threading.Event(), threading.Semaphore(0)

    def behaviour(_request, _connection):
        seen.release()
        assert released.wait(30)
        return 200, [], b"late"

    host = backends(behaviour=behaviour)
    proxy = run_proxy(bootstrap(listener(hcm([route(to="b")])), [cluster("b", host.port)]))
    connection, peer = client.Connection(proxy.port, deadline=30), H2(proxy.port)
    connection.request()
    stream = peer.ask()
    assert seen.acquire(timeout=30) and seen.acquire(timeout=30)
    idle = socket.create_connection(("127.0.0.1", proxy.port))
    proxy.process.send_signal(signal.SIGTERM)
    wait_closed(proxy.port)
    released.set()
    response = connection.response()
    assert response.status == 200 and response.header("connection") == "close"
    peer.read_until(lambda p: stream in p.answered)
    assert proxy.process.wait(30) == 0
    assert select.select([idle], [], [], 10)[0]  # and nobody hangs on
