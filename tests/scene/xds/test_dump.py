"""/config_dump of what a control plane sent: versions, what was refused, extensions, virtual hosts on demand."""
import json

import pytest

from lib import client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import hcm, listener, typed
from lib.xds import (CDS, ECDS, LDS, PREFIX, VHDS, ads_source, cluster_of_static, dynamic_bootstrap, rds_hcm, routes, with_type)

FAULT = PREFIX + "envoy.extensions.filters.http.fault.v3.HTTPFault"

CONTROL = {"missing": "empty"}


def says(status):
    return {"match": {"prefix": "/"}, "direct_response": {"status": status}}


def static_listener(name, port, stat_prefix="scene"):
    made = with_type(LDS, listener(hcm([says(200)]), name=name, port=port))
    made["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = stat_prefix
    return made


def sections(proxy, query=""):
    page = json.loads(proxy.admin_get("/config_dump" + query).body)
    return {entry["@type"].rsplit(".", 1)[-1]: entry for entry in page["configs"]}


def test_versions_and_refused_listeners(run_proxy, control):
    port = free_port()
    control.set(static_listener("good", port), cluster_of_static("c", 1), version="7", push=False)
    control.counter = 40
    proxy = run_proxy(dynamic_bootstrap(control))
    page = sections(proxy)
    versions = {kind: page[kind]["version_info"] for kind in ("ClustersConfigDump", "ListenersConfigDump")}
    assert all(int(version) > 40 for version in versions.values())  # of the updates, not of what is in them
    assert page["ClustersConfigDump"]["dynamic_active_clusters"][0]["version_info"] == "7"
    stream = control.stream()
    control.set(static_listener("good", port, ""), static_listener("never", port, ""))
    wait_until(lambda: stream.nacks(LDS), 10, "a NACK")
    page = sections(proxy)["ListenersConfigDump"]
    assert page["version_info"] == versions["ListenersConfigDump"]  # of the last good one
    shown = {entry.get("name"): entry for entry in page["dynamic_listeners"]}
    assert shown["good"]["active_state"]["version_info"] == "7"
    error = shown["good"]["error_state"]
    assert error["failed_configuration"]["@type"] == LDS and error["failed_configuration"]["name"] == "good"
    assert error["details"] and error["last_update_attempt"].endswith("Z")
    alone = [entry for entry in page["dynamic_listeners"] if "name" not in entry]  # nothing but an error: Envoy has the good one's, too
    assert "never" in [entry["error_state"]["failed_configuration"]["name"] for entry in alone]
    control.set(static_listener("good", port, "again"))
    control.remove(LDS, "never")
    wait_until(lambda: "error_state" not in json.dumps(sections(proxy)["ListenersConfigDump"]), 10, "good ones have no error")


@pytest.mark.lateen_only  # Envoy has them for listeners alone
def test_refused_clusters_and_routes(run_proxy, control):
    port = free_port()
    control.set(with_type(LDS, listener(rds_hcm("r"), port=port)), routes("r", says(200)), cluster_of_static("c", 1))
    proxy = run_proxy(dynamic_bootstrap(control))
    stream = control.stream()
    control.set({"@type": CDS, "name": "c", "type": "EDS"})
    control.set(routes("r", vhosts=[{"name": "v", "domains": ["a", "a"]}]))
    wait_until(lambda: stream.nacks(CDS), 10, "a NACK")
    cluster = sections(proxy)["ClustersConfigDump"]["dynamic_active_clusters"][0]
    assert cluster["error_state"]["failed_configuration"]["type"] == "EDS" and "eds_cluster_config" in cluster["error_state"]["details"]
    assert cluster["cluster"]["type"] == "STATIC"


def test_extensions(run_proxy, control):
    port = free_port()
    filters = [{"name": "fault", "config_discovery": {"config_source": ads_source(initial_fetch_timeout="0s"), "type_urls": [FAULT]}}]
    control.set(with_type(LDS, listener(rds_hcm("r", http_filters=filters), port=port)), routes("r", says(200)))
    control.set({"@type": ECDS, "name": "fault", "typed_config": {"@type": FAULT}}, version="5")
    proxy = run_proxy(dynamic_bootstrap(control))
    wait_until(lambda: "EcdsConfigDump" in sections(proxy), 10, "the extension")
    assert list(sections(proxy)) == ["BootstrapConfigDump", "ClustersConfigDump", "EcdsConfigDump", "ListenersConfigDump",
                                     "ScopedRoutesConfigDump", "RoutesConfigDump", "SecretsConfigDump"]
    entry = sections(proxy)["EcdsConfigDump"]["ecds_filters"][0]
    assert entry["version_info"] == "5" and entry["last_updated"].endswith("Z")
    assert entry["ecds_filter"] == {"@type": ECDS, "name": "fault", "typed_config": {"@type": FAULT}}
    alone = json.loads(proxy.admin_get("/config_dump?resource=ecds_filters").body)["configs"][0]
    assert alone["@type"] == PREFIX + "envoy.admin.v3.EcdsConfigDump.EcdsFilterConfig" and alone["ecds_filter"]["name"] == "fault"


def test_hosts_on_demand_are_among_the_routes(run_proxy, control):
    port = free_port()
    filters = [{"name": "on_demand", "typed_config": typed("envoy.extensions.filters.http.on_demand.v3.OnDemand")}]
    known = {"name": "known", "domains": ["known"], "routes": [says(201)]}
    control.set(with_type(LDS, listener(rds_hcm("r", http_filters=filters), port=port)),
                routes("r", vhosts=[known], vhds={"config_source": ads_source(initial_fetch_timeout="0.2s")}))
    proxy = run_proxy(dynamic_bootstrap(control))
    control.set({"@type": VHDS, "name": "r/shop", "domains": ["shop.example"], "routes": [says(202)]}, aliases=["r/shop.example"], push=False)
    assert client.get(port, "/", host="shop.example").status == 202
    config = sections(proxy)["RoutesConfigDump"]["dynamic_route_configs"][0]["route_config"]
    assert [host["name"] for host in config["virtual_hosts"]] == ["known", "r/shop"]
    assert config["virtual_hosts"][1]["domains"] == ["shop.example"]
