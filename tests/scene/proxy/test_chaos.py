"""Clients and servers that do anything at any time, for half a minute: the proxy lives, leaks nothing and serves on.

Nothing is said of single answers here; the other scenes do that. Worth most in a sanitizer build (LATEEN_BUILD)."""
import os
import random
import socket
import threading
import time

import pytest

from lib import certs, client
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy, typed

# lateen_only: the point is what our process does to itself
pytestmark = [pytest.mark.long, pytest.mark.lateen_only]

SECONDS, CLIENTS, SERVERS = 30, 24, 3
RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER of zero seconds: close sends RST
SERVER, CALLER = "spiffe://cluster.local/ns/b/sa/server", "spiffe://cluster.local/ns/a/sa/caller"


class Server:
    """Answers rightly, wrongly, late, in part or not at all."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            chance = random.Random(self.random.random())
            threading.Thread(target=self.serve, args=(connection, chance), daemon=True).start()

    def serve(self, connection, chance):
        connection.settimeout(3)
        with connection:
            try:
                while self.answer(connection, chance):
                    pass
            except OSError:
                pass

    def answer(self, connection, chance):
        head = b""
        while b"\r\n\r\n" not in head:
            part = connection.recv(chance.choice([1, 100, 4096]))
            if not part:
                return False
            head += part
        size = chance.choice([0, 2, 2, 2, 100, 5000, 60000, 400000])
        status = chance.choice([b"200 OK"] * 6 + [b"503 Down", b"204 Empty", b"304 Same", b"404 Gone"])
        deed = chance.choice([self.leave, self.reset, self.garbage, self.sleep, self.interim, self.chunked, self.until_close,
                              *[self.plain] * 14])
        return deed(connection, chance, status, size)

    def leave(self, connection, chance, status, size):
        return False

    def reset(self, connection, chance, status, size):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return False

    def garbage(self, connection, chance, status, size):
        connection.sendall(os.urandom(chance.randrange(1, 3000)))
        return False

    def sleep(self, connection, chance, status, size):
        time.sleep(chance.random())
        return self.plain(connection, chance, status, size)

    def interim(self, connection, chance, status, size):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self.plain(connection, chance, status, size)

    def chunked(self, connection, chance, status, size):
        connection.sendall(b"HTTP/1.1 " + status + b"\r\ntransfer-encoding: chunked\r\n\r\n")
        while size > 0 and status[:3] not in (b"204", b"304"):
            part = min(size, chance.randrange(1, 9000))
            connection.sendall(b"%x\r\n" % part + b"y" * part + b"\r\n")
            size -= part
            if chance.random() < 0.01:
                return False
        connection.sendall(b"0\r\n\r\n")
        return True

    def until_close(self, connection, chance, status, size):
        connection.sendall(b"HTTP/1.0 " + status + b"\r\n\r\n" + b"z" * size)
        return False

    def plain(self, connection, chance, status, size):
        if status[:3] in (b"204", b"304"):
            connection.sendall(b"HTTP/1.1 " + status + b"\r\n\r\n")
            return True
        body = b"b" * (size if chance.random() < 0.95 else size // 2)
        is_last = len(body) < size or chance.random() < 0.05
        connection.sendall(b"HTTP/1.1 " + status + b"\r\ncontent-length: %d\r\n" % size +
                           (b"connection: close\r\n" if is_last else b"") + b"\r\n" + body)
        return not is_last


def request(chance):
    path, kind = chance.choice([b"/a", b"/b", b"/c"]), chance.random()
    fields = b"Host: x\r\nX-A: " + b"v" * chance.choice([1, 50, 3000, 9000]) + b"\r\n"
    if kind < 0.5:
        return b"GET " + path + b" HTTP/1.1\r\n" + fields + b"\r\n"
    if kind < 0.6:
        return b"HEAD " + path + b" HTTP/1.1\r\n" + fields + b"\r\n"
    if kind < 0.75:
        size = chance.choice([0, 10, 3000, 70000, 300000])
        body = b"q" * (size if chance.random() < 0.9 else size // 2)
        return b"POST " + path + b" HTTP/1.1\r\n" + fields + b"Content-Length: %d\r\n\r\n" % size + body
    if kind < 0.9:
        sizes = [chance.randrange(1, 9000) for _ in range(chance.randrange(5))]
        chunks = b"".join(b"%x\r\n" % size + b"c" * size + b"\r\n" for size in sizes)
        end = b"0\r\n\r\n" if chance.random() < 0.95 else b"zz"
        expects = b"Expect: 100-continue\r\n" if kind < 0.8 else b""
        return b"POST " + path + b" HTTP/1.1\r\n" + fields + b"Transfer-Encoding: chunked\r\n" + expects + b"\r\n" + chunks + end
    if kind < 0.93:
        return b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    return os.urandom(50) if kind < 0.96 else b"GET / HTTP/1.1\r\n"


def exchange(connection, chance):
    """Some requests and perhaps their answers; False when it is over."""
    out = b"".join(request(chance) for _ in range(chance.choice([1, 1, 1, 3, 20])))
    connection.settimeout(chance.choice([0.01, 0.2, 1]))
    while out:
        out = out[connection.send(out[:chance.choice([1, 700, 65536])]):]
    if chance.random() < 0.1:
        connection.shutdown(socket.SHUT_WR)
    while chance.random() < 0.7:
        if not connection.recv(chance.choice([10, 100000])):
            return False
    return chance.random() < 0.8


def torment(ports, seed, until):
    chance = random.Random(seed)
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", chance.choice(ports)), timeout=3) as connection:
                while exchange(connection, chance):
                    pass
                if chance.random() < 0.2:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except OSError:
            pass


def manager():
    retries = {"retry_policy": {"retry_on": "5xx,reset,connect-failure", "num_retries": 2, "per_try_timeout": "0.3s",
                                "retry_back_off": {"base_interval": "0.005s"}}, "timeout": "0.5s"}
    log = {"name": "log", "typed_config": typed(
        "envoy.extensions.access_loggers.file.v3.FileAccessLog", path="/dev/null",
        log_format={"text_format_source": {"inline_string": "%REQ(:PATH)% %REQ(X-A)% %RESP(SERVER)% %RESPONSE_FLAGS%\n"}})}
    return hcm([route("/a", {"cluster": "many", **retries}), route("/b", {"cluster": "few", "timeout": "0.4s"}), route("/", "many")],
               upgrade_configs=[{"upgrade_type": "websocket"}], access_log=[log])


def clusters(servers):
    ports = [server.port for server in servers]
    few = {"thresholds": [{"max_connections": 3, "max_pending_requests": 10, "max_requests": 4, "max_retries": 2}]}
    return [cluster("many", *ports, lb_policy="LEAST_REQUEST"), cluster("few", *ports, circuit_breakers=few)]


def plain(run_proxy, servers):
    return [run_proxy(bootstrap([listener(manager()), listener(tcp_proxy("many"), name="tcp")], clusters(servers)))]


def mutual_tls(run_proxy, servers):
    root = certs.Root()
    chain = {"filters": [manager()], "transport_socket": certs.downstream(root.leaf(SERVER), root)}
    inner = run_proxy(bootstrap(listener(chains=[chain]), clusters(servers)))
    peer = cluster("many", inner.port, transport_socket=certs.upstream(root.leaf(CALLER), root))
    few = cluster("few", inner.port, transport_socket=certs.upstream(root.leaf(CALLER), root))
    return [run_proxy(bootstrap(listener(manager()), [peer, few])), inner]


@pytest.mark.parametrize("shape", [plain, mutual_tls])
def test_chaos(run_proxy, shape):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    servers = [Server(seed + i) for i in range(SERVERS)]
    proxies = shape(run_proxy, servers)
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=torment, args=(proxies[0].ports, seed + i, until)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for proxy in proxies:
        assert proxy.process.poll() is None, proxy.output()
    statuses = {client.get(proxies[0].port, "/c").status for _ in range(20)}
    assert 200 in statuses
    time.sleep(1.5)
    for line in proxies[-1].admin_get("/clusters").body.decode().splitlines():
        assert "rq_active" not in line or line.endswith("::0"), line
    for proxy in proxies:
        proxy.stop()
        assert proxy.process.returncode == 0, proxy.output()
    for server in servers:
        server.listening.close()
