"""
No request fails while configuration changes, in whatever order, and while lateend is away. lateen-proxy and real Envoys in one
mesh, as gateways and as sidecars of callers and servers.
"""
import concurrent.futures
import os
import pathlib
import signal
import time

import pytest

import shop
from lib import client
from mesh_lib import free_port, wait_until

KINDS = ["lateen", "envoy"]
APART_S = 5  # between the two halves of a change: the issue's own number


class Place:
    """The mesh, and the four ways into each of its services."""

    def __init__(self, mesh, services):
        self.mesh, self.services = mesh, services
        self.ports = {kind: free_port() for kind in KINDS}
        parts = [shop.NAMESPACE, shop.WEB_GATEWAY]
        for kind in KINDS:
            parts += [shop.gateway(self.ports[kind], kind, f"ingress-{kind}"), shop.caller(f"from-{kind}", kind)]
        for service in services:  # the one version lives beside lateen-proxy, the other beside Envoy
            parts += [shop.account(service), shop.workload(f"{service}-v1", service, "v1", "lateen"),
                      shop.workload(f"{service}-v2", service, "v2", "envoy"), shop.service(service), at_the_gateway(service)]
        shop.write(mesh, "mesh.yaml", *parts)

    def up(self):
        self.mesh.up()
        for service in self.services:
            for kind in KINDS:
                shop.first_route(self.ports[kind], f"{service}.test")
                shop.first_answer(self.mesh, f"from-{kind}", f"http://{service}:8080/")
        return self

    def loads(self):
        return [shop.Load(self.ports[kind], f"{service}.test") for kind in KINDS for service in self.services] + [
            shop.LoadInside(self.mesh, f"from-{kind}", *(f"{service}:8080" for service in self.services)) for kind in KINDS]

    def versions(self, service, times=1):
        """Of answers to requests that ask for the canary, on all four ways."""
        found = set()
        for kind in KINDS:
            for _ in range(times):
                found.add(client.get(self.ports[kind], host=f"{service}.test", headers={"x-canary": "true"}).json()["version"])
                found.add(self.mesh.get(f"from-{kind}", f"http://{service}:8080/", "-H", "x-canary: true")["version"])
        return found

    def clusters_of(self, service):
        """Subsets that the Envoys still hold."""
        return [line for ns, name in (("edge", "ingress-envoy"), ("shop", "from-envoy"))
                for line in self.mesh.exec(f"{ns}/{name}", "curl", "-s", "http://127.0.0.1:15000/clusters",
                                           container="istio-proxy").splitlines()
                if line.startswith("outbound|") and f"|{service}.shop." in line and "||" not in line]


def at_the_gateway(service):
    """A gateway has no route by itself."""
    base = shop.plain(service).replace(f"name: {service}, namespace", f"name: {service}-base, namespace")
    return base.replace("[mesh, edge/web]", "[edge/web]")


def canary(service):
    return shop.routes(f"[{{match: [{{headers: {{x-canary: {{exact: \"true\"}}}}}}], route: [{shop.to(service, 'v2')}]}}, "
                       f"{{route: [{shop.to(service)}]}}]", service)


def turn(place, service, is_edit, rule_goes_first):
    """Routes to a subset that is not there yet, the subset, and both away again. Routes are an edit or an object of their own."""
    mesh, routes, subsets = place.mesh, f"{service}-routes.yaml", f"{service}-subsets.yaml"

    def take_routes_away():
        if is_edit:
            mesh.write(routes, shop.plain(service))
        else:
            mesh.remove(routes)

    mesh.write(routes, canary(service))
    time.sleep(APART_S)
    mesh.write(subsets, shop.destinations(service))
    wait_until(lambda: place.versions(service) == {"v2"}, 30, f"the subset of {service}")
    steps = [lambda: mesh.remove(subsets), take_routes_away]
    steps[0 if rule_goes_first else 1]()
    time.sleep(APART_S)
    steps[1 if rule_goes_first else 0]()
    wait_until(lambda: not place.clusters_of(service), 100, f"the end of the subsets of {service}")


def in_any_order(mesh, services, rounds):
    """Services take their turns at once; rounds: how many in all."""
    place = Place(mesh, services)
    for service in services[::2]:
        mesh.write(f"{service}-routes.yaml", shop.plain(service))
    place.up()
    loads = place.loads()

    def run(at):
        for number in range(at, rounds, len(services)):
            turn(place, services[at], is_edit=at % 2 == 0, rule_goes_first=(number // len(services) + at) % 2 == 0)

    try:
        with concurrent.futures.ThreadPoolExecutor(len(services)) as pool:
            for done in [pool.submit(run, at) for at in range(len(services))]:
                done.result()
    finally:
        count = shop.only_answers(loads)
    assert count > 1000 * rounds


def test_no_order_of_apply_and_delete_fails_a_request(mesh):
    in_any_order(mesh, ["a", "b", "c"], 3)


@pytest.mark.long
def test_no_order_of_apply_and_delete_fails_a_request_in_twenty_rounds(mesh):
    in_any_order(mesh, ["a", "b", "c", "d"], 20)


# --- lateend away ---

def named(name, version):
    """A subset that is called like this, and a route to it."""
    rules = shop.destinations("web").replace("{name: v1, labels: {version: v1}}", f"{{name: {name}, labels: {{version: {version}}}}}")
    return rules + "---" + shop.routes(f"[{{route: [{shop.to('web', name)}]}}]")


def test_the_mesh_serves_on_without_lateend(mesh):
    """It comes back to a world with new subsets, routes to them, and none to the old: each has to wait for the other."""
    place = Place(mesh, ["web"])
    mesh.write("rules.yaml", named("first", "v1"))
    place.up()
    loads = place.loads()
    try:
        for name, version in (("second", "v2"), ("third", "v1"), ("fourth", "v2")):
            before = lateend_pids(mesh)
            assert before
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            mesh.write("rules.yaml", named(name, version))
            wait_until(lambda: set(lateend_pids(mesh)) - set(before), what="another lateend")
            wait_until(lambda: place.versions("web", 5) == {version}, 10, "the change")
    finally:
        shop.only_answers(loads)


def lateend_pids(mesh):
    """Of this mesh alone: another may run beside it."""
    parents, found = {}, []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            arguments = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        parents[int(entry)] = int(stat[stat.rindex(")") + 2:].split()[1])
        if os.path.basename(arguments[0]) == b"lateend":
            found.append(int(entry))
    return [pid for pid in found if mesh.process.pid in ancestors(pid, parents)]


def ancestors(pid, parents):
    while pid in parents:
        pid = parents[pid]
        yield pid
