"""What a proxy's processes cost, read from /proc, and what the load generators tell."""
import os
import pathlib
import re
import statistics
import subprocess
import tempfile

from proxies import HOST, LOAD_CORE


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


def cpu_seconds(pids):
    """(in user space, in the kernel)"""
    ticks = os.sysconf("SC_CLK_TCK")
    user = system = 0
    for pid in pids:
        for one in family(pid):
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            user, system = user + int(fields[11]), system + int(fields[12])
    return user / ticks, system / ticks


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


def run_wrk(port, connections, seconds):
    out = subprocess.run(["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H",
                          f"Host: {HOST}", f"http://127.0.0.1:{port}/index.html"], capture_output=True, text=True,
                         timeout=seconds + 60).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    return {"requests": int(re.search(r"(\d+) requests in", out).group(1)),
            "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
            "p50": to_ms(re.search(r"^ +50% +(\S+)", out, re.M).group(1)), "p99": to_ms(re.search(r"^ +99% +(\S+)", out, re.M).group(1)),
            "errors": (int(refused.group(1)) if refused else 0) + sum(map(int, broken.groups()) if broken else [])}


def run_h2load(port, connections, *options, timeout=120):
    """h2load with a record of each request: percentiles of what they took."""
    with tempfile.NamedTemporaryFile() as log:
        out = subprocess.run(["taskset", "-c", LOAD_CORE, "h2load", f"-c{connections}", *options, "-H", f":authority: {HOST}",
                              f"--log-file={log.name}", f"http://127.0.0.1:{port}/index.html"], capture_output=True, text=True,
                             timeout=timeout).stdout
        rows = [line.split() for line in pathlib.Path(log.name).read_text().splitlines()]
    took = sorted(int(row[2]) / 1000 for row in rows if row[1] == "200")
    found = re.search(r"finished in ([\d.]+)(ms|s)", out)
    seconds = float(found.group(1)) / (1000 if found.group(2) == "ms" else 1)
    return {"requests": len(took), "rps": len(took) / seconds, "errors": len(rows) - len(took),
            "p50": percentile(took, 50), "p99": percentile(took, 99), "p999": percentile(took, 99.9)}


def percentile(ordered, percent):
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(results, key):
    return statistics.median(r[key] for r in results)


def ratio(value, base):
    return f"{value / base:.2f}" if base else "-"


def table(title, header, rows):
    print(f"\n{title}\n", flush=True)
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * w for w in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(w) for cell, w in zip(row, widths)) + " |", flush=True)
