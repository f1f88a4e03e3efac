"""Sidecars and a gateway of a running mesh that are upgraded in place, under load."""
import os
import signal

import pytest

import shop
from mesh_lib import free_port, wait_until


CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "defaultConfig: {drainDuration: 5s}"}
"""


def children(pid):
    return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def newest(pid):
    found = children(pid)
    return found[-1] if found else pid


def upgrade(pid):
    """The container's process stays, as a supervisor of another one that serves."""
    before = newest(pid)
    os.kill(pid, signal.SIGUSR2)
    wait_until(lambda: newest(pid) != before, 60, "a new process")

    def is_alone():
        try:
            return len(os.listdir(f"/proc/{before}/task")) == 1
        except FileNotFoundError:
            return True
    wait_until(is_alone, 90, "the end of the one before")


def requests_of(mesh, workload):
    """istio_requests_total as its server counts them."""
    text = mesh.exec(f"shop/{workload}", "curl", "-s", "http://127.0.0.1:15020/stats/prometheus", container="istio-proxy")
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith("istio_requests_total") and 'reporter="destination"' in line)


def rounds(mesh, count):
    port = free_port()
    shop.write(mesh, "mesh.yaml", CONFIG, shop.NAMESPACE, shop.server("web", versions=("v1",)), shop.caller("caller"), shop.gateway(port),
               shop.WEB_GATEWAY, shop.plain())
    mesh.up()
    shop.first_answer(mesh)
    shop.first_route(port)
    pods = {name: pods[0] for name, pods in mesh.workloads().items()}
    pids = [mesh.host_pid(pods[name], "istio-proxy") for name in ("caller", "web-v1", "ingress")]
    loads = [shop.Load(port), shop.LoadInside(mesh, "caller", "web:8080", "web:8080")]
    try:
        for _ in range(count):
            for pid in pids:
                upgrade(pid)
    finally:
        answers = shop.only_answers(loads)
    assert answers > 100 * count
    wait_until(lambda: requests_of(mesh, "web-v1") >= answers, 30, "all of them in the counters")
    now = {name: pods[0] for name, pods in mesh.workloads().items()}
    for name in ("caller", "web-v1", "ingress"):  # and for whoever looks, nothing has happened
        assert now[name]["isReady"] and [c["restarts"] for c in now[name]["containers"]] == [c["restarts"] for c in pods[name]["containers"]]


def test_an_upgrade_in_place_fails_no_request(mesh):
    rounds(mesh, 1)


@pytest.mark.long
def test_upgrades_in_place_fail_no_request_in_fifty_rounds(mesh):
    rounds(mesh, 17)
