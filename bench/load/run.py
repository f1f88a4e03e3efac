#!/usr/bin/env python3
"""lateen-proxy beside Envoy, HAProxy and nginx: requests/s, CPU per request, latency, memory. Ratios to Envoy of the same run.

One proxy process with one thread is pinned to core 1; the load (wrk) and the backend (nginx) share core 0. The proxies take turns,
--rounds times, and medians are shown: on a shared machine single runs lie by 20 %.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[2]
ENVOY = TOP / "build/venv/bin/envoy"
PROXY_CORE, LOAD_CORE = "1", "0"
STATS = {"name": "istio.stats", "typed_config": {"@type": "type.googleapis.com/stats.PluginConfig"}}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(core, command, **options):
    return subprocess.Popen(["taskset", "-c", core, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def wait_port(port, process):
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None, f"{process.args} ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"nothing listens on {port}"
            time.sleep(0.02)


def stop(process):
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- configurations ---

def envoy_config(port, admin, backend, clusters, stats):
    def cluster(name, ports):
        return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": a, "port_value": p}}}}
                              for a, p in ports]}]},
            "circuit_breakers": {"thresholds": [{"max_connections": 65536, "max_pending_requests": 65536, "max_requests": 65536}]}}

    extra = [cluster(f"outbound|80||svc-{i}.ns.svc.cluster.local", [(f"10.0.{j}.{1 + i % 250}", 80) for j in range(10)])
             for i in range(clusters)]
    router = {"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    manager = {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
               "stat_prefix": "bench", "http_filters": ([STATS] if stats else []) + [router],
               "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                   {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}]}]}}
    return {"node": {"id": "bench", "cluster": "bench"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "static_resources": {"clusters": [cluster("backend", [("127.0.0.1", backend)])] + extra, "listeners": [
                {"name": "main", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                 "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}]}]}}


HAPROXY = """
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{backend}
"""

NGINX = """
worker_processes 1;
daemon off;
pid {dir}/{name}.pid;
error_log /dev/null crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {dir}/{name}-b; proxy_temp_path {dir}/{name}-p; fastcgi_temp_path {dir}/{name}-f;
  uwsgi_temp_path {dir}/{name}-u; scgi_temp_path {dir}/{name}-s;
  {body}
}}
"""


class Bench:
    def __init__(self, directory, args):
        self.dir, self.args = directory, args
        self.backend_port = free_port()
        text = NGINX.format(dir=directory, name="backend", body="server { listen 127.0.0.1:%d backlog=8192; location / { "
                            "return 200 '%s'; } }" % (self.backend_port, "x" * 1024))
        self.backend = start(LOAD_CORE, ["nginx", "-p", str(directory), "-c", self.write("backend.conf", text)])
        wait_port(self.backend_port, self.backend)

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return str(path)

    def launch(self, name, clusters=0):
        port, admin = free_port(), free_port()
        if name.startswith("lateen"):
            config = envoy_config(port, admin, self.backend_port, clusters, "stats" in name)
            command = [str(TOP / "build/lateen-proxy"), "-c", self.write(f"{name}.json", config), "--concurrency", "1", "-l", "error"]
        elif name == "envoy":
            config = envoy_config(port, admin, self.backend_port, clusters, False)
            command = [str(ENVOY), "-c", self.write("envoy.json", config), "--concurrency", "1", "-l", "error",
                       "--use-dynamic-base-id"]
        elif name == "haproxy":
            command = ["haproxy", "-db", "-f", self.write("haproxy.cfg", HAPROXY.format(port=port, backend=self.backend_port))]
        else:
            body = ("upstream u { server 127.0.0.1:%d; keepalive 1024; keepalive_requests 1000000; } server { listen 127.0.0.1:%d "
                    "backlog=8192; location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ''; } }"
                    % (self.backend_port, port))
            command = ["nginx", "-p", str(self.dir), "-c",
                       self.write("proxy.conf", NGINX.format(dir=self.dir, name="proxy", body=body))]
        process = start(PROXY_CORE, command)
        wait_port(port, process)
        return process, port, admin

    def close(self):
        stop(self.backend)


# --- measuring ---

def family(pid):
    """The process and its children: nginx works in one."""
    pids = [pid]
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) in pids:
            pids.append(int(path.parent.name))
    return pids


def cpu_seconds(pid):
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for one in family(pid):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / ticks


def memory_kb(pid):
    """(anonymous, PSS), in KiB."""
    anonymous = pss = 0
    for one in family(pid):
        text = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text()
        anonymous += int(re.search(r"^Anonymous:\s+(\d+)", text, re.M).group(1))
        pss += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
    return anonymous, pss


def to_ms(text):
    number, unit = re.match(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def load(port, connections, seconds):
    out = subprocess.run(["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
                          f"http://127.0.0.1:{port}/"], capture_output=True, text=True, timeout=seconds + 60).stdout
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return {"requests": requests, "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
            "p50": to_ms(re.search(r"^ +50% +(\S+)", out, re.M).group(1)), "p99": to_ms(re.search(r"^ +99% +(\S+)", out, re.M).group(1)),
            "errors": int(errors.group(1)) if errors else 0}


def measure_load(bench, name, connections):
    process, port, _ = bench.launch(name)
    try:
        load(port, connections, 1)
        before = cpu_seconds(process.pid)
        result = load(port, connections, bench.args.seconds)
        result["cpu_us"] = (cpu_seconds(process.pid) - before) * 1e6 / result["requests"]
        result["anonymous"], result["pss"] = memory_kb(process.pid)
        return result
    finally:
        stop(process)


def measure_idle(bench, name, clusters, connections=1000):
    process, port, admin = bench.launch(name, clusters)
    held = []
    try:
        time.sleep(0.5)
        anonymous, pss = memory_kb(process.pid)
        for _ in range(connections):
            s = socket.create_connection(("127.0.0.1", port), 10)
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            held.append(s)
        for s in held:
            data = b""
            while not data.endswith(b"x" * 1024):
                data += s.recv(4096)
        time.sleep(0.5)
        after, _ = memory_kb(process.pid)
        return {"anonymous": anonymous, "pss": pss, "connection_kb": (after - anonymous) / connections}
    finally:
        for s in held:
            s.close()
        stop(process)


def median(results, key):
    return statistics.median(r[key] for r in results)


def ratio(value, base):
    return f"{value / base:.2f}" if base else "-"


def table(title, header, rows):
    print(f"\n{title}\n")
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(w) for cell, w in zip(row, widths)) + " |")


def run_loads(bench, proxies, connections):
    results = {name: [] for name in proxies}
    for _ in range(bench.args.rounds):
        for name in proxies:
            results[name].append(measure_load(bench, name, connections))
    base = median(results["envoy"], "cpu_us") if "envoy" in results else 0
    rows = [[name, f"{median(r, 'rps'):.0f}", f"{median(r, 'cpu_us'):.1f}", ratio(median(r, "cpu_us"), base),
             f"{median(r, 'p50'):.2f}", f"{median(r, 'p99'):.2f}", f"{median(r, 'anonymous') / 1024:.1f}",
             f"{median(r, 'pss') / 1024:.1f}", sum(x["errors"] for x in r)] for name, r in results.items()]
    table(f"HTTP/1.1, {connections} connections, 1 KB response, {bench.args.rounds} rounds of {bench.args.seconds} s",
          ["proxy", "requests/s", "CPU us/request", "x Envoy", "p50 ms", "p99 ms", "anonymous MB", "PSS MB", "errors"], rows)


def run_memory(bench, proxies):
    rows = []
    for clusters in (0, 1000, 5000):
        for name in proxies:
            if clusters and name in ("haproxy", "nginx"):
                continue
            r = measure_idle(bench, name, clusters, 1000 if clusters == 0 else 100)
            rows.append([name, clusters, f"{r['anonymous'] / 1024:.1f}", f"{r['pss'] / 1024:.1f}",
                         f"{r['connection_kb']:.1f}" if clusters == 0 else "-"])
    table("Memory, idle; clusters have 10 endpoints each", ["proxy", "clusters", "anonymous MB", "PSS MB", "KB/idle connection"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="a comma-separated list of: lateen, lateen+stats, envoy, haproxy, nginx")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--connections", default="64,1000")
    args = parser.parse_args()
    proxies = args.only.split(",") if args.only else ["lateen+stats", "lateen", "envoy", "haproxy", "nginx"]
    missing = [p for p, tool in (("haproxy", "haproxy"), ("nginx", "nginx")) if p in proxies and not shutil.which(tool)]
    if missing or not shutil.which("wrk"):
        sys.exit(f"bench: missing {missing or 'wrk'}; run make deps")
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(pathlib.Path(directory), args)
        try:
            for connections in args.connections.split(","):
                run_loads(bench, proxies, int(connections))
            if not args.no_memory:
                run_memory(bench, proxies)
        finally:
            bench.close()


if __name__ == "__main__":
    main()
