"""`lateen-proxy run -- COMMAND` in Jobs with a real sidecar: it is ready before, told to quit after, and the Job's code is the command's."""
import json

import pytest

from mesh_lib import deployment, service, wait_until
from test_sidecar import INJECTED

WATCH = """
import socket, time
end = time.monotonic() + 60
while time.monotonic() < end:
    with socket.socket() as s:
        if s.connect_ex(("127.0.0.1", 15021)) != 0:
            print("the sidecar has gone")
            break
    time.sleep(0.05)
"""


def job(name, *command, more=()):
    containers = [{"name": "main", "image": "x", "command": ["lateen-proxy", "run", "--", *command]}, *more]
    return f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: shop}}
spec:
  backoffLimit: 0
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      restartPolicy: Never
      containers: {json.dumps(containers)}
---
"""


def codes(pod):
    return {container["name"]: container["exitCode"] for container in pod["containers"]}


@pytest.mark.quick
def test_the_commands_code_is_the_jobs(mesh):
    """Whatever ends the command, and whatever keeps it from starting."""
    wanted = {"good": (0, "sh", "-c", "exit 0"), "bad": (7, "sh", "-c", "exit 7"), "killed": (137, "sh", "-c", "kill -9 $$$$"),
              "told": (5, "sh", "-c", "trap 'echo told; exit 5' TERM; kill -TERM $PPID; while :; do sleep 0.05; done"),
              "nowhere": (127, "/no/such/program"), "no-program": (126, "/etc/hostname")}
    mesh.write("a.yaml", INJECTED + "".join(job(name, *command) for name, (_, *command) in wanted.items()))
    mesh.up()
    pods = {name: found[0] for name, found in mesh.workloads().items()}
    assert {name: pod["exitCode"] for name, pod in pods.items()} == {name: code for name, (code, *_) in wanted.items()}
    assert all(codes(pod) == {"istio-proxy": 0, "main": wanted[name][0]} for name, pod in pods.items()), pods
    assert mesh.logs("told") == "told\n"
    assert "No such file" in mesh.logs("nowhere") and "Permission denied" in mesh.logs("no-program")
    table = {line.split()[1].split("-")[0]: line for line in mesh.table().splitlines()[1:]}
    assert all(f"exit code {code} " in table[name.split("-")[0]] for name, (code, *_) in wanted.items()), mesh.table()


def test_it_calls_through_its_sidecar_and_ends_it(mesh):
    """The other container is still there when the sidecar goes: nobody but the command's end has told it."""
    ask = "curl -sf -o /dev/null -w '%{http_code} ' http://localhost:15021/healthz/ready; curl -sf http://web/; exit 3"
    watcher = {"name": "watch", "image": "x", "command": ["/usr/bin/python3", "-c", WATCH]}
    mesh.write("a.yaml", INJECTED + deployment("web", ns="shop") + service("web", ns="shop"))
    mesh.up()
    wait_until(lambda: mesh.curl("web", "http://web/").startswith("{"), 10, "an answer")
    mesh.write("job.yaml", job("batch", "sh", "-c", ask, more=[watcher]))
    wait_until(lambda: "batch" in mesh.workloads(), 10, "the Job")
    mesh.wait()
    pod = mesh.workloads()["batch"][0]
    assert (pod["state"], pod["exitCode"]) == ("Ended", 3) and codes(pod) == {"istio-proxy": 0, "main": 3, "watch": 0}
    ready, answer = mesh.logs("batch", "main").split(" ", 1)
    assert ready == "200" and json.loads(answer)["peer"] == "spiffe://cluster.local/ns/shop/sa/default"
    assert mesh.logs("batch", "watch") == "the sidecar has gone\n"
