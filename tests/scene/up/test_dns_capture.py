"""Names through the sidecar (ISTIO_META_DNS_CAPTURE): port 53 is captured, the control plane's names are answered, others passed on."""
import json
import os
import signal
import threading

import pytest

from lib.proxy import envoy_program
from mesh_lib import deployment, service, wait_until, without_control
from test_sidecar import INJECTED


MESH_DNS = "10.96.0.10"

# name, type and protocol of each question; prints [code, flags, time to live, addresses] of each answer
ASK = """
import json, socket, struct, sys
def skip(data, at):
    while data[at] and data[at] < 0xc0:
        at += 1 + data[at]
    return at + (1 if data[at] == 0 else 2)
def ask(name, kind, protocol, server):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    query = struct.pack(">HHHHHH", 77, 0x0100, 1, 0, 0, 0) + labels + bytes([0, 0, kind, 0, 1])
    if protocol == "tcp":
        with socket.create_connection((server, 53), 20) as s:
            s.sendall(struct.pack(">H", len(query)) + query)
            stream = s.makefile("rb")
            data = stream.read(struct.unpack(">H", stream.read(2))[0])
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(20)
            s.connect((server, 53))
            s.send(query)
            data = s.recv(65535)
    number, flags, _, count, _, _ = struct.unpack(">HHHHHH", data[:12])
    at, found, ttl = skip(data, 12) + 4, [], None
    for _ in range(count):
        at = skip(data, at)
        type, _, ttl, size = struct.unpack(">HHIH", data[at:at + 10])
        found += [socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, data[at + 10:at + 10 + size])] if type in (1, 28) else []
        at += 10 + size
    return [flags & 15, flags, ttl, sorted(found)]
print(json.dumps([ask(*question) for question in json.loads(sys.argv[1])]))
"""
TC, AA = 0x0200, 0x0400


class Reply:
    def __init__(self, code, flags, ttl, addresses):
        self.code, self.ttl, self.addresses = code, ttl, addresses
        self.is_cut, self.is_authoritative = bool(flags & TC), bool(flags & AA)


def ask(mesh, workload, *questions, container=None):
    """Each: (name, protocol) or (name, protocol, type, server)."""
    full = [(q[0], q[2] if len(q) > 2 else 1, q[1], q[3] if len(q) > 3 else MESH_DNS) for q in questions]
    out = mesh.exec(workload, "/usr/bin/python3", "-c", ASK, json.dumps(full), container=container, timeout=60)
    return [Reply(*reply) for reply in json.loads(out)]


def metric(mesh, workload, name):
    page = mesh.exec(workload, "curl", "-s", "http://localhost:15020/stats/prometheus")
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.split("{")[0].split(" ")[0] == name)


def has_restarted(mesh, workload):
    """Its sidecar has, once, and is ready."""
    proxy = next(c for c in mesh.workloads()[workload][0]["containers"] if c["name"] == "istio-proxy")
    ready = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://localhost:15021/healthz/ready")
    return proxy["restarts"] == 1 and mesh.exec(workload, *ready, check=False) == "200"


SHOP = (INJECTED + deployment("web", ns="shop") + service("web", ns="shop") +
        deployment("plain", ns="stock", replicas=2) + service("plain", ns="stock") +
        service("pods", ns="stock", app="plain", extra="clusterIP: None") + """
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: stock}
spec: {type: ExternalName, externalName: plain.stock.svc.cluster.local}
---
""")


def capture(**config):
    return f"'proxy.istio.io/config': '{json.dumps({'proxyMetadata': {'ISTIO_META_DNS_CAPTURE': 'true'}, **config})}'"


def client(name="client", annotations=None):
    annotations = capture() if annotations is None else annotations
    return deployment(name, ["sleep", "1000"], ns="shop", port=0, annotations=annotations)


@pytest.mark.parametrize("data_path", ["lateen-proxy", "real-envoy"])
def test_names_are_answered_by_the_sidecar(mesh, data_path):
    """Beside a real Envoy as data path by its agent."""
    config = {"binaryPath": envoy_program()} if data_path == "real-envoy" else {}
    mesh.write("a.yaml", SHOP + client(annotations=capture(**config)) + client("other", ""))
    mesh.up()
    pods = sorted(pod["address"] for pod in mesh.workloads()["plain"])
    wait_until(lambda: ask(mesh, "client", ("pods.stock.svc.cluster.local", "udp"))[0].addresses == pods, 10, "the names of both Pods")
    before = metric(mesh, "client", "istio_agent_dns_requests_total")
    names = ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "plain.stock", "plain.stock.svc.cluster.local"]
    for protocol in ("udp", "tcp"):
        replies = ask(mesh, "client", *[(name, protocol) for name in names])
        assert all(r.code == 0 and r.is_authoritative and r.ttl == 30 and len(r.addresses) == 1 for r in replies), vars(replies[0])
        assert len({tuple(r.addresses) for r in replies[:4]}) == 1 and replies[4].addresses == replies[5].addresses
    assert metric(mesh, "client", "istio_agent_dns_requests_total") == before + 12
    assert metric(mesh, "client", "istio_agent_dns_upstream_requests_total") == 0
    # what it does not know, the mesh's DNS may
    alias, nobody, six = ask(mesh, "client", ("alias.stock.svc.cluster.local", "udp"), ("nobody.stock.svc.cluster.local", "tcp"),
                             ("web", "udp", 28))
    assert alias.addresses == replies[5].addresses and nobody.code == 3
    assert (six.code, six.addresses) == (0, [])
    for name in ("requests_total", "request_duration_seconds_count"):
        assert metric(mesh, "client", f"istio_agent_dns_upstream_{name}") == 2
    # applications ask as they are used to
    resolve = "import socket,sys; print(*[socket.gethostbyname(name) for name in sys.argv[1:]])"
    assert len(set(mesh.exec("client", "/usr/bin/python3", "-c", resolve, "web", "web.shop", "web.shop.svc.cluster.local.").split())) == 1
    assert mesh.get("client", "http://web/")["peer"] == "spiffe://cluster.local/ns/shop/sa/default"
    # the sidecar's own user is let through; and who did not ask for it is not captured
    before = metric(mesh, "client", "istio_agent_dns_requests_total")
    assert ask(mesh, "client", ("plain.stock.svc.cluster.local", "udp"), ("plain.stock.svc.cluster.local", "tcp"),
               container="istio-proxy")[1].addresses == replies[5].addresses
    assert metric(mesh, "client", "istio_agent_dns_requests_total") == before
    assert ask(mesh, "other", ("web", "udp"))[0].code == 3  # the mesh's DNS knows no short names
    assert metric(mesh, "other", "istio_agent_dns_requests_total") == 0
    # what it left when it was killed, such as sockets, is not in its way
    os.kill(mesh.host_pid(mesh.workloads()["client"][0], "istio-proxy"), signal.SIGKILL)
    wait_until(lambda: has_restarted(mesh, "client"), 20, "the sidecar is ready again")
    assert ask(mesh, "client", ("web", "udp"))[0].addresses == ask(mesh, "client", ("web", "tcp"))[0].addresses != []


def test_without_lateend_and_after_a_kill(mesh):
    """The sidecar that is killed and started again while nobody is there to ask serves what it served before: names, too."""
    mesh.write("a.yaml", SHOP + client())
    mesh.up()
    wait_until(lambda: mesh.curl("client", "http://web/").startswith("{"), 10, "the first answer")
    wait_until(lambda: len(ask(mesh, "client", ("pods.stock.svc.cluster.local", "udp"))[0].addresses) == 2, 10, "the names of both Pods")
    names = [(name, protocol) for name in ("web", "plain.stock", "alias.stock.svc.cluster.local") for protocol in ("udp", "tcp")]
    before = [reply.addresses for reply in ask(mesh, "client", *names)]
    assert all(before)
    with without_control(mesh):
        assert [reply.addresses for reply in ask(mesh, "client", *names)] == before
        pod = mesh.workloads()["client"][0]
        os.kill(mesh.host_pid(pod, "istio-proxy"), signal.SIGKILL)
        wait_until(lambda: has_restarted(mesh, "client"), 20, "the sidecar is ready again")
        assert [reply.addresses for reply in ask(mesh, "client", *names)] == before
        assert mesh.get("client", "http://web/")["peer"] == "spiffe://cluster.local/ns/shop/sa/default"
    wait_until(lambda: mesh.get("client", "http://web/")["peer"], 20, "an answer")


def test_long_answers_are_cut_and_come_whole_by_tcp(mesh):
    mesh.write("a.yaml", INJECTED + client() + deployment("many", ["sleep", "1000"], ns="shop", port=0, replicas=40, annotations="'sidecar.istio.io/inject': 'false'") +
               service("many", ns="shop", extra="clusterIP: None", target="80"))
    mesh.up()

    def whole():
        return ask(mesh, "client", ("many", "tcp"))[0]

    wait_until(lambda: len(whole().addresses) == 40, 20, "all Pods have joined")
    by_udp, by_tcp = ask(mesh, "client", ("many", "udp"), ("many", "tcp"))
    assert by_udp.is_cut and by_udp.code == 0 and 20 < len(by_udp.addresses) < 40
    assert not by_tcp.is_cut and set(by_udp.addresses) < set(by_tcp.addresses)
    resolve = "import socket; print(len(socket.gethostbyname_ex('many')[2]))"  # the C library asks again by TCP
    assert int(mesh.exec("client", "/usr/bin/python3", "-c", resolve)) == 40


def children(pid):
    return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def test_an_upgrade_in_place_loses_no_name_and_no_identity(mesh):
    """The new process answers at the same sockets; what the old one's end leaves is enough for a start without lateend."""
    mesh.write("a.yaml", INJECTED + deployment("web", ns="shop") + service("web", ns="shop") + client() + """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "defaultConfig: {drainDuration: 2s}"}
""")
    mesh.up()
    wait_until(lambda: mesh.curl("client", "http://web/").startswith("{"), 10, "the first answer")
    pid = mesh.host_pid(mesh.workloads()["client"][0], "istio-proxy")
    over, answers = threading.Event(), []

    def keep_asking():
        while not over.is_set():
            answers.extend((reply.code, len(reply.addresses)) for reply in ask(mesh, "client", *[("web", "udp"), ("web.shop", "tcp")] * 20))

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        for _ in range(2):
            before = children(pid)
            os.kill(pid, signal.SIGUSR2)
            new = wait_until(lambda: set(children(pid)) - set(before), 60, "a new process").pop()
            wait_until(lambda: all(len(os.listdir(f"/proc/{old}/task")) == 1 for old in {pid, *children(pid)} - {new}), 60, "the old one's end")
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 80, 60, "more answers")
    finally:
        over.set()
        thread.join()
    assert set(answers) == {(0, 1)}, {answer: answers.count(answer) for answer in set(answers)}
    assert mesh.exec("client", "ls", "/etc/istio/proxy", container="istio-proxy").split().count("identity.pem") == 1
    with without_control(mesh):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_restarted(mesh, "client"), 20, "the sidecar is ready again")
        assert mesh.get("client", "http://web/")["peer"] == "spiffe://cluster.local/ns/shop/sa/default"
        assert ask(mesh, "client", ("web", "udp"))[0].code == 0
