"""Which requests an access log tells of, and values that it leaves out."""
import json

import pytest

from lib import client
from lib import proxy as proxy_lib
from lib.client import wait_until
from lib.logs import log_to, text
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick


def direct(path, status):
    return {"match": {"prefix": path}, "direct_response": {"status": status}}


def compare(op, value):
    return {"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "none"}}}


STATUS = {"status_code_filter": compare("GE", 400)}
NR = {"response_flag_filter": {"flags": ["NR", "UF"]}}
HEADER = {"header_filter": {"header": {"name": "x-log", "string_match": {"exact": "yes"}}}}

ROUTES = [direct("/teapot", 418), direct("/bad", 503), route("/ok", "a")]
ASKED = ["/ok", "/teapot", "/bad", "/nowhere"]


@pytest.mark.parametrize("log_filter, told", [
    (STATUS, ["/teapot", "/bad", "/nowhere"]),
    ({"status_code_filter": compare("EQ", 418)}, ["/teapot"]),
    ({"status_code_filter": compare("LE", 404)}, ["/ok", "/nowhere"]),
    ({"status_code_filter": compare("NE", 200)}, ["/teapot", "/bad", "/nowhere"]),
    ({"duration_filter": compare("GE", 60000)}, []),
    ({"duration_filter": compare("LE", 60000)}, ASKED),
    (NR, ["/nowhere"]),
    ({"response_flag_filter": {}}, ["/nowhere"]),
    ({"not_health_check_filter": {}}, ASKED),
    ({"and_filter": {"filters": [STATUS, {"status_code_filter": compare("LE", 418)}]}}, ["/teapot", "/nowhere"]),
    ({"or_filter": {"filters": [NR, {"status_code_filter": compare("EQ", 200)}]}}, ["/ok", "/nowhere"]),
    (HEADER, ["/teapot"]),
    ({"runtime_filter": {"runtime_key": "none", "percent_sampled": {"numerator": 100}}}, ASKED),
    ({"runtime_filter": {"runtime_key": "none"}}, []),
    ({"grpc_status_filter": {"statuses": ["UNAVAILABLE"]}}, ["/bad"]),
    ({"grpc_status_filter": {"statuses": ["UNAVAILABLE"], "exclude": True}}, ["/ok", "/teapot", "/nowhere"]),
    ({"log_type_filter": {"types": ["DownstreamEnd"]}}, ASKED),
    ({"log_type_filter": {"types": ["DownstreamEnd"], "exclude": True}}, []),
    ({"metadata_filter": {"match_if_key_not_found": False, "matcher": {"filter": "a", "path": [{"key": "b"}], "value": {"present_match": True}}}}, []),
    ({"metadata_filter": {"matcher": {"filter": "a", "path": [{"key": "b"}], "value": {"present_match": True}}}}, ASKED),
], ids=str)
def test_what_is_told(run_proxy, backends, workdir, log_filter, told):
    path, all_path = workdir / "log", workdir / "all"
    logs = [{**log_to(path, **text("%REQ(:PATH)%\n")), "filter": log_filter}, log_to(all_path, **text("%REQ(:PATH)%\n"))]
    proxy = run_proxy(bootstrap(listener(hcm(ROUTES, access_log=logs)), [cluster("a", backends().port)]))
    for asked in ASKED:
        client.get(proxy.port, asked, headers={"x-log": "yes"} if asked == "/teapot" else {})
    proxy.stop()
    wait_until(lambda: all_path.read_text().splitlines() == ASKED, what="all lines")
    assert (path.read_text().splitlines() if path.exists() else []) == told


@pytest.mark.parametrize("log_filter", [{"response_flag_filter": {"flags": ["NONSENSE"]}}, {"and_filter": {"filters": [STATUS]}}, {}], ids=str)
def test_filters_that_say_nothing_are_refused(kind, backends, workdir, log_filter):
    config = bootstrap(listener(hcm(ROUTES, access_log=[{**log_to(workdir / "log", **text("x\n")), "filter": log_filter}])), [cluster("a", backends().port)])
    proxy = proxy_lib.start(kind, config, workdir, ready=False)
    assert proxy.process.wait(20) != 0
    if kind == "lateen":
        assert "access_log[0].filter" in proxy.output(), proxy.output()


def test_empty_values_are_left_out(run_proxy, backends, workdir):
    plain, in_json = workdir / "plain", workdir / "json"
    proxy = run_proxy(bootstrap(listener(hcm(ROUTES, access_log=[
        log_to(plain, omit_empty_values=True, **text("%REQ(X-NONE)%|%RESPONSE_CODE%|%UPSTREAM_CLUSTER%\n")),
        log_to(in_json, omit_empty_values=True, json_format={"none": "%REQ(X-NONE)%", "code": "%RESPONSE_CODE%", "mix": "<%REQ(X-NONE)%>"})])),
        [cluster("a", backends().port)]))
    client.get(proxy.port, "/teapot")
    proxy.stop()
    assert plain.read_text() == "|418|\n"
    assert json.loads(in_json.read_text()) == {"code": 418, "mix": "<>"}


@pytest.mark.parametrize("operator, value", [
    ("%PATH(NQ)%", "/ok"), ("%QUERY_PARAM(a)%", "1"), ("%REQ(:PATH):4%", "/ok?"),
    ("%REQ(X-NONE?:METHOD)%", "GET"), ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "127.0.0.1"), ("%ACCESS_LOG_TYPE%", "DownstreamEnd"),
    ("%RESPONSE_FLAGS_LONG%", "-"), ("%UPSTREAM_TLS_VERSION%", "-"), ("%ENVIRONMENT(LATEEN_NO_SUCH_NAME)%", "-"),
    ("%UPSTREAM_PROTOCOL%", "HTTP/1.1"), ("%GRPC_STATUS%", "-"), ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "1")])
def test_operators(run_proxy, backends, workdir, operator, value):
    path = workdir / "log"
    proxy = run_proxy(bootstrap(listener(hcm(ROUTES, access_log=[log_to(path, **text(operator + "\n"))])), [cluster("a", backends().port)]))
    assert client.get(proxy.port, "/ok?a=1&b=2").status == 200
    proxy.stop()
    assert path.read_text() == value + "\n"


def test_a_long_flag(run_proxy, backends, workdir):
    path = workdir / "log"
    proxy = run_proxy(bootstrap(listener(hcm(ROUTES, access_log=[log_to(path, **text("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%\n"))])), [cluster("a", backends().port)]))
    assert client.get(proxy.port, "/nowhere").status == 404
    proxy.stop()
    assert path.read_text() == "NR NoRouteFound\n"


def test_an_operator_of_an_extension(run_proxy, backends, workdir):
    path = workdir / "log"
    line = {**text("%REQ_WITHOUT_QUERY(:PATH)%\n"), "formatters": [{"name": "envoy.formatter.req_without_query", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"}}]}
    proxy = run_proxy(bootstrap(listener(hcm(ROUTES, access_log=[log_to(path, **line)])), [cluster("a", backends().port)]))
    assert client.get(proxy.port, "/ok?a=1").status == 200
    proxy.stop()
    assert path.read_text() == "/ok\n"


def by_metadata(value, invert=False, missing=None, key="shadow_engine_result"):
    matcher = {"filter": "envoy.filters.http.rbac", "path": [{"key": key}], "value": {"string_match": {"exact": value}}, "invert": invert}
    return {"metadata_filter": {"matcher": matcher, **({} if missing is None else {"match_if_key_not_found": missing})}}


@pytest.mark.parametrize("log_filter, told", [
    (by_metadata("denied"), ["/bad"]), (by_metadata("allowed"), ["/ok", "/teapot", "/nowhere"]), (by_metadata("denied", invert=True), ["/bad"]),
    (by_metadata("x", key="none"), ASKED), (by_metadata("x", key="none", missing=False), [])], ids=str)
def test_what_filters_have_left_behind(run_proxy, backends, workdir, log_filter, told):
    """Dynamic metadata: of RBAC, which would have denied one of them."""
    path, all_path = workdir / "log", workdir / "all"
    rules = {"action": "DENY", "policies": {"p": {"permissions": [{"url_path": {"path": {"prefix": "/bad"}}}], "principals": [{"any": True}]}}}
    rbac = {"name": "envoy.filters.http.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC", "shadow_rules": rules}}
    logs = [{**log_to(path, **text("%REQ(:PATH)%\n")), "filter": log_filter}, log_to(all_path, **text("%REQ(:PATH)%\n"))]
    proxy = run_proxy(bootstrap(listener(hcm(ROUTES, access_log=logs, http_filters=[rbac])), [cluster("a", backends().port)]))
    for asked in ASKED:
        client.get(proxy.port, asked)
    proxy.stop()
    wait_until(lambda: all_path.read_text().splitlines() == ASKED, what="all lines")
    assert (path.read_text().splitlines() if path.exists() else []) == told
