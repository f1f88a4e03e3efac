"""How workloads come, change and go, and that nothing is left of a mesh."""
import os
import signal
import subprocess
import threading

import pytest

from mesh_lib import deployment, service, wait_until


def processes_of(mesh):
    """Processes of the machine that hang on this mesh."""
    mark = os.path.basename(mesh.state or "none")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = open(f"/proc/{pid}/mountinfo").read()
        except OSError:
            continue
        if mark in text and int(pid) != os.getpid():
            found.append(pid)
    return found


def test_files_are_followed(mesh):
    mesh.write("a.yaml", deployment("web") + service("web"))
    mesh.up()
    mesh.write("more/b.yaml", deployment("late", version="v7") + service("late"))
    wait_until(lambda: "late" in mesh.workloads(), 10, "a new file in a new directory")
    mesh.wait()
    assert mesh.get("web", "http://late/")["version"] == "v7"
    mesh.remove("more/b.yaml")
    wait_until(lambda: "late" not in mesh.workloads(), 15, "its end")
    mesh.write("a.yaml", deployment("web", replicas=3) + service("web"))
    wait_until(lambda: len(mesh.workloads()["web"]) == 3, 10, "more replicas")
    mesh.wait()


def test_rolling_update_fails_no_request(mesh):
    mesh.write("a.yaml", deployment("web", replicas=2) + service("web") + deployment("client", ["sleep", "1000"], port=0))
    mesh.up()
    before = {pod["name"] for pod in mesh.workloads()["web"]}
    stop, codes = threading.Event(), []

    def load():
        while not stop.is_set():
            script = "for i in $(seq 20); do curl -s -m 5 -o /dev/null -w '%{http_code}\\n' http://web/; done"
            codes.extend(mesh.exec("client", "sh", "-c", script).split())

    thread = threading.Thread(target=load)
    thread.start()
    try:
        mesh.write("a.yaml", deployment("web", replicas=2, version="v2") + service("web") +
                   deployment("client", ["sleep", "1000"], port=0))
        wait_until(lambda: not before & {pod["name"] for pod in mesh.workloads()["web"]}, 20, "new pods only")
        mesh.wait()
    finally:
        stop.set()
        thread.join()
    assert set(codes) == {"200"} and len(codes) > 20, codes
    assert mesh.get("client", "http://web/")["version"] == "v2"


def test_job_keeps_its_exit_code(mesh):
    job = """
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: main, image: x, command: [sh, -c, "echo working; exit {code}"]}}]
---
"""
    mesh.write("a.yaml", job.format(name="good", code=0) + job.format(name="bad", code=7))
    mesh.up()
    found = mesh.workloads()
    assert [(found[name][0]["state"], found[name][0]["exitCode"]) for name in ("good", "bad")] == [("Ended", 0), ("Ended", 7)]
    assert mesh.logs("bad") == "working\n"


def test_failed_job_is_tried_again(mesh):
    mesh.write("a.yaml", """
apiVersion: batch/v1
kind: Job
metadata: {name: third-time}
spec:
  backoffLimit: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: x, command: [sh, -c, "echo again; exit 5"]}]
""")
    mesh.up()
    assert mesh.output().count("exit code 5") == 3
    assert [pod["exitCode"] for pod in mesh.workloads()["third-time"]] == [5]


def test_init_containers_then_restarts(mesh):
    mesh.write("a.yaml", """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers:
      - {name: first, image: x, command: [sh, -c, "echo first"]}
      containers:
      - {name: main, image: x, command: [sh, -c, "echo started; sleep 0.3; exit 4"]}
""")
    mesh.up(wait=False)
    wait_until(mesh.is_there, 10, "an answer")
    pod = wait_until(lambda: next((p for p in mesh.workloads().get("web", []) if p["containers"][1]["restarts"] >= 2), None), 15,
                     "two restarts")
    assert mesh.logs("web", container="first") == "first\n"
    assert mesh.logs("web").count("started") >= 2
    assert pod["containers"][1]["exitCode"] == 4


def test_stand_in_is_told_from_a_program(mesh):
    mesh.write("a.yaml", deployment("typo", ["/usr/bin/pyhton3", "x"]) + deployment("real", ["sleep", "1000"], port=0))
    mesh.up()
    container = {name: pods[0]["containers"][0] for name, pods in mesh.workloads().items()}
    assert container["typo"]["isStandIn"] and container["typo"]["wanted"] == "/usr/bin/pyhton3"
    assert not container["real"]["isStandIn"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(mesh, how):
    links = os.listdir("/sys/class/net")
    mesh.write("a.yaml", deployment("web", ["sh", "-c", "sleep 1000 & sleep 1000"], port=0) + deployment("other"))
    mesh.up()
    assert len(processes_of(mesh)) >= 4
    state = mesh.state
    mesh.process.send_signal(how)
    assert mesh.process.wait(10) == (-9 if how == signal.SIGKILL else 0)
    wait_until(lambda: not processes_of(mesh), 5, "the end of all processes")
    assert os.listdir("/sys/class/net") == links
    assert os.path.exists(state) == (how == signal.SIGKILL)
    if how == signal.SIGKILL:  # the next one clears it
        mesh.up()
        mesh.end()
        assert not os.path.exists(state)


def test_bad_manifests_hurt_nobody_else(mesh):
    mesh.write("a.yaml", deployment("web") + service("web"))
    mesh.write("b.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: broken}\nspec:\n  replicas: many\n")
    mesh.write("c.yaml", "a: [1\n")
    mesh.write("d.yaml", "apiVersion: example.com/v1\nkind: Gizmo\nmetadata: {name: g}\n")
    mesh.write("e.yaml", deployment("badports", annotations='"traffic.sidecar.istio.io/excludeInboundPorts": "80,x"',
                                    labels='"sidecar.istio.io/inject": "true"'))
    mesh.up()
    assert list(mesh.workloads()) == ["web"]
    told = mesh.output()
    for expected in ("b.yaml:5", "replicas", "c.yaml:", "Gizmo", 'excludeInboundPorts: "x" is no port'):
        assert expected in told, told


def test_down_ends_it(mesh):
    mesh.write("a.yaml", deployment("web"))
    mesh.up()
    state = mesh.state
    assert subprocess.run([mesh.lateen, "down", str(mesh.dir)], timeout=30).returncode == 0
    assert mesh.process.wait(5) == 0 and not os.path.exists(state)


def test_second_up_of_one_directory_is_refused(mesh):
    mesh.write("a.yaml", deployment("web"))
    mesh.up()
    again = subprocess.run([mesh.lateen, "up", str(mesh.dir)], capture_output=True, text=True, timeout=10)
    assert again.returncode == 1 and "runs already" in again.stderr
    assert mesh.process.poll() is None
