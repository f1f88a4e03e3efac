"""The proxies that bench/load compares, and how each is told to do the same work.

Work is one of: http1 (plain HTTP/1.1 on both sides), http2 (HTTP/2 on both sides, prior knowledge; nginx speaks
HTTP/1.1 to its backend, it knows no other), mtls-out (plain in, mTLS to the next proxy) and mtls-in (mTLS in, plain to
the backend): the two halves of a call between two sidecars.
"""
import json
import pathlib
import shutil
import socket
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
ENVOY = TOP / "build/venv/bin/envoy"
PROXY_CORE, LOAD_CORE = "1", "0"
ALL = ["lateen+stats", "lateen", "envoy", "haproxy", "nginx"]
HOST = "svc-500.ns.svc.cluster.local"
NAME = "spiffe://cluster.local/ns/bench/sa/"
TYPE = "type.googleapis.com/envoy."
STATS = {"name": "istio.stats", "typed_config": {"@type": "type.googleapis.com/stats.PluginConfig"}}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(core, command, **options):
    return subprocess.Popen(["taskset", "-c", core, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def wait_port(port, process, every=0.02):
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None, f"{process.args} ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"nothing listens on {port}"
            time.sleep(every)


def stop(process):
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- certificates: a root, and one of each half of the pair ---

def make_certificates(directory):
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=directory)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/O=bench",
            "-keyout", "root.key", "-out", "root.pem")
    for half in ("client", "server"):
        (directory / f"{half}.ext").write_text(
            f"subjectAltName=URI:{NAME}{half},DNS:{HOST}\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/O={half}",
                "-keyout", f"{half}.key", "-out", f"{half}.csr")
        openssl("x509", "-req", "-in", f"{half}.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "2",
                "-extfile", f"{half}.ext", "-out", f"{half}.pem")
        both = (directory / f"{half}.pem").read_text() + (directory / f"{half}.key").read_text()
        (directory / f"{half}.both.pem").write_text(both)


# --- lateen-proxy and Envoy: one configuration for both ---

def tls(directory, half, peer):
    def file(name):
        return {"filename": str(directory / name)}

    kind = "Downstream" if half == "server" else "Upstream"
    context = {"@type": f"{TYPE}extensions.transport_sockets.tls.v3.{kind}TlsContext", "common_tls_context": {
        "tls_certificates": [{"certificate_chain": file(f"{half}.pem"), "private_key": file(f"{half}.key")}],
        "validation_context": {"trusted_ca": file("root.pem"), "match_typed_subject_alt_names": [
            {"san_type": "URI", "matcher": {"exact": NAME + peer}}]}}}
    context.update({"require_client_certificate": True} if half == "server" else {"sni": HOST})
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def cluster(name, endpoints, work="", directory=None):
    made = {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {"cluster_name": name, "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": a, "port_value": p}}}} for a, p in endpoints]}]},
        "circuit_breakers": {"thresholds": [{"max_connections": 65536, "max_pending_requests": 65536, "max_requests": 65536}]}}
    if work == "http2":
        made["http2_protocol_options"] = {}
    if work == "mtls-out":
        made["transport_socket"] = tls(directory, "client", "server")
    return made


def envoy_config(work, port, admin, backend, stats=False, clusters=0, hosts=1000, directory=None):
    """clusters: of 10 endpoints each, beside the one in use. hosts: virtual hosts, of which one is asked for."""
    extra = [cluster(f"outbound|80||svc-{i}.ns.svc.cluster.local", [(f"10.0.{j}.{1 + i % 250}", 80) for j in range(10)])
             for i in range(clusters)]
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": TYPE + "extensions.filters.http.router.v3.Router"}}
    routes = [{"name": "default", "match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}]
    virtual = [{"name": f"svc-{i}.ns.svc.cluster.local:80", "routes": routes, "domains": [
        f"svc-{i}.ns.svc.cluster.local", f"svc-{i}", f"svc-{i}.ns.svc", f"svc-{i}.ns", f"10.96.{i // 250}.{i % 250}"]}
        for i in range(hosts)] or [{"name": "v", "domains": ["*"], "routes": routes}]
    manager = {"@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "bench",
               "http_filters": ([STATS] if stats else []) + [router], "route_config": {"name": "r", "virtual_hosts": virtual}}
    chain = {"filters": [{"name": "hcm", "typed_config": manager}]}
    if work == "mtls-in":
        chain["transport_socket"] = tls(directory, "server", "client")
    return {"node": {"id": "bench", "cluster": "bench"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "static_resources": {
                "clusters": [cluster("backend", [("127.0.0.1", backend)], work, directory)] + extra,
                "listeners": [{"name": "main", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                               "filter_chains": [chain]}]}}


# --- HAProxy and nginx ---

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
  bind 127.0.0.1:{port} {front}
  default_backend b
backend b
  server s 127.0.0.1:{backend} {back}
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


def haproxy_config(work, port, backend, directory):
    front = {"http2": "proto h2", "mtls-in": f"ssl crt {directory}/server.both.pem ca-file {directory}/root.pem verify required"}
    back = {"http2": "proto h2",
            "mtls-out": f"ssl crt {directory}/client.both.pem ca-file {directory}/root.pem verify required sni str({HOST})"}
    return HAPROXY.format(port=port, backend=backend, front=front.get(work, ""), back=back.get(work, ""))


def nginx_config(work, port, backend, directory, name):
    listen, scheme, more = f"127.0.0.1:{port} backlog=8192", "http", ""
    if work == "http2":
        listen += " http2"
    if work == "mtls-in":
        listen += " ssl"
        more = (f"ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.key; "
                f"ssl_client_certificate {directory}/root.pem; ssl_verify_client on; ssl_protocols TLSv1.3;")
    if work == "mtls-out":
        scheme = "https"
        more = (f"proxy_ssl_certificate {directory}/client.pem; proxy_ssl_certificate_key {directory}/client.key; "
                f"proxy_ssl_trusted_certificate {directory}/root.pem; proxy_ssl_verify on; proxy_ssl_name {HOST}; "
                "proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;")
    body = (f"upstream u {{ server 127.0.0.1:{backend}; keepalive 1024; keepalive_requests 1000000; }} server {{ listen {listen}; {more} "
            f"location / {{ proxy_pass {scheme}://u; proxy_http_version 1.1; proxy_set_header Connection ''; "
            "proxy_set_header Host $http_host; } }")
    return NGINX.format(dir=directory, name=name, body=body)


class Proxy:
    """A running proxy with one thread, on the proxies' core. port: where it takes the work; admin: of lateen and Envoy."""

    def __init__(self, directory, kind, work, backend, clusters=0, hosts=1000):
        self.port, self.admin = free_port(), free_port()
        name = f"{kind}-{work}"
        if kind == "floor":
            command = [str(compiled(directory, "floor")), str(self.port), str(backend)]
        elif kind == "haproxy":
            command = ["haproxy", "-db", "-f", write(directory, f"{name}.cfg", haproxy_config(work, self.port, backend, directory))]
        elif kind == "nginx":
            text = nginx_config(work, self.port, backend, directory, name)
            command = ["nginx", "-p", str(directory), "-c", write(directory, f"{name}.conf", text)]
        else:
            config = envoy_config(work, self.port, self.admin, backend, "stats" in kind, clusters, hosts, directory)
            program = [str(ENVOY), "--use-dynamic-base-id"] if kind == "envoy" else [str(TOP / "build/lateen-proxy")]
            command = program + ["-c", write(directory, f"{name}.json", config), "--concurrency", "1", "-l", "error"]
        begin = time.monotonic()
        self.process = start(PROXY_CORE, command)
        wait_port(self.port, self.process, 0.002)
        self.ready_s = time.monotonic() - begin

    def stop(self):
        stop(self.process)


class Backends:
    """nginx and nghttpd, which answer 1 KB, on the load's core. h1, h2: their ports."""

    def __init__(self, directory):
        self.h1, self.h2 = free_port(), free_port()
        body = "server { listen 127.0.0.1:%d backlog=8192; location / { return 200 '%s'; } }" % (self.h1, "x" * 1024)
        (directory / "files").mkdir()
        (directory / "files/index.html").write_text("x" * 1024)
        text = NGINX.format(dir=directory, name="backend", body=body)
        commands = [(self.h1, ["nginx", "-p", str(directory), "-c", write(directory, "backend.conf", text)]),
                    (self.h2, ["nghttpd", "--no-tls", str(self.h2), "-d", str(directory / "files")])]
        self.processes = []
        for port, command in commands:
            self.processes.append(start(LOAD_CORE, command))
            wait_port(port, self.processes[-1])

    def port_for(self, kind, work):
        return self.h2 if work == "http2" and kind != "nginx" else self.h1

    def stop(self):
        for process in self.processes:
            stop(process)


def compiled(directory, name):
    """A program of this folder."""
    program = directory / name
    if not program.exists():
        subprocess.run(["cc", "-O2", "-o", str(program), str(pathlib.Path(__file__).with_name(f"{name}.c"))], check=True)
    return program


def write(directory, name, text):
    path = directory / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return str(path)


def missing_tools(kinds):
    tools = ["wrk", "h2load", "nghttpd", "nginx", "openssl"] + (["haproxy"] if "haproxy" in kinds else [])
    return [tool for tool in tools if not shutil.which(tool)]
