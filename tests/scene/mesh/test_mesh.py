"""What a mesh is for: canaries, identities, and no failed request while its configuration changes."""
import collections
import json
import os
import pathlib
import signal
import threading
import time

from lib import client
from mesh_lib import free_port, wait_until

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


def workload(name, app, version, labels="", env=""):
    return f"""
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {app}, namespace: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {app}, version: {version}}}}}
  template:
    metadata: {{labels: {{app: {app}, version: {version}{labels}}}}}
    spec:
      serviceAccountName: {app}
      terminationGracePeriodSeconds: 2
      containers:
      - {{name: main, image: "registry.example/{app}:1", ports: [{{containerPort: 8080}}], env: [{env}]}}
"""


def service(app):
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {app}, namespace: shop}}
spec:
  selector: {{app: {app}}}
  ports: [{{name: http, port: 8080}}]
"""


def gateway(node_port):
    return f"""
apiVersion: v1
kind: Namespace
metadata: {{name: edge}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: ingress, namespace: edge}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  template:
    metadata:
      labels: {{istio: ingressgateway, sidecar.istio.io/inject: "true"}}
      annotations: {{inject.istio.io/templates: gateway}}
    spec:
      containers: [{{name: istio-proxy, image: auto}}]
---
apiVersion: v1
kind: Service
metadata: {{name: ingress, namespace: edge}}
spec:
  type: NodePort
  selector: {{istio: ingressgateway}}
  ports: [{{name: http2, port: 80, targetPort: 8080, nodePort: {node_port}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: web, namespace: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["shop.test"]}}]
"""


RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web.shop.svc.cluster.local
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"""

CANARY = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [shop.test, web.shop.svc.cluster.local]
  gateways: [mesh, edge/web]
  http:
  - match: [{headers: {x-canary: {exact: "true"}}}]
    route: [{destination: {host: web.shop.svc.cluster.local, subset: v2}}]
  - route:
    - {destination: {host: web.shop.svc.cluster.local, subset: v1}, weight: 90}
    - {destination: {host: web.shop.svc.cluster.local, subset: v2}, weight: 10}
"""


def shop(mesh, *more):
    mesh.write("shop.yaml", "---".join([NAMESPACE, workload("web-v1", "web", "v1"), workload("web-v2", "web", "v2"), service("web"),
                                        workload("caller", "caller", "v1"), *more]))


def first_answer(mesh):
    """A Pod that is ready is an endpoint for others a moment later."""
    return wait_until(lambda: "version" in (text := mesh.curl("caller", "http://web:8080/", check=False)) and json.loads(text),
                      what="an answer")


class Load:
    """Requests one after the other through a port until stop(); what came back is counted."""

    def __init__(self, port, path="/", host="shop.test"):
        self.statuses, self.stopped = collections.Counter(), threading.Event()
        self.thread = threading.Thread(target=self.run, args=(port, path, host))
        self.thread.start()

    def run(self, port, path, host):
        connection = None
        while not self.stopped.is_set():
            try:
                connection = connection or client.Connection(port, deadline=20)
                connection.request(path=path, host=host)
                response = connection.response()
                self.statuses[response.status if response else "closed"] += 1
                if response is None or response.header("connection") == "close":
                    connection.close()
                    connection = None
            except OSError as error:
                self.statuses[type(error).__name__] += 1
                connection = None
            time.sleep(0.002)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        return dict(self.statuses)


def test_canary_through_the_gateway(mesh):
    port = free_port()
    mesh.write("edge.yaml", gateway(port))
    shop(mesh)
    mesh.write("rules.yaml", RULES + "---" + CANARY)
    mesh.up()
    wait_until(lambda: client.get(port, host="shop.test").status == 200, what="the route")
    seen = collections.Counter()
    with client.Connection(port) as connection:
        for _ in range(10000):
            connection.request(host="shop.test")
            seen[connection.response().json()["version"]] += 1
        assert abs(seen["v2"] / 10000 - 0.10) <= 0.015, seen
        for _ in range(20):
            connection.request(host="shop.test", headers={"x-canary": "true"})
            assert connection.response().json()["version"] == "v2"
    assert client.get(port, host="elsewhere.test").status == 404


def test_strict_mtls_with_identities_on_both_sides(mesh):
    shop(mesh, workload("stranger", "stranger", "v1", ', sidecar.istio.io/inject: "false"'))
    mesh.up()
    answer = first_answer(mesh)
    assert answer["peer"] == "spiffe://cluster.local/ns/shop/sa/caller"
    refused = mesh.curl("stranger", "http://web:8080/", check=False)
    assert "version" not in refused
    stats = wait_until(lambda: [line for line in mesh.exec("web-v1", "curl", "-s", "http://127.0.0.1:15090/stats/prometheus").splitlines() +
                                mesh.exec("web-v2", "curl", "-s", "http://127.0.0.1:15090/stats/prometheus").splitlines()
                                if line.startswith("istio_requests_total{") and 'reporter="destination"' in line], what="a count")
    assert any('connection_security_policy="mutual_tls"' in line and 'source_workload="caller"' in line and
               'source_principal="spiffe://cluster.local/ns/shop/sa/caller"' in line and 'response_code="200"' in line
               for line in stats), stats


def test_no_order_of_apply_and_delete_fails_a_request(mesh):
    port = free_port()
    mesh.write("edge.yaml", gateway(port))
    shop(mesh)
    plain = CANARY.replace("subset: v1}, weight: 90", "}, weight: 90").replace(", subset: v2}, weight: 10", "}, weight: 10")
    plain = plain[:plain.index("  - match")] + "  - route: [{destination: {host: web.shop.svc.cluster.local}}]\n"
    mesh.write("route.yaml", plain)
    mesh.up()
    wait_until(lambda: client.get(port, host="shop.test").status == 200, what="the route")
    load = Load(port)
    pause = 1.0
    for turn in range(3):
        mesh.write("route.yaml", CANARY)  # names subsets that are not there yet
        time.sleep(pause)
        mesh.write("rules.yaml", RULES)
        wait_until(lambda: client.get(port, host="shop.test", headers={"x-canary": "true"}).json()["version"] == "v2", what="subset v2")
        if turn % 2 == 0:
            mesh.remove("rules.yaml")  # the subsets go before who names them
            time.sleep(pause)
            mesh.write("route.yaml", plain)
        else:
            mesh.write("route.yaml", plain)
            time.sleep(pause)
            mesh.remove("rules.yaml")
        time.sleep(pause)
    assert set(load.stop()) == {200}, load.statuses


def test_the_mesh_serves_on_without_lateend(mesh):
    port = free_port()
    mesh.write("edge.yaml", gateway(port))
    shop(mesh)
    mesh.write("rules.yaml", RULES + "---" + CANARY)
    mesh.up()
    wait_until(lambda: client.get(port, host="shop.test").status == 200, what="the route")
    load = Load(port)
    before = lateend_pids(mesh)
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    mesh.write("rules.yaml", RULES + "---" + CANARY.replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 100"))
    wait_until(lambda: set(lateend_pids(mesh)) - set(before), what="another lateend")
    wait_until(lambda: all(client.get(port, host="shop.test").json()["version"] == "v2" for _ in range(10)), what="the change")
    assert set(load.stop()) == {200}, load.statuses


def lateend_pids(mesh):
    """Of this mesh alone: another may run beside it."""
    parents, found = {}, []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            arguments = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        parents[int(entry)] = int(stat[stat.rindex(")") + 2:].split()[1])
        if os.path.basename(arguments[0]) == b"lateend":
            found.append(int(entry))
    return [pid for pid in found if mesh.process.pid in ancestors(pid, parents)]


def ancestors(pid, parents):
    while pid in parents:
        pid = parents[pid]
        yield pid


def test_a_bad_object_is_named_and_hurts_nobody(mesh):
    shop(mesh)
    mesh.write("bad.yaml", """
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: bad, namespace: shop}
        spec:
          hosts: [web.shop.svc.cluster.local]
          http: 7
        """)
    mesh.up()
    assert first_answer(mesh)["version"] in ("v1", "v2")
    wait_until(lambda: "bad.yaml" in mesh.logs("istiod"), what="the message")
    message = [line for line in mesh.logs("istiod").splitlines() if "bad.yaml" in line][0]
    assert "VirtualService shop/bad" in message and "spec.http" in message, message
