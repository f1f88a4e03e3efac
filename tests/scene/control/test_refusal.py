"""A proxy refuses one resource: what it had stays in force, and everything else goes on. The proxy is a real Envoy that takes only
small regular expressions, which lateend cannot know."""
import json

import pytest

from lib import client
from lib import proxy as proxy_lib
from lib.backend import free_port
from lib.client import wait_until

MESH = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "enableAutoMtls: false"}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-1, namespace: edge, labels: {istio: edge}}
spec: {containers: [{name: istio-proxy}]}
status: {podIP: 127.0.0.1, conditions: [{type: Ready, status: "True"}]}
"""


def edge(ports):
    servers = ", ".join(f"{{port: {{number: {p}, name: http-{p}, protocol: HTTP}}, hosts: ['*']}}" for p in ports)
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: edge, namespace: edge}}
spec: {{clusterIP: 10.0.0.9, selector: {{istio: edge}}, ports: [{", ".join(f"{{name: http-{p}, port: {p}}}" for p in ports)}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: edge}}
spec: {{selector: {{istio: edge}}, servers: [{servers}]}}
"""


def says(port, text, match=""):
    """Whatever comes to the port is answered with the text."""
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: on-{port}, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{{match: [{{port: {port}{match}}}], directResponse: {{status: 200, body: {{string: "{text}"}}}}}}]
"""


TOO_MUCH = ", uri: {regex: '/[a-z]{1,40}[0-9]{1,40}'}"


def bootstrap(control):
    ads = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    h2 = proxy_lib.typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}})
    return {"node": {"id": "router~127.0.0.1~edge-1.edge~edge.svc.cluster.local", "cluster": "edge",
                     "metadata": {"NAMESPACE": "edge", "NAME": "edge-1", "INSTANCE_IPS": "127.0.0.1", "LABELS": {"istio": "edge"}}},
            "layered_runtime": {"layers": [{"name": "small", "static_layer": {"re2.max_program_size.error_level": 60}}]},
            "dynamic_resources": {"lds_config": ads, "cds_config": ads, "ads_config": {
                "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}},
            "static_resources": {"clusters": [proxy_lib.cluster(
                "xds-grpc", control.plain,
                typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2})]}}


def answer(port):
    try:
        response = client.get(port)
        return response.body.decode() if response.status == 200 else response.status
    except OSError:
        return None


@pytest.fixture
def gateway(lateend, workdir):
    """(lateend, a real Envoy as gateway, its three ports): each port says its number."""
    control, ports = lateend(), [free_port() for _ in range(3)]
    (control.config / "mesh.yaml").write_text(MESH)
    (control.config / "edge.yaml").write_text(edge(ports))
    for port in ports:
        (control.config / f"{port}.yaml").write_text(says(port, f"{port}"))
    started = []

    def start():
        started.append(proxy_lib.start("envoy", bootstrap(control), workdir))
        return started[-1]

    yield control, start, ports
    for envoy in started:
        envoy.stop()


def refused(control):
    """{resource: the proxy's words} of /debug/syncz."""
    proxies = json.loads(client.get(control.http, "/debug/syncz").body)
    return {name: why for proxy in proxies for state in proxy["resources"].values() for name, why in state.get("refused", {}).items()}


def test_a_refused_route_keeps_its_predecessor_and_others_go_on(gateway):
    control, start, (one, two, three) = gateway
    start()
    for port in (one, two, three):
        wait_until(lambda: answer(port) == f"{port}", what=f"port {port}")
    assert refused(control) == {} and control.metric("pilot_total_xds_rejects") == 0
    # one edit: what is bad comes in one response with what is good
    for port in (one, two, three):
        (control.config / f".{port}").write_text(says(port, "second", TOO_MUCH if port == two else ""))
    for port in (one, two, three):
        (control.config / f".{port}").rename(control.config / f"{port}.yaml")
    for port in (one, three):
        wait_until(lambda: answer(port) == "second", what=f"the change on port {port}")
    assert answer(two) == f"{two}"
    wait_until(lambda: f"http.{two}" in refused(control), what="the reason")
    assert list(refused(control)) == [f"http.{two}"] and "program size" in refused(control)[f"http.{two}"]
    assert control.lines(f"refuses RDS http.{two}: ", "all else goes on")
    # the bad one is left alone, and nothing waits for it
    rejects = control.metric("pilot_total_xds_rejects")
    (control.config / f"{one}.yaml").write_text(says(one, "third"))
    wait_until(lambda: answer(one) == "third", what="a further change")
    assert control.metric("pilot_total_xds_rejects") == rejects
    assert answer(two) == f"{two}" and answer(three) == "second"
    # until it changes
    (control.config / f"{two}.yaml").write_text(says(two, "mended"))
    wait_until(lambda: answer(two) == "mended", what="the mended route")
    wait_until(lambda: refused(control) == {}, what="nothing refused")


def test_who_starts_with_a_bad_route_gets_the_others(gateway):
    control, start, (one, two, three) = gateway
    (control.config / f"{two}.yaml").write_text(says(two, "bad", TOO_MUCH))
    start()  # it is live, so its listeners have their routes
    for port in (one, three):
        wait_until(lambda: answer(port) == f"{port}", what=f"port {port}")
    wait_until(lambda: list(refused(control)) == [f"http.{two}"], what="the reason")
    wait_until(lambda: answer(two) == 404, what="a listener without routes")
