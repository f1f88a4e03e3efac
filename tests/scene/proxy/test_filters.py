"""CORS, local rate limits, buffers, header mutation, gRPC statistics."""
import pytest

from lib import client
from lib.backend import TcpBackend
from lib.filters import access_log, http_filter, net_filter, per_route, policy, rbac, switch
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy

pytestmark = pytest.mark.quick

CORS, LIMIT = "cors.v3.CorsPolicy", "local_ratelimit.v3.LocalRateLimit"


@pytest.fixture
def serve(run_proxy, backends, workdir):
    def run(*filters, routes=None, vhosts=None, behaviour=None, concurrency=1, **fields):
        server = backends("a", behaviour=behaviour)
        manager = hcm(routes or [route("/", "a")], vhosts=vhosts, http_filters=list(filters),
                      access_log=access_log(workdir / "log", "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"), **fields)
        proxy = run_proxy(bootstrap(listener(manager), [cluster("a", server.port)]), concurrency=concurrency)
        proxy.server, proxy.logged = server, workdir / "log"
        return proxy
    return run


def last_line(proxy, count=1):
    client.wait_until(lambda: proxy.logged.exists() and len(proxy.logged.read_text().splitlines()) >= count, what="the log")
    return proxy.logged.read_text().splitlines()[-1]


# --- CORS ---

def cors_headers(response):
    return {name[len("access-control-"):]: value for name, value in response.headers if name.startswith("access-control-")}


def cors_route(**policy):
    return {"typed_per_filter_config": per_route(CORS, allow_origin_string_match=[
        {"exact": "http://ok"}, {"safe_regex": {"regex": "http://.*\\.ok"}}], **policy)}


FULL = dict(allow_methods="GET,PUT", allow_headers="x-a,x-b", expose_headers="x-e", max_age="99", allow_credentials=True,
            allow_private_network_access=True)


def ask(proxy, origin="http://ok", preflight=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if origin:
        headers["origin"] = origin
    if preflight:
        headers["access-control-request-method"] = preflight
    return client.get(proxy.port, method="OPTIONS" if preflight else "GET", headers=headers)


def test_cors(serve):
    proxy = serve(http_filter("cors.v3.Cors"), routes=[route("/", "a", **cors_route(**FULL))])
    plain = {"allow-origin": "http://ok", "allow-credentials": "true", "expose-headers": "x-e"}
    assert cors_headers(ask(proxy)) == plain
    assert cors_headers(ask(proxy, "http://sub.ok"))["allow-origin"] == "http://sub.ok"
    assert cors_headers(ask(proxy, "http://bad")) == {} == cors_headers(ask(proxy, None))
    count = len(proxy.server.requests)
    preflight = ask(proxy, preflight="PUT")
    assert (preflight.status, preflight.body) == (200, b"")
    assert cors_headers(preflight) == {**plain, "allow-methods": "GET,PUT", "allow-headers": "x-a,x-b", "max-age": "99"}
    assert last_line(proxy, 5) == "200 - cors_response"
    private = ask(proxy, preflight="PUT", access_control_request_private_network="true")
    assert cors_headers(private)["allow-private-network"] == "true"
    assert len(proxy.server.requests) == count
    # one that does not match goes on
    assert cors_headers(ask(proxy, "http://bad", preflight="PUT")) == {}
    assert len(proxy.server.requests) == count + 1
    stats = proxy.stats()
    assert (stats["http.scene.cors.origin_valid"], stats["http.scene.cors.origin_invalid"]) == (4, 2)


def test_cors_has_the_last_word(serve):
    proxy = serve(http_filter("cors.v3.Cors"), routes=[route("/", "a", **cors_route(expose_headers="x-e"))], behaviour=lambda *_: (
        200, [("access-control-allow-origin", "*"), ("access-control-expose-headers", "theirs")], b""))
    assert cors_headers(ask(proxy)) == {"allow-origin": "http://ok", "expose-headers": "x-e"}
    assert cors_headers(ask(proxy, "http://bad")) == {"allow-origin": "*", "expose-headers": "theirs"}


def test_cors_stars(serve):
    proxy = serve(http_filter("cors.v3.Cors"), routes=[route("/", "a", typed_per_filter_config=per_route(
        CORS, allow_origin_string_match=[{"exact": "*"}], allow_methods="*", allow_headers="*"))])
    answer = cors_headers(ask(proxy, "http://any", preflight="PATCH", access_control_request_headers="x-a,x-b"))
    assert answer == {"allow-origin": "http://any", "allow-methods": "PATCH", "allow-headers": "x-a,x-b"}


def test_cors_that_forwards_no_preflight(serve):
    proxy = serve(http_filter("cors.v3.Cors"), routes=[route("/", "a", **cors_route(forward_not_matching_preflights=False))])
    response = ask(proxy, "http://bad", preflight="PUT")
    assert (response.status, cors_headers(response), proxy.server.requests) == (200, {}, [])


def test_cors_in_part(serve):
    off = {"default_value": {"numerator": 0}}
    proxy = serve(http_filter("cors.v3.Cors"), routes=[
        route("/", "a", **cors_route(filter_enabled=off, shadow_enabled={"default_value": {"numerator": 100}}))])
    assert cors_headers(ask(proxy)) == cors_headers(ask(proxy, preflight="PUT")) == {}
    assert (proxy.stats()["http.scene.cors.origin_valid"], len(proxy.server.requests)) == (2, 2)


def test_cors_of_the_virtual_host(serve):
    proxy = serve(http_filter("cors.v3.Cors"), vhosts=[{"name": "v", "domains": ["*"], "routes": [route("/", "a")], **cors_route()}])
    assert cors_headers(ask(proxy)) == {"allow-origin": "http://ok"}


# --- local rate limits ---

ALL = {"default_value": {"numerator": 100}}
ON = {"filter_enabled": ALL, "filter_enforced": ALL}
TWO = {"token_bucket": {"max_tokens": 2, "tokens_per_fill": 2, "fill_interval": "600s"}}


def limit(**fields):
    return http_filter(LIMIT, stat_prefix="rl", **fields)


def test_limit(serve):
    proxy = serve(limit(**TWO, **ON))
    assert [client.get(proxy.port).status for _ in range(3)] == [200, 200, 429]
    assert client.get(proxy.port).body == b"local_rate_limited"
    assert last_line(proxy, 4) == "429 RL local_rate_limited"
    grpc = client.get(proxy.port, method="POST", headers={"content-type": "application/grpc"})
    assert grpc.header("grpc-status") == "14"
    stats = proxy.stats()
    assert [stats[f"rl.http_local_rate_limit.{name}"] for name in ("enabled", "ok", "rate_limited", "enforced")] == [5, 2, 3, 3]


def test_limit_is_of_all_workers(serve):
    proxy = serve(limit(token_bucket={"max_tokens": 20, "fill_interval": "600s"}, **ON), concurrency=2)
    statuses = [client.get(proxy.port).status for _ in range(60)]
    assert statuses == [200] * 20 + [429] * 40


def test_limit_says_more(serve):
    proxy = serve(limit(**TWO, **ON, status={"code": "ServiceUnavailable"}, enable_x_ratelimit_headers="DRAFT_VERSION_03",
                        response_headers_to_add=[{"header": {"key": "x-why", "value": "%RESPONSE_CODE_DETAILS%-limit"}}]))
    first, _, third = (client.get(proxy.port) for _ in range(3))
    assert (first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining"), first.header("x-why")) == ("2", "1", None)
    assert (third.status, third.header("x-ratelimit-remaining"), third.header("x-ratelimit-reset")) == (503, "0", "300")
    assert third.header("x-why").endswith("-limit")


def test_limit_not_enforced(serve):
    proxy = serve(limit(**TWO, filter_enabled=ALL, request_headers_to_add_when_not_enforced=[{"header": {"key": "x-over", "value": "1"}}]))
    assert [client.get(proxy.port).json()["headers"].get("x-over") for _ in range(3)] == [None, None, "1"]


def test_limit_that_is_off(serve):
    assert {client.get(serve(limit(**TWO)).port).status for _ in range(3)} == {200}


def test_limit_of_a_connection(serve):
    proxy = serve(limit(**TWO, **ON, local_rate_limit_per_downstream_connection=True))
    for _ in range(2):
        with client.Connection(proxy.port) as connection:
            statuses = []
            for _ in range(3):
                connection.request()
                statuses.append(connection.response().status)
        assert statuses == [200, 200, 429]


def test_limit_of_a_route(serve):
    proxy = serve(limit(), routes=[route("/few", "a", typed_per_filter_config=per_route(LIMIT, stat_prefix="few", **TWO, **ON)),
                                   route("/off", "a", typed_per_filter_config=switch("local_ratelimit", disabled=True)), route("/", "a")])
    assert [client.get(proxy.port, "/few").status for _ in range(3)] == [200, 200, 429]
    assert {client.get(proxy.port, at).status for at in ("/", "/off")} == {200}
    assert proxy.stats()["few.http_local_rate_limit.enforced"] == 1


def tokens(count):
    return {"max_tokens": count, "fill_interval": "600s"}


def descriptor(count, **entries):
    return {"entries": [{"key": key, "value": value} for key, value in entries.items()], "token_bucket": tokens(count)}


def counted(*actions, **fields):
    """A route whose requests are counted as these actions say."""
    return {"cluster": "a", "rate_limits": [{"actions": list(actions), **fields}]}


BY_HEADER = {"request_headers": {"header_name": "x-who", "descriptor_key": "who"}}


def in_metadata(key):
    return {"key": "envoy.filters.http.rbac", "path": [{"key": key}]}


@pytest.mark.parametrize("action,entries,headers,at", [
    (BY_HEADER, {"who": "me"}, {"x-who": "me"}, "/"),
    ({"request_headers": {"header_name": ":path", "descriptor_key": "path"}}, {"path": "/x?q=1"}, {}, "/x?q=1"),
    ({"remote_address": {}}, {"remote_address": "127.0.0.1"}, {}, "/"),
    ({"generic_key": {"descriptor_value": "v"}}, {"generic_key": "v"}, {}, "/"),
    ({"generic_key": {"descriptor_value": "v", "descriptor_key": "k"}}, {"k": "v"}, {}, "/"),
    ({"destination_cluster": {}}, {"destination_cluster": "a"}, {}, "/"),
    ({"header_value_match": {"descriptor_value": "v", "headers": [{"name": "x-who", "present_match": True}]}}, {"header_match": "v"}, {"x-who": "1"}, "/"),
    ({"header_value_match": {"descriptor_value": "v", "expect_match": False, "headers": [{"name": "x-who", "present_match": True}]}},
     {"header_match": "v"}, {}, "/"),
    ({"query_parameters": {"query_parameter_name": "q", "descriptor_key": "q"}}, {"q": "2"}, {}, "/x?a=1&q=2&q=3"),
    ({"query_parameter_value_match": {"descriptor_value": "v", "query_parameters": [{"name": "q", "string_match": {"prefix": "2"}}]}},
     {"query_match": "v"}, {}, "/x?q=21"),
    ({"query_parameter_value_match": {"descriptor_value": "v", "descriptor_key": "k", "expect_match": False,
                                      "query_parameters": [{"name": "q", "string_match": {"exact": "2"}}]}}, {"k": "v"}, {}, "/x?q=3"),
    ({"masked_remote_address": {"v4_prefix_mask_len": 12}}, {"masked_remote_address": "127.0.0.0/12"}, {}, "/"),
    ({"masked_remote_address": {}}, {"masked_remote_address": "127.0.0.1/32"}, {}, "/"),
    ({"metadata": {"descriptor_key": "p", "metadata_key": in_metadata("enforced_effective_policy_id")}}, {"p": "who"}, {}, "/"),
    ({"metadata": {"descriptor_key": "p", "metadata_key": in_metadata("none"), "default_value": "d"}}, {"p": "d"}, {}, "/")])
def test_limit_by_what_a_request_is(serve, action, entries, headers, at):
    known = http_filter("rbac.v3.RBAC", rules=rbac("ALLOW", who=policy()))
    proxy = serve(known, limit(token_bucket=tokens(100), descriptors=[descriptor(2, **entries)], **ON), routes=[route("/", counted(action))])
    assert [client.get(proxy.port, at, headers=headers).status for _ in range(3)] == [200, 200, 429]


def test_what_is_absent_gives_no_limit(serve):
    absent = {"metadata": {"descriptor_key": "p", "metadata_key": in_metadata("none")}}
    skipped = {"metadata": absent["metadata"] | {"skip_if_absent": True}}
    key = {"generic_key": {"descriptor_value": "v"}}
    proxy = serve(limit(token_bucket=tokens(100), descriptors=[descriptor(0, generic_key="v")], **ON),
                  routes=[route("/fails", counted(absent, key)), route("/", counted(skipped, key))])
    assert [client.get(proxy.port, at).status for at in ("/fails", "/")] == [200, 429]


def test_limit_only_of_who_is_meant(serve):
    rule = descriptor(1, who="me", generic_key="v")
    proxy = serve(limit(token_bucket=tokens(100), descriptors=[rule], **ON),
                  routes=[route("/both", counted(BY_HEADER, {"generic_key": {"descriptor_value": "v"}})), route("/", counted(BY_HEADER))])
    def statuses(at, who):
        return [client.get(proxy.port, at, headers={"x-who": who} if who else {}).status for _ in range(2)]
    assert statuses("/both", "you") == statuses("/both", None) == statuses("/", "me") == [200, 200]
    assert statuses("/both", "me") == [200, 429]


def test_limit_by_several(serve):
    """What a rule took is taken from the whole, too, unless it says otherwise; the slowest is asked first."""
    routes = [route("/", {"cluster": "a", "rate_limits": [{"actions": [BY_HEADER]}, {"actions": [{"generic_key": {"descriptor_value": "v"}}]}]})]
    rules = [descriptor(4, generic_key="v"), descriptor(2, who="me")]
    for whole, fields, expected in ((2, {}, [200, 200, 429, 429]), (2, {"always_consume_default_token_bucket": False}, [200, 200, 429, 200]),
                                    (100, {}, [200, 200, 429, 200])):
        proxy = serve(limit(token_bucket=tokens(whole), descriptors=rules, **ON, **fields), routes=routes)
        assert [client.get(proxy.port, headers={"x-who": who}).status for who in ("me", "me", "me", "you")] == expected


@pytest.mark.parametrize("option,of_route,limited", [("OVERRIDE", True, False), ("OVERRIDE", False, True), ("INCLUDE", True, True), ("IGNORE", False, False)])
def test_limit_of_virtual_hosts(serve, option, of_route, limited):
    of_host = [{"actions": [{"generic_key": {"descriptor_value": "host"}}]}]
    action = counted({"generic_key": {"descriptor_value": "route"}}) if of_route else "a"
    vhosts = [{"name": "v", "domains": ["*"], "rate_limits": of_host, "routes": [route("/", action)]}]
    proxy = serve(limit(token_bucket=tokens(100), descriptors=[descriptor(0, generic_key="host")], vh_rate_limits=option, **ON), vhosts=vhosts)
    assert client.get(proxy.port).status == (429 if limited else 200)


def test_limit_of_a_stage(serve):
    rule = descriptor(0, generic_key="v")
    routes = [route("/one", counted({"generic_key": {"descriptor_value": "v"}}, stage=1)), route("/", counted({"generic_key": {"descriptor_value": "v"}}))]
    proxy = serve(limit(token_bucket=tokens(100), descriptors=[rule], stage=1, **ON), routes=routes)
    assert [client.get(proxy.port, at).status for at in ("/one", "/")] == [429, 200]


def test_limit_with_its_own_actions(serve):
    proxy = serve(limit(token_bucket=tokens(100), descriptors=[descriptor(0, who="me")], rate_limits=[{"actions": [BY_HEADER]}], **ON))
    assert [client.get(proxy.port, headers={"x-who": who}).status for who in ("me", "you")] == [429, 200]


def test_limit_for_grpc(serve):
    proxy = serve(limit(token_bucket={"max_tokens": 0, "fill_interval": "60s"}, **ON, rate_limited_as_resource_exhausted=True))
    assert client.get(proxy.port, method="POST", headers={"content-type": "application/grpc"}).header("grpc-status") == "8"


def test_limit_of_connections(run_proxy):
    server = TcpBackend(lambda s: s.sendall(s.recv(100).upper()))
    proxy = run_proxy(bootstrap(listener(net_filter(LIMIT, stat_prefix="net", **TWO), tcp_proxy("t")), [cluster("t", server.port)]))
    answers = []
    for _ in range(3):
        with client.Connection(proxy.port) as connection:
            try:
                connection.send("ping")
                answers.append(connection.stream.read(4))
            except OSError:
                answers.append(b"")
    assert answers == [b"PING", b"PING", b""]
    assert proxy.stats()["local_rate_limit.net.rate_limited"] == 1
    server.close()


# --- buffer ---

def test_buffer(serve):
    proxy = serve(http_filter("buffer.v3.Buffer", max_request_bytes=8), routes=[
        route("/more", "a", typed_per_filter_config=per_route("buffer.v3.BufferPerRoute", buffer={"max_request_bytes": 16})),
        route("/off", "a", typed_per_filter_config=per_route("buffer.v3.BufferPerRoute", disabled=True)), route("/", "a")])
    sixteen = b"0123456789abcdef"
    assert [client.get(proxy.port, at, method="POST", body=body).status for at, body in (
        ("/", sixteen[:8]), ("/", sixteen[:9]), ("/more", sixteen), ("/off", sixteen * 2))] == [200, 413, 200, 200]
    assert client.get(proxy.port).status == 200
    client.wait_until(lambda: "413 - request_payload_too_large" in proxy.logged.read_text(), what="the log")


def test_buffered_request_has_a_length(serve):
    proxy = serve(http_filter("buffer.v3.Buffer", max_request_bytes=100))
    with client.Connection(proxy.port) as connection:
        connection.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        connection.send("4\r\ndefg\r\n0\r\n\r\n")
        seen = connection.response().json()
    assert (seen["body"], seen["headers"]["content-length"], seen["headers"].get("transfer-encoding")) == ("abcdefg", "7", None)


# --- header mutation ---

MUTATION = "header_mutation.v3.HeaderMutation"


def add(key, value, **fields):
    return {"append": {"header": {"key": key, "value": value}, **fields}}


def test_mutations(serve):
    def param(key, value, action="APPEND_IF_EXISTS_OR_ADD"):
        return {"append": {"record": {"key": key, "value": value}, "action": action}}

    proxy = serve(http_filter(MUTATION, mutations={
        "request_mutations": [add("x-a", "1"), add("x-b", "%REQ(:METHOD)%"), {"remove": "X-Gone"}, add("x-c", "new", append_action="OVERWRITE_IF_EXISTS"),
                              {"remove_on_match": {"key_matcher": {"prefix": "x-internal-"}}}, add("x-empty", ""),
                              add("x-kept", "", keep_empty_value=True), add("x-d", "no", append_action="OVERWRITE_IF_EXISTS")],
        "response_mutations": [add("x-r", "%RESPONSE_CODE%"), {"remove": "x-backend"}],
        "query_parameter_mutations": [param("a", "2"), param("b", "%REQ(x-b)%", "OVERWRITE_IF_EXISTS_OR_ADD"), {"remove": "gone"},
                                      param("a", "3", "ADD_IF_ABSENT"), param("none", "1", "OVERWRITE_IF_EXISTS"), param("s", "a b&c")]}))
    response = client.get(proxy.port, "/p?a=1&b=old&gone=1", headers={
        "x-a": "0", "x-gone": "1", "x-c": "old", "X-Internal-1": "1", "x-internal-2": "2"})
    seen = response.json()
    assert {n: v for n, v in seen["headers"].items() if n.startswith("x-") and len(n) < 10} == {"x-a": "1", "x-b": "GET", "x-c": "new", "x-kept": ""}
    assert proxy.server.requests[0].header("x-a") == "0,1"
    assert seen["path"] == "/p?a=1&b=GET&a=2&s=a%20b%26c" or seen["path"] == "/p?a=1&a=2&b=GET&s=a%20b%26c"  # Envoy sorts
    assert (response.header("x-r"), response.header("x-backend")) == ("200", None)


@pytest.mark.parametrize("most_specific_wins,order", [(False, "filter,route,host"), (True, "filter,host,route")])
def test_mutations_of_routes(serve, most_specific_wins, order):
    def says(who):
        return {"typed_per_filter_config": per_route("header_mutation.v3.HeaderMutationPerRoute", mutations={"request_mutations": [add("x-a", who)]})}

    proxy = serve(http_filter(MUTATION, mutations={"request_mutations": [add("x-a", "filter")]}, most_specific_header_mutations_wins=most_specific_wins),
                  vhosts=[{"name": "v", "domains": ["*"], "routes": [route("/", "a", **says("route"))], **says("host")}])
    client.get(proxy.port)
    assert proxy.server.requests[0].header("x-a") == order


# --- gRPC statistics ---

def test_grpc_statistics(serve):
    def answer(request, _):
        ok = request.path.endswith("Ok")
        return 200, [("content-type", "application/grpc"), ("grpc-status", "0" if ok else "5")], b"\0\0\0\0\1x" * 2

    proxy = serve(http_filter("grpc_stats.v3.FilterConfig", emit_filter_state=True,
                              individual_method_stats_allowlist={"services": [{"name": "pkg.Listed", "method_names": ["Ok"]}]}), behaviour=answer)
    for at, messages in (("/pkg.Svc/Ok", 3), ("/pkg.Svc/Bad", 1), ("/pkg.Listed/Ok", 2), ("/pkg.Listed/Other", 0)):
        client.get(proxy.port, at, method="POST", headers={"content-type": "application/grpc+proto"}, body=b"\0\0\0\0\2ab" * messages)
    client.get(proxy.port, "/pkg.Svc/Ok", method="POST", headers={"content-type": "application/json"}, body=b"\0\0\0\0\2ab")
    stats = client.wait_until(lambda: proxy.stats().get("cluster.a.grpc.failure") == 2 and proxy.stats(), what="the counters")
    found = {name[len("cluster.a.grpc."):]: value for name, value in stats.items() if name.startswith("cluster.a.grpc.") and value}
    assert found == {"0": 1, "5": 2, "success": 1, "failure": 2, "total": 3, "request_message_count": 4, "response_message_count": 6,
                     "pkg.Listed.Ok.0": 1, "pkg.Listed.Ok.success": 1, "pkg.Listed.Ok.total": 1,
                     "pkg.Listed.Ok.request_message_count": 2, "pkg.Listed.Ok.response_message_count": 2}
