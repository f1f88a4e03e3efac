"""Headers by which a request steers its proxy: who may, what they do, and what the router says and hides."""
import pytest

from lib import backend as backend_lib
from lib import client
from lib import proxy as proxy_lib
from lib.client import wait_until
from lib.logs import log_to, text
from lib.proxy import FLUSH, bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick

LOOPBACK = {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}
INSIDE = {"use_remote_address": True, "internal_address_config": LOOPBACK}
ASKED = {"x-envoy-internal": "true", "x-envoy-upstream-rq-timeout-ms": "700", "x-envoy-ip-tags": "x", "x-envoy-decorator-operation": "op",
         "x-envoy-downstream-service-cluster": "me"}
STRICT = ["x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-max-retries", "x-envoy-retry-grpc-on", "x-envoy-retry-on"]


def seen(server):
    return {name.lower(): value for name, value in server.requests[-1].headers if name.lower().startswith(("x-envoy", "user-agent"))}


def router(**fields):
    return {"name": "envoy.filters.http.router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", **fields)}


def manager(routes, of_router=None, **fields):
    made = hcm(routes, **fields)
    made["typed_config"]["http_filters"][-1] = of_router or router()
    return made


class Place:
    """A backend that fails where the path says so, behind a proxy that logs flags and details."""

    def __init__(self, run_proxy, backends, workdir, of_router=None, to="a", clusters=None, **fields):
        self.server = backends(behaviour=lambda request, _: (503, [], b"no") if request.path.startswith("/fail") else None)
        self.log = workdir / "log"
        logs = [log_to(self.log, **text("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS%\n"))]
        config = bootstrap(listener(manager([route("/", to)], of_router, access_log=logs, **fields)), clusters or [cluster("a", self.server.port)])
        self.proxy = run_proxy(config, extra=FLUSH)
        self.lines = 0

    def ask(self, path="/", **headers):
        before = len(self.server.requests)
        reply = client.get(self.proxy.port, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        self.tries = len(self.server.requests) - before
        return reply

    def line(self):
        self.lines += 1
        return wait_until(lambda: (self.log.read_text().splitlines()[self.lines - 1:] or [None])[0] if self.log.exists() else None, what="a line")


@pytest.mark.parametrize("fields, forwarded, is_inside", [
    ({"use_remote_address": True}, None, False), (INSIDE, None, True), (INSIDE, "1.2.3.4", False), ({}, None, False),
    ({"internal_address_config": LOOPBACK}, None, False), ({"internal_address_config": LOOPBACK}, "127.0.0.9", True),
    ({"internal_address_config": LOOPBACK}, "127.0.0.9, 127.0.0.8", False), ({"internal_address_config": LOOPBACK}, "9.0.0.9", False),
    ({**INSIDE, "xff_num_trusted_hops": 1}, "127.0.0.9", False), ({**INSIDE, "xff_num_trusted_hops": 1}, None, True)])
def test_who_is_inside(run_proxy, backends, workdir, fields, forwarded, is_inside):
    place = Place(run_proxy, backends, workdir, **fields)
    reply = client.get(place.proxy.port, headers={**ASKED, **({"x-forwarded-for": forwarded} if forwarded else {})})
    assert reply.status == 200
    told, is_edge = seen(place.server), fields.get("use_remote_address") and not is_inside
    assert told.get("x-envoy-internal") == ("true" if is_inside else None)
    assert told["x-envoy-expected-rq-timeout-ms"] == ("700" if is_inside else "15000")
    assert told.get("x-envoy-ip-tags") == ("x" if is_inside else None)
    assert ("x-envoy-decorator-operation" in told) == ("x-envoy-downstream-service-cluster" in told) == (not is_edge)
    assert ("x-envoy-external-address" in told) == bool(is_edge) and "x-envoy-upstream-rq-timeout-ms" not in told


def test_own_cluster_is_told(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, add_user_agent=True)
    place.ask(x_envoy_downstream_service_cluster="me")
    assert {name: seen(place.server)[name] for name in ("user-agent", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node")} == {
        "user-agent": "scene", "x-envoy-downstream-service-cluster": "scene", "x-envoy-downstream-service-node": "scene"}
    place.ask(user_agent="mine")
    assert seen(place.server)["user-agent"] == "mine"


@pytest.mark.parametrize("headers, tries", [
    ({}, 1), ({"x_envoy_retry_on": "5xx"}, 2), ({"x_envoy_retry_on": " 5xx , no-such", "x_envoy_max_retries": "2"}, 3), ({"x_envoy_max_retries": "3"}, 1),
    ({"x_envoy_retry_on": "5xx", "x_envoy_max_retries": "0"}, 1),
    ({"x_envoy_retry_on": "retriable-status-codes", "x_envoy_retriable_status_codes": "500, 503"}, 2),
    ({"x_envoy_retry_on": "retriable-headers", "x_envoy_retriable_header_names": "content-length"}, 2),
    ({"x_envoy_retry_on": "connect-failure"}, 1)], ids=str)
def test_retries_by_header(run_proxy, backends, workdir, headers, tries):
    place = Place(run_proxy, backends, workdir, **INSIDE)
    assert place.ask("/fail", **headers).status == 503 and place.tries == tries
    assert sorted(seen(place.server)) == ["x-envoy-expected-rq-timeout-ms", "x-envoy-internal"]
    assert place.line() == ("503 URX UpstreamRetryLimitExceeded via_upstream" if "x_envoy_retry_on" in headers and "connect-failure" not in headers.values()
                            else "503 - - via_upstream")


def test_strangers_ask_for_no_retries(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, use_remote_address=True)
    assert place.ask("/fail", x_envoy_retry_on="5xx", x_envoy_max_retries="9").status == 503 and place.tries == 1


def test_each_try_is_told_what_is_left(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, **INSIDE)
    place.ask("/fail", x_envoy_retry_on="5xx", x_envoy_max_retries="3", x_envoy_upstream_rq_timeout_ms="60000")
    told = [int(request.header("x-envoy-expected-rq-timeout-ms")) for request in place.server.requests]
    assert told[0] == 60000 and told == sorted(told, reverse=True) and told[-1] < 60000


@pytest.mark.parametrize("headers, status, details", [
    ({"x_envoy_upstream_rq_timeout_ms": "100"}, 504, "response_timeout"),
    ({"x_envoy_upstream_rq_timeout_ms": "100", "x_envoy_upstream_rq_timeout_alt_response": "1"}, 204, "response_timeout"),
    ({"x_envoy_upstream_rq_per_try_timeout_ms": "100"}, 504, "upstream_per_try_timeout")], ids=str)
def test_timeouts_by_header(run_proxy, backends, workdir, headers, status, details):
    place = Place(run_proxy, backends, workdir, **INSIDE)
    assert place.ask("/delay/30", **headers).status == status
    assert place.line() == f"{status} UT UpstreamRequestTimeout {details}"


def test_retries_after_timeouts_of_tries(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, **INSIDE)
    assert place.ask("/delay/30", x_envoy_upstream_rq_per_try_timeout_ms="100", x_envoy_retry_on="5xx").status == 504
    assert place.line() == "504 URX,UT UpstreamRetryLimitExceeded,UpstreamRequestTimeout upstream_per_try_timeout"


@pytest.mark.parametrize("headers, told", [
    ({"x_envoy_expected_rq_timeout_ms": "7700"}, "7700"), ({"x_envoy_expected_rq_timeout_ms": "7700", "x_envoy_upstream_rq_timeout_ms": "99"}, "7700"),
    ({"x_envoy_upstream_rq_timeout_ms": "9900"}, "9900"), ({"x_envoy_expected_rq_timeout_ms": "x"}, "15000")], ids=str)
def test_what_the_client_side_expects_holds(run_proxy, backends, workdir, headers, told):
    place = Place(run_proxy, backends, workdir, router(respect_expected_rq_timeout=True), **INSIDE)
    assert place.ask(**headers).status == 200 and seen(place.server)["x-envoy-expected-rq-timeout-ms"] == told
    plain = Place(run_proxy, backends, workdir, **INSIDE)
    plain.ask(x_envoy_expected_rq_timeout_ms="7700")
    assert seen(plain.server)["x-envoy-expected-rq-timeout-ms"] == "15000"


@pytest.mark.parametrize("name, value, is_good", [
    ("x-envoy-upstream-rq-timeout-ms", "abc", False), ("x-envoy-max-retries", "-1", False), ("x-envoy-max-retries", "", False),
    ("x-envoy-retry-on", "5xx,foo", False), ("x-envoy-retry-grpc-on", "bla", False), ("x-envoy-upstream-rq-timeout-ms", "1" + "0" * 20, False),
    ("x-envoy-retry-on", "retriable-status-codes, 5xx", True), ("x-envoy-retry-grpc-on", "cancelled", True)])
def test_headers_that_must_be_right(run_proxy, backends, workdir, name, value, is_good):
    place = Place(run_proxy, backends, workdir, router(strict_check_headers=STRICT), **INSIDE)
    reply = client.get(place.proxy.port, headers={name: value})
    if is_good:
        assert reply.status == 200 and place.line() == "200 - - via_upstream"
        return
    assert (reply.status, reply.body.decode()) == (400, f"invalid header '{name}' with value '{value}'")
    assert place.line() == f"400 IH InvalidEnvoyRequestHeaders request_headers_failed_strict_check{{{name}}}" and place.server.requests == []


def test_only_what_can_be_checked_is(kind, backends, workdir):
    server = backends()
    config = bootstrap(listener(manager([route("/", "a")], router(strict_check_headers=["x-foo"]))), [cluster("a", server.port)])
    proxy = proxy_lib.start(kind, config, workdir, ready=False)
    assert proxy.process.wait(20) != 0 and "x-foo" in proxy.output()


@pytest.mark.parametrize("is_quiet", [False, True])
def test_a_quiet_router(run_proxy, backends, workdir, is_quiet):
    """suppress_envoy_headers: nothing of ours on the way there and back, and none on our own answers."""
    full = cluster("full", backend_lib.free_port(), circuit_breakers={"thresholds": [{"max_requests": 0, "max_pending_requests": 0, "max_connections": 0}]})
    all_gone, some_gone = cluster("all", 1), cluster("some", 1)
    all_gone["load_assignment"]["policy"] = {"drop_overloads": [{"category": "x", "drop_percentage": {"numerator": 100}}]}
    server = backends()
    log = workdir / "log"
    routes = [route("/full", "full"), route("/all", "all"), route("/", {"cluster": "a", "prefix_rewrite": "/x/"})]
    config = listener(manager(routes, router(suppress_envoy_headers=is_quiet), access_log=[log_to(log, **text("%RESPONSE_FLAGS%\n"))]))
    proxy = run_proxy(bootstrap(config, [full, all_gone, some_gone, cluster("a", server.port)]), extra=FLUSH)

    def said(path):
        return sorted(name.lower() for name, _ in client.get(proxy.port, path).headers if name.lower().startswith("x-envoy"))

    assert said("/") == ([] if is_quiet else ["x-envoy-upstream-service-time"])
    assert sorted(seen(server)) == ([] if is_quiet else ["x-envoy-expected-rq-timeout-ms", "x-envoy-original-path"])
    assert said("/full") == ([] if is_quiet else ["x-envoy-overloaded"])
    assert said("/all") == ([] if is_quiet else ["x-envoy-unconditional-drop-overload"])
    assert wait_until(lambda: log.exists() and log.read_text().splitlines()[2:], what="the lines") and log.read_text().splitlines() == ["-", "UO", "UDO"]
