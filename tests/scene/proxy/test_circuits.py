"""
Circuit breakers: how much a cluster may have at once, all workers of a proxy together. A backend holds its answers until the scene lets
them go, so that what is under way is known.
"""
import contextlib
import threading

import pytest

from lib import client
from lib import proxy as p

OVERFLOW = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"


class Gate:
    """
    Answers to /held wait until the gate opens, those to /again, too, but the first answer is 503; the rest is answered at once.
    """

    def __init__(self, make, name="b0"):
        self.open, self.held, self.lock = threading.Event(), 0, threading.Lock()
        self.failed = set()
        self.status = 200
        self.server = make(name, behaviour=self.behave)
        self.port = self.server.port

    def behave(self, request, _handler):
        if request.path.startswith("/again") and request.path not in self.failed:
            self.failed.add(request.path)
            return 503, [], b"first"
        if request.path.startswith(("/held", "/again")):
            with self.lock:
                self.held += 1
            assert self.open.wait(30)
        return self.status, [("x-backend", self.server.name)], b"x"


@pytest.fixture
def gates(backends):
    made = []

    def make(count=1):
        made.extend(Gate(backends, f"b{i}") for i in range(count))
        return made
    yield make
    for gate in made:
        gate.open.set()


def run(run_proxy, hosts, thresholds, *routes, concurrency=1, breakers=None, **fields):
    breakers = breakers or {"thresholds": thresholds if isinstance(thresholds, list) else [thresholds]}
    made = p.cluster("c", *[h.port for h in hosts], circuit_breakers=breakers, **fields)
    return run_proxy(p.bootstrap(p.listener(p.hcm(list(routes) or [p.route("/", "c")])), [made]), concurrency=concurrency)


@contextlib.contextmanager
def held(proxy, count, gates, path="/held"):
    """So many requests, each on a connection of its own, of which the hosts have all."""
    before = sum(gate.held for gate in gates)
    connections = [client.Connection(proxy.port, deadline=30) for _ in range(count)]
    try:
        for i, connection in enumerate(connections):
            connection.request(path=path)
            client.wait_until(lambda: sum(gate.held for gate in gates) == before + i + 1, what=f"{count} held requests")
        yield connections
    finally:
        for connection in connections:
            connection.close()


def is_turned_away(port):
    """The reset may come before connect() has returned."""
    try:
        with client.Connection(port) as connection:
            return connection.is_closed()
    except ConnectionResetError:
        return True


def stat(proxy, name):
    return proxy.stats().get(f"cluster.c.{name}", 0)


def reaches(proxy, name, value):
    client.wait_until(lambda: stat(proxy, name) == value, what=f"{name} {value}")


def assert_overflow(response):
    assert (response.status, response.body, response.header("x-envoy-overloaded")) == (503, OVERFLOW, "true")


# --- requests ---

@pytest.mark.quick
@pytest.mark.parametrize("concurrency", [1, 2])
def test_max_requests(run_proxy, gates, concurrency):
    """Four at once, whatever worker has them; the next is turned away and room comes back."""
    hosts = gates()
    proxy = run(run_proxy, hosts, {"max_requests": 4}, concurrency=concurrency)
    with held(proxy, 4, hosts) as waiting:
        reaches(proxy, "circuit_breakers.default.rq_open", 1)
        for _ in range(6):
            assert_overflow(client.get(proxy.port))
        assert stat(proxy, "upstream_rq_active_overflow") == 6
        assert stat(proxy, "upstream_rq_active") == 4
        hosts[0].open.set()
        assert all(connection.response().status == 200 for connection in waiting)
    reaches(proxy, "circuit_breakers.default.rq_open", 0)
    assert client.get(proxy.port).status == 200


def test_clients_that_leave_make_room(run_proxy, gates):
    hosts = gates()
    proxy = run(run_proxy, hosts, {"max_requests": 2})
    with held(proxy, 2, hosts):
        assert client.get(proxy.port).status == 503
    client.wait_until(lambda: client.get(proxy.port).status == 200)


def test_priorities_have_their_own(run_proxy, gates):
    """Routes of high priority don't see the limits of the others."""
    hosts = gates()
    proxy = run(run_proxy, hosts, [{"max_requests": 1}, {"priority": "HIGH", "max_requests": 2}],
                p.route("/held/high", {"cluster": "c", "priority": "HIGH"}), p.route("/high", {"cluster": "c", "priority": "HIGH"}), p.route("/", "c"))
    with held(proxy, 1, hosts):
        assert_overflow(client.get(proxy.port))
        assert client.get(proxy.port, "/high").status == 200
        with held(proxy, 2, hosts, "/held/high"):
            assert_overflow(client.get(proxy.port, "/high"))
            reaches(proxy, "circuit_breakers.high.rq_open", 1)
        assert stat(proxy, "circuit_breakers.default.rq_open") == 1


def test_remaining_is_told_when_asked(run_proxy, gates):
    hosts = gates()
    proxy = run(run_proxy, hosts, {"max_requests": 7, "max_connections": 9, "max_pending_requests": 5, "max_retries": 2, "track_remaining": True},
                concurrency=2)
    with held(proxy, 3, hosts):
        reaches(proxy, "circuit_breakers.default.remaining_rq", 4)
        reaches(proxy, "circuit_breakers.default.remaining_cx", 6)
        stats = proxy.stats()
        assert stats["cluster.c.circuit_breakers.default.remaining_pending"] == 5
        assert stats["cluster.c.circuit_breakers.default.remaining_retries"] == 2
    reaches(proxy, "circuit_breakers.default.remaining_rq", 7)


# --- connections, and who waits for one ---

def test_max_connections_and_pending(run_proxy, gates):
    """Two connections, two in line, the next is turned away; who waits is served by a connection that comes free."""
    hosts = gates()
    proxy = run(run_proxy, hosts, {"max_connections": 2, "max_pending_requests": 2})
    with held(proxy, 2, hosts):
        reaches(proxy, "circuit_breakers.default.cx_open", 1)
        waiting = [client.Connection(proxy.port) for _ in range(2)]
        for connection in waiting:
            connection.request()
        reaches(proxy, "upstream_rq_pending_active", 2)
        assert stat(proxy, "circuit_breakers.default.rq_pending_open") == 1
        assert_overflow(client.get(proxy.port))
        assert stat(proxy, "upstream_rq_pending_overflow") == 1 and stat(proxy, "upstream_cx_overflow") >= 2
        hosts[0].open.set()
        assert [connection.response().status for connection in waiting] == [200, 200]
        for connection in waiting:
            connection.close()
    assert hosts[0].server.connections == 2


def test_a_host_may_always_have_one(run_proxy, gates):
    """The limit is of the cluster, but a host without any connection would never be reached."""
    hosts = gates(3)
    proxy = run(run_proxy, hosts, {"max_connections": 1})
    with held(proxy, 3, hosts):
        assert [host.held for host in hosts] == [1, 1, 1]
        assert stat(proxy, "upstream_cx_active") == 3


def test_no_pending_at_all(run_proxy, gates):
    """Who finds no connection waits for one, if only while it is made."""
    proxy = run(run_proxy, gates(), {"max_pending_requests": 0})
    assert_overflow(client.get(proxy.port))
    assert stat(proxy, "upstream_cx_total") == 0


def test_connections_of_a_host(run_proxy, gates):
    hosts = gates(2)
    proxy = run(run_proxy, hosts, [], breakers={"thresholds": [{"max_pending_requests": 1}], "per_host_thresholds": [{"max_connections": 2}]})
    with held(proxy, 4, hosts):
        late = client.Connection(proxy.port)
        late.request()
        reaches(proxy, "upstream_rq_pending_active", 1)
        assert_overflow(client.get(proxy.port))
        hosts[0].open.set()
        hosts[1].open.set()
        assert late.response().status == 200
        late.close()
    assert [host.server.connections for host in hosts] == [2, 2]


def test_connection_pools(run_proxy, gates):
    """A host with connections has a pool; there is room for two, and the third is as good as not there."""
    proxy = run(run_proxy, gates(3), {"max_connection_pools": 2})
    answers = [client.get(proxy.port) for _ in range(6)]
    assert sorted(answer.status for answer in answers) == [200] * 4 + [503] * 2
    assert {answer.body for answer in answers if answer.status == 503} == {b"no healthy upstream"}
    assert stat(proxy, "upstream_cx_pool_overflow") == 2 and stat(proxy, "circuit_breakers.default.cx_pool_open") == 1


# --- retries ---

RETRYING = p.route("/", {"cluster": "c", "retry_policy": {"retry_on": "5xx", "num_retries": 1}})


@contextlib.contextmanager
def retried(proxy, count, gates):
    """So many requests whose second try a host holds."""
    before = sum(gate.held for gate in gates)
    connections = [client.Connection(proxy.port, deadline=30) for _ in range(count)]
    for i, connection in enumerate(connections):
        connection.request(path=f"/again/{before}/{i}")
        client.wait_until(lambda: sum(gate.held for gate in gates) == before + i + 1, what="the second try")
    yield connections
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("concurrency", [1, 2])
def test_max_retries(run_proxy, gates, concurrency):
    hosts = gates()
    proxy = run(run_proxy, hosts, {"max_retries": 2}, RETRYING, concurrency=concurrency)
    with retried(proxy, 2, hosts) as waiting:
        assert client.get(proxy.port, "/again/other").body == b"first"
        assert stat(proxy, "upstream_rq_retry_overflow") == 1 and stat(proxy, "upstream_rq_retry") == 2
        assert stat(proxy, "circuit_breakers.default.rq_retry_open") == 1
        hosts[0].open.set()
        assert [connection.response().status for connection in waiting] == [200, 200]
    assert stat(proxy, "upstream_rq_retry_success") == 2
    assert client.get(proxy.port, "/again/more").status == 200


def test_retry_budget(run_proxy, gates):
    """One retry always; with six requests under way that become more by each retry, half of them may be."""
    hosts = gates()
    budget = {"budget_percent": {"value": 25}, "min_retry_concurrency": 1}
    proxy = run(run_proxy, hosts, {"max_retries": 0, "retry_budget": budget}, RETRYING)
    with retried(proxy, 1, hosts):
        assert client.get(proxy.port, "/again/other").body == b"first"
        assert stat(proxy, "upstream_rq_retry_overflow") == 1
        with held(proxy, 7, hosts), retried(proxy, 1, hosts):
            assert client.get(proxy.port, "/again/more").body == b"first"
            assert stat(proxy, "upstream_rq_retry_overflow") == 2


# --- TCP ---

def test_tcp_connections(run_proxy, gates):
    """The client's connection ends when there is no room for another to the host."""
    hosts = gates()
    made = p.cluster("c", hosts[0].port, circuit_breakers={"thresholds": [{"max_connections": 2}]})
    proxy = run_proxy(p.bootstrap(p.listener(p.tcp_proxy("c")), [made]), concurrency=2)
    with held(proxy, 2, hosts):
        assert is_turned_away(proxy.port)
        assert stat(proxy, "upstream_cx_overflow") == 1
        hosts[0].open.set()
    client.wait_until(lambda: stat(proxy, "upstream_cx_active") == 0)
    assert client.get(proxy.port).status == 200
