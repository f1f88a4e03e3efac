"""Which route takes a request, and what it does with it."""
import collections

import pytest

from lib import client
from lib import proxy as proxy_lib
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick


def serve(run_proxy, backends, routes=None, vhosts=None, names=("a", "b"), **fields):
    servers = {name: backends(name) for name in names}
    clusters = [cluster(name, server.port) for name, server in servers.items()]
    return run_proxy(bootstrap(listener(hcm(routes, vhosts, **fields)), clusters)), servers


def server_of(proxy, path="/", **options):
    response = client.get(proxy.port, path, **options)
    return response.json()["server"] if response.status == 200 else response.status


def test_paths(run_proxy, backends):
    proxy, _ = serve(run_proxy, backends, [
        route({"path": "/exact"}, "a"),
        route({"safe_regex": {"regex": "/re/[0-9]+"}}, "a"),
        route({"path_separated_prefix": "/sep"}, "a"),
        route({"prefix": "/UPPER", "case_sensitive": False}, "a"),
        route("/p/", "b"),
    ])
    expected = {"/exact": "a", "/exact?q=1": "a", "/exact/": 404, "/re/12": "a", "/re/12x": 404, "/re/1?x": "a",
                "/sep": "a", "/sep/x": "a", "/separate": 404, "/upperx": "a", "/p/": "b", "/p/x/y": "b", "/p": 404}
    assert {path: server_of(proxy, path) for path in expected} == expected


def test_headers_and_queries(run_proxy, backends):
    def match(**header):
        return {"prefix": "/", "headers": [header]}

    proxy, _ = serve(run_proxy, backends, [
        route(match(name="x-exact", string_match={"exact": "yes"}), "a"),
        route(match(name="x-any", present_match=True), "a"),
        route(match(name="x-range", range_match={"start": 10, "end": 20}), "a"),
        route(match(name=":method", string_match={"exact": "DELETE"}), "a"),
        route({"prefix": "/", "query_parameters": [{"name": "v", "string_match": {"exact": "2"}}]}, "a"),
        route({"prefix": "/not", "headers": [{"name": "x-not", "string_match": {"exact": "no"}, "invert_match": True,
                                              "treat_missing_header_as_empty": True}]}, "a"),
        route("/", "b"),
    ])
    assert server_of(proxy, "/not", headers={"x-not": "yes"}) == "a"
    assert server_of(proxy, "/not", headers={"x-not": "no"}) == "b"
    assert server_of(proxy, "/not") == "a"
    assert server_of(proxy) == "b"
    assert server_of(proxy, headers={"X-Exact": "yes"}) == "a"
    assert server_of(proxy, headers={"X-Exact": "YES"}) == "b"
    assert server_of(proxy, headers={"x-any": ""}) == "a"
    assert server_of(proxy, headers={"x-range": "19"}) == "a"
    assert server_of(proxy, headers={"x-range": "20"}) == "b"
    assert server_of(proxy, method="DELETE") == "a"
    assert server_of(proxy, "/?v=2&w=3") == "a"
    assert server_of(proxy, "/?w=2") == "b"


def test_hosts(run_proxy, backends):
    vhosts = [
        {"name": "one", "domains": ["one.test", "one.test:81"], "routes": [route("/", "a")]},
        {"name": "suffix", "domains": ["*.test"], "routes": [route("/", "b")]},
        {"name": "prefix", "domains": ["web.*"], "routes": [route("/", "a")]},
    ]
    proxy, _ = serve(run_proxy, backends, vhosts=vhosts)
    expected = {"one.test": "a", "ONE.test": "a", "one.test:80": 404, "one.test:81": "a", "x.test": "b", "x.one.test": "b",
                "web.example": "a", "other": 404}
    assert {host: server_of(proxy, host=host) for host in expected} == expected


def test_ignore_port_in_host(run_proxy, backends):
    vhosts = [{"name": "one", "domains": ["one.test"], "routes": [route("/", "a")]}]
    proxy, _ = serve(run_proxy, backends, vhosts=vhosts, route_config={"ignore_port_in_host_matching": True})
    assert server_of(proxy, host="one.test:8080") == "a"


def test_weights(run_proxy, backends):
    weights = {"clusters": [{"name": "a", "weight": 90}, {"name": "b", "weight": 10}]}
    proxy, _ = serve(run_proxy, backends, [route("/", {"weighted_clusters": weights})])
    seen = collections.Counter()
    with client.Connection(proxy.port) as connection:
        for _ in range(3000):
            connection.request()
            seen[connection.response().json()["server"]] += 1
    assert abs(seen["b"] / 3000 - 0.10) < 0.025, seen


def test_redirect_and_direct_response(run_proxy, backends):
    proxy, _ = serve(run_proxy, backends, [
        route("/old", redirect={"path_redirect": "/new", "response_code": "FOUND"}),
        route("/tls", redirect={"https_redirect": True, "host_redirect": "safe.test"}),
        route("/swap/", redirect={"prefix_rewrite": "/to/", "strip_query": True}),
        route("/direct", direct_response={"status": 418, "body": {"inline_string": "short and stout"}}),
    ])
    old = client.get(proxy.port, "/old?q=1")
    assert (old.status, old.header("location")) == (302, "http://test.local/new?q=1")
    assert client.get(proxy.port, "/tls/x?q=1").header("location") == "https://safe.test/tls/x?q=1"
    swap = client.get(proxy.port, "/swap/y?q=1")
    assert (swap.status, swap.header("location")) == (301, "http://test.local/to/y")
    direct = client.get(proxy.port, "/direct")
    assert (direct.status, direct.body, direct.header("content-type")) == (418, b"short and stout", "text/plain")


def test_rewrites(run_proxy, backends):
    proxy, servers = serve(run_proxy, backends, [
        route("/prefix/", {"cluster": "a", "prefix_rewrite": "/"}),
        route("/host", {"cluster": "a", "host_rewrite_literal": "inner.test"}),
        route("/re/", {"cluster": "a", "regex_rewrite": {"pattern": {"regex": "^/re/([^/]+)/(.*)$"},
                                                          "substitution": "/\\2/\\1"}}),
    ])
    client.get(proxy.port, "/prefix/x?q=1")
    client.get(proxy.port, "/host")
    client.get(proxy.port, "/re/one/two")
    seen = servers["a"].requests
    assert [r.path for r in seen] == ["/x?q=1", "/host", "/two/one"]
    assert seen[1].header("host") == "inner.test"
    assert seen[0].header("x-envoy-original-path") == "/prefix/x?q=1"


def test_prefix_rewrite_replaces_what_was_matched(run_proxy, backends):
    """Of a path that was matched whole, by a regular expression or exactly, all but the query."""
    proxy, servers = serve(run_proxy, backends, [
        route({"safe_regex": {"regex": "/re/[0-9]+.*"}}, {"cluster": "a", "prefix_rewrite": "/new"}),
        route({"path": "/exact"}, {"cluster": "a", "prefix_rewrite": "/new"}),
        route({"path_separated_prefix": "/sep"}, {"cluster": "a", "prefix_rewrite": "/new"}),
        route({"prefix": "/UP", "case_sensitive": False}, {"cluster": "a", "prefix_rewrite": "/new"}),
        route({"safe_regex": {"regex": "/away/.*"}}, redirect={"prefix_rewrite": "/to"}),
        route({"path": "/gone"}, redirect={"prefix_rewrite": "/to"}),
    ])
    expected = {"/re/12": "/new", "/re/12?q=1": "/new?q=1", "/re/1;a=b/c?": "/new?", "/exact?q": "/new?q", "/sep/x?q": "/new/x?q",
                "/upper/x": "/newper/x"}
    for path in expected:
        assert client.get(proxy.port, path).status == 200
    assert {r.header("x-envoy-original-path"): r.path for r in servers["a"].requests} == expected
    assert client.get(proxy.port, "/away/x?q=2").header("location") == "http://test.local/to?q=2"
    assert client.get(proxy.port, "/gone?q").header("location") == "http://test.local/to?q"


def test_two_rewrites_of_one_path_are_refused(kind, workdir):
    both = {"cluster": "a", "prefix_rewrite": "/new", "regex_rewrite": {"pattern": {"regex": "a"}, "substitution": "b"}}
    proxy = proxy_lib.start(kind, bootstrap(listener(hcm([route("/", both)])), [cluster("a", 1)]), workdir, ready=False)
    assert proxy.process.wait(20) != 0
    if kind == "lateen":
        assert "routes[0].regex_rewrite: only one of" in proxy.output(), proxy.output()


def test_header_edits(run_proxy, backends):
    proxy, servers = serve(run_proxy, backends, [route(
        "/", "a",
        request_headers_to_add=[
            {"header": {"key": "x-add", "value": "one"}},
            {"header": {"key": "x-set", "value": "new"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
            {"header": {"key": "x-absent", "value": "kept?"}, "append_action": "ADD_IF_ABSENT"},
            {"header": {"key": "x-proto", "value": "%PROTOCOL%"}},
        ],
        request_headers_to_remove=["x-gone"],
        response_headers_to_add=[{"header": {"key": "x-out", "value": "yes"}}],
        response_headers_to_remove=["x-backend"])])
    response = client.get(proxy.port, headers=[("x-add", "zero"), ("x-set", "old"), ("x-absent", "mine"), ("x-gone", "1")])
    got = servers["a"].requests[0]
    assert [v for n, v in got.headers if n.lower() == "x-add"] in (["zero", "one"], ["zero,one"])
    assert (got.header("x-set"), got.header("x-absent"), got.header("x-gone")) == ("new", "mine", None)
    assert got.header("x-proto") == "HTTP/1.1"
    assert (response.header("x-out"), response.header("x-backend")) == ("yes", None)


@pytest.mark.parametrize("direction", [None, "INBOUND", "OUTBOUND"])
def test_the_name_of_the_operation_is_for_who_traces(run_proxy, backends, direction):
    """A client's proxy says how the server's should call its span; the application has nothing to do with that."""
    server = backends("a")
    fields = {"traffic_direction": direction} if direction else {}
    traced, plain = listener(hcm([route("/", "a")], tracing={}), **fields), listener(hcm([route("/", "a")]), name="plain", **fields)
    proxy = run_proxy(bootstrap([traced, plain], [cluster("a", server.port)]))

    def arrives(port):
        return "x-envoy-decorator-operation" in client.get(port, headers={"x-envoy-decorator-operation": "op"}).json()["headers"]

    assert [arrives(port) for port in proxy.ports] == [direction == "OUTBOUND", True]


def test_no_route_and_no_cluster(run_proxy, backends):
    proxy, _ = serve(run_proxy, backends, [route("/x", "a"), route("/nc", "missing")],
                     route_config={"validate_clusters": False})
    assert client.get(proxy.port, "/y").status == 404
    assert client.get(proxy.port, "/nc").status == 503
