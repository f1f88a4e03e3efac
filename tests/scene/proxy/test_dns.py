"""Clusters whose hosts are names: STRICT_DNS and LOGICAL_DNS. The scene plays the DNS server."""
import collections

import pytest

from lib import client
from lib import proxy as p
from lib.dns import A, AAAA, DnsServer


@pytest.fixture
def dns():
    server = DnsServer()
    yield server
    server.close()


@pytest.fixture
def homes(backends):
    """Backends on one port of different loopback addresses, so that a name can stand for several of them."""
    def make(count):
        first = backends("b0", host="127.0.0.1")
        return first.port, [first] + [backends(f"b{i}", host=f"127.0.0.{i + 1}", port=first.port) for i in range(1, count)]
    return make


def named(dns, port, *names, kind="STRICT_DNS", **fields):
    endpoints = [{"endpoint": {"address": p.address(port, name)}} for name in names]
    return {"name": "c", "type": kind, "connect_timeout": "2s", "dns_lookup_family": "V4_ONLY", "dns_refresh_rate": "0.2s",
            "typed_dns_resolver_config": dns.resolver(), "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": endpoints}]},
            **fields}


def run(run_proxy, made, **options):
    return run_proxy(p.bootstrap(p.listener(p.hcm([p.route("/", "c")])), [made]), **options)


def ask(proxy, count=12):
    seen = collections.Counter()
    for _ in range(count):
        response = client.get(proxy.port)
        seen[response.header("x-backend") or response.status] += 1
    return set(seen)


@pytest.mark.quick
def test_strict_dns(run_proxy, dns, homes):
    """Every address is a host; the list follows the answers, and is there with the first request."""
    port, _ = homes(3)
    dns.names["web.example"] = ["127.0.0.1", "127.0.0.2"]
    proxy = run(run_proxy, named(dns, port, "web.example"))
    assert ask(proxy) == {"b0", "b1"}
    dns.names["web.example"] = ["127.0.0.3", "127.0.0.2"]
    client.wait_until(lambda: ask(proxy) == {"b1", "b2"})
    page = proxy.admin_get("/clusters").body.decode()
    assert f"c::127.0.0.3:{port}::hostname::web.example" in page
    assert f"127.0.0.1:{port}" not in page
    stats = proxy.stats()
    assert stats["cluster.c.membership_total"] == 2
    assert stats["cluster.c.update_success"] >= 2
    assert set(dns.asked) == {("web.example", A)}


def test_several_names(run_proxy, dns, homes):
    port, _ = homes(3)
    dns.names.update({"one.example": ["127.0.0.1"], "two.example": ["127.0.0.2", "127.0.0.1"], "none.example": []})
    proxy = run(run_proxy, named(dns, port, "one.example", "two.example", "none.example", "127.0.0.3"))
    client.wait_until(lambda: ask(proxy) == {"b0", "b1", "b2"})


def test_name_goes_away(run_proxy, dns, homes):
    """No such name: no hosts. A server that fails: the hosts stay."""
    port, _ = homes(1)
    dns.names["web.example"] = ["127.0.0.1"]
    proxy = run(run_proxy, named(dns, port, "web.example"))
    assert ask(proxy, 3) == {"b0"}
    dns.rcode = 2
    seen = len(dns.asked)
    client.wait_until(lambda: len(dns.asked) > seen + 2)
    assert ask(proxy, 3) == {"b0"}
    assert proxy.stats()["cluster.c.update_failure"] >= 1
    dns.rcode = None
    del dns.names["web.example"]
    client.wait_until(lambda: ask(proxy, 3) == {503})
    dns.names["web.example"] = ["127.0.0.1"]
    client.wait_until(lambda: ask(proxy, 3) == {"b0"})


def test_starts_without_dns(run_proxy, dns, homes):
    """A server that says nothing delays the start, and does not stop it."""
    port, _ = homes(1)
    dns.names["web.example"] = None
    proxy = run(run_proxy, named(dns, port, "web.example"))
    assert client.get(proxy.port).status == 503
    dns.names["web.example"] = ["127.0.0.1"]
    client.wait_until(lambda: ask(proxy, 2) == {"b0"}, within=20)


def test_logical_dns(run_proxy, dns, homes):
    """One host at the first address of the newest answer; what is under way ends where it began."""
    port, _ = homes(2)
    dns.names["web.example"] = ["127.0.0.1", "127.0.0.2"]
    proxy = run(run_proxy, named(dns, port, "web.example", kind="LOGICAL_DNS"))
    assert ask(proxy, 6) == {"b0"}
    with client.Connection(proxy.port) as busy:
        busy.request(path="/delay/2")
        dns.names["web.example"] = ["127.0.0.2"]
        client.wait_until(lambda: f"c::127.0.0.2:{port}::" in proxy.admin_get("/clusters").body.decode())
        client.wait_until(lambda: ask(proxy, 3) == {"b1"})
        assert busy.response().header("x-backend") == "b0"
    dns.names["web.example"] = []  # an empty answer says nothing about the address
    seen = len(dns.asked)
    client.wait_until(lambda: len(dns.asked) > seen + 2)
    assert ask(proxy, 3) == {"b1"}


FAMILIES = {
    "V4_ONLY": (["127.0.0.1", "::1"], {A}),
    "V6_ONLY": (["127.0.0.1"], {AAAA}),
    "AUTO": (["127.0.0.1"], {A, AAAA}),
    "V4_PREFERRED": (["127.0.0.1", "::1"], {A}),
    "ALL": (["127.0.0.1"], {A, AAAA}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(run_proxy, dns, homes, family):
    addresses, asked = FAMILIES[family]
    port, _ = homes(1)
    dns.names["web.example"] = addresses
    proxy = run(run_proxy, named(dns, port, "web.example", dns_lookup_family=family))
    assert ask(proxy, 3) == ({503} if family == "V6_ONLY" else {"b0"})
    assert {kind for _, kind in dns.asked} == asked


def test_time_to_live(run_proxy, dns, homes):
    port, _ = homes(1)
    dns.names["web.example"], dns.ttl = ["127.0.0.1"], 60
    proxy = run(run_proxy, named(dns, port, "web.example", respect_dns_ttl=True))
    ask(proxy, 30)
    assert len(dns.asked) == 1


def test_hash_by_hostname(workdir, dns, homes):
    """The keys of consistent hashing are the names: both proxies agree where they send a key."""
    port, _ = homes(4)
    names = [f"h{i}.example" for i in range(4)]
    dns.names.update({name: [f"127.0.0.{i + 1}"] for i, name in enumerate(names)})
    made = named(dns, port, *names, lb_policy="RING_HASH",
                 common_lb_config={"consistent_hashing_lb_config": {"use_hostname_for_hashing": True}})
    policies = [{"header": {"header_name": "x-key"}}]
    found = []
    for kind in ("lateen", "envoy"):
        proxy = p.start(kind, p.bootstrap(p.listener(p.hcm([p.route("/", {"cluster": "c", "hash_policy": policies})])), [made]), workdir)
        try:
            client.wait_until(lambda: proxy.admin_get("/clusters").body.decode().count("::weight::") == 4)
            found.append([client.get(proxy.port, headers={"X-Key": f"k{i}"}).header("x-backend") for i in range(40)])
        finally:
            proxy.stop()
    assert found[0] == found[1]
    assert len(set(found[0])) == 4


def test_dns_cluster_type(run_proxy, dns, homes):
    port, _ = homes(2)
    dns.names["web.example"] = ["127.0.0.1", "127.0.0.2"]
    made = named(dns, port, "web.example")
    for key in ("type", "dns_lookup_family", "dns_refresh_rate", "typed_dns_resolver_config"):
        made.pop(key)
    made["cluster_type"] = {"name": "envoy.cluster.dns", "typed_config": p.typed(
        "envoy.extensions.clusters.dns.v3.DnsCluster", dns_lookup_family="V4_ONLY", dns_refresh_rate="0.2s",
        typed_dns_resolver_config=dns.resolver())}
    assert ask(run(run_proxy, made)) == {"b0", "b1"}


def test_removed_host_stays_while_it_passes(run_proxy, dns, homes):
    """With active checks a host that the answers leave out stays until it fails a check."""
    port, servers = homes(2)
    dns.names["web.example"] = ["127.0.0.1", "127.0.0.2"]
    moods = {"b1": 200}
    servers[1].behaviour = lambda request, _: (moods["b1"], [("x-backend", "b1")], b"") if request.path == "/healthz" else None
    check = {"timeout": "0.5s", "interval": "0.1s", "no_traffic_interval": "0.1s", "unhealthy_threshold": 1, "healthy_threshold": 1,
             "http_health_check": {"path": "/healthz"}}
    proxy = run(run_proxy, named(dns, port, "web.example", health_checks=[check], common_lb_config={"healthy_panic_threshold": {}}))
    client.wait_until(lambda: ask(proxy) == {"b0", "b1"})
    dns.names["web.example"] = ["127.0.0.1"]
    client.wait_until(lambda: "/pending_dynamic_removal" in proxy.admin_get("/clusters").body.decode())
    assert ask(proxy) == {"b0", "b1"}
    moods["b1"] = 500
    client.wait_until(lambda: f"127.0.0.2:{port}" not in proxy.admin_get("/clusters").body.decode())
    assert ask(proxy) == {"b0"}
