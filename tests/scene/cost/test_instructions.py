"""What a request costs in instructions, under callgrind: steady enough to be a limit, where time is not.

Each figure is the difference of two runs, so that the start is not in it. When a change has its price, and the price is
right, the figure in instructions.json goes up with it, in the same commit; when a change saves, it goes down. "lto" is what
`make` builds, "plain" with LTO=false.
"""
import json
import pathlib
import re
import shutil
import socket
import subprocess

import pytest

from lib import proxy as p
from lib.backend import free_port
from lib.client import wait_until

OPTIONS = {o["name"]: o["value"] for o in json.loads((p.BUILD / "ninja/meson-info/intro-buildoptions.json").read_text())}
FIGURES = {name: by["lto" if OPTIONS["lto"] else "plain"]
           for name, by in json.loads((pathlib.Path(__file__).parent / "instructions.json").read_text()).items()}
ALLOWED = 1.05  # of the figure: compilers and libraries of the same release differ by less than that
FEW, MANY = 100, 600
STATS = {"name": "istio.stats", "typed_config": p.typed("stats.PluginConfig")}

pytestmark = pytest.mark.skipif(not shutil.which("valgrind") or not shutil.which("h2load"), reason="valgrind or h2load is missing")


def answering(port):
    """A proxy that answers by itself: the backend, in HTTP/1.1 and HTTP/2."""
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x" * 1024}}}]
    return p.bootstrap(p.listener(p.hcm(routes), port=port), [])


def asking(port, backend, version):
    """1000 virtual hosts and Istio's metrics, as a sidecar has them."""
    cluster = p.cluster("backend", backend, **({"http2_protocol_options": {}} if version == 2 else {}))
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}]
    vhosts = [{"name": f"svc-{i}", "routes": routes, "domains": [f"svc-{i}.ns.svc.cluster.local", f"svc-{i}.ns", f"svc-{i}"]}
              for i in range(1000)]
    return p.bootstrap(p.listener(p.hcm(vhosts=vhosts, http_filters=[STATS]), port=port), [cluster])


def is_open(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def instructions(workdir, port, config, options, requests):
    path = workdir / "counted.json"
    path.write_text(json.dumps(dict(config, node={"id": "cost", "cluster": "cost"})))
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={workdir}/callgrind.out", *p.binary("lateen"), "-c", str(path),
               "--concurrency", "1", "-l", "error"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: is_open(port), within=120, what=f"port {port}")
        out = subprocess.run(["h2load", f"-n{requests}", *options, "-H", ":authority: svc-500.ns.svc.cluster.local",
                              f"http://127.0.0.1:{port}/"], capture_output=True, text=True, timeout=120).stdout
        assert f"{requests} succeeded, 0 failed" in out, out
    finally:
        process.terminate()
        said = process.communicate(timeout=60)[1]
    return int(re.search(r"Collected : (\d+)", said).group(1))


@pytest.mark.parametrize("name, version, options", [
    ("HTTP/1.1 to HTTP/1.1", 1, ["--h1", "-c1"]),
    ("HTTP/2 to HTTP/2, 10 streams", 2, ["-c1", "-m10"]),
])
def test_instructions_per_request(workdir, name, version, options):
    port, backend = free_port(), free_port()
    behind = p.start("lateen", answering(backend), workdir)
    try:
        config = asking(port, backend, version)
        few, many = (instructions(workdir, port, config, options, count) for count in (FEW, MANY))
    finally:
        behind.stop()
    each = (many - few) / (MANY - FEW)
    print(f"{name}: {each:.0f} instructions per request, {FIGURES[name]} on record")
    assert each < FIGURES[name] * ALLOWED, f"{name} costs {each:.0f} instructions, {FIGURES[name]} on record"
