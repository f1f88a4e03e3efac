"""A real Envoy's life in a mesh of `lateen up`: its start, what is told of it, certificates, and its end."""
import json
import os
import subprocess

import pytest

import shop
from lib.proxy import envoy_program
from mesh_lib import LATEEN, deployment, free_port, run, service, wait_until

INJECTED = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
"""


def proxy_of(mesh, workload):
    return [c for c in mesh.workloads()[workload][0]["containers"] if c["role"] == "proxy"][0]


@pytest.mark.no_sanitizer
def test_what_is_told_of_it(mesh):
    port = free_port()
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.gateway(port, "envoy"), shop.WEB_GATEWAY, shop.plain(),
               shop.server("web", "envoy", ["v1"]), shop.caller("caller"))
    mesh.up()
    shop.first_route(port)
    assert proxy_of(mesh, "ingress")["envoy"] == envoy_program() and "envoy" not in proxy_of(mesh, "caller")
    # the agent's memory and Envoy's, of which there are at least twelve megabytes that nobody shares
    assert proxy_of(mesh, "web-v1")["anonymousKb"] > 12000 > proxy_of(mesh, "caller")["anonymousKb"]
    table = run("workloads", "-m", str(mesh.dir))
    rows = {line.split()[1].rsplit("-", 2)[0]: line for line in table.splitlines() if line.startswith(("shop", "edge"))}
    assert [name for name, row in sorted(rows.items()) if "real Envoy" in row] == ["ingress", "web-v1"]
    assert f"http://localhost:{port} (through a TCP relay" in table
    # what a person asks of a sidecar's ports is answered as by pilot-agent
    assert mesh.exec("web-v1", "curl", "-fs", "http://localhost:15021/healthz/ready") == ""
    stats = mesh.exec("web-v1", "curl", "-fs", "http://localhost:15020/stats/prometheus")
    assert "istio_agent_cert_expiry_seconds" in stats and "envoy_server_live" in stats


def test_the_mesh_configuration_names_it_for_all_but_who_wants_another(mesh):
    config = {"defaultConfig": shop.envoy_config()}
    own = """'proxy.istio.io/config': 'binaryPath: /usr/local/bin/lateen-has-no-envoy'"""
    mesh.write("mesh.yaml", f"""
        apiVersion: v1
        kind: ConfigMap
        metadata: {{name: istio, namespace: istio-system}}
        data: {{mesh: '{json.dumps(config)}'}}
        """)
    mesh.write("a.yaml", INJECTED + deployment("web", ns="shop") + service("web", ns="shop") +
               deployment("own", ns="shop", annotations=own.replace("/usr/local/bin/lateen-has-no-envoy", "/usr/local/bin/envoy")) +
               deployment("caller", ["sleep", "1000"], ns="shop", port=0))
    mesh.up()
    assert {name: "envoy" in proxy_of(mesh, name) for name in mesh.workloads()} == {"web": True, "own": False, "caller": True}
    assert wait_until(lambda: mesh.curl("caller", "http://web/", check=False).startswith("{"), what="an answer")
    # a program that is not there is named
    mesh.write("b.yaml", deployment("wrong", ns="shop", annotations=own))
    wait_until(lambda: "wrong" in mesh.workloads() and "lateen-has-no-envoy" in mesh.logs("wrong", "istio-proxy"), what="the message")
    message = mesh.logs("wrong", "istio-proxy").splitlines()[0]
    assert "ProxyConfig.binaryPath /usr/local/bin/lateen-has-no-envoy: No such file or directory" in message
    mesh.remove("b.yaml")
    wait_until(lambda: "wrong" not in mesh.workloads(), what="its end")


def test_jobs_end_and_their_codes_are_kept(mesh):
    def job(name, script):
        return f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: shop}}
spec:
  backoffLimit: 0
  template:
    metadata: {{annotations: {shop.annotations("envoy", {"terminationDrainDuration": "1s"})}}}
    spec:
      restartPolicy: Never
      containers: [{{name: main, image: x, command: [sh, -c, {script!r}]}}]
---
"""
    wait = "until curl -fsI http://localhost:15021/healthz/ready; do sleep 1; done"
    quit_it = "curl -fsI -X POST http://localhost:15020/quitquitquit > /dev/null"
    mesh.write("a.yaml", INJECTED + job("plain", "exit 3") + job("script", f"{wait}; {quit_it}; exit 4") + deployment("web", ns="shop") +
               service("web", ns="shop"))
    mesh.up()
    ended = {name: mesh.workloads()[name][0] for name in ("plain", "script")}
    assert {name: pod["exitCode"] for name, pod in ended.items()} == {"plain": 3, "script": 4}
    assert all(c["exitCode"] == 0 and c["restarts"] == 0 for pod in ended.values() for c in pod["containers"] if c["role"] == "proxy")
    assert "200" in mesh.logs("script")


def test_pods_come_and_go_and_one_is_killed(mesh):
    """A new version under load, an Envoy that dies, and a Pod that goes: its sidecar drains and ends by itself."""
    def parts(version):
        return [shop.NAMESPACE, shop.account("web"), shop.workload("web", "web", version, "envoy"), shop.service("web"),
                shop.caller("caller", "envoy"), shop.caller("other")]

    shop.write(mesh, "mesh.yaml", *parts("v1"))
    mesh.up()
    for who in ("caller", "other"):
        shop.first_answer(mesh, who)
    loads = [shop.LoadInside(mesh, "caller", "web:8080"), shop.LoadInside(mesh, "other", "web:8080")]
    before = {pod["name"] for pod in mesh.workloads()["web"]}
    shop.write(mesh, "mesh.yaml", *parts("v2"))
    wait_until(lambda: not before & {pod["name"] for pod in mesh.workloads()["web"]}, 60, "the new Pod only")
    assert shop.first_answer(mesh)["version"] == "v2"
    shop.only_answers(loads)
    mesh.exec("web", "sh", "-c", "kill -9 $(pgrep -f envoy-rev.json)", container="istio-proxy", check=False)
    wait_until(lambda: proxy_of(mesh, "web")["restarts"] == 1 and mesh.workloads()["web"][0]["isReady"], 30, "its restart")
    assert proxy_of(mesh, "web")["exitCode"] == 137 and "envoy was killed" in mesh.logs("web", "istio-proxy")
    shop.first_answer(mesh)


def test_certificates_are_exchanged_under_load(mesh):
    """Of twenty seconds each: every Envoy gets its next ones through the agent's socket, and nobody notices."""
    config = {"proxyMetadata": {"SECRET_TTL": "20s"}}
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.server("web", "envoy", ["v1"], config=config),
               shop.caller("caller", "envoy", config=config))
    mesh.up()
    shop.first_answer(mesh)

    def serial(who):
        pages = json.loads(mesh.exec(who, "curl", "-s", "http://127.0.0.1:15000/certs", container="istio-proxy"))["certificates"]
        return sorted({c["serial_number"] for page in pages for c in page["cert_chain"]})

    first = {who: serial(who) for who in ("web-v1", "caller")}
    assert all(first.values()), first
    load = shop.LoadInside(mesh, "caller", "web:8080")
    for who in first:
        wait_until(lambda: serial(who) and not set(serial(who)) & set(first[who]), 100, f"another certificate of {who}")
    shop.only_answers([load])


def test_nothing_is_left_of_it(mesh):
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.server("web", "envoy", ["v1"]), shop.caller("caller", "envoy"))
    mesh.up()
    shop.first_answer(mesh)
    mark = mesh.state.rsplit("/", 1)[1]

    def left():
        tables = [f"/proc/{pid}/mountinfo" for pid in os.listdir("/proc") if pid.isdigit()]
        done = subprocess.run(["grep", "-l", mark, *tables], capture_output=True, text=True)
        return [line.split("/")[2] for line in done.stdout.splitlines()]

    assert len(left()) >= 6
    subprocess.run([LATEEN, "down", str(mesh.dir)], check=True, timeout=30)
    assert left() == []
