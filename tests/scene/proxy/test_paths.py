"""What becomes of a path before routes, policy and the backend see it: a mesh's pathNormalization, and its refusals."""
import pytest

from lib import client, h2
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

BASE, MERGE = {"normalize_path": True}, {"normalize_path": True, "merge_slashes": True}


def escaped(action, **fields):
    return {**fields, "path_with_escaped_slashes_action": action}


# what istiod makes of NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES, of gateways' profile, and one more
MODES = {"none": {}, "base": BASE, "merge": MERGE, "decode": escaped("UNESCAPE_AND_FORWARD", **MERGE),
         "redirect": escaped("UNESCAPE_AND_REDIRECT", **MERGE), "reject": escaped("REJECT_REQUEST", **BASE)}
SAME = None  # the backend sees what was sent

# path, and what becomes of it in each mode: another path, a status, or a status and where to
PATHS = [
    ("/a/.;/b", SAME, "/a/b", "/a/b", "/a/b", "/a/b", "/a/b"),
    ("/a/..;x=1/b", SAME, "/b", "/b", "/b", "/b", "/b"),
    ("/a/.;x/b", SAME, "/a/b", "/a/b", "/a/b", "/a/b", "/a/b"),
    ("/a/b;/../c", SAME, "/a/c", "/a/c", "/a/c", "/a/c", "/a/c"),
    ("/a/..;x", SAME, "/", "/", "/", "/", "/"),
    ("/a/.;", SAME, "/a/", "/a/", "/a/", "/a/", "/a/"),
    ("/a/..%3b/b", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/a/..%3B/b", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/a/...;/b", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/a/..;;/b", SAME, "/b", "/b", "/b", "/b", "/b"),
    ("/;/b", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/a/;/../b", SAME, "/a/b", "/a/b", "/a/b", "/a/b", "/a/b"),
    ("/..;/b", SAME, "/b", "/b", "/b", "/b", "/b"),
    ("/a/b/..;//c", SAME, "/a//c", "/a/c", "/a/c", "/a/c", "/a//c"),
    ("/a/..;b", SAME, "/", "/", "/", "/", "/"),
    ("/a/..;b?q;c", SAME, "/?q;c", "/?q;c", "/?q;c", "/?q;c", "/?q;c"),
    ("/a/..%2f;/x", SAME, SAME, SAME, "/;/x", "307 /;/x", 400),
    ("/a/..;%2fx", SAME, "/", "/", "/x", "307 /x", 400),
    ("/a/../b", SAME, "/b", "/b", "/b", "/b", "/b"),
    ("/a/./b/", SAME, "/a/b/", "/a/b/", "/a/b/", "/a/b/", "/a/b/"),
    ("/a//b", SAME, SAME, "/a/b", "/a/b", "/a/b", SAME),
    ("//a", SAME, SAME, "/a", "/a", "/a", SAME),
    ("/a/%2e%2e/b", SAME, "/b", "/b", "/b", "/b", "/b"),
    ("/a%2Fb", SAME, SAME, SAME, "/a/b", "307 /a/b", 400),
    ("/a%2fb/..%2fc", SAME, SAME, SAME, "/a/c", "307 /a/c", 400),
    ("/a%5cb", SAME, SAME, SAME, "/a/b", "307 /a/b", 400),
    ("/a\\b", SAME, "/a/b", "/a/b", "/a/b", "/a/b", "/a/b"),
    ("/%61dmin", SAME, "/admin", "/admin", "/admin", "/admin", "/admin"),
    ("/a%00b", SAME, 400, 400, 400, 400, 400),
    ("/a?x=/../y", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/a%2Fb?c%2Fd", SAME, SAME, SAME, "/a/b?c%2Fd", "307 /a/b?c%2Fd", 400),
    ("/a/..", SAME, "/", "/", "/", "/", "/"),
    ("/..", SAME, "/", "/", "/", "/", "/"),
    ("/../../x", SAME, "/x", "/x", "/x", "/x", "/x"),
    ("/a#f", 400, 400, 400, 400, 400, 400),
    ("/a?q#f", 400, 400, 400, 400, 400, 400),
    ("/%", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/%zz", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/%7%32", SAME, "/%2572", "/%2572", "/%2572", "/%2572", "/%2572"),
    ("/a;b/../c", SAME, "/c", "/c", "/c", "/c", "/c"),
    ("/a%252fb", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/é", 400, 400, 400, 400, 400, 400),
    ("/a|b", SAME, "/a%7Cb", "/a%7Cb", "/a%7Cb", "/a%7Cb", "/a%7Cb"),
    ("/a{b}", SAME, "/a%7Bb%7D", "/a%7Bb%7D", "/a%7Bb%7D", "/a%7Bb%7D", "/a%7Bb%7D"),
    ('/a"b', SAME, "/a%22b", "/a%22b", "/a%22b", "/a%22b", "/a%22b"),
    ("/a/b/..//c", SAME, "/a//c", "/a/c", "/a/c", "/a/c", "/a//c"),
    ("/.", SAME, "/", "/", "/", "/", "/"),
    ("/...", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/.a", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/a%2f%2fb", SAME, SAME, SAME, "/a/b", "307 /a/b", 400),
    ("/a/%2E%2e%2Fb", SAME, "/a/..%2Fb", "/a/..%2Fb", "/b", "307 /b", 400),
    ("/a%5C..%5Cb", SAME, SAME, SAME, "/b", "307 /b", 400),
    ("/a/..;/b", SAME, "/b", "/b", "/b", "/b", "/b"),
    ("/A/../%41", SAME, "/A", "/A", "/A", "/A", "/A"),
    ("//..//x", SAME, "//x", "/x", "/x", "/x", "//x"),
    ("/a%20b", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/a%3Fb", SAME, SAME, SAME, SAME, SAME, SAME),
    ("/a%23b", SAME, SAME, SAME, SAME, SAME, SAME),
]

# Envoy reads segments with parameters before it decodes: "..;" comes out of it, and Tomcat takes that for ".."
STRICTER = [
    ("/a/%2e%2e;/b", SAME, "/b", "/b", "/b", "/b", "/b"),
    ("/a/.%2e;/x", SAME, "/x", "/x", "/x", "/x", "/x"),
]


@pytest.fixture(scope="module")
def seen_by(run_shared):
    """seen_by(mode, path): what the backend saw, or the proxy's answer; routes to /secret are answered here."""
    from lib.backend import Backend
    server = Backend("a")
    routes = [route("/secret", direct_response={"status": 418}), route("/", "a"), route({"connect_matcher": {}}, "a")]
    proxy = run_shared(bootstrap([listener(hcm(routes, **fields), name=name) for name, fields in MODES.items()],
                                 [cluster("a", server.port)]))
    ports = dict(zip(MODES, proxy.ports))

    def ask(mode, path, method="GET", **options):
        response = client.get(ports[mode], path, method, **options)
        if response.status == 200:
            return response.json()["path"]
        location = response.header("location")
        return response.status if location is None else f"{response.status} {location}"

    ask.proxy, ask.ports = proxy, ports
    yield ask
    server.close()


def check(seen_by, table):
    wrong = []
    for path, *expected in table:
        for mode, wanted in zip(MODES, expected):
            found = seen_by(mode, path)
            if found != (path if wanted is SAME else wanted):
                wrong.append(f"{mode}: {path} became {found}, not {wanted}")
    assert not wrong, "\n".join(wrong)


def test_paths(seen_by):
    check(seen_by, PATHS)


@pytest.mark.lateen_only
def test_paths_that_become_dots_for_some_servers(seen_by):
    check(seen_by, STRICTER)


@pytest.mark.parametrize("path", ["/secret", "/x/../secret", "/x/..;/secret", "/%73ecret", "/./secret", "/x\\..\\secret"])
def test_routes_see_the_normal_form(seen_by, path):
    for mode in ("base", "merge", "decode", "reject"):
        assert seen_by(mode, path) == 418, mode


@pytest.mark.parametrize("path", ["//secret", "/x/..//secret"])
def test_routes_see_merged_slashes(seen_by, path):
    assert seen_by("merge", path) == 418 and seen_by("decode", path) == 418


@pytest.mark.parametrize("path", ["/x%2f../secret", "/x%2F..%5csecret", "/%2fsecret"])
def test_routes_see_decoded_slashes(seen_by, path):
    assert seen_by("decode", path) == 418


def test_in_http2_as_in_http1(seen_by):
    with h2.connect(seen_by.ports["decode"]) as peer:
        assert peer.ask(path="/x%2f../secret").status == 418
        assert peer.ask(path="/a//b").json()["path"] == "/a/b"
        assert peer.ask(path="/a#b").status == 400


def test_grpc_is_refused_where_others_are_redirected(seen_by):
    """Its clients follow no redirects."""
    with h2.connect(seen_by.ports["redirect"]) as peer:
        stream = peer.ask(path="/a%2fb", headers={"content-type": "application/grpc"})
        assert (stream.status, stream.header("grpc-status")) == (200, "13")


@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_path_is_left_alone(seen_by, mode):
    assert seen_by(mode, "*", "OPTIONS") == 404  # no route is for it, nobody refuses it
    with client.Connection(seen_by.ports[mode]) as connection:
        connection.request("CONNECT", "b.test:80", host="b.test:80")
        assert connection.response("HEAD").status == 403  # a route is there, and it may not tunnel


def test_both_are_counted(seen_by):
    def counts():
        stats = seen_by.proxy.stats()
        return [stats.get(f"http.scene.downstream_rq_{what}", 0)
                for what in ("failed_path_normalization", "redirected_with_normalized_path")]

    refused, redirected = counts()
    seen_by("reject", "/a%2fb")
    seen_by("redirect", "/a%2fb")
    assert counts() == [refused + 1, redirected + 1]
