"""Clients that send what costs them little and a proxy much: each is stopped and counted, others are served on, memory stays small."""
import contextlib
import resource
import socket
import struct
import threading
import time

import hpack
import pytest

from lib import client
from lib.h2 import PREFACE
from lib.proxy import bootstrap, cluster, hcm, listener, route
from lib.watch import anonymous

pytestmark = pytest.mark.quick

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
MIB = 1024 * 1024
PEAK = 32 * MIB  # of what any of these costs at its height, with all that the allocator keeps
ATTACKERS = 4
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/hang")]


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Attacker:
    """A connection of raw frames that reads all it is sent and keeps the code of a GOAWAY."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.goaway, self.is_over, self.encoder, self.next = None, False, hpack.Encoder(), 1
        self.reads = threading.Event()
        self.reads.set()
        threading.Thread(target=self.read, daemon=True).start()
        self.send(PREFACE + frame(SETTINGS))

    def read(self):
        data = b""
        try:
            while self.reads.wait() and (part := self.socket.recv(65536)):
                data += part
                while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3], "big")):
                    if data[3] == GOAWAY and data[13:17] != b"\0\0\0\0":
                        self.goaway = int.from_bytes(data[13:17], "big")
                    data = data[size:]
        except OSError:
            pass
        self.is_over = True

    def send(self, data):
        """False: the connection is over."""
        try:
            self.socket.sendall(data)
            return not self.is_over
        except OSError:
            return False

    def request(self, fields=(), flags=END_STREAM):
        stream, self.next = self.next, self.next + 2
        return stream, frame(HEADERS, flags | END_HEADERS, stream, self.encoder.encode([*GET, *fields]))

    def close(self):
        self.socket.close()


@pytest.fixture
def served(run_proxy, backends, kind):
    """A proxy whose other client is served all the time, and whose memory is looked at."""
    server = backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", {"cluster": "a", "timeout": "0s"})], request_headers_timeout="2s",
                                             max_request_headers_kb=60)), [cluster("a", server.port)]))
    statuses, peak, is_over = [], [0], threading.Event()
    before = anonymous(proxy.process.pid)

    def stand_by():
        with client.Connection(proxy.port, deadline=30) as connection:
            while not is_over.is_set():
                try:
                    connection.request(path="/bystander")
                    response = connection.response()
                except (OSError, ValueError) as error:
                    statuses.append(error)
                    return
                statuses.append(response and response.status)
                peak[0] = max(peak[0], anonymous(proxy.process.pid) - before)
                time.sleep(0.005)

    thread = threading.Thread(target=stand_by)
    thread.start()
    try:
        yield proxy
        seen = len(statuses)
        client.wait_until(lambda: len(statuses) > seen + 3 or not thread.is_alive(), within=30)
    finally:
        is_over.set()
        thread.join(40)
    assert set(statuses) == {200}
    assert proxy.process.poll() is None, proxy.output()
    if kind == "lateen":
        assert peak[0] < PEAK, f"{peak[0] / MIB:.1f} MiB"


def flood(proxy, attack, frames=100000):
    """Each attacker sends what attack(attacker) makes until it is stopped; returns them."""
    attackers = [Attacker(proxy.port) for _ in range(ATTACKERS)]

    def run(attacker):
        for _ in range(frames):
            if not attacker.send(attack(attacker)):
                return

    threads = [threading.Thread(target=run, args=(attacker,)) for attacker in attackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return attackers


def check_stopped(proxy, attackers, *names):
    """All of them were sent away, and one of the counters tells of each."""
    client.wait_until(lambda: all(attacker.is_over for attacker in attackers), within=20, what="the end of the attackers")
    try:
        client.wait_until(lambda: sum(proxy.stats().get(name, 0) for name in names) >= len(attackers))
    except AssertionError:
        told = {name: value for name, value in proxy.stats().items() if value and name.startswith("http")}
        raise AssertionError(f"{names} in {told}; codes {[attacker.goaway for attacker in attackers]}") from None
    for attacker in attackers:
        attacker.close()


def test_rapid_reset(served):
    """CVE-2023-44487"""
    def attack(attacker):
        stream, head = attacker.request()
        return head + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))

    check_stopped(served, flood(served, attack), "http.scene.downstream_rq_too_many_premature_resets")


@pytest.mark.lateen_only  # Envoy 1.40 does not count these
def test_made_you_reset(served):
    """CVE-2025-8671: the client breaks a rule, so that the proxy resets."""
    def attack(attacker):
        stream, head = attacker.request()
        return head + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0x7fffffff))

    check_stopped(served, flood(served, attack), "http.scene.downstream_rq_too_many_premature_resets",
                  "http2.inbound_window_update_frames_flood")


def test_continuation_flood(served):
    """CVE-2024-27316 and its like: a head without an end."""
    begun = set()

    def attack(attacker):
        if attacker not in begun:
            begun.add(attacker)
            return frame(HEADERS, END_STREAM, 1, attacker.encoder.encode(GET))
        return b"".join(frame(CONTINUATION, 0, 1, attacker.encoder.encode([(f"x-{i}", "v" * 50)])) for i in range(100))

    check_stopped(served, flood(served, attack), "http2.inbound_continuation_frames_flood", "http2.header_overflow",
                  "http2.rx_messaging_error", "http.scene.downstream_cx_protocol_error")


def test_empty_continuation_flood(served):
    begun = set()

    def attack(attacker):
        if attacker not in begun:
            begun.add(attacker)
            return frame(HEADERS, END_STREAM, 1, attacker.encoder.encode(GET))
        return frame(CONTINUATION, 0, 1) * 100

    check_stopped(served, flood(served, attack), "http2.inbound_continuation_frames_flood", "http2.inbound_empty_frames_flood",
                  "http2.rx_messaging_error", "http.scene.downstream_cx_protocol_error")


def test_hpack_bomb(served):
    """An entry of 4 KB, and a byte for each time it is there again: a head of 4 MB in a thousand bytes."""
    def attack(attacker):
        attacker.encoder.header_table_size = 4096
        stream, head = attacker.request([("x-bomb", "b" * 3900)])
        bomb = attacker.encoder.encode(GET) + b"\xbe" * 1000
        attacker.next += 2
        return head + frame(HEADERS, END_STREAM | END_HEADERS, stream + 2, bomb)

    attackers = flood(served, attack, frames=50)
    client.wait_until(lambda: any(served.stats().get(f"http2.{name}", 0) for name in ("header_overflow", "tx_reset", "rx_messaging_error")),
                      what="the counter")
    for attacker in attackers:
        attacker.close()


@pytest.mark.lateen_only  # Envoy 1.40 stops them, too, but counts only those whose connection it could still write to
def test_settings_flood(served):
    check_stopped(served, flood(served, lambda _: frame(SETTINGS) * 100), "http2.outbound_control_flood")


@pytest.mark.lateen_only  # the same
def test_ping_flood_of_one_who_does_not_read(served):
    def attack(attacker):
        attacker.reads.clear()
        return frame(PING, 0, 0, b"12345678") * 1000

    attackers = flood(served, attack, frames=3000)
    for attacker in attackers:
        attacker.reads.set()
    check_stopped(served, attackers, "http2.outbound_control_flood")


def test_empty_data_flood(served):
    begun = set()

    def attack(attacker):
        if attacker not in begun:
            begun.add(attacker)
            return attacker.request(flags=0)[1]
        return frame(DATA, 0, 1) * 100

    check_stopped(served, flood(served, attack), "http2.inbound_empty_frames_flood")


def test_window_update_flood(served):
    check_stopped(served, flood(served, lambda _: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100),
                  "http2.inbound_window_update_frames_flood")


def test_priority_flood(served):
    check_stopped(served, flood(served, lambda _: frame(PRIORITY, 0, 1, b"\0\0\0\0\1") * 100),
                  "http2.inbound_priority_frames_flood")


@contextlib.contextmanager
def many(port, count, opening):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 500)), hard))
    sockets = []
    try:
        for _ in range(count):
            sockets.append(socket.create_connection(("127.0.0.1", port), timeout=20))
            sockets[-1].sendall(opening)
        yield sockets
    finally:
        for each in sockets:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def drip(sockets, byte, until):
    """A byte a second on each, until they are all over."""
    left = list(sockets)
    end = time.monotonic() + until
    while left:
        assert time.monotonic() < end, f"{len(left)} of {len(sockets)} are left"
        for each in list(left):
            each.setblocking(False)
            try:
                if byte:
                    each.send(byte)
                while each.recv(65536):
                    pass
                left.remove(each)
            except BlockingIOError:
                pass
            except OSError:
                left.remove(each)
        time.sleep(0.2)


def test_heads_that_do_not_end(served):
    """Slowloris: a byte now and then, on a thousand connections; the head's time ends them all."""
    with many(served.port, 1000, b"GET / HTTP/1.1\r\nHost: x\r\nA: ") as sockets:
        drip(sockets, b"a", 20)
    assert served.stats()["http.scene.downstream_rq_header_timeout"] == 1000


@pytest.mark.lateen_only  # Envoy 1.40 lets them hold the connection
def test_heads_that_do_not_end_in_http2(served):
    opening = PREFACE + frame(SETTINGS) + frame(HEADERS, END_STREAM, 1, hpack.Encoder().encode(GET))
    with many(served.port, 500, opening) as sockets:
        drip(sockets, b"", 20)
    assert served.stats()["http.scene.downstream_rq_header_timeout"] == 500
