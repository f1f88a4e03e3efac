"""nodePorts: the gateway has the host's socket itself, and no request is lost while gateways come and go."""
import collections
import os
import signal
import socket
import threading

import pytest

from lib import client
from lib.proxy import envoy_program
from mesh_lib import ACCESS_LOG, deployment, free_port, gateway, service, wait_until

SIDECAR = '"sidecar.istio.io/inject": "true"'
WEB = deployment("web", labels=SIDECAR) + service("web")


def first_answer(port):
    def is_there():
        try:
            response = client.get(port, deadline=5)
            return response is not None and response.status == 200
        except OSError:
            return False
    wait_until(is_there, 20, "an answer through the gateway")


def refuses(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


class Load:
    """Two clients until stop(): one with a connection for each request, one that keeps its connection."""

    def __init__(self, port):
        self.port, self.seen, self.stopped = port, collections.Counter(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(keeps,)) for keeps in (False, True)]
        for thread in self.threads:
            thread.start()

    def run(self, keeps):
        connection = None
        while not self.stopped.is_set():
            try:
                connection = connection or client.Connection(self.port, deadline=20)
                connection.request(host="x.test")
                response = connection.response()
                self.seen[response.status if response else "closed"] += 1
                if not keeps or response is None or response.header("connection") == "close":
                    connection.close()
                    connection = None
            except OSError as error:
                self.seen[type(error).__name__] += 1
                connection = None

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        return dict(self.seen)

    def wait_for_more(self, count=200):
        target = sum(self.seen.values()) + count
        wait_until(lambda: sum(self.seen.values()) >= target, 20, f"{count} more answers")


@pytest.mark.quick
def test_the_clients_address_is_kept(mesh):
    port = free_port()
    mesh.write("a.yaml", ACCESS_LOG + WEB + gateway(port))
    mesh.up()
    first_answer(port)
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=("127.0.0.77", 0)) as s:
        client_port = s.getsockname()[1]
        s.sendall(b"GET /who HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: s.recv(65536), b"")).decode()
    assert '"x-forwarded-for":"127.0.0.77"' in answer and '"x-envoy-external-address":"127.0.0.77"' in answer, answer
    pod = mesh.workloads()["ingress"][0]
    assert pod["hostPort"] == port and pod["takesSockets"] and pod["isGateway"]
    program = mesh.exec("ingress", "cat", f"/proc/{mesh.exec('ingress', 'pidof', 'lateen-proxy').strip()}/cmdline").split("\0")
    assert program[1:3] == ["proxy", "router"]  # its own process, in a workload of its own
    line = wait_until(lambda: [line for line in mesh.logs("ingress").splitlines() if '"GET /who' in line], 10, "the access log")[0]
    # who called, and the address that was meant, as if it had come over the workload's own network
    assert f"127.0.0.77:{client_port}" in line and f" {pod['address']}:8080 " in line, line
    assert "relay" not in mesh.table()


def test_replicas_take_turns(mesh):
    port = free_port()
    mesh.write("a.yaml", ACCESS_LOG + WEB + gateway(port, replicas=2))
    mesh.up()
    first_answer(port)
    wait_until(lambda: all(pod["isReady"] for pod in mesh.workloads()["ingress"]), 20, "both")
    for _ in range(40):
        assert client.get(port, path="/turn").status == 200
    names = [pod["name"] for pod in mesh.workloads()["ingress"]]
    counts = wait_until(lambda: (c := [mesh.logs(name).count("GET /turn") for name in names]) and sum(c) == 40 and c, 10, "the log")
    assert min(counts) >= 10, counts


def test_no_request_is_lost_while_the_gateway_rolls(mesh):
    port = free_port()
    mesh.write("a.yaml", WEB)
    mesh.write("gateway.yaml", gateway(port, replicas=2))
    mesh.up()
    first_answer(port)
    load = Load(port)
    try:
        for turn in range(2):
            before = {pod["name"] for pod in mesh.workloads()["ingress"]}
            mesh.write("gateway.yaml", gateway(port, replicas=2 - turn % 2, annotations=f"example.com/turn: '{turn}'"))
            wait_until(lambda: not before & {pod["name"] for pod in mesh.workloads()["ingress"]}, 40, "new gateways only")
            mesh.wait()
            load.wait_for_more()
    finally:
        seen = load.stop()
    assert set(seen) == {200}, seen


def test_connections_wait_for_a_gateway_that_comes_back(mesh):
    port = free_port()
    mesh.write("a.yaml", WEB + gateway(port))
    mesh.up()
    first_answer(port)
    os.kill(mesh.host_pid(mesh.workloads()["ingress"][0], "istio-proxy"), signal.SIGKILL)
    # all made while nobody listens, or soon after: each gets its answer
    for _ in range(10):
        assert client.get(port, deadline=20).status == 200
    assert mesh.workloads()["ingress"][0]["containers"][0]["restarts"] == 1


def test_ports_follow_the_service(mesh):
    one, two = free_port(), free_port()
    mesh.write("a.yaml", WEB)
    mesh.write("gateway.yaml", gateway(one).replace(f", nodePort: {one}", ""))
    mesh.up()
    assert refuses(one)
    assert "Service default/ingress: spec.ports[].nodePort: none is named, so that no port of this machine leads here" in mesh.output()
    pod = mesh.workloads()["ingress"][0]["name"]
    mesh.write("gateway.yaml", gateway(one))
    first_answer(one)
    mesh.write("gateway.yaml", gateway(two))
    first_answer(two)
    wait_until(lambda: refuses(one), 10, "the old port is given back")
    with socket.socket() as s:  # anybody may have it now
        s.bind(("", one))
        s.listen()
    mesh.write("gateway.yaml", gateway(two).split("---", 1)[0])  # the Deployment alone
    wait_until(lambda: refuses(two), 10, "the port goes with its Service")
    assert mesh.workloads()["ingress"][0]["name"] == pod  # and all that without another Pod


def test_without_any_gateway_the_port_refuses(mesh):
    port = free_port()
    mesh.write("a.yaml", WEB)
    mesh.write("gateway.yaml", gateway(port))
    mesh.up()
    first_answer(port)
    mesh.write("gateway.yaml", gateway(port, replicas=0))
    wait_until(lambda: "ingress" not in mesh.workloads(), 20, "its end")
    for _ in range(3):  # at once, instead of waiting for somebody who does not come
        with pytest.raises(OSError):
            with client.Connection(port, deadline=5) as connection:
                connection.request()
                assert connection.response() is None
                raise ConnectionError("closed without an answer")


def test_a_real_envoy_gets_a_relay_and_workloads_says_so(mesh):
    port = free_port()
    config = f"proxy.istio.io/config: '{{\"binaryPath\": \"{envoy_program()}\"}}'"
    mesh.write("a.yaml", WEB + gateway(port, annotations=config))
    mesh.up()
    first_answer(port)
    pod = mesh.workloads()["ingress"][0]
    assert pod["hostPort"] == port and not pod["takesSockets"]
    assert f"is reached by http://localhost:{port} (through a TCP relay" in mesh.table()
    # and back: lateen-proxy takes the socket from the relay
    load = Load(port)
    try:
        mesh.write("a.yaml", WEB + gateway(port))
        wait_until(lambda: [pod["takesSockets"] for pod in mesh.workloads()["ingress"]] == [True], 40, "lateen-proxy in its place")
        load.wait_for_more()
    finally:
        seen = load.stop()
    assert set(seen) == {200}, seen
