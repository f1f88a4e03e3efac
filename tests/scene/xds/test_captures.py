"""
Configurations as an istiod sent them, loaded from a small control plane and with traffic through them (captured.py). The
recordings lie beside the source tree, or where LATEEN_CONTRACT says; a set of the same shapes, written here, is always tried.
"""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from lib.xds import PREFIX

TOP = pathlib.Path(__file__).resolve().parents[3]
CAPTURES = pathlib.Path(os.environ.get("LATEEN_CONTRACT", TOP.parent / "shared/contract")) / "captures"
# what a mesh may send and this proxy refuses to this day, by what the NACK says
KNOWN = ("http.lua.v3.Lua", "envoy.clusters.dynamic_forward_proxy", "dynamic_forward_proxy.v3", "proxy_protocol", "ProxyProtocol", "original_src",
         "cannot read file")  # a file of the recorded machine
# what has to have been tried, at least so often
WANTED = {"sidecar-full": {"TCP": 5, "HTTP": 2, "HTTP over TLS": 3, "passed through": 1},
          "sidecar-plain": {"passed through": 1, "inbound plaintext": 2, "inbound mTLS": 2},
          "sidecar-scoped": {"kept in": 1}, "sidecar-strict": {}, "sidecar-lab": {}, "sidecar-none": {}, "sidecar-tproxy": {},
          "gateway-full": {"weighted": 2}, "gateway-api": {}, "gateway-lab": {}}

can_unshare = subprocess.run(["unshare", "-Urn", "nft", "list", "ruleset"], capture_output=True).returncode == 0
pytestmark = pytest.mark.skipif(not can_unshare, reason="needs network namespaces and nft in them")


def drive(directory):
    done = subprocess.run(["unshare", "-Urn", sys.executable, str(pathlib.Path(__file__).with_name("captured.py")), str(directory)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout.splitlines()[-1])
    for texts in result["refused"].values():
        for text in texts:
            for part in text.split(", "):  # each resource of a NACK has its own reason
                assert any(word in text for word in KNOWN), part
    return result["counts"]


@pytest.mark.parametrize("name", sorted(WANTED))
def test_captured(name):
    if not (CAPTURES / name).is_dir():
        pytest.skip(f"the recording {name} is not there")
    counts = drive(CAPTURES / name)
    assert all(counts.get(what, 0) >= number for what, number in WANTED[name].items()), counts


# --- the same shapes, of our own ---

ISTIO_TLS = {"name": "envoy.transport_sockets.tls", "typed_config": {
    "@type": PREFIX + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "outbound_.8080_._.api.zoo.svc.cluster.local",
    "common_tls_context": {
        "alpn_protocols": ["istio-http/1.1", "istio"],
        "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": {"api_config_source": {
            "api_type": "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}}],
        "combined_validation_context": {
            "default_validation_context": {"match_subject_alt_names": [{"exact": "spiffe://cluster.local/ns/zoo/sa/api"}]},
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": {"api_config_source": {
                "api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]},
                "initial_fetch_timeout": "0s", "resource_api_version": "V3"}}}}}}
ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}


def filters(manager=None, cluster=None):
    if cluster:
        return [{"name": "tcp", "typed_config": {"@type": PREFIX + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                                                 "stat_prefix": cluster, "cluster": cluster}}]
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": PREFIX + "envoy.extensions.filters.http.router.v3.Router"}}
    return [{"name": "http", "typed_config": {
        "@type": PREFIX + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "s", "http_filters": [router], **manager}}]


def address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def zoo():
    """A sidecar with one HTTP service that speaks mTLS, one TCP service in plaintext, and itself at 8085."""
    def eds(name, **fields):
        return {"name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": ADS}, **fields}

    def load(name, host, port, mode=None):
        metadata = {"metadata": {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": mode}}}} if mode else {}
        return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(host, port)}, **metadata}]}]}

    raw = {"name": "envoy.transport_sockets.raw_buffer",
           "typed_config": {"@type": PREFIX + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}
    api, db = "outbound|8080||api.zoo.svc.cluster.local", "outbound|5432||db.zoo.svc.cluster.local"
    clusters = [eds(api, transport_socket_matches=[{"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": ISTIO_TLS},
                                                   {"name": "tlsMode-disabled", "match": {}, "transport_socket": raw}]),
                eds(db), {"name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "5s"},
                *({"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s"}
                  for name in ("PassthroughCluster", "inbound|8085||"))]
    inbound = {"route_config": {"name": "inbound|8085||", "validate_clusters": False, "virtual_hosts": [{
        "name": "inbound|http|8085", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "inbound|8085||"}}]}]}}
    original = {"name": "envoy.filters.listener.original_dst",
                "typed_config": {"@type": PREFIX + "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"}}
    listeners = [
        {"name": "0.0.0.0_8080", "address": address("0.0.0.0", 8080), "bind_to_port": False, "traffic_direction": "OUTBOUND",
         "filter_chains": [{"filters": filters({"rds": {"config_source": ADS, "route_config_name": "8080"}})}]},
        {"name": "10.96.7.7_5432", "address": address("10.96.7.7", 5432), "bind_to_port": False, "filter_chains": [{"filters": filters(cluster=db)}]},
        {"name": "virtualOutbound", "address": address("0.0.0.0", 15001), "use_original_dst": True, "traffic_direction": "OUTBOUND",
         "filter_chains": [{"name": "virtualOutbound-catchall-tcp", "filters": filters(cluster="PassthroughCluster")}]},
        {"name": "virtualInbound", "address": address("0.0.0.0", 15006), "traffic_direction": "INBOUND", "listener_filters": [original],
         "filter_chains": [{"name": "0.0.0.0_8085", "filter_chain_match": {"destination_port": 8085}, "filters": filters(inbound)}]}]
    routes = [{"name": "8080", "validate_clusters": False, "ignore_port_in_host_matching": True, "virtual_hosts": [
        {"name": "api.zoo.svc.cluster.local:8080", "domains": ["api.zoo.svc.cluster.local", "api", "10.96.7.8"],
         "routes": [{"name": "default", "match": {"prefix": "/"}, "route": {"cluster": api, "timeout": "0s"}}]},
        {"name": "gone.zoo.svc.cluster.local:8080", "domains": ["gone"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 410}}]},
        {"name": "allow_any", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}}]}]}]
    return {"cds": clusters, "eds": [load(api, "10.20.7.1", 8089, "istio"), load(db, "10.20.7.2", 5439)], "lds": listeners, "rds": routes}


def test_the_same_shapes(tmp_path):
    directory = tmp_path / "sidecar-own"
    directory.mkdir()
    (tmp_path / "nodes").mkdir()
    node = {"id": "sidecar~10.20.7.9~web-1.zoo~zoo.svc.cluster.local", "cluster": "web.zoo"}
    (tmp_path / "nodes" / "sidecar.json").write_text(json.dumps(node))
    for kind, resources in zoo().items():
        (directory / f"{kind}.json").write_text(json.dumps(resources))
    counts = drive(directory)
    assert counts == {"HTTP over TLS": 1, "direct response": 1, "TCP": 1, "passed through": 1, "inbound plaintext": 1}
