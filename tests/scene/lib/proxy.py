"""Starts a proxy, lateen-proxy or a real Envoy, on the same bootstrap."""
import atexit
import functools
import importlib.util
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import time

from lib import client
from lib.backend import free_port

BUILD = pathlib.Path(os.environ.get("LATEEN_BUILD", pathlib.Path(__file__).resolve().parents[3] / "build"))


def binary(kind):
    if kind == "lateen":
        return [str(BUILD / "lateen-proxy")]
    return [str(pathlib.Path(sys.executable).parent / "envoy")]


@functools.cache
def envoy_program():
    """A real Envoy that any user may execute: where the tree is closed to others, a copy for this run."""
    program = pathlib.Path(importlib.util.find_spec("envoy").origin).resolve().parent / "_bin/envoy"
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in program.parents):
        return str(program)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lateen-envoy-", dir="/var/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    copy = folder / "envoy"
    shutil.copy(program, copy)
    copy.chmod(0o755)
    return str(copy)


class Proxy:
    def __init__(self, kind, process, admin, ports, log):
        self.kind, self.process, self.admin, self.ports, self.log = kind, process, admin, ports, log

    @property
    def port(self):
        return self.ports[0]

    def admin_get(self, path, method="GET"):
        return client.get(self.admin, path, method)

    def stats(self):
        """Counters and gauges of /stats as numbers."""
        lines = (line.split(": ") for line in self.admin_get("/stats").body.decode().splitlines() if ": " in line)
        return {name: int(value) for name, value in lines if value.lstrip("-").isdigit()}

    def output(self):
        return self.log.read_text(errors="replace")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.kind} did not end within 10 s of SIGTERM") from None


def start(kind, bootstrap, workdir, concurrency=1, ready=True, extra=(), admin=None, program=None):
    """bootstrap: a dict without admin; an admin server on a free port (or that one) is added. program: instead of the usual one."""
    admin = admin or free_port()
    config = dict(bootstrap)
    config["admin"] = {"address": address(admin)}
    config.setdefault("node", {"id": "scene", "cluster": "scene"})
    number = len(list(workdir.glob("bootstrap-*.json")))
    path = workdir / f"bootstrap-{number}.json"
    path.write_text(json.dumps(config, indent=1))
    log = workdir / f"{kind}-{number}.log"
    command = ([str(program)] if program else binary(kind)) + ["-c", str(path), "--concurrency", str(concurrency), *extra]
    if kind == "envoy":
        if "--base-id" in command:
            command += ["-l", "warning"]
    if kind == "envoy" and "--base-id" not in command:
        command += ["--use-dynamic-base-id", "-l", "warning"]
    with open(log, "wb") as out:
        env = dict(os.environ, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=1")
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=workdir, env=env)
    listeners = config.get("static_resources", {}).get("listeners", [])
    ports = [x["address"]["socket_address"]["port_value"] for x in listeners if "socket_address" in x["address"]]
    proxy = Proxy(kind, process, admin, ports, log)
    if ready:
        wait_ready(proxy)
    return proxy


def wait_ready(proxy, within=20):
    end = time.monotonic() + within
    while True:
        assert proxy.process.poll() is None, f"{proxy.kind} ended:\n{proxy.output()}"
        try:
            if proxy.admin_get("/ready").status == 200:
                return
        except (OSError, AttributeError):
            pass
        assert time.monotonic() < end, f"{proxy.kind} is not ready:\n{proxy.output()}"
        time.sleep(0.02)


# --- pieces of configuration; proto field names, as Envoy's documents have them ---

def address(port, host="127.0.0.1"):
    return {"socket_address": {"address": host, "port_value": port}}


def typed(name, **fields):
    return {"@type": f"type.googleapis.com/{name}", **fields}


def cluster(name, *ports, **fields):
    endpoints = [{"endpoint": {"address": address(port)}} for port in ports]
    return {"name": name, "type": "STATIC", "connect_timeout": "2s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}, **fields}


def hcm(routes=None, vhosts=None, stat_prefix="scene", **fields):
    """A connection manager with one catch-all virtual host over `routes`, or the given ones."""
    vhosts = vhosts if vhosts is not None else [{"name": "all", "domains": ["*"], "routes": routes or []}]
    router = {"name": "envoy.filters.http.router",
              "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")}
    return {"name": "envoy.filters.network.http_connection_manager",
            "typed_config": typed(
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                stat_prefix=stat_prefix, http_filters=fields.pop("http_filters", []) + [router],
                route_config={"name": "local", "virtual_hosts": vhosts, **fields.pop("route_config", {})}, **fields)}


def access_log(path, text):
    """One line a request; the proxy must be started with FLUSH, or a real Envoy writes it ten seconds late."""
    return [{"name": "file", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(path),
                                                   log_format={"text_format_source": {"inline_string": text + "\n"}})}]


FLUSH = ("--file-flush-interval-msec", "20")


def tcp_proxy(cluster_name, **fields):
    return {"name": "envoy.filters.network.tcp_proxy",
            "typed_config": typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                                  stat_prefix="tcp", cluster=cluster_name, **fields)}


def listener(*filters, port=None, name="main", chains=None, **fields):
    chains = chains if chains is not None else [{"filters": list(filters)}]
    return {"name": name, "address": address(port or free_port()), "filter_chains": chains, **fields}


def bootstrap(listeners, clusters):
    listeners = listeners if isinstance(listeners, list) else [listeners]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def route(match="/", to=None, name=None, **fields):
    """match: a prefix, or a RouteMatch; to: a cluster's name, or a RouteAction."""
    entry = {"match": {"prefix": match} if isinstance(match, str) else match, **fields}
    if name:
        entry["name"] = name
    if to is not None:
        entry["route"] = {"cluster": to} if isinstance(to, str) else to
    return entry
