"""Headers by which a client would steer a proxy, or claim to be somebody: what of them gets through."""
import pytest

from lib import client
from lib.backend import Backend
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

STEERING = [f"x-envoy-{name}" for name in (
    "internal", "retry-on", "retry-grpc-on", "max-retries", "upstream-alt-stat-name", "upstream-rq-timeout-ms",
    "upstream-rq-per-try-timeout-ms", "upstream-rq-timeout-alt-response", "hedge-on-per-try-timeout", "retriable-status-codes",
    "retriable-header-names", "force-trace", "ip-tags", "original-url")]
OF_THE_MESH = [f"x-envoy-{name}" for name in (
    "decorator-operation", "downstream-service-cluster", "downstream-service-node", "original-path", "original-host")]
OTHERS = ["x-envoy-made-up", "x-envoy-is-timeout-retry", "x-envoy-overloaded", "x-envoy-degraded", "x-forwarded-host",
          "x-client-trace-id", "traceparent", "b3", "forwarded"]
VALUES = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7", "x-forwarded-port": "1234",
          "x-request-id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "via": "first"}
MODES = {
    "inside": {}, "edge": {"use_remote_address": True},
    "behind": {"use_remote_address": True, "xff_num_trusted_hops": 1},
    "silent": {"use_remote_address": True, "skip_xff_append": True},
    "named": {"via": "scene"},
    "port": {"use_remote_address": True, "append_x_forwarded_port": True},
    "port-behind": {"use_remote_address": True, "append_x_forwarded_port": True, "xff_num_trusted_hops": 1},
    **{mode: {"forward_client_cert_details": mode}
       for mode in ("SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY")},
}


@pytest.fixture(scope="module")
def ask(run_shared):
    """ask(mode): what the backend saw of all of them, and the response."""
    server = Backend("a")
    proxy = run_shared(bootstrap([listener(hcm([route("/", "a")], **fields), name=name) for name, fields in MODES.items()],
                                 [cluster("a", server.port)]))
    ports = dict(zip(MODES, proxy.ports))

    def get(mode):
        names = [*STEERING, *OF_THE_MESH, *OTHERS, "x-forwarded-client-cert", "x-forwarded-client-cert"]
        response = client.get(ports[mode], headers=[*((name, "17") for name in names), *VALUES.items()])
        return response.json()["headers"], response

    get.ports = ports
    yield get
    server.close()


@pytest.mark.parametrize("mode", ["inside", "edge", "behind"])
def test_nobody_steers(ask, mode):
    seen, _ = ask(mode)
    assert not [name for name in STEERING if name in seen]
    assert seen["x-envoy-expected-rq-timeout-ms"] == "15000"
    assert all(seen[name] == "17" for name in OTHERS)


def test_what_the_mesh_says_to_itself_stays_outside(ask):
    inside, edge = ask("inside")[0], ask("edge")[0]
    assert all(inside[name] == "17" for name in OF_THE_MESH)
    assert not [name for name in OF_THE_MESH if name in edge]


def test_from_where_and_how_a_client_came(ask):
    inside, edge, behind = ask("inside")[0], ask("edge")[0], ask("behind")[0]
    assert (inside["x-forwarded-for"], inside["x-forwarded-proto"]) == ("192.0.2.7", "https")
    assert inside["x-request-id"] == VALUES["x-request-id"]
    assert edge["x-forwarded-for"].startswith("192.0.2.7,") and edge["x-forwarded-proto"] == "http"
    assert edge["x-envoy-external-address"] == "127.0.0.1" and edge["x-request-id"] != VALUES["x-request-id"]
    assert behind["x-forwarded-for"].startswith("192.0.2.7,") and behind["x-envoy-external-address"] == "192.0.2.7"
    assert behind["x-forwarded-proto"] == "https"  # the proxy before us ended its TLS


def test_options_about_them(ask):
    assert ask("silent")[0]["x-forwarded-for"] == "192.0.2.7"
    seen, response = ask("named")
    assert seen["via"] == "first, scene" and response.header("via") == "scene"
    assert ask("inside")[0]["via"] == "first" and ask("inside")[0]["x-forwarded-port"] == "1234"
    assert ask("port")[0]["x-forwarded-port"] == str(ask.ports["port"])
    assert ask("port-behind")[0]["x-forwarded-port"] == "1234"


@pytest.mark.parametrize("mode, expected", [
    ("SANITIZE", None), ("FORWARD_ONLY", None), ("APPEND_FORWARD", None), ("SANITIZE_SET", None), ("ALWAYS_FORWARD_ONLY", "17")])
def test_without_mutual_tls_nobody_is_somebody(ask, mode, expected):
    found = ask(mode)[0].get("x-forwarded-client-cert")
    assert found == expected or set(found.split(",")) == {expected}  # Envoy makes one line of several
