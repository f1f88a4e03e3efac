"""External authorization: a server outside decides, asked over gRPC and over HTTP, about requests and about connections."""
import threading

import grpc
import pytest

from lib import certs, client
from lib.authz import GrpcAuthz, denied, ok, set_header
from lib.backend import TcpBackend, free_port
from lib.filters import access_log, http_filter, net_filter, path, per_route, policy, rbac, switch
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy

pytestmark = pytest.mark.quick

FILTER, PER_ROUTE = "ext_authz.v3.ExtAuthz", "ext_authz.v3.ExtAuthzPerRoute"
LINE = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DYNAMIC_METADATA(envoy.filters.http.ext_authz:who)%"


def by_grpc(timeout="5s", **fields):
    return http_filter(FILTER, transport_api_version="V3", grpc_service={
        "envoy_grpc": {"cluster_name": "grpc", "authority": "authz.test"}, "timeout": timeout,
        "initial_metadata": [{"key": "x-caller", "value": "proxy"}]}, **fields)


def by_http(service=None, **fields):
    return http_filter(FILTER, transport_api_version="V3", http_service={
        "server_uri": {"uri": "http://authz.test:80", "cluster": "http", "timeout": "5s"}, **(service or {})}, **fields)


def texts(*patterns):
    return {"patterns": [{"exact": text} for text in patterns]}


@pytest.fixture
def grpc_server():
    server = GrpcAuthz()
    yield server
    server.close()


@pytest.fixture
def http_server(backends):
    """answer is what it says; requests what it was asked."""
    server = backends("authz", behaviour=lambda request, _: server.answer)
    server.answer = 200, [], b""
    return server


@pytest.fixture
def serve(run_proxy, backends, grpc_server, http_server, workdir):
    def run(*filters, routes=None, chain=None, extra=(), **fields):
        server = backends("a")
        manager = hcm(routes or [route("/", "a")], http_filters=list(filters), access_log=access_log(workdir / "log", LINE), **fields)
        proxy = run_proxy(bootstrap(listener(chains=[{"filters": [manager], **(chain or {})}]), [
            cluster("a", server.port), cluster("grpc", grpc_server.port, http2_protocol_options={}),
            cluster("http", http_server.port), *extra]))
        proxy.server, proxy.logged = server, workdir / "log"
        return proxy
    return run


def last_line(proxy, count=1):
    client.wait_until(lambda: proxy.logged.exists() and len(proxy.logged.read_text().splitlines()) >= count, what="the log")
    return proxy.logged.read_text().splitlines()[-1]


# --- what the server is told ---

def test_what_a_grpc_server_is_asked(serve, grpc_server):
    proxy = serve(by_grpc())
    headers = [("X-Twice", "1"), ("x-twice", "2"), ("X-Bytes", b"a\xffb".decode("latin-1")), ("x-envoy-auth-partial-body", "true")]
    assert client.get(proxy.port, "/p/x?q=1", method="PUT", headers=headers, body=b"abc", host="shop.test").status == 200
    asked = grpc_server.requests[0]["attributes"]
    http = asked["request"]["http"]
    assert {name: http[name] for name in ("method", "path", "host", "scheme", "protocol")} == {
        "method": "PUT", "path": "/p/x?q=1", "host": "shop.test", "scheme": "http", "protocol": "HTTP/1.1"}
    assert http["id"].isdigit() and asked["request"]["time"]
    assert http["headers"].pop("x-request-id")
    assert http["headers"] == {":method": "PUT", ":path": "/p/x?q=1", ":authority": "shop.test", ":scheme": "http", "x-twice": "1,2",
                               "x-bytes": "a!b", "content-length": "3", "x-forwarded-proto": "http"}
    assert "body" not in http and "tls_session" not in asked
    source, destination = (asked[side]["address"]["socket_address"] for side in ("source", "destination"))
    assert source["address"] == "127.0.0.1" and source["port_value"] > 0
    assert (destination["address"], destination["port_value"]) == ("127.0.0.1", proxy.port)
    sent = grpc_server.metadata[0]
    assert (sent["x-caller"], sent["x-envoy-internal"], sent["x-envoy-expected-rq-timeout-ms"]) == ("proxy", "true", "5000")


def test_which_headers_are_told(serve, grpc_server):
    proxy = serve(by_grpc(allowed_headers={"patterns": [{"prefix": "x-a"}]}, disallowed_headers=texts("x-ab")))
    assert client.get(proxy.port, headers={"x-aa": "1", "x-ab": "2", "authorization": "3"}).status == 200
    assert grpc_server.requests[0]["attributes"]["request"]["http"]["headers"] == {"x-aa": "1"}


def test_headers_as_bytes(serve, grpc_server):
    proxy = serve(by_grpc(encode_raw_headers=True, allowed_headers=texts("x-a")))
    assert client.get(proxy.port, headers=[("X-A", "1"), ("x-a", b"\xff".decode("latin-1"))]).status == 200
    http = grpc_server.requests[0]["attributes"]["request"]["http"]
    assert http["header_map"]["headers"] == [{"key": "x-a", "raw_value": "MQ=="}, {"key": "x-a", "raw_value": "/w=="}]
    assert "headers" not in http


def test_who_asks(serve, grpc_server, workdir):
    root = certs.Root()
    server = root.leaf("spiffe://cluster.local/ns/shop/sa/web")
    proxy = serve(by_grpc(include_peer_certificate=True, include_tls_session=True),
                  chain={"transport_socket": certs.downstream(server, root, sans=(), require=False)})
    leaf = root.leaf("spiffe://cluster.local/ns/shop/sa/cart")
    assert client.get(proxy.port, ssl_context=certs.client_context(workdir, root, leaf), server_name="shop.test").status == 200
    asked = grpc_server.requests[0]["attributes"]
    assert asked["source"]["principal"] == "spiffe://cluster.local/ns/shop/sa/cart"
    assert asked["destination"]["principal"] == "spiffe://cluster.local/ns/shop/sa/web"
    assert asked["source"]["certificate"].startswith("-----BEGIN%20CERTIFICATE-----%0A")
    assert asked["request"]["http"]["scheme"] == "https"
    assert asked["tls_session"]["sni"] == "shop.test"


def test_metadata_is_told_by_name(serve, grpc_server):
    proxy = serve(http_filter("rbac.v3.RBAC", rules=rbac("ALLOW", p=policy())), by_grpc(metadata_context_namespaces=["envoy.filters.http.rbac", "none"]))
    assert client.get(proxy.port).status == 200
    assert grpc_server.requests[0]["attributes"]["metadata_context"] == {"filter_metadata": {"envoy.filters.http.rbac": {
        "enforced_effective_policy_id": "p", "enforced_engine_result": "allowed"}}}


@pytest.mark.parametrize("is_old", [False, True])  # of the filter; and of the service, as it was once said
def test_what_an_http_server_is_asked(serve, http_server, is_old):
    request = {"headers_to_add": [{"key": "x-add", "value": "y"}], **({"allowed_headers": texts("x-session")} if is_old else {})}
    proxy = serve(by_http({"path_prefix": "/check", "authorization_request": request},
                          **({} if is_old else {"allowed_headers": texts("x-session")})))
    for method in ("GET", "DELETE"):
        assert client.get(proxy.port, "/p?q=1", method=method, host="shop.test", headers={
            "X-Session": "1", "x-no": "2", "authorization": "Bearer t", "cookie": "a=b", "x-add": "forged"}).status == 200
        asked = http_server.requests[-1]
        assert (asked.method, asked.path, asked.header("host")) == (method, "/check/p?q=1", "shop.test")
        assert {name: asked.header(name) for name in ("x-session", "authorization", "x-add", "content-length", "x-no", "cookie")} == {
            "x-session": "1", "authorization": "Bearer t", "x-add": "y", "content-length": "0", "x-no": None, "cookie": None}


# --- the body ---

@pytest.mark.parametrize("size,partial,answers", [
    (4, False, (200, b"0123", "false")), (8, False, (200, b"01234567", "false")), (9, True, (200, b"01234567", "true")), (9, False, (413, None, None))])
def test_body(serve, http_server, size, partial, answers):
    proxy = serve(by_http(with_request_body={"max_request_bytes": 8, "allow_partial_message": partial}))
    body = b"0123456789"[:size]
    response = client.get(proxy.port, method="POST", body=body)
    asked = http_server.requests[-1] if http_server.requests else None
    assert (response.status, asked and asked.body, asked and asked.header("x-envoy-auth-partial-body")) == answers
    if answers[0] == 200:
        assert response.json()["body"].encode() == body
    else:
        assert response.body == b"Payload Too Large"
        assert not proxy.server.requests
        assert last_line(proxy) == "413 - request_payload_too_large -"


def test_large_body_goes_on_whole(serve, http_server):
    """More than any one block, chunked, with more than the part that the server gets."""
    proxy = serve(by_http(with_request_body={"max_request_bytes": 50000, "allow_partial_message": True}))
    with client.Connection(proxy.port) as connection:
        connection.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        for i in range(100):
            connection.send(b"bb8\r\n" + bytes([97 + i % 26]) * 3000 + b"\r\n")
        connection.send("0\r\n\r\n")
        assert connection.response().status == 200
        # and the connection is good for more
        connection.request("GET", "/after")
        assert connection.response().json()["path"] == "/after"
    whole = b"".join(bytes([97 + i % 26]) * 3000 for i in range(100))
    assert http_server.requests[0].body == whole[:50000]
    assert proxy.server.requests[0].body == whole


def test_client_that_asks_before_it_sends(serve, http_server):
    proxy = serve(by_http(with_request_body={"max_request_bytes": 100}))
    with client.Connection(proxy.port) as connection:
        connection.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
        assert connection.stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert connection.stream.readline() == b"\r\n"
        connection.send("abc")
        assert connection.response().json()["body"] == "abc"
    assert http_server.requests[0].body == b"abc"


def test_body_in_grpc(serve, grpc_server):
    def says(**settings):
        return {"typed_per_filter_config": per_route(PER_ROUTE, check_settings=settings)}

    for as_bytes in (True, False):
        proxy = serve(by_grpc(with_request_body={"max_request_bytes": 8, "pack_as_bytes": as_bytes}), routes=[
            route("/none", "a", **says(disable_request_body_buffering=True)),
            route("/short", "a", **says(with_request_body={"max_request_bytes": 1, "allow_partial_message": True})), route("/", "a")])
        for at in ("/", "/short", "/none"):
            assert client.get(proxy.port, at, method="POST", body=b"a\xffb").status == 200
    https = [request["attributes"]["request"]["http"] for request in grpc_server.requests]
    assert [http.get("raw_body") for http in https] == ["Yf9i", "YQ==", None, None, None, None]
    assert [http.get("body") for http in https] == [None, None, None, "a!b", "a", None]
    assert https[0]["size"] == "3"


# --- what its answer does ---

def test_yes_changes_the_request(serve, grpc_server):
    proxy = serve(by_grpc())
    grpc_server.decide = lambda _: ok(
        headers=[set_header("x-user", "bob"), set_header("x-list", "2", append=True), set_header("x-absent", "1", append=True),
                 set_header("host", "other.test")],
        headers_to_remove=["Cookie", "host", ":path"],
        query_parameters_to_set=[{"key": "a", "value": "9"}, {"key": "c", "value": "1"}], query_parameters_to_remove=["b"],
        response_headers_to_add=[set_header("x-backend", "more"), set_header("x-new", "1"), set_header("content-type", "text/x", append=False)])
    response = client.get(proxy.port, "/p?a=1&b=2&a=3", headers={"x-user": "evil", "x-list": "1", "cookie": "c=d"})
    seen = response.json()
    assert seen["path"] == "/p?a=9&c=1"
    assert {name: seen["headers"].get(name) for name in ("x-user", "x-list", "x-absent", "cookie", "host")} == {
        "x-user": "bob", "x-list": "1,2", "x-absent": None, "cookie": None, "host": "other.test"}
    assert (response.header("x-backend"), response.header("x-new"), response.header("content-type")) == ("a,more", "1", "text/x")


def test_no_says_why(serve, grpc_server):
    proxy = serve(by_grpc())
    grpc_server.decide = lambda _: {**denied(401, "log in first", [set_header("www-authenticate", "Basic"), set_header("content-type", "text/html")]),
                                    "dynamic_metadata": {"who": "nobody"}}
    response = client.get(proxy.port)
    assert (response.status, response.body, response.header("www-authenticate"), response.header("content-type")) == (
        401, b"log in first", "Basic", "text/html")
    assert last_line(proxy) == "401 UAEX ext_authz_denied nobody"
    grpc_server.decide = lambda _: {"status": {"code": 7}}
    assert client.get(proxy.port).status == 403
    response = client.get(proxy.port, method="POST", headers={"content-type": "application/grpc"})
    assert (response.status, response.header("grpc-status"), response.header("content-type")) == (200, "7", "application/grpc")
    assert not proxy.server.requests
    stats = proxy.stats()
    assert (stats["http.scene.ext_authz.denied"], stats["cluster.a.ext_authz.denied"]) == (3, 3)


@pytest.mark.parametrize("allows", [False, True])
def test_http_answers(serve, http_server, allows):
    lists = {"authorization_response": {
        "allowed_upstream_headers": texts("x-user"), "allowed_client_headers": texts("set-cookie"),
        "allowed_client_headers_on_success": texts("x-ok"), "allowed_upstream_headers_to_append": texts("x-more"),
        "dynamic_metadata_from_headers": texts("who")}} if allows else {}
    proxy = serve(by_http(lists))
    http_server.answer = 200, [("x-user", "bob"), ("x-more", "2"), ("set-cookie", "a=b"), ("x-ok", "1"), ("who", "me"),
                               ("x-envoy-auth-headers-to-remove", "x-old, cookie")], b"ignored"
    response = client.get(proxy.port, headers={"x-user": "evil", "x-old": "1", "cookie": "2"})
    seen = response.json()["headers"]
    assert ([seen.get(name) for name in ("x-user", "x-more", "x-old", "cookie", "set-cookie")], response.header("x-ok")) == (
        (["bob", "2", None, None, None], "1") if allows else (["evil", None, None, None, None], None))
    assert last_line(proxy) == "200 - via_upstream " + ("me" if allows else "-")
    http_server.answer = 302, [("location", "/login"), ("set-cookie", "a=b"), ("x-other", "1")], b"go"
    response = client.get(proxy.port)
    assert (response.status, response.body, response.header("location"), response.header("set-cookie"), response.header("x-other")) == (
        302, b"go", "/login", "a=b", None if allows else "1")


def test_route_is_looked_for_again(serve, grpc_server):
    grpc_server.decide = lambda _: ok(headers=[set_header("x-tier", "gold")])
    gold = {"prefix": "/", "headers": [{"name": "x-tier", "string_match": {"exact": "gold"}}]}
    for clears, path_seen in ((True, "/gold"), (False, "/")):
        proxy = serve(by_grpc(clear_route_cache=clears), routes=[
            route(gold, {"cluster": "a", "prefix_rewrite": "/gold"}), route("/", "a")])
        assert client.get(proxy.port).json()["path"] == path_seen


def test_heads_are_not_split(serve, grpc_server, kind):
    """Envoy lets such a denial through to the client unless validate_mutations is set; here it always is."""
    proxy = serve(by_grpc(validate_mutations=True))
    bad = [set_header("x-a", "1\r\nset-cookie: evil=1")]
    for answer in (ok(headers=bad), ok(response_headers_to_add=bad), denied(401, "x", bad)):
        grpc_server.decide = lambda _: answer
        response = client.get(proxy.port)
        assert (response.status, response.header("set-cookie")) == (500, None)
    assert last_line(proxy, 3) == "500 UAEX ext_authz_invalid -"
    assert not proxy.server.requests


def test_mutation_rules(serve, grpc_server):
    grpc_server.decide = lambda _: ok(headers=[set_header("x-a", "1"), set_header("host", "other"), set_header("x-envoy-b", "1")])
    proxy = serve(by_grpc(decoder_header_mutation_rules={}))
    seen = client.get(proxy.port).json()["headers"]
    assert (seen.get("x-a"), seen["host"], seen.get("x-envoy-b")) == ("1", "test.local", None)
    proxy = serve(by_grpc(decoder_header_mutation_rules={"disallow_is_error": True}))
    assert client.get(proxy.port).status == 500


# --- when nothing can be known ---

@pytest.mark.parametrize("how", ["refuses", "says an error", "is slow", "is away", "talks rubbish"])
def test_fails_closed(serve, grpc_server, how):
    stop, dead = threading.Event(), free_port()
    filter_ = by_grpc("0.3s" if how == "is slow" else "5s")
    service = filter_["typed_config"]["grpc_service"]["envoy_grpc"]
    if how == "refuses":
        grpc_server.decide = lambda _: grpc.StatusCode.PERMISSION_DENIED
    elif how == "says an error":
        grpc_server.decide = lambda _: grpc.StatusCode.UNAVAILABLE
    elif how == "is slow":
        grpc_server.decide = lambda _: (stop.wait(20), ok())[1]
    elif how == "is away":
        service["cluster_name"] = "dead"
    else:
        service["cluster_name"] = "http"  # HTTP/1, with a JSON body
    open_filter = {"typed_config": {**filter_["typed_config"], "failure_mode_allow": True, "failure_mode_allow_header_add": True},
                   "name": filter_["name"]}
    own_status = {"typed_config": {**filter_["typed_config"], "status_on_error": {"code": "ServiceUnavailable"}}, "name": filter_["name"]}
    dead_cluster = [cluster("dead", dead)]
    proxy = serve(filter_, extra=dead_cluster)
    response = client.get(proxy.port)
    assert (response.status, response.body) == (403, b"")
    assert last_line(proxy) == "403 UAEX ext_authz_error -"
    assert proxy.stats()["http.scene.ext_authz.error"] == 1
    assert not proxy.server.requests
    assert client.get(serve(own_status, extra=dead_cluster).port).status == 503
    proxy = serve(open_filter, extra=dead_cluster)
    assert client.get(proxy.port).json()["headers"]["x-envoy-auth-failure-mode-allowed"] == "true"
    assert proxy.stats()["http.scene.ext_authz.failure_mode_allowed"] == 1
    stop.set()


@pytest.mark.parametrize("status,answer", [(200, 200), (401, 401), (404, 404), (500, 403), (503, 403)])
def test_http_statuses(serve, http_server, status, answer):
    http_server.answer = status, [], b""
    assert client.get(serve(by_http()).port).status == answer


def test_retries(serve, http_server):
    answers = [503, 503, 200]
    http_server.behaviour = lambda request, _: (answers.pop(0), [], b"")
    assert client.get(serve(by_http({"retry_policy": {"num_retries": 2, "retry_on": "5xx"}})).port).status == 200
    assert not answers


def test_client_leaves_while_it_is_asked(serve, grpc_server):
    waits, go_on = threading.Event(), threading.Event()
    grpc_server.decide = lambda _: (waits.set(), go_on.wait(20), ok())[2]
    proxy = serve(by_grpc("30s"))
    with client.Connection(proxy.port) as connection:
        connection.request()
        assert waits.wait(10)
    client.wait_until(lambda: proxy.logged.exists() and proxy.logged.read_text().startswith("0 DC"), what="the log")
    go_on.set()
    grpc_server.decide = lambda _: ok()
    assert client.get(proxy.port).status == 200
    assert len(proxy.server.requests) == 1


# --- when it is asked at all ---

def test_enabled_in_part(serve, grpc_server):
    off = {"filter_enabled": {"default_value": {"numerator": 0}}}
    grpc_server.decide = lambda _: denied()
    proxy = serve(by_grpc(**off))
    assert client.get(proxy.port).status == 200
    assert proxy.stats()["http.scene.ext_authz.disabled"] == 1
    proxy = serve(by_grpc(**off, deny_at_disable={"default_value": True, "runtime_key": "x"}, status_on_error={"code": "TooManyRequests"}))
    assert client.get(proxy.port).status == 429
    assert not grpc_server.requests


def test_routes_say(serve, grpc_server, http_server):
    def says(**fields):
        return {"typed_per_filter_config": per_route(PER_ROUTE, **fields)}

    grpc_server.decide = lambda _: denied()
    proxy = serve(by_grpc(), routes=[
        route("/off", "a", **says(disabled=True)),
        route("/switch", "a", typed_per_filter_config=switch("ext_authz", disabled=True)),
        route("/ctx", "a", **says(check_settings={"context_extensions": {"b": "route", "c": "route"}})),
        route("/http", "a", **says(check_settings={"http_service": {
            "server_uri": {"uri": "http://authz.test", "cluster": "http", "timeout": "5s"}, "path_prefix": "/own"}})),
        route("/", "a")],
        route_config=says(check_settings={"context_extensions": {"a": "all", "b": "all"}}))
    assert [client.get(proxy.port, at).status for at in ("/off", "/switch", "/ctx", "/http", "/")] == [200, 200, 403, 200, 403]
    assert [request["attributes"].get("context_extensions") for request in grpc_server.requests] == [
        {"a": "all", "b": "route", "c": "route"}, {"a": "all", "b": "all"}]
    assert http_server.requests[0].path == "/own/http"


def test_custom_action_of_istio(serve, grpc_server):
    """AuthorizationPolicy with action CUSTOM: shadow rules choose the requests, by a prefix of the policy's name."""
    shadow = rbac("DENY", **{"istio-ext-authz-ns[shop]-policy[ext]-rule[0]": policy(path(prefix="/admin"))})
    chooses = {"filter": "envoy.filters.http.rbac", "value": {"string_match": {"prefix": "istio-ext-authz"}},
               "path": [{"key": "istio_ext_authz_shadow_effective_policy_id"}]}
    proxy = serve(http_filter("rbac.v3.RBAC", shadow_rules=shadow, shadow_rules_stat_prefix="istio_ext_authz_"),
                  by_grpc(filter_enabled_metadata=chooses, stat_prefix="ext"))
    grpc_server.decide = lambda request: ok() if "x-ok" in request["attributes"]["request"]["http"]["headers"] else denied()
    assert [client.get(proxy.port, at).status for at in ("/", "/admin", "/admin/x")] == [200, 403, 403]
    assert client.get(proxy.port, "/admin", headers={"x-ok": "1"}).status == 200
    assert len(grpc_server.requests) == 3
    stats = proxy.stats()
    assert [stats[f"http.scene.ext_authz.ext.{name}"] for name in ("disabled", "denied", "ok")] == [1, 2, 1]


def test_shadow_mode(serve, grpc_server):
    grpc_server.decide = lambda _: denied()
    proxy = serve(by_grpc(shadow_mode=True))
    assert client.get(proxy.port).status == 200
    stats = proxy.stats()
    assert (stats["http.scene.ext_authz.denied"], stats["http.scene.ext_authz.shadow_denied"]) == (1, 1)


# --- connections ---

def test_connections(run_proxy, grpc_server, workdir):
    heard = []

    def answer(connection):
        heard.append(connection.recv(100))
        connection.sendall(heard[-1].upper())

    server = TcpBackend(answer)
    log = workdir / "log"

    def ask(**fields):
        return net_filter(FILTER, stat_prefix="net", transport_api_version="V3", grpc_service={
            "envoy_grpc": {"cluster_name": "grpc"}, "timeout": "5s"}, **fields)

    line = access_log(log, "%RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS%")
    proxy = run_proxy(bootstrap([listener(ask(), tcp_proxy("t", access_log=line)),
                                 listener(ask(failure_mode_allow=True), tcp_proxy("t", access_log=line), name="open")],
                                [cluster("t", server.port), cluster("grpc", grpc_server.port, http2_protocol_options={})]))

    def talk(port):
        with client.Connection(port) as connection:
            connection.send("ping")
            return connection.stream.read(4)

    assert talk(proxy.ports[0]) == b"PING"
    asked = grpc_server.requests[0]["attributes"]
    assert asked["destination"]["address"]["socket_address"]["port_value"] == proxy.ports[0]
    assert "request" not in asked
    grpc_server.decide = lambda _: denied()
    assert talk(proxy.ports[0]) == b""
    grpc_server.decide = lambda _: grpc.StatusCode.UNAVAILABLE
    assert talk(proxy.ports[0]) == b""
    assert talk(proxy.ports[1]) == b"PING"
    stats = client.wait_until(lambda: proxy.stats().get("ext_authz.net.total") == 4 and proxy.stats(), what="the counters")
    assert [stats[f"ext_authz.net.{name}"] for name in ("ok", "denied", "error", "failure_mode_allowed")] == [1, 1, 2, 1]
    lines = client.wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 4 and sorted(log.read_text().splitlines()), what="the log")
    assert lines == ["- -", "- -", "UAEX -", "UAEX -"]
    assert sorted(filter(None, heard)) == [b"ping", b"ping"]  # Envoy has connected before it asks, and says nothing
    server.close()
