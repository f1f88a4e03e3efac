"""lateen-proxy beside Envoy, HAProxy, nginx and a relay that parses nothing, in one run on this machine.

One proxy process on one core, load (wrk) and backend on the other; the proxies take turns; every figure is the median of the
turns. Throughput is noisy, CPU per request is steadier, ratios are what counts. Prints a Markdown table; --save keeps it.

    build/venv/bin/python bench/load/run.py [--quick] [--only lateen-proxy,envoy] [--save]
"""
import argparse
import collections
import datetime
import os
import pathlib
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import measure  # noqa: E402
import peers  # noqa: E402

BASE_PORT = 18600
WARM_UP_S = 1
IDLE_CONNECTIONS = 1000
MESH_SIZES = (1000, 5000)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of load in each turn")
    parser.add_argument("--quick", action="store_true", help="one turn of 3 s, 64 connections, no meshes: is it worth a real run?")
    parser.add_argument("--only", default="", help="names, joined by commas")
    parser.add_argument("--no-mesh", action="store_true", help="leave out 1000 and 5000 clusters")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/load/results/")
    args = parser.parse_args()
    if args.quick:
        args.turns, args.seconds, args.no_mesh = 1, 3, True
    return args


class Figures:
    """name of the proxy -> name of the figure -> values of the turns."""

    def __init__(self):
        self.values = collections.defaultdict(lambda: collections.defaultdict(list))

    def add(self, peer, figure, value):
        self.values[peer][figure].append(value)

    def median(self, peer, figure):
        values = self.values[peer].get(figure)
        return statistics.median(values) if values else None


def one_turn(kind, args, workdir, backend, figures):
    for connections in (64,) if args.quick else (64, 1000):
        peer = kind(workdir, BASE_PORT, backend)
        try:
            if connections == 64:
                idle = measure.memory(peer.pid)
                figures.add(kind.name, "idle anonymous KB", idle.anonymous)
                figures.add(kind.name, "idle PSS KB", idle.pss)
            measure.run_wrk(peer.port, peer.pid, connections, WARM_UP_S)
            load = measure.run_wrk(peer.port, peer.pid, connections, args.seconds)
            if load.errors:
                print(f"  {kind.name}: {load.errors} errors", file=sys.stderr)
            label = f"c{connections} "
            figures.add(kind.name, label + "CPU us/request", load.cpu_us)
            figures.add(kind.name, label + "requests/s", load.rate)
            figures.add(kind.name, label + "p50 us", load.p50_us)
            figures.add(kind.name, label + "p99 us", load.p99_us)
            figures.add(kind.name, label + "errors", load.errors)
            if connections == 64:
                figures.add(kind.name, "loaded anonymous KB", measure.memory(peer.pid).anonymous)
        finally:
            peer.stop()


def idle_memory(kind, workdir, backend, figures):
    peer = kind(workdir, BASE_PORT, backend)
    try:
        before = measure.memory(peer.pid).anonymous
        held = measure.idle_connections(peer.port, IDLE_CONNECTIONS)
        figures.add(kind.name, "KB per idle connection", (measure.memory(peer.pid).anonymous - before) / len(held))
        for connection in held:
            connection.close()
    finally:
        peer.stop()


def mesh_memory(kind, workdir, backend, figures, clusters):
    peer = kind(workdir, BASE_PORT, backend, clusters)
    try:
        used = measure.memory(peer.pid)
        figures.add(kind.name, f"{clusters} clusters anonymous KB", used.anonymous)
        figures.add(kind.name, f"{clusters} clusters PSS KB", used.pss)
        figures.add(kind.name, f"{clusters} clusters ready ms", peer.ready_s * 1000)
    finally:
        peer.stop()


def measure_all(args, kinds, workdir, backend):
    figures = Figures()
    for turn in range(args.turns):
        for kind in kinds:
            print(f"turn {turn + 1} of {args.turns}: {kind.name}", file=sys.stderr)
            one_turn(kind, args, workdir, backend, figures)
            if not args.quick:
                idle_memory(kind, workdir, backend, figures)
            if not args.no_mesh and issubclass(kind, peers.Lateen):
                for size in MESH_SIZES:
                    mesh_memory(kind, workdir, backend, figures, size)
    return figures


# --- the table ---

def _number(value):
    if value is None:
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}".replace(",", " ")


def table(figures, kinds):
    names = [kind.name for kind in kinds]
    rows = []
    for name in names:
        rows += [figure for figure in figures.values[name] if figure not in rows]
    has_ratio = "lateen-proxy" in names and "envoy" in names
    lines = ["| figure | " + " | ".join(names) + (" | lateen / envoy |" if has_ratio else " |"),
             "|---" * (len(names) + 1 + has_ratio) + "|"]
    for figure in rows:
        values = [figures.median(name, figure) for name in names]
        line = f"| {figure} | " + " | ".join(_number(value) for value in values) + " |"
        if has_ratio:
            ours, theirs = figures.median("lateen-proxy", figure), figures.median("envoy", figure)
            line += f" {ours / theirs:.2f} |" if ours is not None and theirs else " – |"
        lines.append(line)
    return "\n".join(lines)


def _version(command):
    found = subprocess.run(command, capture_output=True, text=True)
    return (found.stdout + found.stderr).strip().splitlines()[0] if found.stdout or found.stderr else "?"


def heading(args):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    commit = _version(["git", "-C", str(peers.ROOT), "rev-parse", "--short", "HEAD"])
    return "\n".join([
        f"# Load, {datetime.date.today().isoformat()}, commit {commit}", "",
        f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}; {args.turns} turns of "
        f"{args.seconds} s, medians. {_version(['haproxy', '-v'])}; {_version(['nginx', '-v'])}; {_version(['wrk', '-v'])}.",
        "lateen-proxy has Istio's metrics on; Envoy runs on the same bootstrap and has its own. floor copies bytes and parses nothing.",
        ""])


def main():
    args = arguments()
    only = [name for name in args.only.split(",") if name]
    kinds = [kind for kind in peers.ALL if not only or kind.name in only]
    missing = [tool for tool in ("wrk", "taskset", "haproxy", "nginx") if shutil.which(tool) is None]
    missing += [kind.binary for kind in kinds if issubclass(kind, peers.Lateen) and not os.path.exists(kind.binary)]
    if missing or os.cpu_count() < 2:
        sys.exit(f"bench: needs {', '.join(missing) or 'two CPUs'}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    backend_port = BASE_PORT + 9
    with tempfile.TemporaryDirectory(prefix="lateen-bench-") as directory:
        backend = subprocess.Popen(measure.pinned(measure.LOAD_CORE, [peers.compile_own("backend"), str(backend_port)]))
        try:
            measure.wait_open(backend_port, backend)
            figures = measure_all(args, kinds, pathlib.Path(directory), backend_port)
        finally:
            backend.kill()
            backend.wait()
    text = heading(args) + "\n" + table(figures, kinds) + "\n"
    print(text)
    if args.save:
        results = pathlib.Path(__file__).parent / "results"
        results.mkdir(exist_ok=True)
        (results / f"{datetime.date.today().isoformat()}.md").write_text(text)


if __name__ == "__main__":
    main()
