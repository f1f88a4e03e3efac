"""Workloads with sidecars: who gets one, in which order things start and end, what is captured."""
import base64
import json
import subprocess
import threading

import pytest

from mesh_lib import ACCESS_LOG, deployment, service, wait_until

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


def namespace(name, **labels):
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {json.dumps(labels)}}}\n---\n"


@pytest.mark.quick
def test_istios_labels_decide(mesh):
    """The table of Istio's webhook selectors, on real workloads."""
    yes, no = '"sidecar.istio.io/inject": "true"', '"sidecar.istio.io/inject": "false"'
    rev = '"istio.io/rev": default'
    wanted = {
        ("injected", "plain", "", ""): True,
        ("injected", "label-no", no, ""): False,
        ("injected", "annotation-no", "", no): False,
        ("injected", "label-over-annotation", yes, no): True,
        ("refused", "off-plain", "", ""): False,
        ("refused", "off-asks", yes, ""): False,
        ("revision", "rev-plain", "", ""): True,
        ("revision", "rev-no", no, ""): False,
        ("silent", "none-plain", "", ""): False,
        ("silent", "none-asks", yes, ""): True,
        ("silent", "none-rev", rev, ""): True,
        ("silent", "none-rev-no", rev + ", " + no, ""): False,
        ("silent", "none-annotation", "", yes): False,
    }
    mesh.write("ns.yaml", namespace("injected", **{"istio-injection": "enabled"}) + namespace("refused", **{"istio-injection": "disabled"}) +
               namespace("revision", **{"istio.io/rev": "default"}) + namespace("silent"))
    mesh.write("a.yaml", "".join(deployment(name, ns=ns, labels=labels, annotations=annotations) for ns, name, labels, annotations in wanted))
    mesh.write("gateway.yaml", deployment("gateway", ns="silent", labels="istio: ingressgateway") +
               deployment("by-template", ns="silent", annotations="inject.istio.io/templates: gateway", labels=yes))
    mesh.up()
    pods = {name: found[0] for name, found in mesh.workloads().items()}
    assert {name for name, pod in pods.items() if pod["isGateway"]} == {"gateway", "by-template"}
    found = {name: pod["hasProxy"] for name, pod in pods.items() if not pod["isGateway"]}
    assert found == {name: is_wanted for (_, name, _, _), is_wanted in wanted.items()}
    assert "injected/label-no" in mesh.table() and 'has no sidecar: label sidecar.istio.io/inject: "false"' in mesh.table()


@pytest.mark.quick
@pytest.mark.no_sanitizer
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
    # the token that its certificate was asked for with: for the CA, of this account, and nobody else's to read
    token = mesh.exec("in", "cat", "/var/run/secrets/tokens/istio-token", container="istio-proxy")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["aud"] == ["istio-ca"] and claims["sub"] == "system:serviceaccount:shop:default", claims
    assert mesh.exec_code("in", "cat", "/var/run/secrets/tokens/istio-token") != 0
    # a captured caller proves who it is; the others are let in as PERMISSIVE says, and prove nothing
    assert mesh.get("asked", "http://in.shop/")["peer"] == "spiffe://cluster.local/ns/default/sa/default"
    assert mesh.get("elsewhere", "http://in.shop/")["peer"] == ""


def test_the_admin_port_is_asked_as_by_pilot_agent(mesh):
    mesh.write("a.yaml", deployment("app", ["sleep", "1000"], labels='"sidecar.istio.io/inject": "true"', port=0))
    mesh.up()

    def ask(*words):
        return subprocess.run([mesh.lateen, "exec", "-m", str(mesh.dir), "-c", "istio-proxy", "app", "--", "pilot-agent", "request", *words],
                              capture_output=True, text=True, timeout=20)

    clusters = ask("GET", "clusters")
    assert clusters.returncode == 0 and "BlackHoleCluster::" in clusters.stdout
    assert ask("/clusters").stdout.splitlines()[0] == clusters.stdout.splitlines()[0]
    assert ask("POST", "logging?level=debug").returncode == 0
    lost = ask("GET", "nowhere")
    assert lost.returncode == 1 and "status 404" in lost.stderr
    assert ask("--debug-port", "15001", "GET", "/x").returncode == 1
    assert ask().returncode == 2 and "which path?" in ask().stderr


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


def test_the_sidecar_leaves_after_the_application(mesh):
    """What an application calls when it is told to end still goes through its sidecar."""
    bye = "trap 'curl -s http://web/bye -o /dev/null; exit 0' TERM; while :; do sleep 0.1; done"
    mesh.write("web.yaml", ACCESS_LOG + INJECTED + deployment("web", ns="shop") + service("web", ns="shop"))
    mesh.write("app.yaml", deployment("app", ["sh", "-c", bye], ns="shop", port=0))
    mesh.up()
    wait_until(lambda: mesh.curl("app", "http://web/").startswith("{"), 10, "the first answer")
    mesh.remove("app.yaml")
    wait_until(lambda: "app" not in mesh.workloads(), 30, "its end")
    log = mesh.logs("web", container="istio-proxy")
    line = next(line for line in log.splitlines() if '"GET /bye' in line)
    assert '" 200 ' in line and "outbound_.80_._.web.shop.svc.cluster.local" in line, line


def test_a_chain_of_stand_ins_shows_who_called_whom(mesh):
    def link(name, calls):
        return deployment(name, ns="shop", env=f"{{name: LATEEN_CALLS, value: '{calls}'}}").replace(
            "    spec:\n", f"    spec:\n      serviceAccountName: {name}\n") + service(name, ns="shop")

    mesh.write("a.yaml", INJECTED + link("a", "http://b/,http://c/x") + link("b", "http://c/") + link("c", ""))
    mesh.up()
    wait_until(lambda: mesh.curl("c", "http://a/").count('"workload"') == 4, 20, "the whole chain")
    answer = mesh.get("c", "http://a/")
    b, c = (call["body"] for call in answer["calls"])
    seen = [(x["workload"], x["peer"].rsplit("/", 1)[1]) for x in (answer, b, b["calls"][0]["body"], c)]
    assert seen == [("a", "c"), ("b", "a"), ("c", "b"), ("c", "a")] and c["path"] == "/x"
    assert (answer["version"], answer["host"], answer["path"]) == ("v1", "a", "/")
    assert b["headers"]["x-request-id"] == answer["headers"]["x-request-id"]


def test_job_scripts_of_istios_users(mesh):
    """Without a command of curl's: the bytes that old clients send."""
    script = """
import socket
def ask(port, head):
    with socket.create_connection(("localhost", port)) as s:
        s.sendall(head.encode() + b" HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        return s.recv(4096).decode().split("\\r\\n", 1)[0]
print(ask(15021, "HEAD /healthz/ready"), ask(15020, "HEAD /healthz/ready"), ask(15020, "POST /quitquitquit"), sep="|")
"""
    mesh.write("a.yaml", INJECTED + job("old", "exit 1").replace('command: [sh, -c, \'exit 1\']', f"command: [/usr/bin/python3, -c, {json.dumps(script)}]"))
    mesh.up()
    assert mesh.logs("old") == "HTTP/1.1 200 OK|HTTP/1.1 200 OK|HTTP/1.1 200 OK\n"
    pod = mesh.workloads()["old"][0]
    assert pod["exitCode"] == 0 and [c["exitCode"] for c in pod["containers"]] == [0, 0, 0]


def test_the_sidecars_own_user_is_let_through(mesh):
    """Users and groups of 1337 are not captured: here the sidecar's container, which calls as it would itself."""
    mesh.write("a.yaml", INJECTED + deployment("web", ns="shop") + service("web", ns="shop") + deployment("client", ["sleep", "1000"], ns="shop", port=0))
    mesh.up()
    wait_until(lambda: mesh.curl("client", "http://web/").startswith("{"), 10, "the first answer")
    assert mesh.get("client", "http://web/")["peer"] == "spiffe://cluster.local/ns/shop/sa/default"
    assert mesh.exec("client", "id", "-u", container="istio-proxy").strip() == "1337"
    assert json.loads(mesh.exec("client", "curl", "-s", "http://web/", container="istio-proxy"))["peer"] == ""


def test_capture_is_into_15001_and_15006(mesh):
    """Seen where the kernel lists connections, while one is held open."""
    hold = r"""
import socket
s = socket.create_connection(("web", 80))
s.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
assert s.recv(65536).startswith(b"HTTP/1.1 200")
print(s.getsockname()[1], open("/proc/net/tcp").read())
"""

    def rows(table):
        return [line.split()[1:4] for line in table.splitlines()[1:] if line]

    mesh.write("a.yaml", INJECTED + deployment("web", ns="shop") + service("web", ns="shop") + deployment("client", ["sleep", "1000"], ns="shop", port=0))
    mesh.up()
    wait_until(lambda: mesh.curl("client", "http://web/").startswith("{"), 10, "the first answer")
    mine, _, table = mesh.exec("client", "/usr/bin/python3", "-c", hold).partition(" ")
    # (local address, remote address) of what is established; 3A99 is 15001, 3A9E is 15006
    accepted = [local for local, remote, state in rows(table) if state == "01" and remote.endswith(f":{int(mine):04X}")]
    assert [local[-4:] for local in accepted] == ["3A99"], table
    table = mesh.exec("web", "cat", "/proc/net/tcp")
    assert any(local.endswith(":3A9E") and state == "01" for local, _, state in rows(table)), table


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
        wait_until(lambda: len(codes) > 150, 60, "more answers")
    finally:
        stop.set()
        thread.join()
    assert set(codes) == {"200"} and len(codes) > 100, {code: codes.count(code) for code in set(codes)}
    assert mesh.get("client", "http://web/")["version"] == "v2"
