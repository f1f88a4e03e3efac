"""Raw TCP: CPU a GiB of a stream in one direction, beside the plainest relay (relay.c) with two sizes of its buffer."""
import socket
import threading
import time

from measure import cpu_seconds, median, ratio, table
from proxies import ENVOY, PROXY_CORE, TOP, cluster, compiled, free_port, start, stop, wait_port, write

TYPE = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
BYTES = 1 << 30
KINDS = ["relay 16 KiB", "relay 64 KiB", "lateen", "envoy", "haproxy"]
HAPROXY = """
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen l
  bind 127.0.0.1:{port}
  server s 127.0.0.1:{backend}
"""


class Sink:
    """Takes a stream, and says how long it was."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.take, args=(connection,), daemon=True).start()

    @staticmethod
    def take(connection):
        room, total = bytearray(1 << 20), 0
        while got := connection.recv_into(room):
            total += got
        connection.sendall(str(total).encode())
        connection.close()


def envoy_config(port, admin, backend):
    proxy = {"@type": TYPE, "stat_prefix": "tcp", "cluster": "backend"}
    return {"node": {"id": "bench", "cluster": "bench"}, "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "static_resources": {"clusters": [cluster("backend", [("127.0.0.1", backend)])], "listeners": [{
                "name": "main", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}]}]}}


def command(directory, kind, port, backend):
    if kind.startswith("relay"):
        return [str(compiled(directory, "relay")), str(port), str(backend), str(int(kind.split()[1]) * 1024)]
    if kind == "haproxy":
        return ["haproxy", "-db", "-f", write(directory, "tcp.cfg", HAPROXY.format(port=port, backend=backend))]
    program = [str(ENVOY), "--use-dynamic-base-id"] if kind == "envoy" else [str(TOP / "build/lateen-proxy")]
    config = write(directory, f"tcp-{kind}.json", envoy_config(port, free_port(), backend))
    return [*program, "-c", config, "--concurrency", "1", "-l", "error"]


def transfer(directory, kind, backend):
    port = free_port()
    process = start(PROXY_CORE, command(directory, kind, port, backend))
    try:
        wait_port(port, process)
        before, begin, piece = sum(cpu_seconds([process.pid])), time.monotonic(), bytes(1 << 18)
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            for _ in range(BYTES // len(piece)):
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            told = connection.recv(100)
        assert int(told) == BYTES, f"{kind}: {told!r} of {BYTES} bytes arrived"
        return {"cpu": sum(cpu_seconds([process.pid])) - before, "rate": BYTES / (1 << 20) / (time.monotonic() - begin)}
    finally:
        stop(process)


def tcp(bench):
    sink = Sink()
    kinds = [kind for kind in KINDS if kind.startswith("relay") or kind in bench.kinds]
    results = bench.in_turns(lambda kind: transfer(bench.dir, kind, sink.port), kinds)
    base = median(results["relay 64 KiB"], "cpu")
    table(f"A TCP stream of {BYTES >> 30} GiB in one direction, {bench.args.rounds} rounds", ["proxy", "CPU s/GiB", "x relay 64 KiB", "MiB/s"],
          [[kind, f"{median(r, 'cpu'):.2f}", ratio(median(r, "cpu"), base), f"{median(r, 'rate'):.0f}"] for kind, r in results.items()])
