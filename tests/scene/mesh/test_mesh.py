"""What a mesh is for: canaries, identities, policies; with lateen-proxy and with real Envoys as data path."""
import collections
import json

import pytest

import shop
from lib import client
from mesh_lib import free_port, wait_until

KINDS = ["lateen", "envoy"]


def test_canary_through_the_gateway(mesh, kind):
    port = free_port()
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.gateway(port, kind), shop.WEB_GATEWAY, shop.server("web", kind),
               shop.caller("caller", kind), shop.destinations(), shop.canary())
    mesh.up()
    shop.first_route(port)
    # and to each version, of which one may have answered first: what is ready is known at the gateway a moment later
    wait_until(lambda: client.get(port, host="web.test", headers={"x-canary": "true"}).status == 200, what="the route to v2")
    wait_until(lambda: b'"v1"' in client.get(port, host="web.test").body, what="the route to v1")
    seen = collections.Counter()
    with client.Connection(port) as connection:
        for _ in range(10000):
            connection.request(host="web.test")
            seen[connection.response().json()["version"]] += 1
        assert abs(seen["v2"] / 10000 - 0.10) <= 0.015, seen
        for _ in range(20):
            connection.request(host="web.test", headers={"x-canary": "true"})
            assert connection.response().json()["version"] == "v2"
    assert client.get(port, host="elsewhere.test").status == 404
    shop.first_answer(mesh)
    assert {mesh.get("caller", "http://web:8080/", "-H", "x-canary: true")["version"] for _ in range(5)} == {"v2"}


def test_strict_mtls_with_identities_on_both_sides(mesh, kind):
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.server("web", kind), shop.caller("caller", kind),
               shop.caller("stranger", labels=', sidecar.istio.io/inject: "false"'))
    mesh.up()
    assert shop.first_answer(mesh)["peer"] == "spiffe://cluster.local/ns/shop/sa/caller"
    assert "version" not in mesh.curl("stranger", "http://web:8080/", check=False)
    assert {pod["identity"] for pod in mesh.workloads()["web-v1"]} == {"spiffe://cluster.local/ns/shop/sa/web"}
    # the caller asks who answers, too
    mesh.write("names.yaml", """
        apiVersion: networking.istio.io/v1
        kind: DestinationRule
        metadata: {name: web, namespace: shop}
        spec:
          host: web.shop.svc.cluster.local
          trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: ["spiffe://cluster.local/ns/shop/sa/somebody-else"]}}
        """)
    wait_until(lambda: shop.status(mesh, "caller", "http://web:8080/") == "503", what="refusal")
    mesh.remove("names.yaml")
    shop.first_answer(mesh)


@pytest.mark.lateen_only
def test_who_called_is_counted(mesh, kind):
    """Istio's metrics; upstream Envoy lacks the filter that makes them (docs/compatibility.md)."""
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.server("web", kind), shop.caller("caller", kind))
    mesh.up()
    shop.first_answer(mesh)
    stats = wait_until(lambda: [line for name in ("web-v1", "web-v2")
                                for line in mesh.exec(name, "curl", "-s", "http://127.0.0.1:15090/stats/prometheus").splitlines()
                                if line.startswith("istio_requests_total{") and 'reporter="destination"' in line], what="a count")
    assert any('connection_security_policy="mutual_tls"' in line and 'source_workload="caller"' in line and
               'source_principal="spiffe://cluster.local/ns/shop/sa/caller"' in line and 'response_code="200"' in line
               for line in stats), stats


def test_permissive_takes_both(mesh, kind):
    shop.write(mesh, "mesh.yaml", shop.PERMISSIVE, shop.server("web", kind), shop.caller("caller", kind),
               shop.caller("stranger", labels=', sidecar.istio.io/inject: "false"'))
    mesh.up()
    assert shop.first_answer(mesh)["peer"] == "spiffe://cluster.local/ns/shop/sa/caller"
    assert shop.first_answer(mesh, "stranger")["peer"] == ""
    mesh.write("strict.yaml", """
        apiVersion: security.istio.io/v1
        kind: PeerAuthentication
        metadata: {name: web, namespace: shop}
        spec: {selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}
        """)
    wait_until(lambda: "version" not in mesh.curl("stranger", "http://web:8080/", check=False), what="the refusal")
    assert shop.first_answer(mesh)["peer"] == "spiffe://cluster.local/ns/shop/sa/caller"


def test_two_data_paths_in_one_mesh(mesh):
    """Each calls the other, with mTLS, and the application sees the same."""
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, *(shop.server(f"to-{k}", k, ["v1"]) for k in KINDS),
               *(shop.caller(f"from-{k}", k) for k in KINDS))
    mesh.up()
    answers = {}
    for source in KINDS:
        for target in KINDS:
            url = f"http://to-{target}:8080/"
            shop.first_answer(mesh, f"from-{source}", url)
            answer = mesh.get(f"from-{source}", url, "-d", "x" * 100000, "-H", "x-own: as it is")
            assert answer["peer"] == f"spiffe://cluster.local/ns/shop/sa/from-{source}"
            assert answer["bodyBytes"] == 100000 and answer["headers"]["x-own"] == "as it is"
            answers[source, target] = sorted(answer["headers"])
    assert len({json.dumps(names) for names in answers.values()}) == 1, answers


def test_a_bad_object_is_named_and_hurts_nobody(mesh):
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.server("web"), shop.caller("caller"))
    mesh.write("bad.yaml", """
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: bad, namespace: shop}
        spec:
          hosts: [web.shop.svc.cluster.local]
          http: 7
        """)
    mesh.up()
    assert shop.first_answer(mesh)["version"] in ("v1", "v2")
    wait_until(lambda: "bad.yaml" in mesh.logs("istiod"), what="the message")
    message = [line for line in mesh.logs("istiod").splitlines() if "bad.yaml" in line][0]
    assert "VirtualService shop/bad" in message and "spec.http" in message, message
