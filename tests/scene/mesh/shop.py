"""The mesh of these scenes: a shop whose workloads have lateen-proxy or a real Envoy as data path, and load upon it."""
import collections
import json
import subprocess
import threading
import time

from lib import client
from lib.proxy import envoy_program
from mesh_lib import LATEEN, wait_until

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
PERMISSIVE = NAMESPACE.replace("STRICT", "PERMISSIVE")


def envoy_config(**more):
    """A ProxyConfig that names a real Envoy; its own counters of updates are shown, for refused()."""
    return {"binaryPath": envoy_program(), "proxyStatsMatcher": {"inclusionSuffixes": ["update_rejected", "update_success"]}, **more}


def annotations(kind, config=None, **more):
    """Of a Pod: which data path it has."""
    if kind == "envoy":
        more["proxy.istio.io/config"] = json.dumps(envoy_config(**(config or {})))
    return json.dumps(more)


def account(app):
    return f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {app}, namespace: shop}}
"""


def workload(name, app=None, version="v1", kind="lateen", labels="", command=None, ports="{containerPort: 8080}", config=None):
    """A Deployment: the stand-in, or a command (a list)."""
    app = app or name
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {app}, version: {version}}}}}
  template:
    metadata:
      labels: {{app: {app}, version: {version}{labels}}}
      annotations: {annotations(kind, config)}
    spec:
      serviceAccountName: {app}
      terminationGracePeriodSeconds: 2
      containers:
      - name: main
        image: "registry.example/{app}:1"
        {"command: " + json.dumps(command) if command else ""}
        ports: [{ports}]
"""


def service(app, name="http", port=8080, target=None):
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {app}, namespace: shop}}
spec:
  selector: {{app: {app}}}
  ports: [{{name: {name}, port: {port}, targetPort: {target or port}}}]
"""


def server(app, kind="lateen", versions=("v1", "v2"), **options):
    """An account, a Deployment for each version, and their Service."""
    return "---".join([account(app), *(workload(f"{app}-{v}", app, v, kind, **options) for v in versions), service(app)])


def caller(name, kind="lateen", **options):
    return account(name) + "---" + workload(name, kind=kind, **options)


def gateway(node_port, kind="lateen", name="ingress"):
    """A router of its own in namespace edge, for every Gateway of the label."""
    return f"""
apiVersion: v1
kind: Namespace
metadata: {{name: edge}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: edge}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway, app: {name}}}}}
  template:
    metadata:
      labels: {{istio: ingressgateway, app: {name}, sidecar.istio.io/inject: "true"}}
      annotations: {annotations(kind, **{"inject.istio.io/templates": "gateway"})}
    spec:
      containers: [{{name: istio-proxy, image: auto}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: edge}}
spec:
  type: NodePort
  selector: {{app: {name}}}
  ports: [{{name: http2, port: 80, targetPort: 8080, nodePort: {node_port}}}]
"""


WEB_GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.test"]}]
"""


def destinations(app="web"):
    """Its two versions as subsets."""
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {app}, namespace: shop}}
spec:
  host: {app}.shop.svc.cluster.local
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
"""


def routes(http, app="web"):
    """http: the rules, as YAML of a list. For the mesh and both gateways, under <app>.test outside."""
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {app}, namespace: shop}}
spec:
  hosts: [{app}.test, {app}.shop.svc.cluster.local]
  gateways: [mesh, edge/web]
  http: {http}
"""


def to(app="web", subset=None, weight=None):
    chosen = f", subset: {subset}" if subset else ""
    share = f", weight: {weight}" if weight is not None else ""
    return f"{{destination: {{host: {app}.shop.svc.cluster.local{chosen}}}{share}}}"


def plain(app="web"):
    return routes(f"[{{route: [{to(app)}]}}]", app)


def canary(app="web", v1=90, v2=10):
    return routes(f"[{{match: [{{headers: {{x-canary: {{exact: \"true\"}}}}}}], route: [{to(app, 'v2')}]}}, "
                  f"{{route: [{to(app, 'v1', v1)}, {to(app, 'v2', v2)}]}}]", app)


def write(mesh, name, *parts):
    mesh.write(name, "---".join(parts))


def first_answer(mesh, who="caller", url="http://web:8080/"):
    """A Pod that is ready is an endpoint for others a moment later."""
    return wait_until(lambda: "version" in (text := mesh.curl(who, url, check=False)) and json.loads(text), what="an answer")


def first_route(port, host="web.test"):
    """The same through a gateway."""
    return wait_until(lambda: client.get(port, host=host).status == 200, what="the route")


# --- who has refused something ---

def envoy_stats(mesh, workload, ns="shop", filter=""):
    text = mesh.exec(f"{ns}/{workload}", "curl", "-s", f"http://127.0.0.1:15000/stats?filter={filter}", container="istio-proxy")
    pairs = (line.rsplit(": ", 1) for line in text.splitlines() if ": " in line)
    return {name: int(value) for name, value in pairs if value.isdigit()}


def envoys(mesh):
    """(namespace, workload) of all that run."""
    return [(pod["namespace"], pod["workload"]) for pods in mesh.workloads().values() for pod in pods
            if pod["isReady"] and any("envoy" in c for c in pod["containers"] if c["role"] == "proxy")]


def refused(mesh):
    """What lateend was refused, and what Envoys say that they refused, by name."""
    counted = mesh.exec("istio-system/istiod", "curl", "-s", "http://127.0.0.1:15014/metrics")
    found = [line for line in counted.splitlines() if line.startswith("pilot_total_xds_rejects") and float(line.split()[-1]) > 0]
    for ns, name in envoys(mesh):
        stats = envoy_stats(mesh, name, ns, "update_(rejected|success)$")
        # the four kinds are counted at all, or nothing would be shown by zeros
        assert stats["cluster_manager.cds.update_success"] > 0 and stats["listener_manager.lds.update_success"] > 0, stats
        assert any(key.startswith("cluster.outbound|") and stats[key] > 0 for key in stats if key.endswith("update_success")), stats
        assert any(".rds." in key and stats[key] > 0 for key in stats if key.endswith("update_success")), stats
        found += [f"{ns}/{name}: {key} {value}" for key, value in stats.items() if key.endswith("update_rejected") and value > 0]
    return found


# --- load ---

class Load:
    """
    Requests one after the other through a port until stop(), every other one for the canary; what came back is counted.
    """

    def __init__(self, port, host="web.test", pause=0.01):
        self.statuses, self.stopped = collections.Counter(), threading.Event()
        self.thread = threading.Thread(target=self.run, args=(port, host, pause))
        self.thread.start()

    def run(self, port, host, pause):
        connection, turn = None, 0
        while not self.stopped.is_set():
            turn += 1
            try:
                connection = connection or client.Connection(port, deadline=20)
                connection.request(host=host, headers={"x-canary": "true"} if turn % 2 else {})
                response = connection.response()
                self.statuses[str(response.status) if response else "closed"] += 1
                if response is None or response.header("connection") == "close":
                    connection.close()
                    connection = None
            except OSError as error:
                self.statuses[type(error).__name__] += 1
                connection = None
            time.sleep(pause)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        return dict(self.statuses)


INSIDE = """
import collections, http.client, json, sys, threading, time
counts, stopped = collections.Counter(), threading.Event()

def run(host, port):
    connection, turn = None, 0
    while not stopped.is_set():
        turn += 1
        try:
            connection = connection or http.client.HTTPConnection(host, int(port), timeout=20)
            connection.request("GET", "/", headers={"x-canary": "true"} if turn % 2 else {})
            response = connection.getresponse()
            response.read()
            counts[str(response.status)] += 1
            if response.will_close:
                connection = None
        except (OSError, http.client.HTTPException) as error:
            counts[type(error).__name__] += 1
            connection = None
        time.sleep(0.01)

threads = [threading.Thread(target=run, args=target.split(":")) for target in sys.argv[1:]]
[thread.start() for thread in threads]
sys.stdin.read()
stopped.set()
[thread.join() for thread in threads]
print(json.dumps(counts))
"""


class LoadInside:
    """The same from inside a workload, through its sidecar. targets: "host:port"."""

    def __init__(self, mesh, workload, *targets):
        self.process = subprocess.Popen([LATEEN, "exec", "-m", str(mesh.dir), workload, "--", "/usr/bin/python3", "-c", INSIDE, *targets],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self):
        out, _ = self.process.communicate(timeout=60)
        return json.loads(out)


def only_answers(loads):
    """Stops them all; every one had answers, and no other than 200."""
    seen = [load.stop() for load in loads]
    assert all(set(counts) == {"200"} for counts in seen), seen
    return sum(counts["200"] for counts in seen)


def status(mesh, who, url, *options):
    return mesh.exec(who, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url, *options, check=False)
