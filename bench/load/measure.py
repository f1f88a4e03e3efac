"""What the bench reads: wrk's report, CPU time and memory of a process tree, connections that do nothing."""
import dataclasses
import pathlib
import re
import socket
import subprocess
import time

PROXY_CORE, LOAD_CORE = 0, 1


def pinned(core, command):
    return ["taskset", "-c", str(core), *command]


def tree(pid):
    """A process and its descendants: nginx and haproxy have a master."""
    found = [pid]
    for parent in found:
        for tasks in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in tasks.read_text().split()]
    return found


def cpu_ns(pid):
    """Time on a CPU of all threads, as the scheduler counts it. Threads of a bench proxy do not end while it runs."""
    total = 0
    for process in tree(pid):
        for stat in pathlib.Path(f"/proc/{process}/task").glob("*/schedstat"):
            total += int(stat.read_text().split()[0])
    return total


@dataclasses.dataclass
class Memory:
    """Kilobytes. anonymous: its own pages; pss: with its share of mapped files, each page divided by who maps it."""
    anonymous: int
    pss: int


def memory(pid):
    sums = {"Pss": 0, "Anonymous": 0}
    for process in tree(pid):
        for line in pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0])
    return Memory(sums["Anonymous"], sums["Pss"])


@dataclasses.dataclass
class Load:
    requests: int
    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float  # of the proxy, per request
    errors: int


def _microseconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}[unit]


def run_wrk(port, pid, connections, seconds, path="/"):
    before = cpu_ns(pid)
    out = subprocess.run(pinned(LOAD_CORE, ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s",
                                            f"http://127.0.0.1:{port}{path}"]), capture_output=True, text=True, check=True).stdout
    used = cpu_ns(pid) - before
    requests = int(re.search(r"(\d+) requests in", out)[1])
    errors = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    errors += sum(int(n) for n in socket_errors.groups()) if socket_errors else 0
    return Load(requests, float(re.search(r"Requests/sec:\s+([0-9.]+)", out)[1]),
                _microseconds(re.search(r"50%\s+(\S+)", out)[1]), _microseconds(re.search(r"99%\s+(\S+)", out)[1]),
                used / 1000 / max(requests, 1), errors)


def idle_connections(port, count):
    """Opens keep-alive connections, each with one request answered, and holds them."""
    held = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: bench.local\r\n\r\n")
        answer = b""
        while not (b"\r\n\r\n" in answer and answer.endswith(b"x")):
            part = connection.recv(65536)
            assert part, f"connection ended: {answer[:200]!r}"
            answer += part
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        held.append(connection)
    return held


def wait_open(port, process, within=60):
    """Seconds until the port answers a request."""
    begin = time.monotonic()
    while time.monotonic() - begin < within:
        assert process.poll() is None, "the proxy ended"
        try:
            idle_connections(port, 1)[0].close()
            return time.monotonic() - begin
        except (OSError, AssertionError):
            time.sleep(0.002)
    raise AssertionError(f"port {port} does not answer within {within} s")
