"""/config_dump as Envoy writes it, of the same bootstrap, and its filters."""
import pytest

from lib import certs, client
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick


def dump(proxy, query=""):
    reply = proxy.admin_get("/config_dump" + query)
    assert reply.status == 200, reply.body
    return reply.json()


def normal(value):
    """Without what differs from process to process."""
    if isinstance(value, dict):
        return {key: normal(item) for key, item in value.items() if key not in ("last_updated", "unhonoured_fields")}
    return [normal(item) for item in value] if isinstance(value, list) else value


def serve(run_proxy, backends):
    leaf_root = certs.Root()
    leaf = leaf_root.leaf("spiffe://cluster.local/ns/a/sa/b")
    tls = cluster("tls", backends().port, transport_socket=certs.upstream(leaf, leaf_root))
    chains = [{"filters": [hcm([route("/", "a", name="first")])]}]
    config = bootstrap(listener(chains=chains), [cluster("a", backends().port, connect_timeout="1.500s"), tls])
    return config, run_proxy(config)


def section(whole, name):
    found = [entry for entry in whole["configs"] if entry["@type"].endswith("." + name)]
    assert len(found) == 1, [entry["@type"] for entry in whole["configs"]]
    return found[0]


def test_what_is_served_is_shown_as_it_was_given(run_proxy, backends):
    config, proxy = serve(run_proxy, backends)
    whole = dump(proxy, "?include_eds")
    assert [entry["@type"].rsplit(".", 1)[1] for entry in whole["configs"]][:7] == [
        "BootstrapConfigDump", "ClustersConfigDump", "EndpointsConfigDump", "ListenersConfigDump", "ScopedRoutesConfigDump",
        "RoutesConfigDump", "SecretsConfigDump"]
    shown = section(whole, "BootstrapConfigDump")["bootstrap"]
    assert len(shown["static_resources"]["clusters"]) == 2 and len(shown["static_resources"]["listeners"]) == 1
    clusters = normal(section(whole, "ClustersConfigDump")["static_clusters"])
    assert [entry["cluster"]["name"] for entry in clusters] == ["a", "tls"]
    assert clusters[0] == {"cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                                       **config["static_resources"]["clusters"][0]}}
    assert "PRIVATE KEY" not in str(whole)
    endpoint = normal(section(whole, "EndpointsConfigDump")["static_endpoint_configs"])[0]["endpoint_config"]
    assert endpoint["cluster_name"] == "a" and endpoint["policy"] == {"overprovisioning_factor": 140}
    host = endpoint["endpoints"][0]["lb_endpoints"][0]
    assert host["health_status"] == "HEALTHY" and host["load_balancing_weight"] == 1
    routes = section(whole, "RoutesConfigDump")["static_route_configs"]
    assert routes[0]["route_config"]["virtual_hosts"][0]["routes"][0]["name"] == "first"
    name = config["static_resources"]["listeners"][0]["name"]
    assert section(whole, "ListenersConfigDump")["static_listeners"][0]["listener"]["name"] == name
    assert "EndpointsConfigDump" not in str(dump(proxy))


def test_both_write_the_same(backends, workdir):
    """Normalised, the two pages are equal but for what Envoy says about itself."""
    from lib import proxy as proxy_lib
    root = certs.Root()
    leaf = root.leaf("spiffe://cluster.local/ns/a/sa/b")
    tls = cluster("tls", backends().port, transport_socket=certs.upstream(leaf, root))
    config = bootstrap(listener(hcm([route("/", "a", name="first")])), [cluster("a", backends().port), tls])
    pages = {}
    for kind in ("lateen", "envoy"):
        proxy = proxy_lib.start(kind, config, workdir)
        try:
            pages[kind] = normal(dump(proxy, "?include_eds"))
        finally:
            proxy.stop()
    for page in pages.values():
        shown = section(page, "BootstrapConfigDump")["bootstrap"]
        shown.pop("node", None)
        shown.pop("admin", None)
        page["configs"] = [entry for entry in page["configs"] if not entry["@type"].endswith("EcdsConfigDump")]
    for mine, theirs in zip(pages["lateen"]["configs"], pages["envoy"]["configs"]):
        assert mine == theirs
    assert len(pages["lateen"]["configs"]) == len(pages["envoy"]["configs"])


def test_parts_of_it(run_proxy, backends):
    _, proxy = serve(run_proxy, backends)
    kind = "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"
    assert [(entry["@type"], entry["cluster"]["name"]) for entry in dump(proxy, "?resource=static_clusters")["configs"]] == [
        (kind + ".StaticCluster", "a"), (kind + ".StaticCluster", "tls")]
    assert dump(proxy, "?resource=static_clusters&mask=cluster.name")["configs"][0] == {
        "@type": kind + ".StaticCluster", "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a"}}
    assert [entry["cluster"]["name"] for entry in dump(proxy, "?resource=static_clusters&name_regex=t.*")["configs"]] == ["tls"]
    assert dump(proxy, "?resource=static_listeners&name_regex=none") == {}
    assert [entry["@type"] for entry in dump(proxy, "?mask=static_clusters")["configs"]] == [kind]
    assert list(dump(proxy, "?mask=bootstrap")["configs"][0]) == ["@type", "bootstrap"]


@pytest.mark.parametrize("query, status, text", [
    ("resource=nonsense", 404, "nonsense not found in config dump"),
    ("resource=bootstrap", 400, "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field"),
    ("mask=nonsense", 400, "FieldMask nonsense could not be successfully applied to any configs."),
    ("resource=static_clusters&mask=nonsense", 400, "could not be successfully used."),
    ("name_regex=(", 400, "missing ): ("),
    ("mask=" + "a" * 8000, 400, "")])
def test_what_cannot_be_answered_is_told(run_proxy, backends, query, status, text):
    _, proxy = serve(run_proxy, backends)
    reply = proxy.admin_get("/config_dump?" + query)
    assert reply.status == status and text in reply.body.decode(), reply.body[:300]


@pytest.mark.lateen_only  # Envoy has no such list
def test_fields_that_do_nothing_are_named(run_proxy, backends):
    config = bootstrap(listener(hcm([route("/", "a")])), [cluster("a", backends().port, metadata={"filter_metadata": {}}, track_cluster_stats={})])
    proxy = run_proxy(config)
    assert client.get(proxy.port).status == 200
    entry = dump(proxy, "?resource=static_clusters")["configs"][0]
    assert entry["unhonoured_fields"] == ["track_cluster_stats"]
