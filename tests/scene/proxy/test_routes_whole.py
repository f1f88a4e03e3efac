"""What a route may ask for beyond the everyday: rarer matches, rewrites, mirrors, retries, timeouts."""
import socket
import time

import pytest

from lib import certs, client
from lib import proxy as proxy_lib
from lib.proxy import bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick


def serve(run_proxy, backends, routes, names=("a", "b"), behaviours=None, clusters=(), **fields):
    servers = {name: backends(name, behaviour=(behaviours or {}).get(name)) for name in names}
    made = [cluster(name, server.port) for name, server in servers.items()] + list(clusters)
    return run_proxy(bootstrap(listener(hcm(routes, **fields)), made)), servers


def server_of(proxy, path="/", **options):
    response = client.get(proxy.port, path, **options)
    return response.json()["server"] if response.status == 200 else response.status


# --- matches ---

@pytest.mark.parametrize("cookies,taken", [
    ("user=me", True), ("x=1; user=me; y=2", True), ("user=you", False), (None, False), ("user", False), ("USER=me", False),
    ('user="me"', True), ("user=you; user=me", False)])
def test_cookies(run_proxy, backends, cookies, taken):
    match = {"prefix": "/", "cookies": [{"name": "user", "string_match": {"exact": "me"}}]}
    proxy, _ = serve(run_proxy, backends, [route(match, "a"), route("/", "b")])
    assert server_of(proxy, headers={"cookie": cookies} if cookies else {}) == ("a" if taken else "b")


@pytest.mark.parametrize("cookies,taken", [("user=me", False), ("user=you", True), (None, True)])
def test_cookies_that_must_not_be(run_proxy, backends, cookies, taken):
    match = {"prefix": "/", "cookies": [{"name": "user", "string_match": {"exact": "me"}, "invert_match": True}]}
    proxy, _ = serve(run_proxy, backends, [route(match, "a"), route("/", "b")])
    assert server_of(proxy, headers={"cookie": cookies} if cookies else {}) == ("a" if taken else "b")


def test_certificates_of_clients(run_proxy, backends, workdir):
    root = certs.Root()
    routes = [route({"prefix": "/", "tls_context": {"presented": True, "validated": True}}, "a"),
              route({"prefix": "/none", "tls_context": {"presented": False}}, "c"), route("/", "b")]
    servers = {name: backends(name) for name in "abc"}
    clusters = [cluster(name, server.port) for name, server in servers.items()]
    leaf = root.leaf("spiffe://cluster.local/ns/b/sa/server")
    tls = certs.downstream(leaf, root, sans=(), require=False)
    named = certs.downstream(leaf, root, require=False)
    proxy = run_proxy(bootstrap([listener(chains=[{"filters": [hcm(routes)], "transport_socket": tls}], name="tls"),
                                 listener(hcm(routes), name="plain"),
                                 listener(chains=[{"filters": [hcm(routes)], "transport_socket": named}], name="named")], clusters))
    known = certs.client_context(workdir, root, root.leaf("spiffe://cluster.local/ns/a/sa/caller"))
    unknown = certs.client_context(workdir, root)
    assert server_of(proxy, ssl_context=known) == "a"
    assert server_of(proxy, ssl_context=unknown) == "b"
    assert server_of(proxy, "/none", ssl_context=unknown) == "c"
    assert client.get(proxy.ports[1], "/none").json()["server"] == "c"
    # whoever must have a name must have a certificate
    assert client.get(proxy.ports[2], ssl_context=known).json()["server"] == "a"
    with pytest.raises((OSError, AssertionError, ValueError)):
        client.get(proxy.ports[2], ssl_context=unknown)


def template(path, rewrite=None, to="a", **fields):
    match = {"path_match_policy": {"name": "envoy.path.match.uri_template.uri_template_matcher", "typed_config": typed(
        "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", path_template=path)}}
    action = {"cluster": to, **fields}
    if rewrite:
        action["path_rewrite_policy"] = {"name": "envoy.path.rewrite.uri_template.uri_template_rewriter", "typed_config": typed(
            "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig", path_template_rewrite=rewrite)}
    return route(match, action)


def test_path_templates(run_proxy, backends):
    proxy, servers = serve(run_proxy, backends, [template("/users/{id}/orders/{order=*}", "/o/{order}/of/{id}"), template("/files/**"), route("/", "b")])
    expected = {"/users/7/orders/9": "a", "/users/7/orders/9?q=1": "a", "/users/7/orders": "b", "/users/7/8/orders/9": "b", "/files/x/y": "a", "/filesx": "b"}
    assert {path: server_of(proxy, path) for path in expected} == expected
    assert [r.path for r in servers["a"].requests] == ["/o/9/of/7", "/o/9/of/7?q=1", "/files/x/y"]


# --- destinations and rewrites ---

def test_weighted_clusters_by_header(run_proxy, backends):
    weighted = {"clusters": [{"cluster_header": "x-to", "weight": 1, "host_rewrite_literal": "other.test"}]}
    proxy, servers = serve(run_proxy, backends, [route("/own", {"weighted_clusters": weighted}),
                                                 route("/", {"weighted_clusters": weighted, "host_rewrite_literal": "route.test"})])
    assert server_of(proxy, headers={"x-to": "b"}) == "b"
    assert server_of(proxy, "/own", headers={"x-to": "b"}) == "b"
    assert [r.header("host") for r in servers["b"].requests] == ["route.test", "other.test"]
    assert server_of(proxy) == 503
    assert server_of(proxy, headers={"x-to": "nobody"}) == 503


def test_host_rewrites(run_proxy, backends):
    proxy, servers = serve(run_proxy, backends, [
        route("/header", {"cluster": "a", "host_rewrite_header": "x-host"}),
        route("/of/", {"cluster": "a", "host_rewrite_path_regex": {"pattern": {"regex": "^/of/([^/]+)/.*$"}, "substitution": "\\1.test"}}),
        route("/kept", {"cluster": "a", "host_rewrite_literal": "inner.test", "append_x_forwarded_host": True}),
    ])
    client.get(proxy.port, "/header", headers={"x-host": "by.header"})
    client.get(proxy.port, "/header")
    client.get(proxy.port, "/of/them/x?q=/of/us/y")
    client.get(proxy.port, "/kept")
    client.get(proxy.port, "/kept", headers={"x-forwarded-host": "before.test"})
    seen = servers["a"].requests
    assert [r.header("host") for r in seen] == ["by.header", "test.local", "them.test", "inner.test", "inner.test"]
    assert [r.header("x-forwarded-host") for r in seen] == [None, None, None, "test.local", "before.test,test.local"]


def test_redirects_by_regular_expression(run_proxy, backends):
    redirect = {"regex_rewrite": {"pattern": {"regex": "^/old/([^/]+)/(.*)$"}, "substitution": "/new/\\2/\\1"}}
    proxy, _ = serve(run_proxy, backends, [route("/old/", redirect=redirect),
                                           route("/cut/", redirect={"regex_rewrite": {"pattern": {"regex": "cut"}, "substitution": "cat"}, "strip_query": True})])
    assert client.get(proxy.port, "/old/a/b?q=1").header("location") == "http://test.local/new/b/a?q=1"
    assert client.get(proxy.port, "/cut/cut?q=cut").header("location") == "http://test.local/cat/cat"


def test_edits_of_the_most_specific_come_last_if_asked(run_proxy, backends):
    def edit(value):
        return {"request_headers_to_add": [{"header": {"key": "x-who", "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
                "response_headers_to_add": [{"header": {"key": "x-who", "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}
    for wins, expected in ((True, "route"), (False, "all")):
        vhosts = [{"name": "v", "domains": ["*"], "routes": [route("/", "a", **edit("route"))], **edit("host")}]
        proxy, servers = serve(run_proxy, backends, None, vhosts=vhosts, route_config={"most_specific_header_mutations_wins": wins, **edit("all")})
        assert client.get(proxy.port).header("x-who") == expected
        assert servers["a"].requests[0].header("x-who") == expected


def test_tls_for_those_outside(run_proxy, backends):
    vhosts = [{"name": "v", "domains": ["*"], "require_tls": "EXTERNAL_ONLY", "routes": [route("/", "a")]}]
    proxy, _ = serve(run_proxy, backends, None, vhosts=vhosts)
    response = client.get(proxy.port, "/x?q=1")
    assert (response.status, response.header("location")) == (301, "https://test.local/x?q=1")


# --- mirrors ---

def mirrored(server, count=1):
    return client.wait_until(lambda: len(server.requests) >= count and server.requests[:], what="the copy")


@pytest.mark.parametrize("level", ["route", "host", "all"])
def test_mirrors_of_every_level(run_proxy, backends, level):
    def policy(at):
        return [{"cluster": "b" if at == level else "a"}] if at == level else []
    vhosts = [{"name": "v", "domains": ["*"], "request_mirror_policies": policy("host"),
               "routes": [route("/", {"cluster": "a", "request_mirror_policies": policy("route")})]}]
    proxy, servers = serve(run_proxy, backends, None, vhosts=vhosts, route_config={"request_mirror_policies": policy("all")})
    assert client.get(proxy.port, "/x", method="POST", body=b"hello", headers={"content-length": "5"}).json()["server"] == "a"
    (copy,) = mirrored(servers["b"])
    assert (copy.method, copy.path, copy.body, copy.header("host")) == ("POST", "/x", b"hello", "test.local-shadow")


def test_the_nearest_mirrors_count(run_proxy, backends):
    vhosts = [{"name": "v", "domains": ["*"], "request_mirror_policies": [{"cluster": "c"}],
               "routes": [route("/", {"cluster": "a", "request_mirror_policies": [{"cluster": "b"}]})]}]
    proxy, servers = serve(run_proxy, backends, None, names="abc", vhosts=vhosts)
    client.get(proxy.port)
    mirrored(servers["b"])
    client.get(proxy.port)
    mirrored(servers["b"], 2)
    assert servers["c"].requests == []


def test_mirrors_by_header(run_proxy, backends):
    action = {"cluster": "a", "request_mirror_policies": [{"cluster_header": "x-copy", "disable_shadow_host_suffix_append": True}]}
    proxy, servers = serve(run_proxy, backends, [route("/", action)])
    assert server_of(proxy) == "a"
    assert server_of(proxy, headers={"x-copy": "nobody"}) == "a"
    assert server_of(proxy, headers={"x-copy": "b"}) == "a"
    (copy,) = mirrored(servers["b"])
    assert copy.header("host") == "test.local"


def test_heads_of_mirrors_are_edited(run_proxy, backends):
    """Of the copy alone; what it says of the request is what the request says."""
    edits = [{"append": {"header": {"key": "x-new", "value": "%REQ(X-OLD)% from %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}}, {"remove": "x-old"}]
    action = {"cluster": "a", "request_mirror_policies": [{"cluster": "b", "request_headers_mutations": edits}]}
    proxy, servers = serve(run_proxy, backends, [route("/", action)])
    assert server_of(proxy, headers={"x-old": "here"}) == "a"
    (copy,) = mirrored(servers["b"])
    assert (copy.header("x-new"), copy.header("x-old")) == ("here from 127.0.0.1", None)
    (asked,) = servers["a"].requests
    assert (asked.header("x-new"), asked.header("x-old")) == (None, "here")


# --- retries ---

def failing(times, status=503, headers=()):
    """A behaviour: so many failures, then the usual answer."""
    left = [times]

    def behaviour(request, handler):
        left[0] -= 1
        return (status, list(headers), b"no") if left[0] >= 0 else None
    return behaviour


def retry(run_proxy, backends, policy, behaviour, **options):
    proxy, servers = serve(run_proxy, backends, [route("/", {"cluster": "a", "retry_policy": policy})], behaviours={"a": behaviour})
    return client.get(proxy.port, **options), servers["a"].requests


@pytest.mark.parametrize("headers,tries", [((("x-again", "yes"),), 2), ((("x-again", "no"),), 1), ((), 1)])
def test_by_headers_of_the_response(run_proxy, backends, headers, tries):
    policy = {"retry_on": "retriable-headers", "retriable_headers": [{"name": "x-again", "string_match": {"exact": "yes"}}]}
    response, seen = retry(run_proxy, backends, policy, failing(1, 404, headers))
    assert len(seen) == tries and response.status == (200 if tries == 2 else 404)


@pytest.mark.parametrize("headers,tries", [({"x-may": "1"}, 2), ({}, 1)])
def test_by_headers_of_the_request(run_proxy, backends, headers, tries):
    policy = {"retry_on": "5xx", "retriable_request_headers": [{"name": "x-may", "present_match": True}]}
    _, seen = retry(run_proxy, backends, policy, failing(1), headers=headers)
    assert len(seen) == tries


@pytest.mark.parametrize("retry_on,tries", [("5xx", 1), ("5xx,envoy-ratelimited", 2), ("envoy-ratelimited", 2)])
def test_what_a_rate_limit_refused(run_proxy, backends, retry_on, tries):
    _, seen = retry(run_proxy, backends, {"retry_on": retry_on}, failing(1, 503, [("x-envoy-ratelimited", "true")]))
    assert len(seen) == tries


@pytest.mark.parametrize("form", ["SECONDS", "UNIX_TIMESTAMP"])
def test_the_response_says_when(run_proxy, backends, form):
    when = [0.0]

    def behaviour(request, handler):
        if when[0]:
            return None
        when[0] = time.time()
        return 429, [("x-reset", "1" if form == "SECONDS" else str(int(when[0]) + 2))], b"later"

    policy = {"retry_on": "retriable-status-codes", "retriable_status_codes": [429],
              "rate_limited_retry_back_off": {"reset_headers": [{"name": "X-Other"}, {"name": "X-Reset", "format": form}]}}
    response, seen = retry(run_proxy, backends, policy, behaviour)
    assert response.status == 200 and len(seen) == 2
    assert time.time() - when[0] >= (1 if form == "SECONDS" else 0.9)


@pytest.mark.parametrize("said", ["99999", "rubbish", "-1"])
def test_the_response_says_nonsense(run_proxy, backends, said):
    policy = {"retry_on": "5xx", "rate_limited_retry_back_off": {"reset_headers": [{"name": "x-reset"}], "max_interval": "10s"}}
    started = time.monotonic()
    response, _ = retry(run_proxy, backends, policy, failing(1, 503, [("x-reset", said)]))
    assert response.status == 200 and time.monotonic() - started < 8


def test_an_idle_try_is_given_up(run_proxy, backends):
    def behaviour(request, handler):
        if len(servers["a"].requests) == 1:
            time.sleep(5)

    servers = {}
    policy = {"retry_on": "5xx", "per_try_idle_timeout": "0.3s"}
    proxy, made = serve(run_proxy, backends, [route("/", {"cluster": "a", "timeout": "20s", "retry_policy": policy})], behaviours={"a": behaviour})
    servers.update(made)
    started = time.monotonic()
    assert client.get(proxy.port).status == 200
    assert time.monotonic() - started < 4.5
    assert proxy.stats()["cluster.a.upstream_rq_per_try_idle_timeout"] == 1


def test_idle_to_the_end(run_proxy, backends):
    policy = {"retry_on": "connect-failure", "per_try_idle_timeout": "0.2s"}
    proxy, _ = serve(run_proxy, backends, [route("/", {"cluster": "a", "timeout": "20s", "retry_policy": policy})])
    response = client.get(proxy.port, "/delay/3")
    assert (response.status, response.body) == (504, b"upstream request timeout")


def canary(port, is_canary):
    metadata = {"filter_metadata": {"envoy.lb": {"canary": is_canary, "stage": "new" if is_canary else "old"}}}
    return {"endpoint": {"address": proxy_lib.address(port)}, "metadata": metadata}


@pytest.mark.parametrize("predicate", [
    {"name": "envoy.retry_host_predicates.omit_canary_hosts", "typed_config": typed("envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate")},
    {"name": "envoy.retry_host_predicates.omit_host_metadata", "typed_config": typed(
        "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig", metadata_match={"filter_metadata": {"envoy.lb": {"stage": "new"}}})}])
def test_hosts_that_are_left_out(run_proxy, backends, predicate):
    bad, good = backends("bad", behaviour=lambda request, handler: (503, [], b"")), backends("good")
    target = cluster("a")
    target["load_assignment"]["endpoints"][0]["lb_endpoints"] = [canary(bad.port, True), canary(good.port, False)]
    policy = {"retry_on": "5xx", "num_retries": 1, "host_selection_retry_max_attempts": "50", "retry_host_predicate": [predicate]}
    proxy = run_proxy(bootstrap(listener(hcm([route("/", {"cluster": "a", "retry_policy": policy})])), [target]))
    assert [client.get(proxy.port).status for _ in range(20)] == [200] * 20
    assert bad.requests and len(bad.requests) <= 20


# --- timeouts ---

def test_a_stream_lasts_no_longer(run_proxy, backends):
    routes = [route("/delay", {"cluster": "a", "timeout": "20s", "max_stream_duration": {"max_stream_duration": "0.3s"}}),
              route("/", {"cluster": "a", "timeout": "20s"})]
    proxy, _ = serve(run_proxy, backends, routes)
    response = client.get(proxy.port, "/delay/3")
    assert (response.status, response.body) == (504, b"downstream duration timeout")
    assert client.get(proxy.port, "/status/200").status == 200


def test_no_stream_lasts_longer(run_proxy, backends):
    routes = [route("/delay/3", {"cluster": "a", "timeout": "20s"}),
              route("/", {"cluster": "a", "timeout": "20s", "max_stream_duration": {"max_stream_duration": "0s"}})]
    proxy, _ = serve(run_proxy, backends, routes, common_http_protocol_options={"max_stream_duration": "0.3s"})
    assert client.get(proxy.port, "/delay/3").status == 504
    assert client.get(proxy.port, "/delay/0.6").status == 200


@pytest.mark.parametrize("header,most,status", [("200m", "0s", 504), ("20S", "0.2s", 504), ("20S", "0s", 200), ("x", "0s", 200), (None, "0s", 200)])
def test_the_client_says_how_long(run_proxy, backends, header, most, status):
    action = {"cluster": "a", "timeout": "20s", "max_stream_duration": {"grpc_timeout_header_max": most}}
    proxy, _ = serve(run_proxy, backends, [route("/", action)])
    assert client.get(proxy.port, "/delay/0.7", headers={"grpc-timeout": header} if header else {}).status == status


@pytest.mark.parametrize("header,most,is_late", [
    ("200m", "0s", True), ("200000u", "0s", True), ("20S", "0.2s", True), (None, "0.2s", True), (None, "0s", False), ("20S", "0s", False), ("x", "0s", False)])
def test_a_client_of_grpc_says_how_long(run_proxy, backends, header, most, is_late):
    """As istiod sends it: max_grpc_timeout beside timeout."""
    proxy, _ = serve(run_proxy, backends, [route("/", {"cluster": "a", "timeout": "0.1s", "max_grpc_timeout": most})])
    headers = {"content-type": "application/grpc", **({"grpc-timeout": header} if header else {})}
    response = client.get(proxy.port, "/delay/0.7", method="POST", headers=headers)
    assert (response.header("grpc-status"), response.status) == (("14", 200) if is_late else (None, 200))
    assert client.get(proxy.port, "/delay/0.7").status == 504  # who does not speak gRPC has the route's


def test_the_client_hears_of_tries(run_proxy, backends):
    vhosts = [{"name": "v", "domains": ["*"], "include_attempt_count_in_response": True,
               "routes": [route("/", {"cluster": "a", "retry_policy": {"retry_on": "5xx", "num_retries": 2}})]}]
    proxy, servers = serve(run_proxy, backends, None, behaviours={"a": failing(1)}, vhosts=vhosts)
    assert client.get(proxy.port).header("x-envoy-attempt-count") == "2"
    assert servers["a"].requests[1].header("x-envoy-attempt-count") is None


def test_a_request_must_come_in_time(run_proxy, backends):
    proxy, _ = serve(run_proxy, backends, [route("/", "a")], request_timeout="0.4s")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as slow:
        slow.sendall(b"POST /x HTTP/1.1\r\nhost: test.local\r\ncontent-length: 10\r\n\r\nhalf")
        answer = slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408") and b"request timeout" in answer + slow.recv(4096)
    assert client.get(proxy.port, "/delay/0.8").status == 200  # the response may take its time


# --- what is refused ---

BAD = [
    ({"match": {"prefix": "/", "cookies": [{"name": "a"}]}, "route": {"cluster": "a"}}, "routes[0].match.cookies"),
    ({"match": {"prefix": "/", "filter_state": [{"key": "x", "string_match": {"exact": "y"}}]}, "route": {"cluster": "a"}}, "routes[0].match.filter_state"),
    ({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"weight": 1}]}}}, "weighted_clusters.clusters[0].name"),
    ({"match": {"prefix": "/"}, "route": {"cluster": "a", "request_mirror_policies": [{}]}}, "request_mirror_policies[0].cluster"),
    ({"match": {"prefix": "/"}, "route": {"cluster": "a", "retry_policy": {"rate_limited_retry_back_off": {"reset_headers": []}}}},
     "rate_limited_retry_back_off.reset_headers"),
    ({"match": {"prefix": "/"}, "route": {"cluster": "a", "host_rewrite_path_regex": {"pattern": {"regex": "("}, "substitution": "x"}}},
     "routes[0].host_rewrite_path_regex"),
    ({"match": {"prefix": "/"}, "redirect": {"regex_rewrite": {"pattern": {"regex": "("}, "substitution": "x"}}}, "redirect.regex_rewrite"),
    (template("/a/{b", "/x"), "match.path_match_policy"),
    (template("/a/{b}", "/x/{c}"), "path_rewrite_policy"),
    ({"match": {"prefix": "/"}, "route": template("/a/{b}", "/x/{b}")["route"]}, "path_rewrite_policy"),
]


@pytest.mark.lateen_only  # Envoy knows filter state; the rest it refuses, too, in other words
@pytest.mark.parametrize("entry,where", BAD)
def test_bad_routes_are_refused_by_name(kind, workdir, entry, where):
    proxy = proxy_lib.start(kind, bootstrap(listener(hcm([entry])), [cluster("a", 1)]), workdir, ready=False)
    assert proxy.process.wait(20) != 0
    assert where in proxy.output(), proxy.output()
