"""The proxies of the bench: how each is configured and started. All do the same: HTTP/1.1 to one backend, keep-alive both ways."""
import json
import pathlib
import subprocess
import sys

import measure

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
OWN = BUILD / "bench"


def compile_own(name):
    """backend.c and floor.c are of the bench alone, so they are not in the build."""
    OWN.mkdir(parents=True, exist_ok=True)
    binary, source = OWN / name, pathlib.Path(__file__).parent / f"{name}.c"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-o", binary, source], check=True)
    return str(binary)


# --- Envoy's form, for lateen-proxy and Envoy: the same file for both ---

def _address(port, host="127.0.0.1"):
    return {"socket_address": {"address": host, "port_value": port}}


def _any(name, **fields):
    return {"@type": f"type.googleapis.com/{name}", **fields}


def _filter(name, message, is_optional=False):
    # the wheel's Envoy lacks Istio's filters, and skips what is optional
    body = _any("udpa.type.v1.TypedStruct", type_url=f"type.googleapis.com/{message}", value={})
    return {"name": name, "typed_config": body, "is_optional": is_optional}


def _cluster(name, addresses):
    hosts = [{"endpoint": {"address": _address(port, host)}} for host, port in addresses]
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "lb_policy": "LEAST_REQUEST",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}}


def _connection_manager():
    router = {"name": "envoy.filters.http.router", "typed_config": _any("envoy.extensions.filters.http.router.v3.Router")}
    stats = _filter("istio.stats", "stats.PluginConfig", is_optional=True)
    vhost = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}]}
    return {"name": "envoy.filters.network.http_connection_manager",
            "typed_config": _any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                                 stat_prefix="bench", stream_idle_timeout="0s", http_filters=[stats, router],
                                 route_config={"name": "bench", "virtual_hosts": [vhost]})}


def bootstrap(port, admin, backend, clusters=0):
    """clusters: how many more there are, of ten endpoints each, as a mesh of that size has them."""
    more = [_cluster(f"outbound|80||service-{i}.default.svc.cluster.local",
                     [(f"10.{i >> 8}.{i & 255}.{j + 1}", 8080) for j in range(10)]) for i in range(clusters)]
    listener = {"name": "bench", "address": _address(port), "traffic_direction": "OUTBOUND",
                "filter_chains": [{"filters": [_connection_manager()]}]}
    return {"node": {"id": "sidecar~127.0.0.1~bench.default~default.svc.cluster.local", "cluster": "bench"},
            "admin": {"address": _address(admin)},
            "static_resources": {"listeners": [listener], "clusters": [_cluster("backend", [("127.0.0.1", backend)]), *more]}}


class Peer:
    """One proxy process, pinned. Files and logs are in `workdir`."""

    name = ""

    def __init__(self, workdir, port, backend, clusters=0):
        self.workdir, self.port, self.backend, self.clusters = workdir, port, backend, clusters
        self.log = open(workdir / f"{self.name}.log", "wb")
        self.process = subprocess.Popen(measure.pinned(measure.PROXY_CORE, self.command()), stdout=self.log,
                                        stderr=subprocess.STDOUT, cwd=workdir)
        try:
            self.ready_s = measure.wait_open(port, self.process)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{self.name}: {error}\n{(workdir / f'{self.name}.log').read_text(errors='replace')}") from None

    @property
    def pid(self):
        return self.process.pid  # taskset has become the proxy

    def command(self):
        raise NotImplementedError

    def write(self, name, text):
        path = self.workdir / name
        path.write_text(text)
        return str(path)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Lateen(Peer):
    name = "lateen-proxy"
    binary = str(BUILD / "lateen-proxy")
    more = ()

    def command(self):
        config = bootstrap(self.port, self.port + 1, self.backend, self.clusters)
        return [self.binary, "-c", self.write(f"{self.name}.json", json.dumps(config)), "--concurrency", "1", *self.more]


class Envoy(Lateen):
    name = "envoy"
    binary = str(pathlib.Path(sys.executable).parent / "envoy")
    more = ("--use-dynamic-base-id", "-l", "error")


class HAProxy(Peer):
    name = "haproxy"

    def command(self):
        return ["haproxy", "-db", "-f", self.write("haproxy.cfg", f"""
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend bench
    bind 127.0.0.1:{self.port}
    default_backend backend
backend backend
    balance leastconn
    server one 127.0.0.1:{self.backend}
""")]


class Nginx(Peer):
    name = "nginx"

    def command(self):
        return ["nginx", "-p", str(self.workdir), "-c", self.write("nginx.conf", f"""
daemon off;
worker_processes 1;
pid {self.workdir}/nginx.pid;
error_log {self.workdir}/nginx-error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path {self.workdir}/body;
    proxy_temp_path {self.workdir}/proxy;
    fastcgi_temp_path {self.workdir}/fastcgi;
    uwsgi_temp_path {self.workdir}/uwsgi;
    scgi_temp_path {self.workdir}/scgi;
    upstream backend {{
        least_conn;
        server 127.0.0.1:{self.backend};
        keepalive 2000;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{self.port} backlog=4096;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
""")]


class Floor(Peer):
    name = "floor"

    def command(self):
        return [compile_own("floor"), str(self.port), str(self.backend)]


ALL = [Lateen, Envoy, HAProxy, Nginx, Floor]
