"""Hosts that speak HTTP/2: resets, goodbyes, limits, restarts; what is told of it and what is tried again."""
import threading
import time

import pytest

from lib import client, h2
from lib.backend import TcpBackend
from lib.proxy import FLUSH, access_log, bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

RETRY = {"retry_policy": {"retry_on": "refused-stream,connect-failure,reset-before-request", "num_retries": 5,
                          "retry_back_off": {"base_interval": "0.005s"}}}
# what a restart may cost a request that was begun and not answered: it is repeated only because this policy says so
RETRY_ALL = {"retry_policy": {"retry_on": "5xx", "num_retries": 10, "retry_back_off": {"base_interval": "0.02s"}}, "timeout": "20s"}


def goaway(stream, code, last):
    stream.peer.raw(b"\0\0\x08\7\0\0\0\0\0" + last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def misbehave(stream):
    """/verb/... ends a stream, or its connection, in a way of its own; True: it was done."""
    verb, *args = stream.header(":path").strip("/").split("/")
    if verb == "close":
        stream.peer.close()
    elif verb == "halfclose":
        stream.send_headers([(":status", "200")])
        stream.send(b"abc")
        stream.peer.wait(lambda: stream.peer.acks, what="the pong")  # it was read before the end comes
        stream.peer.close()
    elif verb == "badframe":
        stream.peer.raw(b"\0\0\1\1\4\0\0\0\1\xff")
    elif verb == "goaway":
        goaway(stream, int(args[0]), int(args[1]))
        stream.peer.close()
    elif verb == "status":
        stream.send_headers([(":status", args[0])], end=True) if args else stream.send_headers([("x", "no status")], end=True)
    elif verb == "upper":
        stream.send_headers([(":status", "200"), ("X-Up", "5")], end=True)
    elif verb == "connection":
        stream.send_headers([(":status", "200"), ("connection", "close")], end=True)
    elif verb == "early":
        stream.send_headers([(":status", "413"), ("content-length", "2")])
        stream.send(b"no", end=True)
        stream.cancel(0)
    else:
        return False
    return True


def ping_first(stream):
    if stream.header(":path") == "/halfclose":
        stream.send_headers([(":status", "200")])
        stream.send(b"abc")
        with stream.peer.lock:
            stream.peer.conn.ping(b"12345678")
            stream.peer.flush()
        stream.peer.wait(lambda: stream.peer.acks, what="the pong")
        stream.peer.close()
        return True
    return misbehave(stream)


@pytest.fixture(scope="module")
def world(run_shared, tmp_path_factory):
    class World:
        server = h2.Backend("a", behaviour=ping_first)
        garbage = TcpBackend(lambda connection: (connection.recv(4096), connection.sendall(b"what?\r\n\r\n" * 3), connection.recv(1)))
        log = tmp_path_factory.mktemp("log") / "access.log"

        @classmethod
        def told(cls):
            """The line of the latest request."""
            lines = client.wait_until(lambda: cls.log.exists() and cls.log.read_text().split("\n")[cls.read:-1], what="a line in the log")
            cls.read += len(lines)
            return lines[-1]

        read = 0

    World.proxy = run_shared(bootstrap(
        listener(hcm([route("/garbage", "garbage"), route("/", "a")],
                     access_log=access_log(World.log, "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"))),
        [cluster("a", World.server.port, **h2.explicit()), cluster("garbage", World.garbage.port, **h2.explicit())]), extra=FLUSH)
    World.port = World.proxy.port
    yield World
    World.server.close()
    World.garbage.close()


BEFORE, AFTER = "upstream_reset_before_response_started", "upstream_reset_after_response_started"
TEXT = "upstream connect error or disconnect/reset before headers. reset reason: "
PROTOCOL = (502, "UPE", "protocol error")


@pytest.mark.parametrize("path, code, flag, reason", [
    ("/reset/0", 503, "UR", "remote reset"),
    ("/reset/1", *PROTOCOL),
    ("/reset/2", 503, "UR", "remote reset"),
    ("/reset/7", 503, "UR", "remote refused stream reset"),
    ("/reset/8", 503, "UR", "remote reset"),
    ("/reset/10", 503, "UR", "remote error with CONNECT request"),
    ("/reset/11", 503, "UR", "remote reset"),
    ("/close", 503, "UC", "connection termination"),
    ("/goaway/0/0", 503, "UR", "remote refused stream reset"),
    ("/goaway/2/0", 503, "UR", "remote refused stream reset"),
    ("/goaway/0/2147483647", 503, "UC", "connection termination"),
    ("/badframe", *PROTOCOL),
    ("/status", *PROTOCOL),
    ("/upper", *PROTOCOL),
    ("/connection", *PROTOCOL),
    ("/garbage", *PROTOCOL),
])
def test_ends_before_the_response(world, path, code, flag, reason):
    stream = h2.ask(world.port, path=path)
    assert (stream.status, stream.body.decode()) == (code, TEXT + reason)
    assert world.told() == f"{code} {flag} {BEFORE}{{{reason.replace(' ', '_')}}}"
    answer = client.get(world.port, path)
    assert (answer.status, answer.body.decode()) == (code, TEXT + reason)
    world.told()


@pytest.mark.parametrize("path, flag, reason", [
    ("/half/0", "UR", "remote_reset"), ("/half/1", "UPE", "protocol_error"), ("/half/2", "UR", "remote_reset"),
    ("/half/7", "UR", "remote_refused_stream_reset"), ("/half/8", "UR", "remote_reset"), ("/halfclose", "UC", "connection_termination"),
])
def test_ends_inside_the_response(world, path, flag, reason):
    stream = h2.ask(world.port, path=path)
    assert (stream.status, stream.reset) == (200, 2)
    assert world.told() == f"200 {flag} {AFTER}{{{reason}}}"
    with client.Connection(world.port) as connection:
        connection.request(path=path)
        assert connection.stream.readline().startswith(b"HTTP/1.1 200 ")
        rest = connection.stream.read()  # up to an end that can't be taken for the body's
        assert not rest.endswith(b"0\r\n\r\n")
    world.told()


def test_answered_before_the_request_is_complete(world):
    """The answer counts; that the host wants no more of the request is no error (RFC 9113 section 8.1)."""
    with h2.connect(world.port) as peer:
        stream = peer.open("POST", "/early", end=False)
        stream.send(b"part")
        stream.wait(lambda s: s.is_over)
        assert (stream.status, stream.body, stream.reset) == (413, b"no", None) or stream.reset == 0
        stream.cancel(0)
    assert world.told().startswith("413 - via_upstream")


@pytest.mark.parametrize("code, flags", [(8, "DR http2.remote_reset"), (2, "DR http2.remote_reset"), (7, "DR http2.remote_refuse")])
def test_resets_by_the_client(world, code, flags):
    with h2.connect(world.port) as peer:
        held = peer.open(path="/hang")
        client.wait_until(lambda: world.server.streams and world.server.streams[-1].header(":path") == "/hang")
        host_side = world.server.streams.pop()
        held.cancel(code)
        host_side.wait(lambda s: s.reset is not None, what="the reset at the host")
        assert world.told() == f"0 {flags}"
        assert peer.ask().status == 200  # the connection is as good as before
        assert world.told() == "200 - via_upstream"


def test_a_client_that_goes_away(world):
    peer = h2.connect(world.port)
    peer.open(path="/hang")
    client.wait_until(lambda: world.server.streams and world.server.streams[-1].header(":path") == "/hang")
    host_side = world.server.streams.pop()
    peer.close()
    host_side.wait(lambda s: s.reset is not None, what="the reset at the host")
    assert world.told() == "0 DC downstream_remote_disconnect"


# --- what is tried again ---

def serve(run_proxy, server, action=None, **fields):
    return run_proxy(bootstrap(listener(hcm([route("/", {"cluster": "a", "timeout": "20s", **(action or {})})])),
                               [cluster("a", server.port, **(fields or h2.explicit()))]))


@pytest.mark.parametrize("how", ["goaway", "refused"])
def test_what_the_host_has_not_looked_at_is_tried_again(run_proxy, how):
    asked = []

    def once(stream):
        asked.append(stream)
        if len(asked) > 1:
            return False
        if how == "refused":
            stream.cancel(7)
        else:
            goaway(stream, 0, 0)
            stream.peer.close()
        return True

    server = h2.Backend("a", behaviour=once)
    proxy = serve(run_proxy, server, RETRY)
    answer = h2.ask(proxy.port, "POST", body=b"again" * 1000, headers={"content-length": "5000"})
    assert answer.status == 200 and answer.json()["body"] == "again" * 1000
    assert len(asked) == 2 and proxy.stats()["cluster.a.upstream_rq_retry"] == 1
    server.close()


def test_what_the_host_may_have_seen_is_not(run_proxy):
    asked = []

    def reset(stream):
        asked.append(stream)
        stream.cancel(2)
        return True

    server = h2.Backend("a", behaviour=reset)
    proxy = serve(run_proxy, server, RETRY)
    assert h2.ask(proxy.port).status == 503
    assert len(asked) == 1
    server.close()


def test_goodbye_with_streams_in_flight(run_proxy):
    """Streams that the host has taken end well; new ones go over a new connection."""
    gate = threading.Event()

    def behaviour(stream):
        if stream.header(":path") == "/held":
            gate.wait(10)
        return False

    server = h2.Backend("a", behaviour=behaviour)
    proxy = serve(run_proxy, server)
    with h2.connect(proxy.port) as peer:
        held = [peer.open(path="/held") for _ in range(5)]
        client.wait_until(lambda: len(server.streams) == 5)
        goaway(server.streams[0], 0, 2**31 - 1)
        client.wait_until(lambda: peer.ask().status == 200 and server.connections == 2, what="a second connection")
        gate.set()
        assert [stream.wait().status for stream in held] == [200] * 5
    client.wait_until(lambda: server.peers[0].is_closed, what="the end of the first")
    server.close()


def test_a_host_that_restarts_under_load(run_proxy):
    """GOAWAY, no listener for a moment, a new one: what may be repeated is, and nothing fails."""
    server = h2.Backend("a")
    breakers = {"circuit_breakers": {"thresholds": [{"max_retries": 1000}]}}
    proxy = serve(run_proxy, server, RETRY_ALL, **h2.explicit(), **breakers)
    statuses, is_over = [], threading.Event()

    def load():
        with h2.connect(proxy.port) as peer:
            while not is_over.is_set():
                statuses.append(peer.ask(path="/bytes/3000", within=30).status)

    threads = [threading.Thread(target=load, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        seen = len(statuses)
        client.wait_until(lambda: len(statuses) > seen + 60, within=30)
        port = server.port
        server.stop_listening()
        for peer in list(server.peers):
            with peer.lock:
                peer.conn.close_connection()
                peer.flush()
            peer.close()
        server = h2.Backend("a", port=port)
    is_over.set()
    for thread in threads:
        thread.join(40)
    assert set(statuses) == {200}
    server.close()


# --- limits ---

def at_once(run_proxy, of_host, of_cluster):
    """Seven streams at once to a host that carries two on each connection, by its own word or the cluster's."""
    gate, most, lock = threading.Event(), {}, threading.Lock()

    def behaviour(stream):
        with lock:
            most.setdefault(stream.peer, []).append(stream)
        gate.wait(10)
        return False

    server = h2.Backend("a", behaviour=behaviour, settings=of_host)
    proxy = serve(run_proxy, server, **h2.explicit(**of_cluster))
    with h2.connect(proxy.port) as peer:
        first = peer.open()  # the host's limit is known once it has answered with its settings
        client.wait_until(lambda: len(server.streams) == 1)
        streams = [first] + [peer.open() for _ in range(6)]
        client.wait_until(lambda: sum(len(s) for s in most.values()) == 7)
        assert max(len(s) for s in most.values()) <= 2 and len(most) == 4
        gate.set()
        assert [stream.wait().status for stream in streams] == [200] * 7
    server.close()


def test_streams_that_the_cluster_allows_on_a_connection(run_proxy):
    at_once(run_proxy, None, {"max_concurrent_streams": 2})


@pytest.mark.lateen_only  # Envoy 1.40 forgets what the host said on its other connections, and has streams refused
def test_streams_that_the_host_allows_on_a_connection(run_proxy):
    at_once(run_proxy, {3: 2}, {})


@pytest.mark.lateen_only  # Envoy 1.40 takes them all
def test_streams_that_a_client_may_open(run_proxy):
    """One that opens more than it was allowed is refused, and the others don't notice."""
    gate = threading.Event()
    server = h2.Backend("a", behaviour=lambda stream: not gate.wait(10))
    proxy = run_proxy(bootstrap(
        listener(hcm([route("/", "a")], http2_protocol_options={"max_concurrent_streams": 3})),
        [cluster("a", server.port, **h2.explicit())]))
    with h2.connect(proxy.port) as greedy, h2.connect(proxy.port) as other:
        held = other.open()
        greedy.wait(lambda: greedy.has_settings)
        assert greedy.conn.remote_settings.max_concurrent_streams == 3
        greedy.conn.remote_settings[3] = 100  # it does not care what it was told
        greedy.conn.remote_settings.acknowledge()
        for _ in range(5):
            greedy.open()
        greedy.wait(lambda: greedy.is_closed, what="the end of the greedy one")
        assert greedy.goaways[-1][1] == 1 and len(server.streams) <= 4
        gate.set()
        assert held.wait().status == 200
    server.close()


def test_requests_and_age_of_a_connection(run_proxy):
    server = h2.Backend("a")
    proxy = serve(run_proxy, server, **h2.explicit(common={"max_requests_per_connection": 3}))
    with h2.connect(proxy.port) as peer:
        assert [peer.ask().status for _ in range(9)] == [200] * 9
    assert server.connections == 3
    client.wait_until(lambda: sum(p.is_closed for p in server.peers) >= 2, what="the end of those that had their share")
    server.close()
    server = h2.Backend("a")
    proxy = serve(run_proxy, server, **h2.explicit(common={"max_connection_duration": "0.5s"}))
    with h2.connect(proxy.port) as peer:
        assert peer.ask().status == 200
        client.wait_until(lambda: peer.ask().status == 200 and server.connections >= 2, what="a second connection")
        client.wait_until(lambda: server.peers[0].is_closed, what="the end of the first")
    server.close()
