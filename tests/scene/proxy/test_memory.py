"""
Memory has a ceiling. What an overload_manager of a bootstrap does, on both kinds; and that --memory-limit holds under load
that is made to break it, while others are served or refused clearly, and that all is well afterwards.
"""
import asyncio
import socket
import threading
import time

import pytest
from hyperframe.frame import DataFrame, HeadersFrame

from lib import certs, client
from lib.frames import H2
from lib.logs import log_to, text
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy, typed
from lib.watch import resident

MIB = 1 << 20
MONITORS = "envoy.extensions.resource_monitors"


def wait(is_true, what, within=60):
    end = time.monotonic() + within
    while not (found := is_true()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.05)
    return found


# --- overload_manager ---

def with_manager(host, *actions, **more):
    """A heap that is full from the start, and these actions."""
    heap = {"name": "envoy.resource_monitors.fixed_heap", "typed_config": typed(f"{MONITORS}.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=1000)}
    trigger = {"name": heap["name"], "threshold": {"value": 0.5}}
    config = bootstrap([listener(hcm([route(to="b")]), name="main"),
                        listener(hcm([route(to="b")]), name="health", bypass_overload_manager=True)], [cluster("b", host.port)])
    config["overload_manager"] = {"refresh_interval": "0.1s", "resource_monitors": [heap],
                                  "actions": [{"name": f"envoy.overload_actions.{action}", "triggers": [trigger]} for action in actions], **more}
    return config


def is_on(proxy, action):
    return wait(lambda: proxy.stats().get(f"overload.envoy.overload_actions.{action}.active") == 1, "the action")


@pytest.mark.quick
def test_requests_are_refused(run_proxy, backends):
    proxy = run_proxy(with_manager(backends(), "stop_accepting_requests"))
    is_on(proxy, "stop_accepting_requests")
    connection = client.Connection(proxy.port)
    for _ in range(2):  # and the connection stays
        connection.request()
        response = connection.response()
        assert (response.status, response.body) == (503, b"envoy overloaded")
    assert client.get(proxy.ports[1], "/").status == 200
    assert proxy.stats()["http.scene.downstream_rq_overload_close"] == 2


@pytest.mark.quick
def test_connections_are_not_kept(run_proxy, backends):
    proxy = run_proxy(with_manager(backends(), "disable_http_keepalive", "shrink_heap"))
    is_on(proxy, "disable_http_keepalive")
    response = client.get(proxy.port, "/")
    assert response.status == 200 and response.header("connection") == "close"
    assert proxy.stats()["http.scene.downstream_cx_overload_disable_keepalive"] == 1


@pytest.mark.quick
def test_connections_are_refused(run_proxy, backends):
    proxy = run_proxy(with_manager(backends(), "reject_incoming_connections"))
    is_on(proxy, "reject_incoming_connections")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    assert client.get(proxy.ports[1], "/").status == 200
    wait(lambda: proxy.stats()[f"listener.127.0.0.1_{proxy.port}.downstream_cx_overload_reject"] == 1, proxy.stats)


@pytest.mark.quick
def test_connections_wait(run_proxy, backends):
    proxy = run_proxy(with_manager(backends(), "stop_accepting_connections"))
    is_on(proxy, "stop_accepting_connections")
    connection = client.Connection(proxy.port, deadline=1)
    connection.request()
    with pytest.raises(TimeoutError):
        connection.response()
    assert client.get(proxy.ports[1], "/").status == 200


@pytest.mark.quick
def test_connections_have_a_maximum(run_proxy, backends):
    config = with_manager(backends())
    name = "envoy.resource_monitors.global_downstream_max_connections"
    limit = typed(f"{MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig", max_active_downstream_connections=2)
    config["overload_manager"]["resource_monitors"] = [{"name": name, "typed_config": limit}]
    has_a_maximum(run_proxy, config)


@pytest.mark.quick
@pytest.mark.lateen_only  # Envoy counts connections of the admin pages then
def test_connections_have_a_maximum_by_a_runtime_key(run_proxy, backends):
    config = with_manager(backends())
    del config["overload_manager"]
    config["layered_runtime"] = {"layers": [
        {"name": "one", "static_layer": {"overload.global_downstream_max_connections": 100000}},
        {"name": "two", "static_layer": {"overload": {"global_downstream_max_connections": 2}, "envoy": {"nothing": True}}}]}
    has_a_maximum(run_proxy, config)


def has_a_maximum(run_proxy, config):
    """Of two; the second listener knows none."""
    config["static_resources"]["listeners"][1]["ignore_global_conn_limit"] = True
    proxy = run_proxy(config)
    kept = [client.Connection(proxy.port) for _ in range(2)]
    for connection in kept:
        connection.request()
        assert connection.response().status == 200
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as sock:
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    wait(lambda: proxy.stats()[f"listener.127.0.0.1_{proxy.port}.downstream_global_cx_overflow"] == 1, proxy.stats)
    assert client.get(proxy.ports[1], "/").status == 200
    kept[0].close()

    def has_room():
        try:
            return client.get(proxy.port, "/").status == 200
        except (ConnectionError, AttributeError):
            return False
    wait(has_room, "room again")


@pytest.mark.quick
@pytest.mark.parametrize("change, text", [
    (lambda m: m["actions"].append({"name": "envoy.overload_actions.nothing"}), "Unknown Overload Manager Action"),
    (lambda m: m["actions"][0]["triggers"][0].update(threshold={"value": 1.5}), "threshold"),
    (lambda m: m["resource_monitors"][0]["typed_config"].update(max_heap_size_bytes=0), "max_heap_size_bytes"),
])
def test_a_manager_that_is_wrong_is_refused(kind, workdir, backends, change, text):
    from lib import proxy as proxy_lib
    config = with_manager(backends(), "shrink_heap")
    change(config["overload_manager"])
    proxy = proxy_lib.start(kind, config, workdir, ready=False)
    assert proxy.process.wait(30) == 1 and (text in proxy.output() or kind == "envoy")


# --- the ceiling ---

class Host:
    """Many connections on one thread: /big/N answers with N bytes, /hold never answers and reads no body; the rest is quick."""

    def __init__(self):
        self.loop, started = asyncio.new_event_loop(), threading.Event()
        self.thread = threading.Thread(target=self.run, args=(started,), daemon=True)
        self.thread.start()
        started.wait(20)

    def run(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=4096, limit=1 << 16))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                if path.startswith("/hold"):
                    reader._transport.pause_reading()
                    await asyncio.sleep(3600)
                size = int(path.split("/")[2]) if path.startswith("/big") else 2
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
                while size > 0:
                    part = min(size, 1 << 16)
                    writer.write(b"x" * part)
                    await writer.drain()
                    size -= part
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def close(self):
        self.loop.call_soon_threadsafe(self.end)
        self.thread.join()
        self.loop.close()

    def end(self):
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        asyncio.gather(*tasks, return_exceptions=True).add_done_callback(lambda _: self.loop.stop())


@pytest.fixture
def host():
    made = Host()
    yield made
    made.close()


def peak(proxy):
    """VmHWM: the most that was ever resident."""
    return next(int(line.split()[1]) << 10 for line in open(f"/proc/{proxy.process.pid}/status") if line.startswith("VmHWM"))


class Bystander:
    """Asks all the while, with a connection for each request. Anything but a clear answer is wrong."""

    def __init__(self, port):
        self.port, self.seen, self.stopped = port, [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopped.is_set():
            try:
                response = client.get(self.port, "/")
                text = f"{response.status} {response.body.decode()[:30]}" if response.status else "closed"
                self.seen.append(text)
            except (ConnectionError, AttributeError):
                self.seen.append("closed")
            except OSError as error:
                self.seen.append(repr(error))
            time.sleep(0.01)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        assert set(self.seen) <= {"200 xx", "503 envoy overloaded", "closed"}, set(self.seen)
        return self.seen


def connect(port, sockets):
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sockets.append(sock)
    return sock


def send(sock, data):
    """Whatever the other side takes; that it has closed is no news."""
    try:
        sock.settimeout(0.2)
        sock.sendall(data)
    except OSError:
        pass


def slow_heads(port, sockets):
    """Heads that never end: a block for each connection."""
    for _ in range(4000):
        send(connect(port, sockets), b"GET / HTTP/1.1\r\nhost: x\r\nx-a: ")


def big_heads(port, sockets):
    """The same of 50 KB."""
    for _ in range(1500):
        send(connect(port, sockets), b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-long: " + b"a" * 50000)


def slow_readers(port, sockets):
    """HTTP/1: large answers that nobody reads."""
    for _ in range(3000):
        send(connect(port, sockets), b"GET /big/4000000 HTTP/1.1\r\nhost: x\r\n\r\n")


def kept_bodies(port, sockets):
    """Bodies that are kept for retries, of requests that are never answered: 900 KB each."""
    for _ in range(120):
        sock = connect(port, sockets)
        send(sock, b"POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 900_000)


def h2_connection(port, sockets):
    peer = H2(port)
    sockets.append(peer.sock)
    peer.sock.settimeout(5)
    return peer


def h2_slow_readers(port, sockets):
    """HTTP/2: a hundred streams on each connection, none read."""
    for _ in range(25):
        peer = h2_connection(port, sockets)
        try:
            for _ in range(100):
                peer.ask("/big/4000000")
        except OSError:
            pass


def h2_uploads(port, sockets):
    """Bodies that the host does not take: 60 KB each, under the windows that everybody has."""
    for _ in range(80):
        peer = h2_connection(port, sockets)
        try:
            for _ in range(100):
                headers = peer.conn.encoder.encode([(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/hold")])
                peer.sock.sendall(HeadersFrame(peer.next_id, data=headers, flags=["END_HEADERS"]).serialize() +
                                  b"".join(DataFrame(peer.next_id, data=b"x" * 16000).serialize() for _ in range(4)))
                peer.next_id += 2
        except OSError:
            pass


def h2_big_heads(port, sockets):
    """Requests that wait for their host, each with 50 KB of fields."""
    for _ in range(30):
        peer = h2_connection(port, sockets)
        try:
            for at in range(100):
                fields = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/hold")]
                block = peer.conn.encoder.encode(fields + [(f"x-{at}-{i}", "a" * 7000) for i in range(7)], huffman=False)
                parts = [block[i:i + 16000] for i in range(0, len(block), 16000)]
                from hyperframe.frame import ContinuationFrame
                frames = [HeadersFrame(peer.next_id, data=parts[0], flags=["END_STREAM"] + (["END_HEADERS"] if len(parts) == 1 else []))]
                frames += [ContinuationFrame(peer.next_id, data=part, flags=["END_HEADERS"] if part is parts[-1] else []) for part in parts[1:]]
                peer.sock.sendall(b"".join(frame.serialize() for frame in frames))
                peer.next_id += 2
        except OSError:
            pass


ATTACKS = [slow_heads, big_heads, slow_readers, h2_slow_readers, h2_uploads, h2_big_heads]


@pytest.mark.lateen_only
@pytest.mark.no_sanitizer
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_memory_stays_below_its_limit(run_proxy, host, attack):
    limit, sockets = 40 * MIB, []
    lavish = {"circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}}
    proxy = run_proxy(bootstrap(listener(hcm([route(to="b")])), [cluster("b", host.port, **lavish)]), concurrency=2,
                      extra=["--memory-limit", "40Mi"])
    bystander = Bystander(proxy.port)
    try:
        attack(proxy.port, sockets)
        time.sleep(1)  # and a while under it
        assert proxy.process.poll() is None
        during = len(bystander.seen)
        stats = proxy.stats()
        high = peak(proxy)
    finally:
        for sock in sockets:
            sock.close()
    try:
        wait(lambda: bystander.seen[during:].count("200 xx") > 20, lambda: (bystander.seen[-20:], proxy.stats()))
    finally:
        seen = bystander.stop()
    print(attack.__name__, f"{high / MIB:.1f} MiB", {text: seen[:during].count(text) for text in set(seen[:during])},
          {name: value for name, value in stats.items() if "overload" in name and value})
    assert high < limit, f"{high / MIB:.1f} MiB"
    assert any(value for name, value in stats.items() if "overload" in name and not name.endswith(".active")), stats
    wait(lambda: resident(proxy.process.pid) < 0.75 * limit, lambda: f"{resident(proxy.process.pid) / MIB} MiB are kept")


class OverTls:
    """Sockets of clients that have made a handshake, for attacks that know nothing of it."""

    def __init__(self, context):
        self.context = context

    def __call__(self, port, sockets):
        sock = self.context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30), do_handshake_on_connect=False)
        sockets.append(sock)
        try:
            sock.do_handshake()
        except OSError:
            pass  # it is refused
        return sock


def under_load(proxy, sockets, attack, ask, is_relieved=True):
    """Attacks; what was seen of the limit meanwhile, and that others are served again afterwards."""
    try:
        attack()
        time.sleep(1)
        assert proxy.process.poll() is None
        stats, high = proxy.stats(), peak(proxy)
    finally:
        for sock in sockets:
            sock.close()
    wait(ask, lambda: proxy.stats())
    assert high < 40 * MIB, f"{high / MIB:.1f} MiB"
    assert not is_relieved or any(value for name, value in stats.items() if "overload" in name and not name.endswith(".active")), stats
    wait(lambda: resident(proxy.process.pid) < 30 * MIB, lambda: f"{resident(proxy.process.pid) / MIB} MiB are kept")
    return stats


LAVISH = {"circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}}
LIMIT = ["--memory-limit", "40Mi"]


def is_served(port, context=None):
    def ask():
        try:
            return client.get(port, "/", ssl_context=context).body == b"xx"
        except (OSError, AttributeError):
            return False
    return ask


@pytest.mark.lateen_only
@pytest.mark.no_sanitizer
def test_bodies_kept_for_retries_count(run_proxy, host, workdir):
    log = workdir / "log"
    to = {"cluster": "b", "timeout": "0s", "retry_policy": {"retry_on": "5xx"}}
    proxy = run_proxy(bootstrap(listener(hcm([route(to=to)], access_log=[log_to(log, **text("%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"))])),
                                [cluster("b", host.port, **LAVISH)]), concurrency=2, extra=LIMIT)
    sockets = []
    stats = under_load(proxy, sockets, lambda: kept_bodies(proxy.port, sockets), is_served(proxy.port))
    if any(value for name, value in stats.items() if "overload.shed" in name):  # or it was enough to refuse who came later
        wait(lambda: "OM overload" in log.read_text(), "a line of who had to go")


@pytest.mark.lateen_only
@pytest.mark.no_sanitizer
def test_the_limit_holds_over_tls(run_proxy, host, workdir):
    root = certs.Root()
    leaf = root.leaf("spiffe://cluster.local/ns/a/sa/x")
    context = certs.client_context(workdir, root, leaf)
    chain = {"filters": [hcm([route(to="b")])], "transport_socket": certs.downstream(leaf, root)}
    proxy = run_proxy(bootstrap(listener(chains=[chain]), [cluster("b", host.port, **LAVISH)]), concurrency=2, extra=LIMIT)
    sockets, connect_tls = [], OverTls(context)

    def attack():
        for _ in range(800):
            send(connect_tls(proxy.port, sockets), b"GET /big/4000000 HTTP/1.1\r\nhost: x\r\n\r\n")
    under_load(proxy, sockets, attack, is_served(proxy.port, context))


@pytest.mark.lateen_only
@pytest.mark.no_sanitizer
def test_the_limit_holds_over_raw_tcp(run_proxy, host):
    proxy = run_proxy(bootstrap(listener(tcp_proxy("b")), [cluster("b", host.port, **LAVISH)]), concurrency=2, extra=LIMIT)
    sockets = []

    def attack():
        for _ in range(3000):
            send(connect(proxy.port, sockets), b"GET /big/4000000 HTTP/1.1\r\nhost: x\r\n\r\n")
    under_load(proxy, sockets, attack, is_served(proxy.port), is_relieved=False)  # two blocks each, at most: that may do
