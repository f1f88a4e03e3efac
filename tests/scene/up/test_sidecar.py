"""Workloads with sidecars: who gets one, in which order things start and end, what is captured."""
import threading

from mesh_lib import deployment, service, wait_until

INJECTED = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
"""
READY = "curl -s -o /dev/null -w '%{http_code}' http://localhost:15021/healthz/ready"


def job(name, script, ns="shop"):
    return f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: {ns}}}
spec:
  backoffLimit: 0
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      restartPolicy: Never
      initContainers: [{{name: before, image: x, command: [sh, -c, "{READY} || true"]}}]
      containers: [{{name: main, image: x, command: [sh, -c, {script!r}]}}]
---
"""


def test_who_gets_one_and_who_it_is(mesh):
    mesh.write("a.yaml", INJECTED + deployment("in", ns="shop") + deployment("out", ns="shop", labels='"sidecar.istio.io/inject": "false"') +
               deployment("elsewhere") + deployment("asked", labels='"sidecar.istio.io/inject": "true"') + service("in", ns="shop"))
    mesh.up()
    found = {name: pods[0] for name, pods in mesh.workloads().items()}
    assert {name: pod["hasProxy"] for name, pod in found.items()} == {"in": True, "out": False, "elsewhere": False, "asked": True}
    assert found["in"]["identity"] == "spiffe://cluster.local/ns/shop/sa/default"
    assert found["asked"]["identity"] == "spiffe://cluster.local/ns/default/sa/default"
    assert 500 < found["in"]["containers"][0]["pssKb"] < 20000
    wait_until(lambda: mesh.curl("asked", "http://in.shop/").startswith("{"), 10, "the first answer")
    # a captured caller proves who it is; the others are let in as PERMISSIVE says, and prove nothing
    assert mesh.get("asked", "http://in.shop/")["peer"] == "spiffe://cluster.local/ns/default/sa/default"
    assert mesh.get("elsewhere", "http://in.shop/")["peer"] == ""


def test_application_starts_after_its_sidecar_which_leaves_after_it(mesh):
    quit_it = "curl -fsI -X POST http://localhost:15020/quitquitquit > /dev/null"
    wait = "until curl -fsI http://localhost:15021/healthz/ready; do sleep 1; done"
    mesh.write("a.yaml", INJECTED + job("plain", f"{READY}; exit 3") + job("script", f"{wait}; {quit_it}; exit 4") + job("fine", READY))
    mesh.up()
    ended = {name: pods[0] for name, pods in mesh.workloads().items()}
    assert {name: pod["exitCode"] for name, pod in ended.items()} == {"plain": 3, "script": 4, "fine": 0}
    assert mesh.logs("plain") == "200" and "200" in mesh.logs("script")
    assert mesh.logs("plain", container="before") == "000"  # init containers run before the sidecar, uncaptured
    assert all(not container["isUp"] for pod in ended.values() for container in pod["containers"])
    assert ended["script"]["containers"][1]["exitCode"] == 0 and ended["script"]["containers"][1]["restarts"] == 0


def test_traffic_annotations(mesh):
    def client(name, annotation):
        return deployment(name, ["sleep", "1000"], ns="shop", port=0, annotations=annotation)

    mesh.write("a.yaml", INJECTED + deployment("web", ns="shop") + service("web", port=8080, ns="shop") + client("captured", "") +
               client("skips-port", '"traffic.sidecar.istio.io/excludeOutboundPorts": "8080"') +
               client("skips-range", '"traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.96.0.0/16"') +
               client("none", '"sidecar.istio.io/interceptionMode": NONE'))
    mesh.up()
    # ready is not yet known everywhere: lateend tells the sidecars
    wait_until(lambda: mesh.curl("captured", "http://web:8080/").startswith("{"), 10, "the first answer")
    peers = {name: mesh.get(name, "http://web:8080/")["peer"] for name in ("captured", "skips-port", "skips-range", "none")}
    assert peers == {"captured": "spiffe://cluster.local/ns/shop/sa/default", "skips-port": "", "skips-range": "", "none": ""}
    # an application that calls its own address is not captured (Istio's third rule)
    address = mesh.workloads()["web"][0]["address"]
    assert mesh.get("web", f"http://{address}:8080/")["peer"] == ""


def test_rolling_update_of_sidecars_fails_no_request(mesh):
    def web(version):
        return INJECTED + deployment("web", ns="shop", replicas=2, version=version) + service("web", ns="shop")

    mesh.write("web.yaml", web("v1"))
    mesh.write("client.yaml", deployment("client", ["sleep", "1000"], ns="shop", port=0))
    mesh.up()
    before = {pod["name"] for pod in mesh.workloads()["web"]}
    wait_until(lambda: mesh.curl("client", "http://web/").startswith("{"), 10, "the first answer")
    stop, codes = threading.Event(), []

    def load():
        while not stop.is_set():
            codes.extend(mesh.exec("client", "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}\\n", "http://web/?[1-50]").split())

    thread = threading.Thread(target=load)
    thread.start()
    try:
        mesh.write("web.yaml", web("v2"))
        wait_until(lambda: not before & {pod["name"] for pod in mesh.workloads()["web"]}, 30, "new pods only")
        mesh.wait()
    finally:
        stop.set()
        thread.join()
    assert set(codes) == {"200"} and len(codes) > 100, {code: codes.count(code) for code in set(codes)}
    assert mesh.get("client", "http://web/")["version"] == "v2"
