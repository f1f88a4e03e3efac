"""How workloads come, change and go, and that nothing is left of a mesh."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from mesh_lib import BUILD, deployment, run, service, wait_until


SIDECAR = '"sidecar.istio.io/inject": "true"'


def processes_named(directory):
    """Those with this directory in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if str(directory).encode() in open(f"/proc/{pid}/cmdline", "rb").read():
                found.append(pid)
        except OSError:
            continue
    return found


def processes_of(mesh, state=None):
    """Processes of the machine that hang on this mesh."""
    mark = os.path.basename(state or mesh.state or "none")
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
        wait_until(lambda: len(codes) > 40, 60, "more answers")
    finally:
        stop.set()
        thread.join()
    assert set(codes) == {"200"} and len(codes) > 20, codes
    assert mesh.get("client", "http://web/")["version"] == "v2"


def test_a_shells_limit_of_descriptors_is_none(mesh):
    mesh.write("a.yaml", deployment("web", replicas=20) + service("web") + deployment("client", ["sleep", "1000"], port=0))
    mesh.up(limits=["-S", "-n", "96"])
    assert int(mesh.exec("client", "sh", "-c", "ulimit -n")) > 1000
    assert len(mesh.workloads()["web"]) == 20 and mesh.get("client", "http://web/")["workload"] == "web"


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


@pytest.mark.quick
def test_stand_in_is_told_from_a_program(mesh):
    mesh.write("a.yaml", deployment("typo", ["/usr/bin/pyhton3", "x"]) + deployment("real", ["sleep", "1000"], port=0) +
               deployment("image") + deployment("args", ["sh", "-c"], port=0).replace("env: []", 'args: ["exec sleep $(SECONDS)"]\n        '
                                                                                     "env: [{name: SECONDS, value: '1000'}]"))
    mesh.up()
    container = {name: pods[0]["containers"][0] for name, pods in mesh.workloads().items()}
    assert container["typo"]["isStandIn"] and container["typo"]["wanted"] == "/usr/bin/pyhton3"
    assert not container["real"]["isStandIn"] and not container["args"]["isStandIn"] and container["image"]["isStandIn"]
    runs = {line.split()[1].rsplit("-", 2)[0]: line for line in mesh.table().splitlines() if line.startswith("default ")}
    assert runs["typo"].endswith("stand-in for /usr/bin/pyhton3 (no such program)")
    assert runs["image"].endswith("stand-in for image:1") and runs["real"].endswith("  sleep")
    assert mesh.exec("args", "cat", "/proc/2/cmdline") == "sleep\x001000\x00"


def test_a_stand_in_that_somebody_waits_for_ends(mesh):
    mesh.write("a.yaml", """
apiVersion: batch/v1
kind: Job
metadata: {name: import}
spec:
  template:
    spec:
      restartPolicy: Never
      initContainers: [{name: migrate, image: shop/migrate:2, command: [/opt/migrate]}]
      containers: [{name: main, image: shop/import:1, ports: [{containerPort: 9090}]}]
""")
    mesh.up()
    assert mesh.workloads()["import"][0]["exitCode"] == 0
    assert mesh.logs("import") == "lateen: image shop/import:1 is not on this machine; its stand-in ends at once, with exit code 0\n"
    assert "/opt/migrate is not on this machine" in mesh.logs("import", container="migrate")
    assert "container migrate: stand-in for /opt/migrate" in mesh.table()


def test_an_init_container_that_stays(mesh):
    """restartPolicy: Always: the next ones wait for its start, the application for all of them, and it ends after the application."""
    stays = "trap 'echo end; exit 0' TERM; echo start; while :; do sleep 0.05; done"
    mesh.write("a.yaml", f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: job}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers:
      - {{name: helper, image: x, restartPolicy: Always, command: [sh, -c, {json.dumps(stays)}]}}
      - {{name: init, image: x, command: [sh, -c, "echo init"]}}
      containers: [{{name: main, image: x, command: [sh, -c, "sleep 0.5; exit 3"]}}]
""")
    mesh.up()
    pod = mesh.workloads()["job"][0]
    assert (pod["exitCode"], [c["role"] for c in pod["containers"]]) == (3, ["sidecar", "init", "app"])
    assert mesh.logs("job", container="helper") == "start\nend\n" and pod["containers"][0]["exitCode"] == 0


def host_network():
    """Interfaces, addresses, routes and rules of the host."""
    commands = (["ip", "-o", "address"], ["ip", "route"], ["ip", "rule"], ["nft", "list", "ruleset"])
    return [re.sub(r"(valid|preferred)_lft \d+sec", "", subprocess.run(c, capture_output=True, text=True).stdout)
            for c in commands]


@pytest.mark.quick
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(mesh, how):
    before = host_network()
    mesh.write("a.yaml", deployment("web", ["sh", "-c", "sleep 1000 & sleep 1000"], port=0) + deployment("other"))
    mesh.up()
    assert host_network() == before  # not even while it runs
    assert len(processes_of(mesh)) >= 4
    state = mesh.state
    mesh.process.send_signal(how)
    assert mesh.process.wait(10) == (-9 if how == signal.SIGKILL else 0)
    wait_until(lambda: not processes_of(mesh, state), 10, "the end of all processes")
    assert host_network() == before
    assert how == signal.SIGKILL or not os.path.exists(state)
    if how == signal.SIGKILL:  # the next one clears it
        mesh.up()
        mesh.end()
        assert not os.path.exists(state)


def test_the_next_down_or_up_clears_what_a_killed_mesh_left(make_mesh):
    killed, other = make_mesh("killed"), make_mesh("other")
    for command in ("down", "up"):
        killed.write("a.yaml", deployment("web"))
        killed.up()
        state = killed.state
        killed.process.kill()
        killed.process.wait()
        if command == "down":
            done = subprocess.run([killed.lateen, "down", str(killed.dir)], capture_output=True, text=True, timeout=30)
            assert done.returncode == 0 or "no mesh of" in done.stderr, done.stderr  # an up beside this scene was quicker
        else:  # of another directory
            wait_until(lambda: not processes_of(killed, state), 10, "the end of all processes")
            other.write("a.yaml", deployment("web"))
            other.up()
        assert not os.path.exists(state) and not os.path.exists(state + ".lock")


def test_nothing_is_left_of_one_that_is_killed_on_its_way_up(mesh):
    mesh.write("a.yaml", "".join(deployment(f"web{i}", labels=SIDECAR) + service(f"web{i}") for i in range(4)))
    for moment in (0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4):
        mesh.up(wait=False)
        time.sleep(moment)
        mesh.process.kill()
        mesh.process.wait()
    mesh.up()  # at once: it waits for what is about to end
    state = mesh.state
    mesh.end()
    assert not os.path.exists(state) and not processes_of(mesh, state)


def test_nothing_is_left_after_a_failure_half_way(mesh, tmp_path):
    before = host_network()
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        mesh.write("a.yaml", deployment("web") + service("web", extra="type: NodePort").replace(
            "targetPort: http", f"targetPort: http, nodePort: {port}"))
        mesh.up(wait=False)
        assert mesh.process.wait(20) == 1
    assert f"nodePort {port} is taken on this machine by {open('/proc/self/comm').read().strip()} (pid {os.getpid()}" in mesh.output()
    assert mesh.state is None and processes_named(mesh.dir) == []

    (tmp_path / "bin").mkdir()
    for name in ("lateen", "lateen-proxy"):
        shutil.copy(BUILD / name, tmp_path / "bin" / name)
    done = subprocess.run([tmp_path / "bin/lateen", "up", str(mesh.dir)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "lateend is missing: expected beside lateen" in done.stderr
    assert mesh.state is None and processes_named(mesh.dir) == [] and host_network() == before


def test_all_ends_when_its_first_process_is_killed(mesh):
    mesh.write("a.yaml", deployment("web"))
    mesh.up()
    state = mesh.state
    children = open(f"/proc/{mesh.process.pid}/task/{mesh.process.pid}/children").read().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert mesh.process.wait(10) != 0
    wait_until(lambda: not processes_of(mesh, state), 10, "the end of all processes")
    assert not os.path.exists(state)


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


def test_another_branch_is_followed(mesh):
    def git(*arguments):
        subprocess.run(["git", "-C", str(mesh.dir), "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments], check=True,
                       capture_output=True, timeout=20)

    def lateend():
        return json.loads(run("workloads", "--json", "-m", str(mesh.dir)))["workloads"][0]["containers"][0]["pid"]

    client = deployment("client", ["sleep", "1000"], port=0)
    mesh.write("client.yaml", client)
    mesh.write("web.yaml", deployment("web", version="v1") + service("web"))
    mesh.write("old/gone.yaml", deployment("gone") + service("gone"))
    git("init", "-q", "-b", "one")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    git("checkout", "-q", "-b", "two")
    mesh.write("web.yaml", deployment("web", version="v2") + service("web"))
    mesh.write("new/deep/more.yaml", deployment("more") + service("more"))
    git("rm", "-q", "-r", "old")
    git("add", "-A")
    git("commit", "-q", "-m", "two")
    git("checkout", "-q", "one")
    mesh.up()
    unchanged, control = mesh.workloads()["client"], lateend()
    assert mesh.get("client", "http://web/")["version"] == "v1"
    for branch, version, there, gone in (("two", "v2", "more", "gone"), ("one", "v1", "gone", "more"), ("two", "v2", "more", "gone")):
        git("checkout", "-q", branch)
        wait_until(lambda: set(mesh.workloads()) == {"client", "web", there}, 20, branch)
        mesh.wait()
        assert mesh.get("client", "http://web/")["version"] == version
        assert mesh.get("client", f"http://{there}/")["workload"] == there
        assert mesh.curl("client", f"http://{gone}/", check=False) == ""
    # all that without a restart of anything else
    assert mesh.workloads()["client"][0]["name"] == unchanged[0]["name"] and lateend() == control
    assert mesh.workloads()["client"][0]["containers"][0]["pid"] == unchanged[0]["containers"][0]["pid"]
