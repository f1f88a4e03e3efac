"""What requests need is asked for when they need it: virtual hosts (VHDS) and clusters (ODCDS)."""
import threading

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from lib import client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import hcm, listener, tcp_proxy, typed
from lib.xds import (CDS, EDS, LDS, VHDS, ads_source, assignment, cluster_of_static, dynamic_bootstrap, eds_cluster, grpc_source,
                     pause, rds_hcm, routes, with_type)

FILTER = "envoy.extensions.filters.http.on_demand.v3"
WAY = ["ads", "own"]


def on_demand(**fields):
    return {"name": "envoy.filters.http.on_demand", "typed_config": typed(f"{FILTER}.OnDemand", **fields)}


def says(status, prefix="/"):
    return {"match": {"prefix": prefix}, "direct_response": {"status": status}}


def host(name, status, *domains, **fields):
    return {"@type": VHDS, "name": name, "domains": list(domains), "routes": [says(status)], **fields}


def source_of(way, **fields):
    return ads_source(**fields) if way == "ads" else grpc_source("control", "DELTA_GRPC", **fields)


def run_hosts(run_proxy, server, way="ads"):
    """A listener whose routes know `known` alone; the rest is on demand."""
    port = free_port()
    known = {"name": "known", "domains": ["known"], "routes": [says(201)]}
    server.set(with_type(LDS, listener(rds_hcm("r", http_filters=[on_demand()]), port=port)),
               routes("r", vhosts=[known], vhds={"config_source": source_of(way, initial_fetch_timeout="0.2s")}))
    proxy = run_proxy(dynamic_bootstrap(server))
    return proxy, port


def status(port, name, **options):
    return client.get(port, "/", host=name, **options).status


def asked(server, type_url=VHDS):
    """Names that were asked for, in order, of all streams."""
    return [name for stream in server.streams for request in stream.of(type_url) for name in request.resource_names_subscribe]


# --- virtual hosts ---

@pytest.mark.quick
@pytest.mark.parametrize("way", WAY)
def test_a_host_comes_when_it_is_asked_for(run_proxy, make_control, way):
    server = make_control(missing="empty")
    proxy, port = run_hosts(run_proxy, server, way)
    assert status(port, "known") == 201
    first = server.stream(having=VHDS).of(VHDS)[0]
    assert not first.resource_names_subscribe and not asked(server)
    server.set(host("r/shop", 202, "shop.example", "www.shop.example"), aliases=["r/shop.example", "r/www.shop.example"], push=False)
    assert status(port, "Shop.Example") == 202
    assert status(port, "www.shop.example") == 202  # came with the other
    assert asked(server) == ["r/shop.example"]
    assert status(port, "shop.example", method="POST", body=b"a body") == 202
    server.set(host("r/shop", 203, "shop.example"), aliases=["r/shop.example"])  # an update
    wait_until(lambda: status(port, "shop.example") == 203, 10, "the update")
    assert status(port, "known") == 201


@pytest.mark.parametrize("way", WAY)
def test_a_body_waits_with_its_head(run_proxy, make_control, backends, way):
    server, backend = make_control(missing="empty"), backends("first")
    server.set(cluster_of_static("c", backend.port), push=False)
    _, port = run_hosts(run_proxy, server, way)
    entry = {"match": {"prefix": "/"}, "route": {"cluster": "c"}}
    server.set({"@type": VHDS, "name": "r/up", "domains": ["up.example"], "routes": [entry]}, aliases=["r/up.example"], push=False)
    answer = client.get(port, "/", method="POST", host="up.example", body=b"x" * 300_000)
    assert answer.status == 200 and answer.header("x-backend") == "first"


def test_unknown_hosts_are_remembered(run_proxy, make_control, kind):
    server = make_control(missing="empty")
    proxy, port = run_hosts(run_proxy, server)
    for _ in range(3):
        assert status(port, "nowhere.example") == 404
    assert asked(server).count("r/nowhere.example") == 1
    server.set(host("r/now", 202, "nowhere.example"), aliases=["r/nowhere.example"])  # it comes to be, later
    wait_until(lambda: status(port, "nowhere.example") == 202, 10, "the host")
    if kind == "lateen":
        stats = proxy.stats()
        assert stats["lateen.on_demand.asked"] == 1 and stats["lateen.on_demand.absent"] == 1


@pytest.mark.lateen_only  # Envoy lets the request wait until the client goes
def test_removed_means_absent_too(run_proxy, make_control):
    server = make_control(missing="remove")
    _, port = run_hosts(run_proxy, server)
    assert status(port, "nowhere.example") == 404


def test_others_go_on_while_one_waits(run_proxy, make_control):
    server = make_control(missing="empty")
    _, port = run_hosts(run_proxy, server)
    server.withhold(VHDS)
    server.set(host("r/slow", 202, "slow.example"), aliases=["r/slow.example"], push=False)
    results = []
    waiting = [threading.Thread(target=lambda: results.append(status(port, "slow.example"))) for _ in range(5)]
    for thread in waiting:
        thread.start()
    wait_until(lambda: "r/slow.example" in asked(server), 10, "it is asked for")
    assert status(port, "known") == 201 and not results
    server.release(VHDS)
    for thread in waiting:
        thread.join(20)
    assert results == [202] * 5
    assert asked(server) == ["r/slow.example"]


@pytest.mark.lateen_only  # Envoy has no such timeout
def test_an_answer_that_does_not_come(run_proxy, make_control):
    server = make_control(missing="silent")
    proxy, port = run_hosts(run_proxy, server)
    assert status(port, "silent.example", deadline=60) == 404
    assert status(port, "known") == 201


def test_filters_behind_it_see_the_route_that_came(run_proxy, make_control):
    """What the virtual host says about a filter is heeded behind this one; those before it have seen no route."""
    rbac = "envoy.extensions.filters.http.rbac.v3"
    deny = {"rules": {"action": "DENY", "policies": {"all": {"permissions": [{"any": True}], "principals": [{"any": True}]}}}}
    entry = {"name": "envoy.filters.http.rbac", "typed_config": typed(f"{rbac}.RBAC")}
    guarded = {"envoy.filters.http.rbac": typed(f"{rbac}.RBACPerRoute", rbac=deny)}
    server, port = make_control(missing="empty"), free_port()
    vhds = {"config_source": ads_source(initial_fetch_timeout="0.2s")}
    server.set(with_type(LDS, listener(rds_hcm("r", http_filters=[on_demand(), entry]), port=port)), routes("r", vhosts=[], vhds=vhds))
    run_proxy(dynamic_bootstrap(server))
    server.set(host("r/guarded", 202, "guarded.example", typed_per_filter_config=guarded), aliases=["r/guarded.example"], push=False)
    server.set(host("r/open", 202, "open.example"), aliases=["r/open.example"], push=False)
    assert status(port, "open.example") == 202
    assert status(port, "guarded.example") == 403


def test_bad_hosts_are_refused_and_good_ones_serve_on(run_proxy, make_control):
    server = make_control(missing="empty")
    _, port = run_hosts(run_proxy, server)
    server.set(host("r/good", 202, "good.example"), aliases=["r/good.example"], push=False)
    assert status(port, "good.example") == 202
    stream = server.stream(having=VHDS)
    server.set(host("r/good", 203, "known"), aliases=["r/good.example"])  # a domain of another
    nack = wait_until(lambda: stream.nacks(VHDS), 10, "a NACK")[0]
    assert "Only unique values for domains are permitted. Duplicate entry of domain known in route r" in nack.error_detail.message
    assert status(port, "known") == 201 and status(port, "good.example") == 202


@pytest.mark.lateen_only  # Envoy sends whatever it got, and takes in whatever comes
def test_strange_names_and_strange_answers(run_proxy, make_control):
    server = make_control(missing="empty")
    proxy, port = run_hosts(run_proxy, server)
    assert status(port, "a" * 2000) == 404
    assert not asked(server)
    server.set(host("other/x", 202, "x.example"), host("x", 202, "y.example"), push=False)  # of no route configuration here
    bad = [discovery_pb2.Resource(name=name, version="1", resource=server.resources[VHDS][name][1]) for name in ("other/x", "x")]
    server.send(discovery_pb2.DeltaDiscoveryResponse(type_url=VHDS, nonce="strange", resources=bad), server.stream(having=VHDS))
    wait_until(lambda: len(server.stream(having=VHDS).acks(VHDS)) >= 2, 10, "it is answered")
    assert status(port, "x.example") == 404
    many = [discovery_pb2.Resource(name=f"r/{i}", version="1", resource=_host_any(f"r/{i}", f"{i}.many.example")) for i in range(3000)]
    server.send(discovery_pb2.DeltaDiscoveryResponse(type_url=VHDS, nonce="many", resources=many), server.stream(having=VHDS))
    wait_until(lambda: status(port, "2999.many.example") == 202, 10, "thousands that nobody asked for")
    assert status(port, "known") == 201


def _host_any(name, domain):
    from lib.xds import to_any
    return to_any(host(name, 202, domain))


@pytest.mark.lateen_only  # bounds are ours
def test_a_flood_of_unknown_hosts(run_proxy, make_control):
    """One client's strange hosts: bounded, counted, and no harm to another client."""
    server = make_control(missing="empty")
    proxy, port = run_hosts(run_proxy, server)
    with client.Connection(port) as connection:
        codes = set()
        for i in range(2500):
            connection.request(host=f"h{i}.flood.example")
            codes.add(connection.response().status)
    assert codes <= {404, 503}
    stats = proxy.stats()
    assert stats["lateen.on_demand.refused"] + stats["lateen.on_demand.dropped"] > 0
    assert len(server.stream(having=VHDS).names(VHDS)) <= 512  # those that made room are wanted no longer
    server.set(host("r/late", 202, "late.example"), aliases=["r/late.example"], push=False)
    with _from("127.0.0.2", port) as other:
        other.request(host="late.example")
        assert other.response().status == 202


def _from(address, port):
    import socket
    connection = client.Connection(port)
    connection.socket.close()
    connection.stream.close()
    connection.socket = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))
    connection.stream = connection.socket.makefile("rb")
    return connection


def test_it_goes_with_its_route_configuration(run_proxy, make_control):
    server = make_control(missing="empty")
    _, port = run_hosts(run_proxy, server)
    server.set(host("r/shop", 202, "shop.example"), aliases=["r/shop.example"], push=False)
    assert status(port, "shop.example") == 202
    server.set(routes("r", vhosts=[{"name": "known", "domains": ["known"], "routes": [says(204)]}]))  # no VHDS any more
    wait_until(lambda: status(port, "known") == 204, 10, "the routes")
    assert status(port, "shop.example") == 404


def test_after_a_new_stream_hosts_are_asked_for_again(run_proxy, make_control):
    server = make_control(missing="empty")
    _, port = run_hosts(run_proxy, server)
    server.set(host("r/shop", 202, "shop.example"), aliases=["r/shop.example"], push=False)
    assert status(port, "shop.example") == 202
    before = len(server.streams)
    server.cut()
    wait_until(lambda: len(server.streams) > before and "r/shop.example" in asked(server)[1:], 20, "it is asked for again")
    assert status(port, "shop.example") == 202


# --- clusters ---

def cluster_by_header():
    return {"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}}


def run_clusters(run_proxy, server, entries, api_type="DELTA_GRPC", way="ads", timeout="20s", concurrency=1):
    port = free_port()
    source = ads_source() if way == "ads" else grpc_source("control", api_type)
    entry = hcm(entries, http_filters=[on_demand(odcds={"source": source, "timeout": timeout})], route_config={"validate_clusters": False})
    server.set(with_type(LDS, listener(entry, port=port)))
    bootstrap = dynamic_bootstrap(server, api_type)
    del bootstrap["dynamic_resources"]["cds_config"]
    return run_proxy(bootstrap, concurrency=concurrency), port


def via(port, name, **options):
    return client.get(port, "/", headers={"x-cluster": name}, **options)


@pytest.mark.quick
@pytest.mark.parametrize("api_type,way", [("DELTA_GRPC", "ads"), ("DELTA_GRPC", "own"), ("GRPC", "ads")])
def test_a_cluster_comes_when_it_is_needed(run_proxy, make_control, backends, api_type, way):
    server, first, second = make_control(), backends("first"), backends("second")
    weighted = {"match": {"prefix": "/weighted"}, "route": {"weighted_clusters": {"clusters": [{"name": "two", "weight": 1}]}}}
    plain = {"match": {"prefix": "/plain"}, "route": {"cluster": "two"}}
    _, port = run_clusters(run_proxy, server, [weighted, plain, cluster_by_header()], api_type, way)
    server.set(cluster_of_static("one", first.port), cluster_of_static("two", second.port), push=False)
    assert via(port, "one").header("x-backend") == "first"
    assert client.get(port, "/weighted").header("x-backend") == "second"
    assert client.get(port, "/plain").header("x-backend") == "second"
    assert via(port, "one", method="POST", body=b"a body").header("x-backend") == "first"
    server.set(cluster_of_static("one", second.port))  # updates come as for any other
    wait_until(lambda: via(port, "one").header("x-backend") == "second", 10, "the update")


def test_a_cluster_waits_for_its_endpoints(run_proxy, make_control, backends):
    server, backend = make_control(), backends("first")
    _, port = run_clusters(run_proxy, server, [cluster_by_header()])
    server.withhold(EDS)
    server.set(eds_cluster("web"), assignment("web", backend.port), push=False)
    results = []
    waiting = threading.Thread(target=lambda: results.append(via(port, "web", deadline=30).header("x-backend")))
    waiting.start()
    wait_until(lambda: asked(server, EDS) == ["web"], 10, "endpoints are asked for")
    assert not results
    server.release(EDS)
    waiting.join(30)
    assert results == ["first"]


@pytest.mark.lateen_only  # Envoy closes the connection
def test_a_cluster_comes_by_state_of_the_world(run_proxy, make_control, backends):
    server, first, second = make_control(), backends("first"), backends("second")
    _, port = run_clusters(run_proxy, server, [cluster_by_header()], "GRPC", "own")
    server.set(cluster_of_static("one", first.port), cluster_of_static("two", second.port), push=False)
    assert via(port, "one").header("x-backend") == "first"
    assert via(port, "two").header("x-backend") == "second"
    assert via(port, "one").header("x-backend") == "first"


def test_a_cluster_that_is_not_there(run_proxy, make_control, kind):
    server = make_control()
    _, port = run_clusters(run_proxy, server, [cluster_by_header()], timeout="1s")
    assert via(port, "nowhere").status == 503
    assert via(port, "nowhere").status == 503  # Envoy waits the second time
    assert client.get(port, "/").status == 503  # no name at all
    assert asked(server, CDS).count("nowhere") == 1


def test_a_cluster_that_does_not_come_in_time(run_proxy, make_control):
    server = make_control(missing="silent")
    _, port = run_clusters(run_proxy, server, [cluster_by_header()], timeout="0.5s")
    assert via(port, "silent").status == 503


def test_a_route_may_say_otherwise(run_proxy, make_control, backends):
    server = make_control()
    off = {"envoy.filters.http.on_demand": typed(f"{FILTER}.PerRouteConfig")}
    never = {"match": {"prefix": "/never"}, "route": {"cluster_header": "x-cluster"}, "typed_per_filter_config": off}
    _, port = run_clusters(run_proxy, server, [never, cluster_by_header()])
    server.set(cluster_of_static("one", backends("first").port), push=False)
    assert client.get(port, "/never", headers={"x-cluster": "one"}).status == 503 and not asked(server, CDS)
    assert via(port, "one").status == 200
    assert client.get(port, "/never", headers={"x-cluster": "one"}).status == 200


def test_clusters_beside_those_of_cds(run_proxy, make_control, backends):
    """All there are by CDS, and one more by name on the same stream: neither ends the other."""
    server, port = make_control(), free_port()
    filters = [on_demand(odcds={"source": ads_source()})]
    server.set(with_type(LDS, listener(hcm([cluster_by_header()], http_filters=filters), port=port)),
               cluster_of_static("one", backends("first").port))
    run_proxy(dynamic_bootstrap(server))
    assert via(port, "one").status == 200
    assert via(port, "nowhere").status == 503
    server.set(cluster_of_static("late", backends("late").port))
    wait_until(lambda: via(port, "late").header("x-backend") == "late", 10, "a cluster that CDS brings later")
    assert via(port, "one").status == 200


def test_many_wait_for_one_cluster(run_proxy, make_control, backends):
    server = make_control()
    _, port = run_clusters(run_proxy, server, [cluster_by_header()], concurrency=2)
    server.withhold(CDS, "one")
    server.set(cluster_of_static("one", backends("first").port), push=False)
    results = []
    waiting = [threading.Thread(target=lambda: results.append(via(port, "one", deadline=30).status)) for _ in range(8)]
    for thread in waiting:
        thread.start()
    wait_until(lambda: "one" in asked(server, CDS), 10, "it is asked for")
    with client.Connection(port) as gone:  # one who leaves while it waits
        gone.request(headers={"x-cluster": "one"})
        pause()
    server.release(CDS)
    for thread in waiting:
        thread.join(30)
    assert results == [200] * 8 and asked(server, CDS) == ["one"]


# --- connections ---

def run_tcp(run_proxy, server, cluster="one", timeout="20s"):
    port = free_port()
    server.set(with_type(LDS, listener(tcp_proxy(cluster, on_demand={"odcds_config": ads_source(), "timeout": timeout}), port=port)))
    bootstrap = dynamic_bootstrap(server)
    del bootstrap["dynamic_resources"]["cds_config"]
    return run_proxy(bootstrap), port


def tcp_stats(proxy):
    prefix = "tcp.tcp.on_demand_cluster_"
    return {name[len(prefix):]: value for name, value in proxy.stats().items() if name.startswith(prefix) and value}


def has_ended(connection):
    try:
        return connection.socket.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_connection_waits_for_its_cluster(run_proxy, make_control, backends):
    server, backend = make_control(), backends("first")
    proxy, port = run_tcp(run_proxy, server)
    server.withhold(CDS)
    server.set(cluster_of_static("one", backend.port), push=False)
    with client.Connection(port, deadline=30) as connection, client.Connection(port) as gone:
        connection.request(body=b"x" * 100_000, method="POST")
        gone.request()
        wait_until(lambda: asked(server, CDS) == ["one"], 10, "it is asked for")
        gone.socket.close()
        server.release(CDS)
        assert connection.response().header("x-backend") == "first"
    assert client.get(port).status == 200
    wait_until(lambda: tcp_stats(proxy).get("success", 0) >= 1, 10, "it is counted")
    assert tcp_stats(proxy)["attempt"] == 2


def test_a_connection_whose_cluster_is_not_there(run_proxy, make_control):
    server = make_control()
    proxy, port = run_tcp(run_proxy, server, "nowhere")
    with client.Connection(port) as connection:
        assert has_ended(connection)
    wait_until(lambda: tcp_stats(proxy) == {"attempt": 1, "missing": 1}, 10, "it is counted")


def test_a_connection_whose_cluster_does_not_come(run_proxy, make_control):
    server = make_control(missing="silent")
    proxy, port = run_tcp(run_proxy, server, "silent", timeout="0.3s")
    with client.Connection(port) as connection:
        assert has_ended(connection)
    wait_until(lambda: tcp_stats(proxy) == {"attempt": 1, "timeout": 1}, 10, "it is counted")
