"""Redirects that the proxy follows itself: which, how often, over which routes, and what is told of them."""
import pytest

from lib import client, h2
from lib import proxy as proxy_lib
from lib.client import wait_until
from lib.logs import log_to, text
from lib.proxy import FLUSH, bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick

LINE = "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)% %ROUTE_NAME%\n"
ALL = {"redirect_response_codes": [301, 302, 303, 307, 308]}


def answer(request, _):
    """/to/CODE/WHERE leads there; '~' stands for '/'."""
    if request.path.startswith("/to/"):
        code, where = request.path.split("/", 3)[2:]
        return int(code), [("location", where.replace("~", "/")), ("x-copy", "copied")], b"moved"


def predicate(name, **fields):
    return {"name": f"envoy.internal_redirect_predicates.{name}", "typed_config": typed(
        f"envoy.extensions.internal_redirect.{name}.v3." + "".join(part.title() for part in name.split("_")) + "Config", **fields)}


class Place:
    def __init__(self, run_proxy, backends, workdir, policy, first=None, **fields):
        self.first, self.second, self.log = backends("first", behaviour=answer), backends("second", behaviour=answer), workdir / "log"
        action = {"cluster": "a", "internal_redirect_policy": policy}
        vhosts = [{"name": "v", "domains": ["*"], "routes": [route("/", {**action, **(first or {})}, name="r1")]},
                  {"name": "o", "domains": ["other.test"], "routes": [
                      route("/x", {**action, "cluster": "b", "prefix_rewrite": "/y"}, name="o1"), route("/back", action, name="o3"), route("/", "b", name="o2")]},
                  {"name": "none", "domains": ["none.test"], "routes": [route("/there", "b")]}]
        config = listener(hcm(vhosts=vhosts, access_log=[log_to(self.log, **text(LINE))], **fields))
        self.proxy = run_proxy(bootstrap(config, [cluster("a", self.first.port), cluster("b", self.second.port)]), extra=FLUSH)

    def ask(self, path, method="GET", **options):
        return client.get(self.proxy.port, path, method, **options)

    def lines(self, count):
        return wait_until(lambda: self.log.exists() and self.log.read_text().count("\n") >= count and self.log.read_text().splitlines(), what="the lines")

    def counts(self):
        return {name.split(".")[-1].replace("internal_redirect_", ""): value for name, value in self.proxy.stats().items() if "internal_redirect" in name and value}


def test_one_is_followed(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, {})
    assert place.ask("/to/302/http:~~other.test~x~1?z=1").status == 200
    asked = place.second.requests[0]
    assert (asked.path, asked.header("host")) == ("/y/1?z=1", "other.test")
    assert asked.header("x-envoy-original-url") == "http://test.local/to/302/http:~~other.test~x~1?z=1" and asked.header("x-envoy-original-path") == "/x/1?z=1"
    assert place.lines(2) == ["302 internal_redirect GET other.test/x/1?z=1 o1", "200 via_upstream GET other.test/y/1?z=1 o1"]
    assert place.counts() == {"upstream_succeeded_total": 1}


@pytest.mark.parametrize("path, why", [
    ("/to/302/~nothing", "bad_location"), ("/to/302/", "bad_location"), ("/to/302/other.test", "bad_location"), ("/to/302/?a=b", "bad_location"),
    ("/to/302/https:~~other.test~q", "unsafe_scheme"), ("/to/302/http:~~none.test~q", "no_route"), ("/to/301/http:~~other.test~q", None)])
def test_some_are_for_the_client(run_proxy, backends, workdir, path, why):
    place = Place(run_proxy, backends, workdir, {})
    reply = place.ask(path)
    assert (reply.status, reply.body, reply.header("location")) == (int(path[4:7]), b"moved", path[8:].replace("~", "/"))
    assert place.lines(1)[0].split(" ")[1:4] == ["via_upstream", "GET", "test.local" + path] and place.second.requests == []
    assert place.counts() == ({f"passthrough_{why}": 1, "upstream_failed_total": 1} if why else {})


@pytest.mark.parametrize("code, method, after, body", [
    (301, "PUT", "PUT", b"hello"), (302, "POST", "POST", b"hello"), (303, "POST", "GET", b""), (303, "HEAD", "HEAD", b""), (307, "POST", "POST", b"x" * 200_000),
    (308, "GET", "GET", b"")])
def test_what_the_other_host_is_asked(run_proxy, backends, workdir, code, method, after, body):
    place = Place(run_proxy, backends, workdir, ALL)
    sent = {"body": body or b"hello"} if method not in ("GET", "HEAD") else {}
    assert place.ask(f"/to/{code}/http:~~other.test~q", method, **sent).status == 200
    asked = place.second.requests[0]
    assert (asked.method, asked.body, asked.header("content-length")) == (after, body, str(len(body)) if body else None)


def test_a_body_of_chunks_goes_on_whole(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, ALL, first={"retry_policy": {"retry_on": "5xx"}})
    chunks = "4\r\nhell\r\n1\r\no\r\n0\r\n\r\n"
    with client.Connection(place.proxy.port) as connection:
        connection.send("POST /to/307/http:~~other.test~q HTTP/1.1\r\nHost: test.local\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert connection.response().status == 200
        connection.request(path="/again")  # nothing of it is left over
        assert connection.response().status == 200
    assert place.second.requests[0].body == b"hello"


def test_over_http2(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, ALL)
    with h2.connect(place.proxy.port) as asker:
        reply = asker.ask("POST", "/to/307/http:~~other.test~q", body=b"hello")
    assert reply.status == 200 and place.second.requests[0].body == b"hello"


def test_no_more_than_so_many(run_proxy, backends, workdir):
    round_and_round = "/to/302/http:~~other.test~back"
    place = Place(run_proxy, backends, workdir, {"max_internal_redirects": 2})
    place.first.behaviour = lambda request, _: (302, [("location", "http://other.test/back")], b"")
    assert place.ask(round_and_round).status == 302 and len(place.first.requests) == 3
    assert place.counts() == {"upstream_succeeded_total": 2, "passthrough_too_many_redirects": 1, "upstream_failed_total": 1}


@pytest.mark.parametrize("predicates, path, status", [
    ([], "/to/302/https:~~other.test~q", 200), ([predicate("safe_cross_scheme")], "/to/302/https:~~other.test~q", 302),
    ([predicate("safe_cross_scheme")], "/to/302/http:~~other.test~q", 200),
    ([predicate("allow_listed_routes", allowed_route_names=["o2"])], "/to/302/http:~~other.test~q", 200),
    ([predicate("allow_listed_routes", allowed_route_names=["o2"])], "/to/302/http:~~other.test~x~1", 302)], ids=str)
def test_predicates(run_proxy, backends, workdir, predicates, path, status):
    place = Place(run_proxy, backends, workdir, {"allow_cross_scheme_redirect": True, "predicates": predicates})
    assert place.ask(path).status == status
    assert place.counts() == ({"upstream_succeeded_total": 1} if status == 200 else {"passthrough_predicate": 1, "upstream_failed_total": 1})


def test_not_to_the_same_route_twice(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, {"max_internal_redirects": 5, "predicates": [predicate("previous_routes")]})
    place.first.behaviour = lambda request, _: (302, [("location", "http://other.test/back")], b"")
    assert place.ask("/").status == 302
    assert place.counts()["passthrough_predicate"] == 1 and len(place.first.requests) == 3  # r1 to o3, o3 to itself, and there it ends


def test_fields_that_go_along(run_proxy, backends, workdir):
    place = Place(run_proxy, backends, workdir, {"response_headers_to_copy": ["x-copy", "x-none"]})
    assert place.ask("/to/302/http:~~other.test~q", headers={"x-none": "mine", "x-copy": "mine"}).status == 200
    assert (place.second.requests[0].header("x-copy"), place.second.requests[0].header("x-none")) == ("copied", None)


def test_steps_are_taken_anew(run_proxy, backends, workdir):
    """Who may not go to the second place by himself is not taken there."""
    rbac = {"name": "envoy.filters.http.rbac", "typed_config": typed("envoy.extensions.filters.http.rbac.v3.RBAC", rules={
        "action": "DENY", "policies": {"p": {"permissions": [{"url_path": {"path": {"prefix": "/secret"}}}], "principals": [{"any": True}]}}})}
    place = Place(run_proxy, backends, workdir, {}, http_filters=[rbac], normalize_path=True)
    for where in ("~secret~1", "~a~..~secret"):
        assert place.ask(f"/to/302/http:~~other.test{where}").status == 403
    assert place.second.requests == []


@pytest.mark.lateen_only
def test_unknown_predicates_refuse(kind, workdir):
    policy = {"predicates": [{"name": "x", "typed_config": typed("google.protobuf.BoolValue", value=True)}]}
    proxy = proxy_lib.start(kind, bootstrap(listener(hcm([route("/", {"cluster": "a", "internal_redirect_policy": policy})])), [cluster("a", 1)]), workdir, ready=False)
    assert proxy.process.wait(20) != 0 and "routes[0].internal_redirect_policy.predicates[0]: predicate 'x'" in proxy.output()
