"""Configuration that changes twenty times a second under load: no request fails, and memory stays where it was.

Listeners, clusters, endpoints, routes and certificates change, in use and beside; clients hold their connections, plain
and in TLS, and open new ones all the time. Half a minute in `make test`, ten minutes in `make test-long`."""
import random
import threading
import time

import pytest

from lib import certs, client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import hcm, listener, route, typed
from lib.watch import resident
from lib.xds import (CDS, LDS, SDS, AdsServer, ads_source, assignment, dynamic_bootstrap, eds_cluster, rds_hcm, routes,
                     with_type)

# lateen_only: the point is our own memory; the single changes have scenes that run on both
pytestmark = pytest.mark.lateen_only

CHANGES_PER_SECOND, PLAIN, SECURE = 20, 3, 2
CLUSTERS, HOSTS = 4, 3


class Client(threading.Thread):
    """Requests one after the other, 200 on a connection unless the proxy asks to leave earlier."""

    def __init__(self, port, number, context=None):
        super().__init__(daemon=True)
        self.port, self.number, self.context = port, number, context
        self.answered, self.failures, self.is_over = 0, [], threading.Event()

    def run(self):
        while not self.is_over.is_set():
            try:
                self.one_connection()
            except Exception as error:  # whatever it is, the request failed
                self.failures.append(f"{time.monotonic():.3f} {error!r}")

    def one_connection(self):
        with client.Connection(self.port, ssl_context=self.context, server_name="soak.test") as connection:
            for i in range(200):
                connection.request(path=f"/c{i % CLUSTERS}", method="POST", body=b"x" * (i * 37 % 3000))
                response = connection.response()
                if response is None or response.status != 200:
                    self.failures.append(f"{time.monotonic():.3f} {response and (response.status, response.body[:80])}, request {i}")
                    return
                self.answered += 1
                if response.header("connection") == "close" or self.is_over.is_set():
                    return


class Churn:
    """What changes, each change one push."""

    def __init__(self, server, ports, hosts):
        self.server, self.ports, self.hosts, self.random, self.count = server, ports, hosts, random.Random(7), 0
        self.root = certs.Root()
        self.leaves = [self.root.leaf(uri="spiffe://cluster.local/ns/soak/sa/server") for _ in range(2)]

    def cluster(self, i):
        return eds_cluster(f"c{i}", connect_timeout=f"{self.random.randint(2, 9)}s")

    def endpoints(self, i):
        return assignment(f"c{i}", *self.random.sample(self.hosts, self.random.randint(1, len(self.hosts))))

    def routes(self):
        mark = {"header": {"key": "x-version", "value": str(self.count)}}
        return routes("soak", *(route(f"/c{i}", f"c{i}", response_headers_to_add=[mark]) for i in range(CLUSTERS)))

    def secret(self):
        chain, key = self.random.choice(self.leaves)
        return {"@type": SDS, "name": "soak-cert", "tls_certificate": {
            "certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}}

    def listener(self, which):
        manager = rds_hcm("soak", stat_prefix=f"s{self.random.randint(0, 3)}")
        if which == "plain":
            return with_type(LDS, listener(manager, port=self.ports[which], name=which))
        context = typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context={
            "tls_certificate_sds_secret_configs": [{"name": "soak-cert", "sds_config": ads_source(initial_fetch_timeout="0s")}]})
        chain = {"filters": [manager], "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}
        return with_type(LDS, listener(port=self.ports[which], name=which, chains=[chain]))

    def all(self):
        return [*(self.cluster(i) for i in range(CLUSTERS)), *(self.endpoints(i) for i in range(CLUSTERS)), self.routes(), self.secret(),
                self.listener("plain"), self.listener("tls")]

    def beside(self):
        """A cluster and a listener that nobody uses come and go."""
        if self.count % 2:
            self.server.set(eds_cluster("beside"), assignment("beside", self.hosts[0]),
                            with_type(LDS, listener(hcm([route("/", "beside")]), port=self.ports["beside"], name="beside")))
        else:
            self.server.remove(LDS, "beside")
            self.server.remove(CDS, "beside")

    def change(self):
        self.count += 1
        i = self.random.randrange(CLUSTERS)
        what = self.random.choice(["endpoints", "endpoints", "routes", "routes", "cluster", "secret", "plain", "tls", "beside"])
        if what == "beside":
            self.beside()
        elif what == "cluster":
            self.server.set(self.cluster(i), self.endpoints(i))
        elif what == "endpoints":
            self.server.set(self.endpoints(i))
        elif what in self.ports:
            self.server.set(self.listener(what))
        else:
            self.server.set(getattr(self, what)())


def soak(run_proxy, workdir, backends, seconds):
    hosts = [backends(f"host-{i}").port for i in range(HOSTS)]
    ports = {name: free_port() for name in ("plain", "tls", "beside")}
    server = AdsServer()
    churn = Churn(server, ports, hosts)
    server.set(*churn.all())
    proxy = run_proxy(dynamic_bootstrap(server), concurrency=2, extra=["--drain-time-s", "2"])
    context = certs.client_context(workdir, churn.root)
    clients = [Client(ports["plain"], i) for i in range(PLAIN)] + [Client(ports["tls"], i, context) for i in range(SECURE)]
    wait_until(lambda: client.get(ports["plain"], "/c0").status == 200, what="the first answer")
    for one in clients:
        one.start()
    sizes, begin = [], time.monotonic()
    try:
        while time.monotonic() < begin + seconds:
            churn.change()
            time.sleep(max(0, begin + churn.count / CHANGES_PER_SECOND - time.monotonic()))
            if churn.count % CHANGES_PER_SECOND == 0:
                sizes.append(resident(proxy.process.pid) // 1024)
    finally:
        for one in clients:
            one.is_over.set()
        for one in clients:
            one.join(30)
        server.stop()
    return proxy, server, churn, clients, sizes


def check(proxy, server, churn, clients, sizes):
    failures = [failure for one in clients for failure in one.failures]
    assert not failures, (len(failures), failures[:5])
    assert all(one.answered > 0 for one in clients), [one.answered for one in clients]
    nacks = [request.error_detail.message for stream in server.streams for request in stream.requests if request.error_detail.message]
    assert not nacks, nacks[:3]
    assert churn.count >= CHANGES_PER_SECOND * len(sizes) * 0.5, "the churn came to less than half of what it should be"
    # drained listeners and connections are still there after two seconds: compare what was with what is
    third = len(sizes) // 3
    before, after = max(sizes[third // 2:third]), sorted(sizes[-third:])[third // 2]
    print(f"{sum(one.answered for one in clients)} requests, {churn.count} changes, RSS {before} to {after} KB")
    assert after < before * 1.2 + 2048, f"RSS grew from {before} to {after} KB: {sizes}"


def test_churn_for_half_a_minute(run_proxy, workdir, backends):
    check(*soak(run_proxy, workdir, backends, 30))


@pytest.mark.long
def test_churn_for_ten_minutes(run_proxy, workdir, backends):
    check(*soak(run_proxy, workdir, backends, 600))
