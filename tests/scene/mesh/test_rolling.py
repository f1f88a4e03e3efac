"""
Pods that are replaced one after the other under load, without an annotation: HTTP/1 with keep-alive, gRPC unary and in
streams. No request fails, whether the sidecar is told to end after its application (as here) or before it, as it may
happen in a cluster, where both are told at once.
"""
import json
import os
import signal
import subprocess
import time

import pytest

import shop
from lib import inside
from mesh_lib import LATEEN, wait_until

SERVER = """
import concurrent.futures, grpc, http.server, os, signal, socketserver, sys, threading, time
version = os.environ["VERSION"].encode()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(0.3)
        while self.path == "/hold" and not os.path.exists("/tmp/go"):
            time.sleep(0.05)
        self.send_response(200)
        self.send_header("content-length", str(len(version)))
        self.end_headers()
        self.wfile.write(version)
    def log_message(self, *_):
        pass

class Web(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads, request_queue_size = True, 128

def one(request, context):
    return request + version

def many(request, context):
    for _ in range(5):
        yield request + version
        time.sleep(0.05)

class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/scene.Echo/One":
            return grpc.unary_unary_rpc_method_handler(one)
        return grpc.unary_stream_rpc_method_handler(many)

rpc = grpc.server(concurrent.futures.ThreadPoolExecutor(32), handlers=[Handlers()])
rpc.add_insecure_port("0.0.0.0:9090")
rpc.start()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the rudest way to go
Web(("0.0.0.0", 8080), Handler).serve_forever()
"""

LOAD = """
import collections, grpc, http.client, json, sys, threading, time
counts, lock, stopped = collections.Counter(), threading.Lock(), threading.Event()

def note(word):
    with lock:
        counts[word] += 1

def web(path):
    connection = None
    while not stopped.is_set():
        try:
            connection = connection or http.client.HTTPConnection("web", 8080, timeout=30)
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            note(f"http {path} {response.status} " + (body.decode()[:100] if response.status != 200 else ""))
            if response.will_close:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            note(f"http {path} {error!r}")
            connection = None
        time.sleep(0.01)

def rpc(method, is_stream):
    with grpc.insecure_channel("web:9090") as channel:
        call = (channel.unary_stream if is_stream else channel.unary_unary)("/scene.Echo/" + method)
        while not stopped.is_set():
            try:
                answer = call(b"x", timeout=30)
                note(f"grpc {method} {len(list(answer))}" if is_stream else f"grpc {method} 1")
            except grpc.RpcError as error:
                note(f"grpc {method} {error.code()} {error.details()}")
            time.sleep(0.01)

work = [(web, "/"), (web, "/"), (web, "/slow"), (rpc, "One", False), (rpc, "Many", True)]
threads = [threading.Thread(target=job[0], args=job[1:]) for job in work]
[thread.start() for thread in threads]
sys.stdin.read()
stopped.set()
[thread.join() for thread in threads]
print(json.dumps(counts))
"""
GOOD = {"http / 200 ", "http /slow 200 ", "grpc One 1", "grpc Many 5"}

PORTS = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 8080}
  - {name: grpc, port: 9090}
"""


def web(kind, version, replicas=2):
    """Two replicas that say which version they are."""
    text = shop.workload("web", version="v1", kind=kind, command=[inside.PYTHON, "-c", SERVER],
                         ports="{containerPort: 8080}, {containerPort: 9090}")
    text = text.replace("spec:\n  selector", f"spec:\n  replicas: {replicas}\n  selector", 1)
    env = json.dumps([{"name": "VERSION", "value": version}, {"name": "PYTHONPATH", "value": inside.packages()}])
    return shop.account("web") + "---" + text.replace("        ports:", f"        env: {env}\n        ports:") + "---" + PORTS


@pytest.fixture
def load(mesh, kind):
    """Starts the mesh and the load; stop() says what was answered."""
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, web(kind, "one"), shop.caller("caller", kind))
    mesh.up()
    started = []

    def start():
        text = wait_until(lambda: (t := mesh.curl("caller", "http://web:8080/", check=False)) in ("one", "two") and t, what="an answer")
        assert text == "one"
        command = [LATEEN, "exec", "-m", str(mesh.dir), "caller", "--", "/usr/bin/env", f"PYTHONPATH={inside.packages()}",
                   inside.PYTHON, "-c", LOAD]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def stop():
        out, _ = started.pop().communicate(timeout=90)
        return json.loads(out)

    start.stop = stop
    yield start
    for process in started:
        process.kill()
        process.wait()


def expect_only_good(counts):
    assert set(counts) == GOOD, counts
    assert min(counts.values()) > 10, counts


def names(mesh):
    return {pod["name"] for pod in mesh.workloads()["web"]}


def test_a_rolling_update_fails_no_request(mesh, kind, load):
    before = names(mesh)
    load()
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, web(kind, "two"), shop.caller("caller", kind))
    wait_until(lambda: not before & names(mesh), 90, "new pods only")
    wait_until(lambda: mesh.curl("caller", "http://web:8080/", check=False) == "two", 30, "the new version")
    expect_only_good(load.stop())


def test_a_sidecar_that_ends_first_fails_no_request(mesh, kind, load):
    """Its SIGTERM comes while it is still an endpoint for everybody, and nobody has told the others yet."""
    load()
    for pod in mesh.workloads()["web"]:
        pid = mesh.host_pid(pod, "istio-proxy")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 60, "its end")

        def is_back():
            now = next(p for p in mesh.workloads()["web"] if p["name"] == pod["name"])
            return now["isReady"] and next(c for c in now["containers"] if c["role"] == "proxy")["restarts"] > 0
        wait_until(is_back, 60, "its next one")
    expect_only_good(load.stop())


DRAIN = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig:
      terminationDrainDuration: 1s
      proxyMetadata: {EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true", MINIMUM_DRAIN_DURATION: 1s}
"""


def test_with_exit_on_zero_a_sidecar_stays_as_long_as_somebody_is_there(mesh, kind):
    """A request that takes longer than any drain time; its end is the end of the sidecar."""
    shop.write(mesh, "mesh.yaml", DRAIN, shop.PERMISSIVE, web(kind, "one", replicas=1), shop.caller("caller", labels=', sidecar.istio.io/inject: "false"'))
    mesh.up()
    wait_until(lambda: mesh.curl("caller", "http://web:8080/", check=False) == "one", what="an answer")
    asked = subprocess.Popen([LATEEN, "exec", "-m", str(mesh.dir), "caller", "--", "curl", "-s", "-m", "60", "http://web:8080/hold"],
                             stdout=subprocess.PIPE, text=True)
    pod = mesh.workloads()["web"][0]
    pid = mesh.host_pid(pod, "istio-proxy")

    def is_held():
        stats = mesh.exec("web", "curl", "-s", "http://127.0.0.1:15000/clusters", container="istio-proxy")
        return any(line.startswith("inbound|8080||") and line.endswith("::rq_active::1") for line in stats.splitlines())
    wait_until(is_held, 20, "the request at the application")
    os.kill(pid, signal.SIGTERM)
    time.sleep(8)  # more than any of the times that would end it otherwise: it must still be there
    assert os.path.exists(f"/proc/{pid}") and asked.poll() is None
    mesh.exec("web", "touch", "/tmp/go")
    assert asked.communicate(timeout=30)[0] == "one"
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 30, "its end")
