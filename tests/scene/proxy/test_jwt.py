"""JSON Web Tokens: who is believed, what is passed on, and where the keys come from."""
import base64
import json
import threading
import time

import pytest

from lib import client, jwt
from lib.filters import access_log, http_filter, per_route, policy, rbac
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

AUTHN = "jwt_authn.v3.JwtAuthentication"
ONE, TWO, EC, RSA = jwt.Secret("one", b"1" * 32), jwt.Secret("two", b"2" * 32), jwt.Ec(), jwt.Rsa()
FORGED = jwt.Secret("one", b"x" * 32)


def local(issuer, *keys, **fields):
    return {"issuer": issuer, "local_jwks": {"inline_string": jwt.key_set(*keys)}, **fields}


def authn(providers, requires, **fields):
    return http_filter(AUTHN, providers=providers, rules=[{"match": {"prefix": "/"}, "requires": requires}], **fields)


def bearer(*args, **claims):
    return {"authorization": "Bearer " + jwt.token(*args, **claims)}


@pytest.fixture
def serve(run_proxy, backends):
    def run(*filters, routes=None, clusters=(), options=None, **fields):
        server = backends("a")
        proxy = run_proxy(bootstrap(listener(hcm(routes or [route("/", "a")], http_filters=list(filters), **fields)),
                                    [cluster("a", server.port), *clusters]), **(options or {}))
        proxy.server = server
        return proxy
    return run


def verdict(proxy, headers=(), at="/", method="GET"):
    response = client.get(proxy.port, at, method, headers=headers)
    return response.status if response.status == 200 else (response.status, response.body.decode())


def seen(proxy, headers=(), at="/"):
    response = client.get(proxy.port, at, headers=headers)
    assert response.status == 200, response.body
    return response.json()


FORM = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
ISSUER, AUDIENCE = "Jwt issuer is not configured", "Audiences in Jwt are not allowed"


def test_one_provider(serve):
    proxy = serve(authn({"p": local("me", ONE, EC, RSA, audiences=["shop"])}, {"provider_name": "p"}))
    now = int(time.time())
    for key in (ONE, EC, RSA):
        assert verdict(proxy, bearer(key, iss="me", aud="shop")) == 200
    assert verdict(proxy, bearer(ONE, iss="me", aud=["other", "https://shop/"])) == 200
    assert verdict(proxy, bearer(ONE, iss="me", aud="shop", exp=now - 30)) == 200  # within the skew
    assert verdict(proxy, at="/?a=1&access_token=" + jwt.token(ONE, iss="me", aud="shop")) == 200
    assert verdict(proxy) == (401, "Jwt is missing")
    assert verdict(proxy, {"authorization": "Basic eA=="}) == (401, "Jwt is missing")
    assert verdict(proxy, {"authorization": "Bearer rubbish"}) == (401, FORM)
    assert verdict(proxy, {"authorization": "Bearer a.b.c"}) == (401, "Jwt header is an invalid Base64url encoded")
    assert verdict(proxy, bearer(ONE, iss="you", aud="shop")) == (401, ISSUER)
    assert verdict(proxy, bearer(ONE, iss="me", aud="shop", exp=now - 100)) == (401, "Jwt is expired")
    assert verdict(proxy, bearer(ONE, iss="me", aud="shop", nbf=now + 100)) == (401, "Jwt not yet valid")
    assert verdict(proxy, bearer(ONE, iss="me", aud="else")) == (403, AUDIENCE)
    assert verdict(proxy, bearer(ONE, iss="me")) == (403, AUDIENCE)
    assert verdict(proxy, bearer(FORGED, iss="me", aud="shop")) == (401, "Jwt verification fails")
    assert verdict(proxy, bearer(TWO, iss="me", aud="shop")) == (401, "Jwks doesn't have key to match kid or alg from Jwt")
    assert verdict(proxy, bearer(ONE, header={"alg": "none"}, iss="me", aud="shop")) == (401, "Jwt header [alg] is not supported")
    # what is judged once stays judged: the same token again, and when it is over
    again = bearer(ONE, iss="me", aud="shop", exp=now - 58)
    assert verdict(proxy, again) == 200
    client.wait_until(lambda: verdict(proxy, again) == (401, "Jwt is expired"), what="its end")


def test_the_refusal(serve, workdir):
    log = workdir / "log"
    proxy = serve(authn({"p": local("me", ONE)}, {"provider_name": "p"}),
                  access_log=access_log(log, "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"))
    missing = client.get(proxy.port, "/x?y")
    assert missing.header("www-authenticate") == 'Bearer realm="http://test.local/x?y"'
    assert missing.header("content-type") == "text/plain"
    bad = client.get(proxy.port, "/x", headers=bearer(FORGED, iss="me"))
    assert bad.header("www-authenticate") == 'Bearer realm="http://test.local/x", error="invalid_token"'
    grpc = client.get(proxy.port, method="POST", headers={"content-type": "application/grpc"})
    assert (grpc.status, grpc.header("grpc-status"), grpc.header("grpc-message")) == (200, "16", "Jwt is missing")
    lines = client.wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 3 and log.read_text().splitlines(),
                              what="three lines")
    assert lines == ["401 - jwt_authn_access_denied{Jwt_is_missing}", "401 - jwt_authn_access_denied{Jwt_verification_fails}",
                     "200 - jwt_authn_access_denied{Jwt_is_missing}"]
    stats = proxy.stats()
    assert stats["http.scene.jwt_authn.denied"] == 3


def test_istio_with_one_rule(serve):
    """A good token, or none."""
    proxy = serve(authn({"origins-0": local("me", ONE, payload_in_metadata="payload")},
                        {"requires_any": {"requirements": [{"provider_name": "origins-0"}, {"allow_missing": {}}]}},
                        bypass_cors_preflight=True))
    assert verdict(proxy) == 200
    assert verdict(proxy, bearer(ONE, iss="me")) == 200
    assert verdict(proxy, {"authorization": "Basic x"}) == 200
    assert verdict(proxy, bearer(FORGED, iss="me")) == (401, "Jwt verification fails")
    assert verdict(proxy, bearer(ONE, iss="you")) == (401, ISSUER)
    preflight = {"origin": "https://x", "access-control-request-method": "GET", **bearer(FORGED, iss="me")}
    assert verdict(proxy, preflight, method="OPTIONS") == 200
    # two tokens in one place are none that anybody could have meant
    twice = [("authorization", "Bearer " + jwt.token(ONE, iss="me"))] * 2
    assert verdict(proxy, twice) == (401, FORM)


def test_istio_with_two_rules(serve):
    """security.md: one that is good, or for each one that is good or missing."""
    def either(name):
        return {"requires_any": {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}}

    proxy = serve(authn({"origins-0": local("me", ONE), "origins-1": local("you", TWO, from_headers=[{"name": "x-token"}])},
                        {"requires_any": {"requirements": [{"provider_name": "origins-0"}, {"provider_name": "origins-1"},
                                                           {"requires_all": {"requirements": [either("origins-0"), either("origins-1")]}}]}}))
    good0, good1 = bearer(ONE, iss="me"), {"x-token": jwt.token(TWO, iss="you")}
    bad0, bad1 = bearer(FORGED, iss="me"), {"x-token": jwt.token(ONE, iss="you")}
    assert [verdict(proxy, h) for h in ({}, good0, good1, {**good0, **good1}, {**good0, **bad1}, {**bad0, **good1})] == [200] * 6
    assert verdict(proxy, bad0) == (401, "Jwt verification fails")
    assert verdict(proxy, bad1) == (401, "Jwks doesn't have key to match kid or alg from Jwt")
    assert verdict(proxy, {**bad0, **bad1})[0] == 401


def test_what_is_needed(serve):
    providers = {"a": local("me", ONE), "b": local("you", TWO, from_headers=[{"name": "x-token"}])}
    rules = [{"match": {"prefix": "/none"}},
             {"match": {"prefix": "/all"}, "requires": {"requires_all": {"requirements": [{"provider_name": "a"}, {"provider_name": "b"}]}}},
             {"match": {"prefix": "/aud"}, "requires": {"provider_and_audiences": {"provider_name": "a", "audiences": ["x"]}}},
             {"match": {"prefix": "/any"}, "requires": {"allow_missing_or_failed": {}}},
             {"match": {"prefix": "/named"}, "requirement_name": "only b"},
             {"match": {"prefix": "/get", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]},
              "requires": {"provider_name": "a"}}]
    off, named, wrong = (per_route("jwt_authn.v3.PerRouteConfig", **fields) for fields in (
        {"disabled": True}, {"requirement_name": "only b"}, {"requirement_name": "nobody"}))
    proxy = serve(http_filter(AUTHN, providers=providers, rules=rules, requirement_map={"only b": {"provider_name": "b"}}),
                  routes=[route("/all/off", "a", typed_per_filter_config=off), route("/none/named", "a", typed_per_filter_config=named),
                          route("/none/wrong", "a", typed_per_filter_config=wrong), route("/", "a")])
    good0, good1 = bearer(ONE, iss="me"), {"x-token": jwt.token(TWO, iss="you")}
    missing = (401, "Jwt is missing")
    assert [verdict(proxy, at=at) for at in ("/none", "/other", "/all/off", "/any")] == [200] * 4
    assert [verdict(proxy, h, "/all") for h in (good0, {**good0, **good1})] == [missing, 200]
    assert [verdict(proxy, h, "/aud") for h in (good0, bearer(ONE, iss="me", aud="x"))] == [(403, AUDIENCE), 200]
    assert verdict(proxy, bearer(FORGED, iss="me"), "/any") == 200
    for at in ("/named", "/none/named"):
        assert [verdict(proxy, h, at) for h in (good0, good1)] == [missing, 200]
    assert verdict(proxy, at="/none/wrong") == (403, "Failed JWT authentication: Wrong requirement_name: nobody. "
                                                "It should be one of [only b]")
    assert [verdict(proxy, at="/get"), verdict(proxy, at="/get", method="POST")] == [missing, 200]


def test_what_is_passed_on(serve, workdir):
    claims = ["text", "whole", "part", "yes", "list", "deep.er", "none", "missing", "https://x/y"]
    provider = local("me", ONE, forward_payload_header="X-Payload", payload_in_metadata="payload", header_in_metadata="header",
                     normalize_payload_in_metadata={"space_delimited_claims": ["scope"]},
                     claim_to_headers=[{"header_name": f"x-{i}", "claim_name": name} for i, name in enumerate(claims)])
    padded = local("you", TWO, forward=True, pad_forward_payload_header=True, forward_payload_header="x-padded", from_params=["t"],
                   from_headers=[{"name": "x-two", "value_prefix": "Token "}], from_cookies=["tok"])
    log = workdir / "log"
    proxy = serve(authn({"a": provider, "b": padded}, {"requires_any": {"requirements": [{"provider_name": "a"}, {"provider_name": "b"}]}}),
                  access_log=access_log(log, "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn)%"))
    token = jwt.token(ONE, iss="me", text="a b", whole=7, part=1.5, yes=True, list=["a", 1], deep={"er": "x"}, none=None, scope="a b",
                      **{"https://x/y": "url"})
    got = seen(proxy, [("Authorization", "Bearer " + token), ("X-0", "mine"), ("x-7", "mine"), ("x-payload", "mine"), ("x-padded", "mine")])
    headers = got["headers"]
    assert [headers.get(f"x-{i}") for i in range(9)] == ["a b", "7", "1.500000", "true", base64.b64encode(b'["a",1]').decode(), "x",
                                                         None, None, "url"]
    assert headers["x-payload"] == token.split(".")[1]
    assert "authorization" not in headers and "x-padded" not in headers
    other = jwt.token(TWO, iss="you", sub="s")
    payload = other.split(".")[1]
    for name, value in (("x-two", "Token " + other), ("cookie", "a=b; tok=" + other)):
        headers = seen(proxy, {name: value})["headers"]
        assert headers[name] == value
        assert headers["x-padded"] == payload + "=" * (-len(payload) % 4)
    line = json.loads(client.wait_until(lambda: log.exists() and log.read_text().splitlines(), what="the log")[0])
    assert line["header"] == {"alg": "HS256", "kid": "one", "typ": "JWT"}
    assert (line["payload"]["scope"], line["payload"]["deep"], line["payload"]["whole"]) == (["a", "b"], {"er": "x"}, 7)


def test_tokens_leave_the_path(serve):
    proxy = serve(authn({"a": local("me", ONE, from_params=["t"])}, {"provider_name": "a"}))
    token = jwt.token(ONE, iss="me")
    assert [seen(proxy, at=at)["path"] for at in (f"/?t={token}", f"/?a=1&t={token}&b=", f"/x?b=2&t={token}")] == \
        ["/", "/?a=1&b=", "/x?b=2"]


def test_principals_and_routes(serve):
    """What AuthorizationPolicy and VirtualService make of claims."""
    def claim(*path, **value):
        return {"filter": "envoy.filters.http.jwt_authn", "path": [{"key": "payload"}, *({"key": k} for k in path)], "value": value}

    def member(text):
        return {"or_match": {"value_matchers": [{"list_match": {"one_of": {"string_match": {"exact": text}}}},
                                                {"string_match": {"exact": text}}]}}

    principal = {"and_ids": {"ids": [{"metadata": claim("iss", string_match={"exact": "me"})},
                                     {"metadata": claim("sub", string_match={"safe_regex": {"regex": ".+"}})}]}}
    proxy = serve(authn({"a": local("me", ONE, payload_in_metadata="payload", clear_route_cache=True)}, {"allow_missing": {}}),
                  http_filter("rbac.v3.RBAC", rules=rbac("ALLOW", who=policy(principal={"and_ids": {"ids": [
                      principal, {"metadata": claim("groups", **member("buyers"))}]}}))),
                  routes=[route({"prefix": "/", "dynamic_metadata": [claim("tier", string_match={"exact": "gold"})]},
                                direct_response={"status": 299}), route("/", "a")])
    denied = (403, "RBAC: access denied")
    assert verdict(proxy) == denied
    assert verdict(proxy, bearer(ONE, iss="me", sub="x", groups=["sellers", "buyers"])) == 200
    assert verdict(proxy, bearer(ONE, iss="me", sub="x", groups="buyers")) == 200
    assert verdict(proxy, bearer(ONE, iss="me", sub="x", groups=["sellers"])) == denied
    assert verdict(proxy, bearer(ONE, iss="me", groups=["buyers"])) == denied
    assert verdict(proxy, bearer(ONE, iss="me", sub="x", groups="buyers", tier="gold")) == (299, "")


# --- keys that are fetched ---

class KeyServer:
    """Serves a key set, or fails; counts how often it was asked."""

    def __init__(self, backends, keys):
        self.keys, self.asked, self.fails, self.held = keys, 0, False, None
        self.server = backends("keys", behaviour=self.answer)

    def answer(self, request, _):
        self.asked += 1
        if self.held:
            self.held.wait(10)
        assert (request.method, request.path, request.header("host")) == ("GET", "/keys?v=1", "id.example:81")
        return (500, [], b"") if self.fails else (200, [("content-type", "application/json")], jwt.key_set(*self.keys).encode())


def remote(issuer, cache="300s", **fields):
    return {"issuer": issuer, "remote_jwks": {"http_uri": {"uri": "http://id.example:81/keys?v=1", "cluster": "keys", "timeout": "5s"},
                                              "cache_duration": cache, **fields}}


def test_keys_are_fetched_once(serve, backends):
    keys = KeyServer(backends, [ONE])
    proxy = serve(authn({"p": remote("me")}, {"provider_name": "p"}), clusters=[cluster("keys", keys.server.port)])
    assert keys.asked == 0
    assert [verdict(proxy, bearer(ONE, iss="me")) for _ in range(5)] == [200] * 5
    assert verdict(proxy, bearer(FORGED, iss="me")) == (401, "Jwt verification fails")
    assert verdict(proxy) == (401, "Jwt is missing")
    assert keys.asked == 1
    assert proxy.stats()["http.scene.jwt_authn.jwks_fetch_success"] == 1


def test_requests_wait_for_keys(serve, backends):
    keys = KeyServer(backends, [ONE])
    keys.held = threading.Event()
    proxy = serve(authn({"p": remote("me")}, {"provider_name": "p"}), clusters=[cluster("keys", keys.server.port)])
    waiting = [client.Connection(proxy.port) for _ in range(4)]
    for connection in waiting[:3]:
        connection.request(headers=bearer(ONE, iss="me"))
    waiting[3].request(headers=bearer(FORGED, iss="me"))
    client.wait_until(lambda: keys.asked >= 1, what="the question")
    waiting[0].close()  # whoever gives up meanwhile harms nobody
    keys.held.set()
    assert [connection.response().status for connection in waiting[1:]] == [200, 200, 401]
    for connection in waiting[1:]:
        connection.close()


def test_no_keys_no_entry(serve, backends):
    keys = KeyServer(backends, [ONE])
    keys.fails = True
    either = {"requires_any": {"requirements": [{"provider_name": "p"}, {"allow_missing": {}}]}}
    proxy = serve(authn({"p": remote("me")}, either), clusters=[cluster("keys", keys.server.port)])
    failed = (401, "Jwks remote fetch is failed")
    assert verdict(proxy, bearer(ONE, iss="me")) == failed
    assert verdict(proxy) == 200
    keys.fails = False
    client.wait_until(lambda: verdict(proxy, bearer(ONE, iss="me")) == 200, what="the keys")


def test_no_cluster_no_entry(serve):
    proxy = serve(authn({"p": remote("me")}, {"provider_name": "p"}))
    assert verdict(proxy, bearer(ONE, iss="me")) == (401, "Jwks remote fetch is failed")


@pytest.mark.lateen_only  # Envoy refuses everybody while it cannot fetch
def test_last_good_keys(serve, backends):
    keys = KeyServer(backends, [ONE])
    proxy = serve(authn({"p": remote("me", cache="0.2s")}, {"provider_name": "p"}), clusters=[cluster("keys", keys.server.port)])
    assert verdict(proxy, bearer(ONE, iss="me")) == 200
    keys.fails = True
    client.wait_until(lambda: verdict(proxy, bearer(ONE, iss="me")) == 200 and keys.asked >= 3, what="failures")
    assert verdict(proxy, bearer(FORGED, iss="me")) == (401, "Jwt verification fails")
    # and new ones take their place: a token that was good with the old is not any more
    token = bearer(ONE, iss="me")
    assert verdict(proxy, token) == 200
    keys.keys, keys.fails = [TWO], False
    client.wait_until(lambda: verdict(proxy, bearer(TWO, iss="me")) == 200, what="the new key")
    assert verdict(proxy, token) == (401, "Jwks doesn't have key to match kid or alg from Jwt")


def test_keys_ahead_of_requests(serve, backends):
    keys = KeyServer(backends, [ONE])
    serve(authn({"p": remote("me", async_fetch={})}, {"provider_name": "p"}), clusters=[cluster("keys", keys.server.port)])
    client.wait_until(lambda: keys.asked >= 1, what="a fetch that nobody asked for")


@pytest.mark.lateen_only  # how often Envoy fetches with several workers is a matter of chance
def test_workers_share_what_one_has_fetched(serve, backends):
    keys = KeyServer(backends, [ONE])
    proxy = serve(authn({"p": remote("me")}, {"provider_name": "p"}), clusters=[cluster("keys", keys.server.port)],
                  options={"concurrency": 4})
    assert verdict(proxy, bearer(ONE, iss="me")) == 200
    keys.held = threading.Event()  # from here on nobody is given any
    for _ in range(40):
        assert verdict(proxy, bearer(ONE, iss="me")) == 200
    keys.held.set()
