#!/usr/bin/env python3
"""What lateend costs: memory, and how fast configuration reaches sidecars.

A mesh of --services x --endpoints in a directory, a real lateend, and sidecars that do nothing but take and acknowledge
(bench_fleet): lateend is pinned to one core, the sidecars to another. Every figure is of one run; run it twice.
"""
import argparse
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[2]
LATEEND, NINJA = TOP / "build/lateend", TOP / "build/ninja"
SERVER_CORE, FLEET_CORE = "1", "0"
NAMESPACES = 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- the mesh ---

def service(number):
    return f"""apiVersion: v1
kind: Service
metadata: {{name: svc-{number}, namespace: ns-{number % NAMESPACES}}}
spec:
  clusterIP: 10.96.{number // 250}.{1 + number % 250}
  selector: {{app: svc-{number}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
"""


def pod(number, index, ready=True):
    at = number * 100 + index
    return f"""apiVersion: v1
kind: Pod
metadata:
  name: svc-{number}-6d5f8b7c9d-{index:05d}
  namespace: ns-{number % NAMESPACES}
  labels: {{app: svc-{number}, version: v1, pod-template-hash: 6d5f8b7c9d, security.istio.io/tlsMode: istio,
    service.istio.io/canonical-name: svc-{number}, service.istio.io/canonical-revision: v1}}
  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: svc-{number}-6d5f8b7c9d, controller: true}}]
spec:
  serviceAccountName: svc-{number}
  nodeName: node-{index}
  containers: [{{name: main, ports: [{{name: http, containerPort: 8080, protocol: TCP}}]}}]
status: {{phase: Running, podIP: 10.{at >> 16 & 255}.{at >> 8 & 255}.{at & 255}, conditions: [{{type: Ready, status: "{ready}"}}]}}
"""


def write_mesh(directory, services, endpoints):
    for ns in range(NAMESPACES):
        numbers = range(ns, services, NAMESPACES)
        documents = [service(n) for n in numbers] + [pod(n, i) for n in numbers for i in range(endpoints) if (n, i) != (0, 0)]
        (directory / f"ns-{ns}.yaml").write_text("---\n".join(documents))
    write_change(directory, True)


def write_change(directory, ready):
    """The one Pod whose readiness will change."""
    (directory / ".change").write_text(pod(0, 0, ready))
    at = time.monotonic()
    (directory / ".change").rename(directory / "change.yaml")
    return at


# --- what it costs ---

class Lateend:
    def __init__(self, config, work):
        self.port, self.http = free_port(), free_port()
        self.began = time.monotonic()
        self.log = open(work / "lateend.log", "wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, LATEEND, "discovery", "--configDir", config, "--grpcAddr", f"127.0.0.1:{self.port}",
             "--secureGRPCAddr", "", "--httpAddr", f"127.0.0.1:{self.http}", "--monitoringAddr", ""],
            env={**os.environ, "LATEEN_STATE_DIR": str(work / "state"), "ROOT_CA_DIR": str(work / "none")}, stdout=self.log, stderr=self.log)
        while not self.is_ready():
            assert self.process.poll() is None, (work / "lateend.log").read_text()
            time.sleep(0.005)
        self.start_s = time.monotonic() - self.began

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.http}/ready", timeout=30).status == 200
        except OSError:
            return False

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        rollup = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:])
        mb = {key: int(value.split()[0]) / 1024 for key, value in rollup.items()}
        return f"{mb['Pss']:.1f} MB PSS, {mb['Anonymous']:.1f} MB anonymous"

    def end(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class Fleet:
    def __init__(self, lateend, count):
        self.began = time.monotonic()
        self.process = subprocess.Popen(["taskset", "-c", FLEET_CORE, NINJA / "bench/control/bench_fleet", str(lateend.port), str(count), "80"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(self, word, since):
        line = self.process.stdout.readline().split()
        assert line and line[0] == word, f"expected {word}, got {line}"
        return float(line[1]) - since, int(line[2])

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


def idle(lateend):
    """Until it has done what it had to do: no CPU for a second."""
    before = -1.0
    while before != (now := lateend.cpu_s()):
        before = now
        time.sleep(1)


def row(what, *figures):
    print(f"{what:<44} {', '.join(figures)}")


def measure(args, work):
    config = work / "config"
    config.mkdir()
    write_mesh(config, args.services, args.endpoints)
    lateend = Lateend(config, work)
    try:
        idle(lateend)
        row("start until ready", f"{lateend.start_s:.2f} s", f"{lateend.cpu_s():.2f} s CPU")
        row("idle, no sidecar", lateend.memory())
        cpu, first = lateend.cpu_s(), Fleet(lateend, 1)
        took, size = first.wait("ready", first.began)
        idle(lateend)
        row("the first sidecar's configuration", f"{took * 1e3:.0f} ms", f"{size / 1e6:.2f} MB", f"{lateend.cpu_s() - cpu:.2f} s CPU")
        row("idle, one sidecar", lateend.memory())
        cpu, one_more = lateend.cpu_s(), Fleet(lateend, 1)
        took, size = one_more.wait("ready", one_more.began)
        row("one more sidecar", f"{took * 1e3:.0f} ms", f"{(lateend.cpu_s() - cpu) * 1e3:.0f} ms CPU")
        one_more.end()
        first.end()
        idle(lateend)
        cpu, fleet = lateend.cpu_s(), Fleet(lateend, args.sidecars)
        took, size = fleet.wait("ready", fleet.began)
        idle(lateend)
        row(f"{args.sidecars} sidecars at once", f"{took:.2f} s", f"{size / 1e6:.0f} MB", f"{lateend.cpu_s() - cpu:.2f} s CPU")
        row(f"idle, {args.sidecars} sidecars", lateend.memory())
        times, cpu = [], lateend.cpu_s()
        for turn in range(args.changes):
            times.append(fleet.wait("endpoints", write_change(config, turn % 2 == 1))[0])
            time.sleep(0.2)
        idle(lateend)
        row(f"one endpoint changed, the last of {args.sidecars}", f"{statistics.median(times) * 1e3:.0f} ms median",
            f"{max(times) * 1e3:.0f} ms at most", f"{(lateend.cpu_s() - cpu) / args.changes * 1e3:.0f} ms CPU")
        row("idle afterwards", lateend.memory())
        fleet.end()
    finally:
        lateend.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10, help="of each service")
    parser.add_argument("--sidecars", type=int, default=500)
    parser.add_argument("--changes", type=int, default=11)
    args = parser.parse_args()
    subprocess.run(["ninja", "-C", NINJA, "--quiet", "bench/control/bench_fleet"], check=True)
    print(f"{args.services} services x {args.endpoints} endpoints")
    with tempfile.TemporaryDirectory(prefix="lateen-bench-") as work:
        measure(args, pathlib.Path(work))


main()
