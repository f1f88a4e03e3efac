#!/usr/bin/env python3
"""lateen-proxy beside Envoy, HAProxy and nginx: CPU a request, requests/s, latency, memory, start. Ratios to Envoy of the same run.

One proxy process with one thread is pinned to core 1; the load and the backend share core 0. The proxies take turns, --rounds
times, and medians are shown: on a shared machine single runs lie by 20 %. lateen and Envoy have a table of 1000 virtual hosts;
lateen+stats counts Istio's metrics as well, which the other three do not have. floor is a relay that parses nothing (floor.c).
"""
import argparse
import pathlib
import socket
import ssl
import sys
import tempfile
import time

from measure import cpu_seconds, median, memory_kb, ratio, run_h2load, run_wrk, table
from proxies import ALL, HOST, Backends, Proxy, make_certificates, missing_tools
from tcp import tcp


class Bench:
    def __init__(self, directory, args):
        self.dir, self.args = directory, args
        self.kinds = args.only.split(",") if args.only else ALL
        make_certificates(directory)
        self.backends = Backends(directory)

    def launch(self, kind, work, **options):
        return Proxy(self.dir, kind, work, self.backends.port_for(kind, work), **options)

    def launch_pair(self, kind):
        """The two sidecars of a call; what takes the work is the first."""
        server = self.launch(kind, "mtls-in")
        return [Proxy(self.dir, kind, "mtls-out", server.port), server]

    def in_turns(self, measure, kinds=None, rounds=None):
        """Kind -> results of all rounds."""
        results = {kind: [] for kind in kinds or self.kinds}
        for _ in range(rounds or self.args.rounds):
            for kind in results:
                results[kind].append(measure(kind))
        return results


def loaded(proxies, warm, run):
    """Runs the load on the first of them; CPU is that of all."""
    pids = [proxy.process.pid for proxy in proxies]
    try:
        warm(proxies[0].port)
        before = cpu_seconds(pids)
        result = run(proxies[0].port)
        user, system = ((now - then) * 1e6 / result["requests"] for now, then in zip(cpu_seconds(pids), before))
        result["cpu_us"], result["user_us"] = user + system, user
        result["anonymous"], result["pss"] = map(sum, zip(*map(memory_kb, pids)))
        return result
    finally:
        for proxy in proxies:
            proxy.stop()


def show_loads(title, results):
    base, floor = (median(results[kind], "cpu_us") if kind in results else 0 for kind in ("envoy", "floor"))
    rows = [[kind, f"{median(r, 'cpu_us'):.1f}", f"{median(r, 'user_us'):.1f}", ratio(median(r, "cpu_us"), base),
             ratio(median(r, "cpu_us"), floor), f"{median(r, 'rps'):.0f}", f"{median(r, 'p50'):.2f}",
             f"{median(r, 'p99'):.2f}", f"{median(r, 'anonymous') / 1024:.1f}", f"{median(r, 'pss') / 1024:.1f}",
             sum(x["errors"] for x in r)] for kind, r in results.items()]
    table(title, ["proxy", "CPU us/request", "of it user", "x Envoy", "x floor", "requests/s", "p50 ms", "p99 ms", "anonymous MB", "PSS MB", "errors"], rows)


# --- the rows ---

def http1(bench):
    seconds = bench.args.seconds
    for connections in map(int, bench.args.connections.split(",")):
        show_loads(f"HTTP/1.1, {connections} connections, 1 KB, {bench.args.rounds} rounds of {seconds} s", bench.in_turns(
            lambda kind: loaded([bench.launch(kind, "http1")], lambda port: run_wrk(port, connections, 1),
                                lambda port: run_wrk(port, connections, seconds)), [*bench.kinds, "floor"]))


def http2(bench):
    seconds = bench.args.seconds
    show_loads(f"HTTP/2 to HTTP/2 (nginx: to HTTP/1.1), 16 connections of 20 streams, 1 KB, {bench.args.rounds} rounds of {seconds} s",
               bench.in_turns(lambda kind: loaded([bench.launch(kind, "http2")], lambda port: run_h2load(port, 16, "-m20", "-D1"),
                                                  lambda port: run_h2load(port, 16, "-m20", f"-D{seconds}"))))


def mtls(bench):
    seconds = bench.args.seconds
    show_loads(f"Two sidecars with mTLS between, HTTP/1.1, 64 connections, 1 KB, CPU and memory of both, {bench.args.rounds} rounds of "
               f"{seconds} s", bench.in_turns(lambda kind: loaded(bench.launch_pair(kind), lambda port: run_wrk(port, 64, 1),
                                                                  lambda port: run_wrk(port, 64, seconds))))


def latency(bench):
    """Five paired rounds at a rate that every proxy carries with ease; unpaired, the machine's noise is larger than the difference."""
    kinds = [kind for kind in bench.kinds if kind in ("lateen+stats", "haproxy", "envoy")]
    rate = 20 * 100
    results = bench.in_turns(lambda kind: loaded(
        [bench.launch(kind, "http1")], lambda port: run_wrk(port, 20, 1),
        lambda port: run_h2load(port, 20, "--h1", "--rps=100", f"-D{bench.args.seconds}")), kinds, 5)
    rows = [[kind, *(f"{median(r, key):.3f}" for key in ("p50", "p99", "p999")), f"{median(r, 'rps'):.0f}", sum(x["errors"] for x in r)]
            for kind, r in results.items()]
    table(f"Latency at {rate} requests/s, HTTP/1.1, 20 connections, 5 paired rounds of {bench.args.seconds} s",
          ["proxy", "p50 ms", "p99 ms", "p99.9 ms", "requests/s", "errors"], rows)


def memory(bench):
    """Idle, without configuration and with much, and what an idle connection adds that served one request."""
    rows = []
    for clusters in (0, 1000, 5000):
        for kind in bench.kinds:
            if clusters and kind not in ("lateen+stats", "envoy"):
                continue
            proxy = bench.launch(kind, "http1", clusters=clusters, hosts=0)
            try:
                time.sleep(0.5)
                anonymous, pss = memory_kb(proxy.process.pid)
                each = "-" if clusters else f"{hold_idle(proxy, anonymous):.1f}"
                rows.append([kind, clusters, f"{anonymous / 1024:.1f}", f"{pss / 1024:.1f}", each, mtls_idle(bench, kind, clusters),
                             f"{proxy.ready_s:.3f}"])
            finally:
                proxy.stop()
    table("Idle; clusters have 10 endpoints each; connections have served one request", [
        "proxy", "clusters", "anonymous MB", "PSS MB", "KB a connection", "KB a connection, mTLS", "ready s"], rows)


def mtls_idle(bench, kind, clusters):
    if clusters:
        return "-"
    proxy = bench.launch(kind, "mtls-in")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(bench.dir / "root.pem")
    context.load_cert_chain(bench.dir / "client.pem", bench.dir / "client.key")
    try:
        time.sleep(0.5)
        return f"{hold_idle(proxy, memory_kb(proxy.process.pid)[0], lambda s: context.wrap_socket(s, server_hostname=HOST)):.1f}"
    finally:
        proxy.stop()


def hold_idle(proxy, before_kb, wrap=lambda s: s, connections=1000):
    """KB that each of so many connections adds, all after one request at once, the upstream's with them."""
    held = []
    try:
        for _ in range(connections):
            held.append(wrap(socket.create_connection(("127.0.0.1", proxy.port), 10)))
        for s in held:
            s.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        for s in held:
            data = b""
            while not data.endswith(b"x" * 1024):
                more = s.recv(4096)
                assert more, f"the proxy closed the connection after {data!r}"
                data += more
        time.sleep(3)  # what is given back when nobody has used it for a while is not part of a connection
        return (memory_kb(proxy.process.pid)[0] - before_kb) / connections
    finally:
        for s in held:
            s.close()


ROWS = {row.__name__: row for row in (http1, http2, mtls, latency, tcp, memory)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=f"a comma-separated list of: {', '.join(ALL)}")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"a comma-separated list of: {', '.join(ROWS)}")
    parser.add_argument("--connections", default="64,1000", help="of the row http1")
    args = parser.parse_args()
    unknown = [row for row in args.rows.split(",") if row not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    missing = missing_tools(args.only or ALL)
    if missing:
        sys.exit(f"bench: missing {', '.join(missing)}; run make deps")
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(pathlib.Path(name), args)
        try:
            for row in args.rows.split(","):
                ROWS[row](bench)
        finally:
            bench.backends.stop()


if __name__ == "__main__":
    main()
