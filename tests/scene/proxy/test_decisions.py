"""/decisions: what was decided about requests, by whom, and after what."""
import pytest

from lib import client
from lib.backend import free_port
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = [pytest.mark.quick, pytest.mark.lateen_only]  # Envoy has no such page

OBJECT = "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/front"


def named(path, to, name, **fields):
    return route(path, to, name=name, metadata={"filter_metadata": {"istio": {"config": OBJECT}}}, **fields)


def decisions(proxy, query=""):
    reply = proxy.admin_get("/decisions?format=json" + query)
    assert reply.status == 200, reply.body
    return reply.json()["decisions"]


def serve(run_proxy, backends):
    dead = cluster("dead", free_port(), metadata={"filter_metadata": {"istio": {
        "config": "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/dead", "services": [{"host": "dead.shop", "name": "dead", "namespace": "shop"}]}}})
    routes = [named("/dead", "dead", "to-dead", retry=2), named("/gone", {"cluster_header": "x-none"}, "to-nowhere"),
              {"match": {"prefix": "/no"}, "name": "refusal", "direct_response": {"status": 403}}, named("/", "a", "to-a")]
    routes[0]["route"]["retry_policy"] = {"retry_on": "connect-failure", "num_retries": 2}
    del routes[0]["retry"]
    return run_proxy(bootstrap(listener(hcm(routes)), [cluster("a", backends().port), dead]))


def test_a_failure_is_explained(run_proxy, backends):
    proxy = serve(run_proxy, backends)
    assert client.get(proxy.port, "/dead/end?token=secret", headers={"x-request-id": "the-one"}).status == 503
    found, = decisions(proxy, "&request_id=the-one")
    assert found["kind"] == "failed" and found["code"] == 503 and set(found["flags"]) == {"UF", "URX"}
    assert found["path"] == "/dead/end" and "secret" not in str(found)  # no query
    assert found["route"]["name"] == "to-dead" and found["route"]["object"] == OBJECT
    assert found["cluster"]["service"] == "dead.shop" and found["cluster"]["object"].endswith("/destination-rule/dead")
    assert [step["outcome"] for step in found["attempts"]][:2] == ["connection failure"] * 2 and len(found["attempts"]) == 3
    assert all(step["endpoint"].startswith("127.0.0.1:") for step in found["attempts"])
    assert found["answered_by"] == "envoy.filters.http.router" and found["timings_ms"]["total"] > 0 and found["details"].startswith("upstream_reset_before_response_started")
    line = proxy.admin_get("/decisions?failed&limit=1").body.decode()
    assert " 503 " in line and "from=" + OBJECT in line and line.count("\n") == 1


def test_who_answered(run_proxy, backends):
    proxy = serve(run_proxy, backends)
    for path, status, details in (("/gone", 503, "cluster_not_found"), ("/no", 403, "direct_response"), ("/bad", 200, "via_upstream")):
        client.get(proxy.port, path, headers={"x-request-id": path})
        found = decisions(proxy, "&request_id=" + path)
        if status == 200:
            assert [(entry["kind"], entry["answered_by"]) for entry in found] == [("sample", "upstream")]
        else:
            assert [(entry["code"], entry["details"], entry["answered_by"]) for entry in found] == [(status, details, "envoy.filters.http.router")]


def test_the_record_is_bounded(run_proxy, backends):
    proxy = serve(run_proxy, backends)
    with client.Connection(proxy.port) as connection:
        for _ in range(400):
            connection.request(path="/no" + "x" * 5000)
            assert connection.response().status == 403
    assert len(decisions(proxy)) <= 128
    assert len(decisions(proxy, "&limit=5")) == 5
    assert len(proxy.admin_get("/decisions?format=json").body) < 160 * 8192
