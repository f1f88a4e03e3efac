"""Configuration over xDS: one stream or one for each type, state of the world or delta, and what is answered."""
import grpc
import pytest

from lib import certs, client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import hcm, listener, route
from lib.xds import (CDS, EDS, LDS, RDS, ads_source, api_source, assignment, control_cluster, dynamic_bootstrap, eds_cluster,
                     grpc_source, pause, rds_hcm, routes, with_type)

API_TYPES = ["GRPC", "DELTA_GRPC"]


def answers(port, path="/"):
    try:
        return client.get(port, path).status
    except OSError:
        return None


def served_by(port):
    return client.get(port, "/").header("x-backend")


def until_answers(port, status, path="/"):
    wait_until(lambda: answers(port, path) == status, 15, f"{path} is answered with {status}")


def static_listener(port, status, name="main"):
    """A listener that answers by itself."""
    entry = {"match": {"prefix": "/"}, "direct_response": {"status": status}}
    return with_type(LDS, listener(hcm([entry]), port=port, name=name))


@pytest.mark.quick
@pytest.mark.parametrize("api_type", API_TYPES)
def test_everything_over_one_stream(run_proxy, backends, make_control, api_type):
    server, port = make_control(), free_port()
    first, second = backends("first"), backends("second")
    server.set(eds_cluster("web"), assignment("web", first.port),
               with_type(LDS, listener(rds_hcm("r"), port=port)), routes("r", route("/", "web")))
    proxy = run_proxy(dynamic_bootstrap(server, api_type))
    until_answers(port, 200)
    assert served_by(port) == "first"
    stream = server.stream()
    story = [line.split(" ")[0] for line in stream.story()]
    assert story.index("CDS") < story.index("EDS") < story.index("LDS") < story.index("RDS")
    lines = stream.story()
    assert lines.index("CDS ack") < lines.index("LDS")
    wait_until(lambda: "LDS ack" in stream.story() and any(r.startswith("RDS ack") for r in stream.story()), 10, "all is acknowledged")
    routes_asked = next(i for i, line in enumerate(stream.story()) if line.startswith("RDS"))
    assert routes_asked < stream.story().index("LDS ack")  # what listeners need is asked for before they are acknowledged
    server.set(assignment("web", second.port))
    wait_until(lambda: served_by(port) == "second", 10, "the new endpoint")
    server.set(routes("r", {"match": {"prefix": "/"}, "direct_response": {"status": 418}}))
    until_answers(port, 418)
    server.remove(LDS, "main")
    until_answers(port, None)
    stats = proxy.stats()
    assert stats["cluster_manager.cds.update_success"] >= 1 and stats["listener_manager.lds.update_success"] >= 2
    assert stats["control_plane.connected_state"] == 1


@pytest.mark.parametrize("api_type", API_TYPES)
def test_refused_is_named_and_the_rest_serves(run_proxy, make_control, api_type):
    server, one, two = make_control(), free_port(), free_port()
    server.set(static_listener(one, 201, "one"))
    proxy = run_proxy(dynamic_bootstrap(server, api_type))
    until_answers(one, 201)
    stream = server.stream()
    bad = with_type(LDS, listener(hcm([]), name="one", port=one))
    bad["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = ""
    server.set(bad, static_listener(two, 202, "two"))
    until_answers(two, 202)
    nack = wait_until(lambda: stream.nacks(LDS), 10, "a NACK")[0]
    assert "Error adding/updating listener(s) one: " in nack.error_detail.message
    assert nack.error_detail.code == 13
    assert answers(one) == 201  # the predecessor
    assert proxy.stats()["listener_manager.lds.update_rejected"] == 1
    server.set(static_listener(one, 203, "one"))
    until_answers(one, 203)


@pytest.mark.parametrize("api_type", API_TYPES)
def test_serves_on_while_the_control_plane_is_away(run_proxy, make_control, api_type):
    server, one, two = make_control(), free_port(), free_port()
    server.set(static_listener(one, 201, "one"), static_listener(two, 202, "two"))
    proxy = run_proxy(dynamic_bootstrap(server, api_type))
    until_answers(two, 202)
    server.stop()
    wait_until(lambda: proxy.stats()["control_plane.connected_state"] == 0, 10, "the stream has ended")
    assert answers(one) == 201
    server.remove(LDS, "one", push=False)
    server.set(static_listener(two, 203, "two"), push=False)
    before = len(server.streams)
    server.start()
    until_answers(two, 203)
    until_answers(one, None)
    again = server.stream(number=before)
    first = again.of(LDS)[0]
    assert again.requests[0].node.id == "scene" and not first.response_nonce
    if api_type == "DELTA_GRPC":
        assert set(first.initial_resource_versions) == {"one", "two"}
    else:
        assert first.version_info


@pytest.mark.parametrize("api_type", API_TYPES)
def test_a_stream_for_each_type(run_proxy, backends, make_control, api_type):
    server, port = make_control(), free_port()
    own = grpc_source("control", api_type, initial_fetch_timeout="0s")
    server.set(eds_cluster("web", source=own), assignment("web", backends().port),
               with_type(LDS, listener(rds_hcm("r", source=own), port=port)), routes("r", route("/", "web")))
    run_proxy({"static_resources": {"clusters": [control_cluster(server.address)]},
               "dynamic_resources": {"cds_config": own, "lds_config": own}})
    until_answers(port, 200)
    prefix = "Delta" if api_type == "DELTA_GRPC" else "Stream"
    paths = {stream.path.rsplit("/", 1)[1] for stream in server.streams}
    assert paths == {prefix + what for what in ("Clusters", "Endpoints", "Listeners", "Routes")}
    assert all(stream.requests[0].node.id == "scene" for stream in server.streams)
    server.set(routes("r", {"match": {"prefix": "/"}, "direct_response": {"status": 418}}))
    until_answers(port, 418)


@pytest.mark.parametrize("api_type", API_TYPES)
def test_requests_are_slowed_where_it_is_wanted(run_proxy, make_control, backends, api_type):
    """rate_limit_settings: all is asked for and answered, later."""
    server, port = make_control(), free_port()
    bootstrap = dynamic_bootstrap(server, api_type)
    bootstrap["dynamic_resources"]["ads_config"]["rate_limit_settings"] = {"max_tokens": 2, "fill_rate": 10}
    server.set(eds_cluster("web"), assignment("web", backends().port), with_type(LDS, listener(rds_hcm("r"), port=port)),
               routes("r", route("/", "web")))
    proxy = run_proxy(bootstrap)
    until_answers(port, 200)
    wait_until(lambda: any(r.startswith("RDS ack") for r in server.stream().story()), 10, "all is acknowledged")
    assert proxy.stats()["control_plane.rate_limit_enforced"] >= 1


def test_a_rate_of_nothing_is_a_mistake(run_proxy, make_control):
    server, one = make_control(), free_port()
    slow = grpc_source("control", "DELTA_GRPC")
    slow["api_config_source"]["rate_limit_settings"] = {"fill_rate": 0}
    server.set(static_listener(one, 201, "one"), eds_cluster("web", source=slow))
    run_proxy(dynamic_bootstrap(server))
    until_answers(one, 201)
    assert wait_until(lambda: server.stream().nacks(CDS), 10, "a NACK")[0].error_detail.message


@pytest.mark.parametrize("node_once", [True, False])
def test_node_and_metadata(run_proxy, make_control, node_once):
    server, port = make_control(), free_port()
    server.set(static_listener(port, 201))
    config = dynamic_bootstrap(server, node_once=node_once)
    config["dynamic_resources"]["ads_config"]["grpc_services"][0]["initial_metadata"] = [{"key": "x-tenant", "value": "blue"}]
    run_proxy(config)
    until_answers(port, 201)
    stream = server.stream()
    wait_until(lambda: stream.acks(LDS), 10, "an ACK")
    assert stream.metadata["x-tenant"] == "blue"
    assert [bool(r.node.id) for r in stream.requests] == [i == 0 or not node_once for i in range(len(stream.requests))]


def test_over_tls(run_proxy, make_control):
    """The control plane shows who it is, and asks the same of the proxy."""
    root, strangers = certs.Root(), certs.Root()
    chain, key = root.leaf("spiffe://cluster.local/ns/istio-system/sa/istiod")
    credentials = grpc.ssl_server_credentials([(key.encode(), chain.encode())], root.pem.encode(), require_client_auth=True)
    server, port = make_control(credentials=credentials), free_port()
    server.set(static_listener(port, 201))

    def start(own_root, name, ready):
        leaf = root.leaf("spiffe://cluster.local/ns/a/sa/b")
        socket = certs.upstream(leaf, own_root, sans=[{"exact": name}], sni="istiod.istio-system.svc")
        socket["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2"]
        return run_proxy(dynamic_bootstrap(server, cluster_fields={"transport_socket": socket}), ready=ready)

    start(strangers, "spiffe://cluster.local/ns/istio-system/sa/istiod", False)
    start(root, "spiffe://cluster.local/ns/istio-system/sa/somebody", False)
    pause()
    assert not server.streams  # to neither stranger is anything said
    start(root, "spiffe://cluster.local/ns/istio-system/sa/istiod", True)
    until_answers(port, 201)


def test_what_never_comes_is_waited_for_so_long(run_proxy, make_control):
    server, port = make_control(), free_port()
    server.withhold(RDS)
    server.set(with_type(LDS, listener(rds_hcm("r", source=ads_source(initial_fetch_timeout="0.5s")), port=port)))
    proxy = run_proxy(dynamic_bootstrap(server), ready=False)
    until_answers(port, 404)  # no routes: nothing is found
    assert proxy.admin_get("/ready").status == 200
    server.set(routes("r", {"match": {"prefix": "/"}, "direct_response": {"status": 201}}))
    server.release(RDS)
    until_answers(port, 201)


def test_not_ready_while_endpoints_are_missing(run_proxy, backends, make_control):
    server, port = make_control(), free_port()
    server.withhold(EDS)
    server.set(eds_cluster("web"), assignment("web", backends().port), with_type(LDS, listener(hcm([route("/", "web")]), port=port)))
    proxy = run_proxy(dynamic_bootstrap(server), ready=False)
    wait_until(lambda: server.streams and server.streams[0].of(EDS), 10, "endpoints are asked for")
    pause()
    assert not server.streams[0].of(LDS) and answers(port) is None
    assert proxy.admin_get("/ready").status == 503
    server.release(EDS)
    until_answers(port, 200)


@pytest.mark.parametrize("api_type", API_TYPES)
def test_a_changed_cluster_warms_beside_its_predecessor(run_proxy, backends, make_control, api_type):
    server, port = make_control(), free_port()
    backend = backends()
    server.set(eds_cluster("web"), assignment("web", backend.port), with_type(LDS, listener(hcm([route("/", "web")]), port=port)))
    run_proxy(dynamic_bootstrap(server, api_type))
    until_answers(port, 200)
    stream = server.stream()
    wait_until(lambda: stream.acks(CDS), 10, "the first ACK")
    acks = len(stream.acks(CDS))
    server.withhold(EDS)
    server.set(eds_cluster("web", service_name="other"))
    wait_until(lambda: "other" in stream.names(EDS), 10, "the new name is asked for")
    pause()
    assert answers(port) == 200 and len(stream.acks(CDS)) == acks  # no ACK while it warms
    server.release(EDS)
    server.set(assignment("other", backend.port))
    wait_until(lambda: len(stream.acks(CDS)) > acks, 10, "the ACK")
    assert answers(port) == 200


def test_unknown_config_sources_are_refused(run_proxy, make_control):
    server, port = make_control(), free_port()
    server.set(static_listener(port, 201))
    run_proxy(dynamic_bootstrap(server))
    until_answers(port, 201)
    rest = {"api_config_source": {**api_source(), "api_type": "REST", "grpc_services": [], "cluster_names": ["nowhere"]},
            "resource_api_version": "V3"}
    server.set(eds_cluster("web", source=rest))
    nack = wait_until(lambda: server.streams[0].nacks(CDS), 10, "a NACK")[0]
    assert "Error adding/updating cluster(s) web: " in nack.error_detail.message
