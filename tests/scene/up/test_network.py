"""Names, addresses and ports of workloads outside the mesh: what CoreDNS and kube-proxy would do."""
import collections
import errno
import json
import os
import re
import socket
import urllib.request

import pytest

from mesh_lib import deployment, free_port, run, service, wait_until

pytestmark = pytest.mark.quick


def test_names_and_cluster_ips(mesh):
    mesh.write("shop.yaml", f"""
{deployment("reviews", replicas=2, ns="shop")}
{service("reviews", ns="shop")}
{service("reviews-pods", ns="shop", app="reviews", extra="clusterIP: None")}
{service("fixed", ns="shop", app="reviews", extra="clusterIP: 10.96.7.7")}
{service("empty", ns="shop", app="nobody")}
{deployment("client", ["sleep", "1000"], ns="other", port=0)}
""")
    mesh.up()
    pods = {pod["name"]: pod["address"] for pod in mesh.workloads()["reviews"]}

    resolve = "import socket,sys; print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80)}))"

    def look_up(name):
        return mesh.exec("client", "/usr/bin/python3", "-c", resolve, name, check=False).split()

    assert len(look_up("reviews.shop")) == 1
    assert look_up("reviews.shop") == look_up("reviews.shop.svc") == look_up("reviews.shop.svc.cluster.local")
    assert look_up("reviews-pods.shop") == sorted(pods.values())
    assert look_up("fixed.shop") == ["10.96.7.7"]
    assert look_up("reviews") == [] and look_up("nothing.shop") == [] and look_up("example.com") == []

    answered = collections.Counter(mesh.get("client", "http://reviews.shop/")["pod"] for _ in range(24))
    assert set(answered) == set(pods), answered
    assert mesh.get("client", "http://10.96.7.7/")["workload"] == "reviews"
    # a service without endpoints refuses at once
    connect = "import socket,sys; print(socket.socket().connect_ex((sys.argv[1], 80)))"
    assert int(mesh.exec("client", "/usr/bin/python3", "-c", connect, "empty.shop")) == errno.ECONNREFUSED


def test_replicas_are_workloads_of_their_own(mesh):
    mesh.write("a.yaml", deployment("app", ["sleep", "1000"], replicas=2, port=0, ns="shop"))
    mesh.up()
    seen = {}
    for pod in mesh.workloads()["app"]:
        script = "readlink /proc/self/ns/net; hostname; cat /etc/resolv.conf; ip -4 -o address show dev eth0; ip route; ls -A /tmp; touch /tmp/mine"
        network, hostname, *rest = mesh.exec(pod["name"], "sh", "-c", script).splitlines()
        assert hostname == pod["name"]
        assert rest[:3] == ["nameserver 10.96.0.10", "search shop.svc.cluster.local svc.cluster.local cluster.local", "options ndots:5"]
        assert f"inet {pod['address']}/32 " in rest[3] and rest[4].startswith("default via 169.254.1.1 dev eth0") and len(rest) == 6, rest
        seen[network] = pod["address"]
    assert len(seen) == 2 and len(set(seen.values())) == 2
    assert os.readlink("/proc/self/ns/net") not in seen


def test_cluster_ips_stay(make_mesh):
    """The same name has the same address, whatever else there is and however often the mesh starts."""
    resolve = "import socket,sys; print(*[socket.gethostbyname(name) for name in sys.argv[1:]])"
    mesh = make_mesh()
    names = ["a.shop", "b.shop", "c.shop"]
    mesh.write("a.yaml", "".join(service(name[0], ns="shop") for name in names))
    mesh.write("client.yaml", deployment("client", ["sleep", "1000"], port=0, ns="shop"))
    mesh.up()
    before = mesh.exec("client", "/usr/bin/python3", "-c", resolve, *names).split()
    assert len(set(before)) == 3 and all(address.startswith("10.96.") for address in before)
    for name in ("a", "a.shop", "a.shop.svc", "a.shop.svc.cluster.local", "a.shop.svc.cluster.local."):
        assert mesh.exec("client", "/usr/bin/python3", "-c", resolve, name).split() == before[:1]
    mesh.write("0.yaml", "".join(service(f"more{i}", ns="other") for i in range(50)))
    more = "more7.other"
    added = wait_until(lambda: mesh.exec("client", "/usr/bin/python3", "-c", resolve, more, check=False).split(), 10, "new names")
    assert mesh.exec("client", "/usr/bin/python3", "-c", resolve, *names).split() == before
    mesh.end()
    mesh.up()
    assert mesh.exec("client", "/usr/bin/python3", "-c", resolve, *names, more).split() == before + added


def test_workload_reaches_itself_by_its_service(mesh):
    mesh.write("a.yaml", deployment("alone") + service("alone"))
    mesh.up()
    assert mesh.get("alone", "http://alone/")["workload"] == "alone"


def test_chain_of_stand_ins(mesh):
    calls = "{name: LATEEN_CALLS, value: 'http://b/x,http://c/'}"
    mesh.write("a.yaml", deployment("a", env=calls) + deployment("b") + deployment("c") + service("a") + service("b") + service("c"))
    mesh.up()
    answer = mesh.get("b", "http://a/", "-H", "x-request-id: 17")
    assert [call["body"]["workload"] for call in answer["calls"]] == ["b", "c"]
    assert answer["calls"][0]["body"]["headers"]["x-request-id"] == "17"
    asked = mesh.get("b", "http://c/call?url=http://a/call&url=http://nowhere/")
    assert asked["calls"][0]["status"] == 200 and "not known" in asked["calls"][1]["error"]


def test_node_port_and_who_holds_a_taken_one(make_mesh):
    port = free_port()
    first = make_mesh("first")
    first.write("a.yaml", deployment("web", replicas=2) + service("web", extra="type: NodePort").replace(
        "targetPort: http", f"targetPort: http, nodePort: {port}"))
    first.up()
    seen = {json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5))["pod"] for _ in range(20)}
    assert len(seen) == 2

    second = make_mesh("second")
    second.write("a.yaml", (first.dir / "a.yaml").read_text())
    second.up(wait=False)
    assert second.process.wait(15) == 1
    told = re.search(rf"Service default/web: nodePort {port} is taken on this machine by lateen-node \(pid \d+, of \"(.*)\"\)",
                     second.output())
    assert told and told[1].endswith(f"lateen up {first.dir}"), second.output()

    (first.dir / "a.yaml").write_text(deployment("web"))
    wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) != 0, 10, "the port is given back")


def test_two_meshes_do_not_see_each_other(make_mesh):
    meshes = [make_mesh(name) for name in ("one", "two")]
    for i, mesh in enumerate(meshes):
        mesh.write("a.yaml", deployment("web", version=f"v{i}") + service("web"))
        mesh.up()
    assert [mesh.get("web", "http://web/")["version"] for mesh in meshes] == ["v0", "v1"]
    listing = run("workloads", check=False)
    assert listing == ""  # which one?


def test_udp_service(mesh):
    echo = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5300))\n"
            "while True: d, a = s.recvfrom(99); s.sendto(d.upper(), a)")
    ask = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n"
           "s.sendto(b'hello', ('echo', 53)); print(s.recvfrom(99)[0].decode())")
    mesh.write("a.yaml", deployment("echo", ["/usr/bin/python3", "-c", echo], port=0) + """
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{port: 53, targetPort: 5300, protocol: UDP}]
---
""" + deployment("client", ["sleep", "1000"], port=0))
    mesh.up()
    assert mesh.exec("client", "/usr/bin/python3", "-c", ask).strip() == "HELLO"
