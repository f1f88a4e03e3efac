"""
Which host a request goes to: policies, weights, priorities, localities, subsets, consistent hashing. Where a hash decides,
lateen-proxy and Envoy must agree on every key: both stand in one mesh.
"""
import collections
import re

import pytest

from lib import client
from lib import proxy as p

WORDS = [f"key-{i}" for i in range(150)]


@pytest.fixture
def many(backends):
    """many(n) starts n backends; their ports in an order that no sorting gives."""
    def make(count):
        servers = [backends(f"b{i}") for i in range(count)]
        return sorted(servers, key=lambda server: str(server.port)[::-1])
    return make


@pytest.fixture
def pair(workdir):
    """pair(bootstrap of ports) starts both proxies; yields [lateen, envoy]."""
    started = []

    def run(make):
        for kind in ("lateen", "envoy"):
            started.append(p.start(kind, make(), workdir))
        return started
    yield run
    for proxy in started:
        proxy.stop()


def group(ports, **fields):
    """A LocalityLbEndpoints; ports: numbers, or (number, LbEndpoint fields)."""
    entries = [(port, {}) if isinstance(port, int) else port for port in ports]
    return {"lb_endpoints": [{"endpoint": {"address": p.address(port)}, **more} for port, more in entries], **fields}


def cluster(groups, policy="ROUND_ROBIN", **fields):
    return {**p.cluster("c", lb_policy=policy, **fields),
            "load_assignment": {"cluster_name": "c", "endpoints": groups, **fields.pop("assignment", {})}}


def simple(made, to="c", **route):
    return p.bootstrap(p.listener(p.hcm([p.route("/", {"cluster": to, **route})])), [made])


def spread(proxy, count, **options):
    """How many of so many requests each backend answered."""
    seen = collections.Counter()
    with client.Connection(proxy.port) as connection:
        for _ in range(count):
            connection.request(**options)
            response = connection.response()
            seen[response.json()["server"] if response.status == 200 else response.status] += 1
    return seen


def who(proxy, options):
    """The backend that each of the requests got to, over one connection."""
    with client.Connection(proxy.port) as connection:
        names = []
        for fields in options:
            connection.request(**fields)
            names.append(connection.response().header("x-backend"))
        return names


# --- policies ---

@pytest.mark.quick
def test_round_robin(run_proxy, many):
    proxy = run_proxy(simple(cluster([group([b.port for b in many(3)])])))
    assert spread(proxy, 30) == {"b0": 10, "b1": 10, "b2": 10}


def test_round_robin_with_weights(run_proxy, many):
    weights = {"b0": 1, "b1": 3, "b2": 6}
    ports = [(b.port, {"load_balancing_weight": weights[b.name]}) for b in many(3)]
    seen = spread(run_proxy(simple(cluster([group(ports)]))), 200)
    for name, weight in weights.items():
        assert abs(seen[name] - 20 * weight) <= 3, seen


def test_random_knows_no_weights(run_proxy, many):
    ports = [(b.port, {"load_balancing_weight": 1 if b.name == "b0" else 50}) for b in many(2)]
    seen = spread(run_proxy(simple(cluster([group(ports)], "RANDOM"))), 400)
    assert 130 < seen["b0"] < 270


def test_least_request_with_weights(run_proxy, many):
    ports = [(b.port, {"load_balancing_weight": 3 if b.name == "b0" else 1}) for b in many(2)]
    seen = spread(run_proxy(simple(cluster([group(ports)], "LEAST_REQUEST"))), 200)
    assert 145 <= seen["b0"] <= 155, seen


# --- priorities, health, localities ---

def levels(first, second, bad):
    """Two priorities; of the first, `bad` hosts are unhealthy."""
    ports = [(b.port, {"health_status": "UNHEALTHY"} if i < bad else {}) for i, b in enumerate(first)]
    return [group(ports), group([b.port for b in second], priority=1)]


@pytest.mark.parametrize("bad, low, high", [(0, 0, 0), (1, 0, 0), (2, 30, 95), (4, 200, 200)])
def test_priorities(run_proxy, many, bad, low, high):
    """With 2 of 4 hosts healthy 70 % of the load stays, with 3 all of it."""
    servers = many(6)
    proxy = run_proxy(simple(cluster(levels(servers[:4], servers[4:], bad), common_lb_config={"healthy_panic_threshold": {}})))
    seen = spread(proxy, 200)
    failed_over = sum(seen[b.name] for b in servers[4:])
    assert low <= failed_over <= high, seen
    assert all(seen[b.name] == 0 for b in servers[:bad])


def test_panic(run_proxy, many):
    """One of four is healthy: all are used, unless the threshold says otherwise."""
    ports = [(b.port, {"health_status": "UNHEALTHY"} if i else {}) for i, b in enumerate(many(4))]
    proxy = run_proxy(simple(cluster([group(ports)])))
    assert len(spread(proxy, 40)) == 4
    assert proxy.stats()["cluster.c.lb_healthy_panic"] >= 40
    proxy.stop()
    assert len(spread(run_proxy(simple(cluster([group(ports)], common_lb_config={"healthy_panic_threshold": {}}))), 20)) == 1


def test_nobody_is_healthy(run_proxy, many):
    ports = [(b.port, {"health_status": "UNHEALTHY"}) for b in many(2)]
    proxy = run_proxy(simple(cluster([group(ports)], common_lb_config={"healthy_panic_threshold": {}})))
    response = client.get(proxy.port)
    assert (response.status, response.body) == (503, b"no healthy upstream")
    assert proxy.stats()["cluster.c.upstream_cx_none_healthy"] == 1


def test_locality_weights(run_proxy, many):
    servers = many(4)
    groups = [group([b.port for b in servers[:3]], locality={"zone": "a"}, load_balancing_weight=1),
              group([servers[3].port], locality={"zone": "b"}, load_balancing_weight=3)]
    seen = spread(run_proxy(simple(cluster(groups, common_lb_config={"locality_weighted_lb_config": {}}))), 200)
    assert 145 <= seen[servers[3].name] <= 155, seen


def test_zone_aware(run_proxy, many):
    """Half of the callers are in our zone, but a quarter of the hosts: half of our requests stay."""
    servers = many(8)
    zones = [group([b.port for b in servers[:2]], locality={"zone": "a"}), group([b.port for b in servers[2:]], locality={"zone": "b"})]
    callers = [group([11, 12], locality={"zone": "a"}), group([13, 14], locality={"zone": "b"})]
    made = cluster(zones, common_lb_config={"zone_aware_lb_config": {}})
    local = {**cluster(callers), "name": "callers", "load_assignment": {"cluster_name": "callers", "endpoints": callers}}
    config = simple(made)
    config["static_resources"]["clusters"].append(local)
    config["cluster_manager"] = {"local_cluster_name": "callers"}
    config["node"] = {"id": "me", "cluster": "callers", "locality": {"zone": "a"}}
    proxy = run_proxy(config)
    seen = spread(proxy, 400)
    stayed = sum(seen[b.name] for b in servers[:2])
    assert 150 < stayed < 250, seen
    stats = proxy.stats()
    assert stats["cluster.c.lb_zone_routing_sampled"] == stayed
    assert stats["cluster.c.lb_zone_routing_cross_zone"] == 400 - stayed


def test_drop_overload(run_proxy, many):
    made = cluster([group([many(1)[0].port])])
    made["load_assignment"]["policy"] = {"drop_overloads": [{"category": "x", "drop_percentage": {"numerator": 40}}]}
    proxy = run_proxy(simple(made))
    seen = spread(proxy, 300)
    assert 70 < seen[503] < 170, seen
    response = client.wait_until(lambda: next((r for r in [client.get(proxy.port)] if r.status == 503), None))
    assert response.body == b"drop overload"
    assert response.header("x-envoy-drop-overload") == "true"


# --- subsets ---

def meta(**fields):
    return {"metadata": {"filter_metadata": {"envoy.lb": fields}}}


@pytest.fixture
def staged(run_proxy, many):
    servers = many(4)
    stages = {"b0": meta(stage="prod", v=1), "b1": meta(stage="prod", v=2), "b2": meta(stage="dev", v=1), "b3": {}}

    def run(fallback, selectors=None, **more):
        made = cluster([group([(b.port, stages[b.name]) for b in servers])], lb_subset_config={
            "fallback_policy": fallback, "subset_selectors": selectors or [{"keys": ["stage"]}, {"keys": ["v", "stage"]}], **more})
        wanted = {"/prod": {"stage": "prod"}, "/one": {"stage": "prod", "v": 1}, "/none": {"stage": "test"},
                  "/odd": {"stage": "dev", "v": 9}}
        routes = [p.route(path, {"cluster": "c", "metadata_match": {"filter_metadata": {"envoy.lb": match}}})
                  for path, match in wanted.items()]
        weighted = {"clusters": [{"name": "c", "weight": 1, "metadata_match": {"filter_metadata": {"envoy.lb": {"v": 2}}}}]}
        routes.append(p.route("/two", {"weighted_clusters": weighted,
                                       "metadata_match": {"filter_metadata": {"envoy.lb": {"stage": "prod", "v": 1}}}}))
        return run_proxy(p.bootstrap(p.listener(p.hcm(routes + [p.route("/", "c")])), [made]))
    return run


def test_subsets(staged):
    proxy = staged("NO_FALLBACK")
    assert set(spread(proxy, 20, path="/prod")) == {"b0", "b1"}
    assert set(spread(proxy, 5, path="/one")) == {"b0"}
    assert set(spread(proxy, 5, path="/two")) == {"b1"}
    assert set(spread(proxy, 5, path="/none")) == {503}
    assert set(spread(proxy, 5, path="/")) == {503}
    stats = proxy.stats()
    assert stats["cluster.c.lb_subsets_active"] == (5 if proxy.kind == "lateen" else 10)  # Envoy's main thread has them, too
    assert stats["cluster.c.lb_subsets_selected"] == 30


def test_subset_fallbacks(staged):
    proxy = staged("ANY_ENDPOINT")
    assert set(spread(proxy, 20, path="/none")) == {"b0", "b1", "b2", "b3"}
    proxy.stop()
    proxy = staged("DEFAULT_SUBSET", default_subset={"stage": "dev"})
    assert set(spread(proxy, 10, path="/none")) == {"b2"}
    assert set(spread(proxy, 10, path="/")) == {"b2"}
    proxy.stop()
    proxy = staged("NO_FALLBACK", [{"keys": ["stage"]}, {"keys": ["stage", "v"], "fallback_policy": "KEYS_SUBSET",
                                                         "fallback_keys_subset": ["stage"]}])
    assert set(spread(proxy, 10, path="/odd")) == {"b2"}


# --- consistent hashing: the same host as Envoy for every key ---

HEADER = [{"header": {"header_name": "x-key"}}]


def by_header(words=WORDS):
    return [{"headers": {"X-Key": word}} for word in words]


HASHED = {
    "ring": ("RING_HASH", {}, {}),
    "small ring": ("RING_HASH", {"ring_hash_lb_config": {"minimum_ring_size": 10, "maximum_ring_size": 12}}, {}),
    "murmur": ("RING_HASH", {"ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2"}}, {}),
    "maglev": ("MAGLEV", {}, {}),
    "small maglev": ("MAGLEV", {"maglev_lb_config": {"table_size": 101}}, {}),
    "ring, weights": ("RING_HASH", {}, {"weights": True}),
    "maglev, weights": ("MAGLEV", {}, {"weights": True}),
    "ring, localities": ("RING_HASH", {"common_lb_config": {"locality_weighted_lb_config": {}}}, {"localities": True}),
    "maglev, localities": ("MAGLEV", {"common_lb_config": {"locality_weighted_lb_config": {}}}, {"localities": True}),
    "ring, hash_key": ("RING_HASH", {}, {"keys": True}),
}


@pytest.mark.parametrize("name", HASHED)
def test_both_find_the_same_host(pair, many, name):
    policy, fields, how = HASHED[name]
    servers = many(5)

    def endpoint(i, server):
        more = {}
        if how.get("weights"):
            more["load_balancing_weight"] = 1 + 2 * i
        if how.get("keys"):
            more.update(meta(hash_key=f"host-{i}"))
        return server.port, more

    def make():
        entries = [endpoint(i, server) for i, server in enumerate(servers)]
        groups = [group(entries)]
        if how.get("localities"):
            groups = [group(entries[:2], locality={"zone": "z"}, load_balancing_weight=3),
                      group(entries[2:], locality={"zone": "a"}, load_balancing_weight=1)]
        made = cluster(groups, policy, **fields)
        return simple(made, hash_policy=HEADER)

    ours, theirs = (who(proxy, by_header()) for proxy in pair(make))
    assert ours == theirs
    assert len(set(ours)) > 1


KEYS = {
    "header": (HEADER, by_header(WORDS[:40])),
    "several values": (HEADER, [{"headers": [("x-key", a), ("x-key", b)]} for a, b in zip(WORDS[:20], WORDS[20:40])] +
                       [{"headers": [("x-key", b), ("x-key", a)]} for a, b in zip(WORDS[:20], WORDS[20:40])]),
    "regex": ([{"header": {"header_name": "x-key", "regex_rewrite": {"pattern": {"regex": "^key-(\\d+)$"}, "substitution": "\\1"}}}],
              by_header(WORDS[:40])),
    "pseudo header": ([{"header": {"header_name": ":path"}}], [{"path": f"/{word}"} for word in WORDS[:40]]),
    "cookie": ([{"cookie": {"name": "sess"}}], [{"headers": {"Cookie": f'a=b; sess="{word}"; c=d'}} for word in WORDS[:40]]),
    "query": ([{"query_parameter": {"name": "user"}}], [{"path": f"/x?a=b&user={word}&user=other"} for word in WORDS[:40]]),
    "source": ([{"connection_properties": {"source_ip": True}}],
               [{"headers": {"X-Forwarded-For": f"10.1.1.1, 10.0.{i}.7"}} for i in range(40)]),
    "both": (HEADER + [{"query_parameter": {"name": "user"}}], [{"path": f"/?user={word}", "headers": {"X-Key": word}} for word in WORDS[:40]]),
    "terminal": ([{**HEADER[0], "terminal": True}, {"query_parameter": {"name": "user"}}],
                 [{"path": f"/?user={i}", "headers": {"X-Key": word} if i % 2 else {}} for i, word in enumerate(WORDS[:40])]),
}


@pytest.mark.parametrize("name", KEYS)
def test_both_hash_the_same(pair, many, name):
    policies, requests = KEYS[name]
    servers = many(5)
    ours, theirs = (who(proxy, requests)
                    for proxy in pair(lambda: simple(cluster([group([b.port for b in servers])], "MAGLEV"), hash_policy=policies)))
    assert ours == theirs
    assert len(set(ours)) > 2


def test_made_cookie(run_proxy, many):
    policies = [{"cookie": {"name": "sess", "ttl": "60s", "path": "/p", "attributes": [{"name": "SameSite", "value": "Lax"}, {"name": "Secure"}]}}]
    proxy = run_proxy(simple(cluster([group([b.port for b in many(5)])], "RING_HASH"), hash_policy=policies))
    first = client.get(proxy.port)
    cookie = first.header("set-cookie")
    assert re.fullmatch(r'sess="[0-9a-f]{16}"; Max-Age=60; Path=/p; SameSite=Lax; Secure; HttpOnly', cookie), cookie
    for _ in range(5):
        again = client.get(proxy.port, headers={"Cookie": cookie.split(";")[0]})
        assert again.header("x-backend") == first.header("x-backend")
        assert again.header("set-cookie") is None


def test_session_cookie(run_proxy, many):
    proxy = run_proxy(simple(cluster([group([b.port for b in many(2)])], "MAGLEV"),
                             hash_policy=[{"cookie": {"name": "sess", "ttl": "0s"}}]))
    assert re.fullmatch(r'sess="[0-9a-f]{16}"; HttpOnly', client.get(proxy.port).header("set-cookie"))


def test_no_hash_no_cookie(run_proxy, many):
    """Other policies of balancing ask for no hash: nothing is made."""
    proxy = run_proxy(simple(cluster([group([b.port for b in many(2)])]), hash_policy=[{"cookie": {"name": "sess", "ttl": "9s"}}]))
    assert client.get(proxy.port).header("set-cookie") is None


def test_tcp_by_source(run_proxy, many):
    made = cluster([group([b.port for b in many(5)])], "RING_HASH")
    proxy = run_proxy(p.bootstrap(p.listener(p.tcp_proxy("c", hash_policy=[{"source_ip": {}}])), [made]))
    names = {client.get(proxy.port).header("x-backend") for _ in range(10)}
    assert len(names) == 1


def test_bounded_load(run_proxy, backends):
    """A hot key may take one and a half times a host's part, and no more."""
    servers = [backends(f"b{i}") for i in range(4)]
    made = cluster([group([b.port for b in servers])], "RING_HASH",
                   common_lb_config={"consistent_hashing_lb_config": {"hash_balance_factor": 150}})
    proxy = run_proxy(simple(made, hash_policy=HEADER))
    connections = [client.Connection(proxy.port) for _ in range(20)]
    for connection in connections:
        connection.request(path="/delay/1", headers={"X-Key": "hot"})
        client.wait_until(lambda: sum(b.connections for b in servers) > connections.index(connection))
    for connection in connections:
        assert connection.response().status == 200
        connection.close()
    assert max(b.connections for b in servers) <= 9  # 1.5 times a fourth of 20, rounded up, and the one that meets that bound
    assert len([b for b in servers if b.connections]) >= 3


# --- retries elsewhere ---

RETRY = {"retry_on": "5xx", "num_retries": 3, "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"}}


def test_retries_avoid_priorities(run_proxy, backends):
    """With update_frequency 2 the third try goes to another priority than those before, although its hosts are well."""
    first, second = backends("first", behaviour=lambda *_: (503, [], b"")), backends("second")
    priority = {"name": "envoy.retry_priorities.previous_priorities", "typed_config": p.typed(
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", update_frequency=2)}
    proxy = run_proxy(simple(cluster([group([first.port]), group([second.port], priority=1)]),
                             retry_policy={**RETRY, "retry_priority": priority}))
    for _ in range(5):
        before = len(first.requests)
        assert client.get(proxy.port).json()["server"] == "second"
        assert len(first.requests) - before == 2


def test_retries_stay_where_the_health_is(run_proxy, backends):
    first, second = backends("first", behaviour=lambda *_: (503, [], b"")), backends("second")
    proxy = run_proxy(simple(cluster([group([first.port]), group([second.port], priority=1)]), retry_policy=RETRY))
    assert client.get(proxy.port).status == 503
    assert len(first.requests) == 4 and not second.requests


# --- ORIGINAL_DST by a header, names of hosts ---

def test_destination_of_a_header(run_proxy, backends):
    server = backends("b0")
    made = {"name": "c", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s",
            "original_dst_lb_config": {"use_http_header": True}}
    proxy = run_proxy(simple(made))
    assert client.get(proxy.port, headers={"x-envoy-original-dst-host": f"127.0.0.1:{server.port}"}).json()["server"] == "b0"
    for bad in ("nonsense", "127.0.0.1", "127.0.0.1:99999", "a.example:80"):
        assert client.get(proxy.port, headers={"x-envoy-original-dst-host": bad}).body == b"no healthy upstream"
    assert client.get(proxy.port).body == b"no healthy upstream"
    assert proxy.stats()["cluster.c.original_dst_host_invalid"] == 4


def test_destination_of_a_named_header_and_port(run_proxy, backends):
    server = backends("b0")
    made = {"name": "c", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s",
            "original_dst_lb_config": {"use_http_header": True, "http_header_name": "X-Where", "upstream_port_override": server.port}}
    proxy = run_proxy(simple(made))
    assert client.get(proxy.port, headers={"x-where": "127.0.0.1:1"}).json()["server"] == "b0"


def test_host_header_of_the_endpoint(run_proxy, backends):
    """auto_host_rewrite: of those that have a name."""
    ports = [backends("b0").port, backends("b1").port]
    named = {"endpoint": {"address": p.address(ports[0]), "hostname": "own.example"}}
    made = {**p.cluster("c"), "load_assignment": {"cluster_name": "c", "endpoints": [
        {"lb_endpoints": [named, {"endpoint": {"address": p.address(ports[1])}}]}]}}
    proxy = run_proxy(simple(made, auto_host_rewrite=True))
    seen = {answer["server"]: answer["headers"]["host"] for answer in (client.get(proxy.port, host="asked.example").json() for _ in range(4))}
    assert seen == {"b0": "own.example", "b1": "asked.example"}
