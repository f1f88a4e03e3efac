"""HTTP/2 from the client and to the host, and every translation between it and HTTP/1."""
import collections
import json
import socket
import threading
import time

import pytest

from lib import backend, certs, client, h2
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

Answer = collections.namedtuple("Answer", "status headers body trailers interim")
PAIRS = [(down, up) for down in ("h1", "h2") for up in ("h1", "h2")]
pairs = pytest.mark.parametrize("down, up", PAIRS, ids=lambda value: value)


class Matrix:
    """One proxy, clients of both versions before it, hosts of both behind it; the header x-up chooses the host."""

    def __init__(self, run, **fields):
        self.h1, self.h2 = backend.Backend("h1"), h2.Backend("h2")
        routes = [route({"prefix": "/", "headers": [{"name": "x-up", "string_match": {"exact": up}}]}, up) for up in ("h1", "h2")]
        trailers = {"http_protocol_options": {"enable_trailers": True}}
        self.proxy = run(bootstrap(
            listener(hcm(routes, **{**trailers, "proxy_100_continue": True, "delayed_close_timeout": "0.05s", **fields})),
            [cluster("h1", self.h1.port, http_protocol_options={"enable_trailers": True}),
             cluster("h2", self.h2.port, **h2.explicit())]))
        self.port = self.proxy.port

    def server(self, up):
        return getattr(self, up)

    def ask(self, down, up, method="GET", path="/", headers=(), body=None, trailers=None, within=20):
        headers = [*(headers.items() if isinstance(headers, dict) else headers), ("x-up", up)]
        if down == "h2":
            with h2.connect(self.port) as peer:
                stream = peer.ask(method, path, headers=headers, body=body, trailers=trailers, within=within)
                assert stream.reset in (None, 0), stream.reset  # NO_ERROR: it was answered before its end came
                return Answer(stream.status, dict(stream.headers), stream.body, dict(stream.trailers or ()), stream.interim)
        with client.Connection(self.port, deadline=within) as connection:
            if trailers is not None:
                headers.append(("transfer-encoding", "chunked"))
                framed = b"%x\r\n%s\r\n0\r\n" % (len(body), body) + b"".join(
                    b"%s: %s\r\n" % (n.encode(), v.encode()) for n, v in trailers) + b"\r\n"
                connection.request(method, path, headers=headers, body=framed)
            else:
                connection.request(method, path, headers=headers, body=body or b"")
            interim = []
            while (response := connection.response(method)).status < 200:
                interim.append(response)
            return Answer(response.status, {n.lower(): v for n, v in response.headers}, response.body,
                          {n.lower(): v for n, v in response.trailers or ()}, interim)


@pytest.fixture(scope="module")
def matrix(run_shared):
    made = Matrix(run_shared)
    yield made
    made.h1.close()
    made.h2.close()


# --- translations ---

@pairs
def test_request_and_response(matrix, down, up):
    answer = matrix.ask(down, up, path="/a/b?c=d", headers={"x-mine": "1"})
    seen = json.loads(answer.body)
    assert answer.status == 200 and answer.headers["x-backend"] == up
    assert (seen["method"], seen["path"]) == ("GET", "/a/b?c=d")
    assert seen["version"] == {"h1": "HTTP/1.1", "h2": "HTTP/2"}[up]
    assert seen["headers"]["host"] == "test.local" and seen["headers"]["x-mine"] == "1"
    assert seen["headers"]["x-forwarded-proto"] == "http" and len(seen["headers"]["x-request-id"]) == 36
    assert "transfer-encoding" not in seen["headers"] and "content-length" not in seen["headers"]
    assert answer.headers["server"] == "envoy" and "x-envoy-upstream-service-time" in answer.headers


@pairs
@pytest.mark.parametrize("size", [0, 1, 16384, 70000, 3000000])
def test_bodies(matrix, down, up, size):
    answer = matrix.ask(down, up, "POST", body=b"y" * size, headers={"content-length": str(size)})
    seen = json.loads(answer.body)
    assert len(seen["body"]) == size and seen["headers"]["content-length"] == str(size)
    answer = matrix.ask(down, up, path=f"/bytes/{size}")
    assert answer.body == b"x" * size and answer.headers["content-length"] == str(size)


@pairs
def test_bodies_of_unknown_length(matrix, down, up):
    trailers = () if down == "h1" else None
    answer = matrix.ask(down, up, "POST", body=b"z" * 50000, trailers=trailers)
    seen = json.loads(answer.body)
    assert len(seen["body"]) == 50000 and "content-length" not in seen["headers"]
    assert seen["headers"].get("transfer-encoding") == ("chunked" if up == "h1" else None)
    answer = matrix.ask(down, up, path="/chunked/2000")
    assert len(answer.body) == 12000 and "content-length" not in answer.headers


@pairs
@pytest.mark.parametrize("status", [204, 304, 404])
def test_statuses_without_and_with_bodies(matrix, down, up, status):
    answer = matrix.ask(down, up, path=f"/status/{status}")
    assert answer.status == status
    assert answer.body == (b"status 404" if status == 404 else b"")


@pairs
def test_head(matrix, down, up):
    answer = matrix.ask(down, up, "HEAD", path="/bytes/50")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "50")


@pairs
def test_trailers(matrix, down, up):
    answer = matrix.ask(down, up, "POST", body=b"hello", trailers=[("x-check", "7")])
    seen = json.loads(answer.body)
    assert seen["body"] == "hello" and seen["trailers"] == {"x-check": "7"}
    answer = matrix.ask(down, up, path="/trailers")
    assert (answer.body, answer.trailers) == (b"body", {"x-sum": "42", "x-other": "b"})


@pairs
def test_early_hints(matrix, down, up):
    answer = matrix.ask(down, up, path="/hints")
    assert answer.status == 200 and len(answer.interim) == 1
    link = dict(answer.interim[0])["link"] if down == "h2" else answer.interim[0].header("link")
    assert link == "</style.css>"


@pairs
def test_expect_continue(matrix, down, up):
    """The host decides, and its 100 travels back before any of the body goes there."""
    headers = [("expect", "100-continue"), ("content-length", "5"), ("x-up", up)]
    if down == "h2":
        with h2.connect(matrix.port) as peer:
            stream = peer.open("POST", "/continue", headers=headers, end=False)
            stream.wait(lambda s: s.interim)
            assert stream.interim[0][0] == (":status", "100")
            stream.send(b"hello", end=True)
            assert stream.wait().json()["body"] == "hello"
        return
    with client.Connection(matrix.port) as connection:
        connection.request("POST", "/continue", headers=headers)
        assert connection.response().status == 100
        connection.send(b"hello")
        assert connection.response().json()["body"] == "hello"


def test_cookies_are_joined_for_one_and_split_for_nobody(matrix):
    cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]
    for up in ("h1", "h2"):
        seen = json.loads(matrix.ask("h2", up, headers=cookies).body)
        assert seen["headers"]["cookie"] == "a=1; b=2; c=3"
    seen = json.loads(matrix.ask("h1", "h2", headers=[("Cookie", "a=1; b=2")]).body)
    assert seen["headers"]["cookie"] == "a=1; b=2"


def test_names_are_lower_case_in_http2(matrix):
    seen = json.loads(matrix.ask("h1", "h2", headers=[("X-Upper-Case", "Kept")]).body)
    assert seen["headers"]["x-upper-case"] == "Kept"
    raw = matrix.h2.requests[-1].headers
    assert all(name == name.lower() for name, _ in raw)


def test_what_belongs_to_one_connection_stays_there(matrix):
    hop = [("Connection", "x-hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "close"),
           ("TE", "trailers, deflate"), ("X-Kept", "1")]
    seen = json.loads(matrix.ask("h1", "h2", headers=hop).body)["headers"]
    assert {"connection", "x-hop", "keep-alive", "proxy-connection", "upgrade"}.isdisjoint(seen) and seen["x-kept"] == "1"
    assert seen.get("te") in (None, "trailers")


# --- what no request looks like ---

def pseudo(**fields):
    return [(":" + name, value) for name, value in fields.items()]


GET = pseudo(method="GET", scheme="http", authority="h", path="/")
POST = pseudo(method="POST", scheme="http", authority="h", path="/")
BAD = {
    "upper case name": (GET, [("X-Up", "1")], None),
    "connection": (GET, [("connection", "close")], None),
    "transfer-encoding": (POST, [("transfer-encoding", "chunked")], b"abc"),
    "te": (GET, [("te", "gzip")], None),
    "upgrade": (GET, [("upgrade", "websocket")], None),
    "blank in name": (GET, [("a b", "1")], None),
    "colon in name": (GET, [("a:b", "1")], None),
    "line end in name": (GET, [("a\r\nb", "1")], None),
    "empty name": (GET, [("", "1")], None),
    "NUL in value": (GET, [("a", "b\0c")], None),
    "CR in value": (GET, [("a", "b\rc")], None),
    "LF in value": (GET, [("a", "b\nc")], None),
    "request in value": (GET, [("a", "b\r\n\r\nGET /inner HTTP/1.1\r\nhost: h")], None),
    "control in value": (GET, [("a", "b\x01")], None),
    "DEL in value": (GET, [("a", "b\x7f")], None),
    "two hosts": (GET, [("host", "h"), ("host", "h")], None),
    "no authority": (pseudo(method="GET", scheme="http", path="/"), [], None),
    "empty authority": (pseudo(method="GET", scheme="http", authority="", path="/"), [], None),
    "user in authority": (pseudo(method="GET", scheme="http", authority="u@h", path="/"), [], None),
    "slash in authority": (pseudo(method="GET", scheme="http", authority="h/x", path="/"), [], None),
    "blank in authority": (pseudo(method="GET", scheme="http", authority="h x", path="/"), [], None),
    "line end in authority": (pseudo(method="GET", scheme="http", authority="h\r\na: b", path="/"), [], None),
    "no path": (pseudo(method="GET", scheme="http", authority="h"), [], None),
    "empty path": (pseudo(method="GET", scheme="http", authority="h", path=""), [], None),
    "star": (pseudo(method="GET", scheme="http", authority="h", path="*"), [], None),
    "relative path": (pseudo(method="GET", scheme="http", authority="h", path="abc"), [], None),
    "absolute path": (pseudo(method="GET", scheme="http", authority="h", path="http://x/"), [], None),
    "blank in path": (pseudo(method="GET", scheme="http", authority="h", path="/a b"), [], None),
    "line end in path": (pseudo(method="GET", scheme="http", authority="h", path="/ HTTP/1.1\r\nx: y"), [], None),
    "no scheme": (pseudo(method="GET", authority="h", path="/"), [], None),
    "blank in scheme": (pseudo(method="GET", scheme="ht tp", authority="h", path="/"), [], None),
    "no method": (pseudo(scheme="http", authority="h", path="/"), [], None),
    "blank in method": (pseudo(method="GET /x", scheme="http", authority="h", path="/"), [], None),
    "two paths": (GET + [(":path", "/b")], [], None),
    "two methods": (GET + [(":method", "POST")], [], None),
    "unknown pseudo": (GET + [(":foo", "b")], [], None),
    "status": (GET + [(":status", "200")], [], None),
    "late pseudo": (GET[:3] + [("a", "b")] + GET[3:], [], None),
    "CONNECT with path": (pseudo(method="CONNECT", scheme="http", authority="h:1", path="/"), [], None),
    "length too long": (POST, [("content-length", "10")], b"abc"),
    "length too short": (POST, [("content-length", "2")], b"abc"),
    "length without body": (POST, [("content-length", "3")], None),
    "length that is none": (POST, [("content-length", "x")], b"abc"),
    "negative length": (POST, [("content-length", "-1")], b"abc"),
    "signed length": (POST, [("content-length", "+3")], b"abc"),
    "two lengths": (POST, [("content-length", "3"), ("content-length", "3")], b"abc"),
    "lengths that differ": (POST, [("content-length", "3"), ("content-length", "4")], b"abc"),
    "list of lengths": (POST, [("content-length", "3, 3")], b"abc"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request_is_nobodys_request(matrix, name):
    """Envoy ends the connection, lateen the stream; neither lets a host see a whole request."""
    fields, headers, body = BAD[name]
    before = {"h1": len(matrix.h1.requests), "h2": len(matrix.h2.requests)}
    for up in ("h1", "h2"):
        with h2.connect(matrix.port) as peer:
            stream = peer.open(pseudo=fields, headers=[("x-up", up), *headers], body=body)
            stream.wait()
            assert stream.status in (None, 400) and (stream.status or stream.reset is not None or peer.is_closed)
    assert {"h1": len(matrix.h1.requests), "h2": len(matrix.h2.requests)} == before
    assert matrix.ask("h2", "h1").status == 200


@pytest.mark.lateen_only  # Envoy ends the connection, and all that is on it
@pytest.mark.parametrize("name", ["upper case name", "LF in value", "length too long"])
def test_a_bad_stream_harms_no_other(matrix, name):
    fields, headers, body = BAD[name]
    counted = matrix.proxy.stats().get("http2.rx_messaging_error", 0)
    with h2.connect(matrix.port) as peer:
        other = peer.open(path="/delay/0.3", headers=[("x-up", "h1")])
        bad = peer.open(pseudo=fields, headers=[("x-up", "h1"), *headers], body=body).wait()
        assert bad.reset == 1
        assert other.wait().status == 200
    assert matrix.proxy.stats()["http2.rx_messaging_error"] == counted + 1


@pytest.mark.parametrize("name, value, seen", [("host", "other", None), ("x-blank", " v\t", "v"), ("cookie", "a=1; b=2", "a=1; b=2")])
def test_what_is_told_apart_by_nobody_behind_us(matrix, kind, name, value, seen):
    """Host beside :authority, blanks around a value: the host gets what policy was asked about, and nothing else."""
    answer = json.loads(matrix.ask("h2", "h1", headers=[(name, value)]).body)
    if name == "host":
        assert answer["headers"]["host"] == "test.local"
    else:
        assert answer["headers"][name] == seen


@pytest.mark.parametrize("extra, fields", [({"x": "y" * 70000}, {}), ({f"x{i}": "y" for i in range(101)}, {}),
                                           ({f"x{i}": "y" for i in range(30)}, {"common_http_protocol_options": {"max_headers_count": 20}})],
                         ids=["bytes", "count", "own count"])
def test_too_large_a_head(run_proxy, backends, extra, fields):
    server = backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")], **fields)), [cluster("a", server.port)]))
    with h2.connect(proxy.port) as peer:
        stream = peer.open(headers=extra).wait()
        assert stream.status in (431, None)  # Envoy resets the stream
        assert peer.ask().status == 200
    assert client.get(proxy.port, headers=extra).status == 431
    assert len(server.requests) == 1
    stats = proxy.stats()
    assert stats.get("http2.header_overflow", 0) + stats.get("http2.header_list_size_too_large", 0) == 1


def test_trailers_that_are_refused_leave_no_request(matrix):
    """Too large, or of a kind that belongs to heads: a request must not look complete without them."""
    for trailers in ([("a", "x" * 70000)], [(":path", "/x")], [("transfer-encoding", "chunked")]):
        before = len(matrix.h1.requests)
        with h2.connect(matrix.port) as peer:
            stream = peer.open("POST", headers=[("x-up", "h1")], body=b"abc", trailers=trailers).wait()
            assert stream.status is None
        assert len(matrix.h1.requests) == before


def test_trailers_do_not_become_headers(matrix):
    """Of HTTP/2, on their way to HTTP/1, where readers may put them among the headers."""
    late = [("x-fine", "1"), ("authorization", "Bearer x"), ("x-forwarded-for", "1.2.3.4"), ("content-length", "3"), ("host", "other")]
    seen = json.loads(matrix.ask("h2", "h1", "POST", body=b"abc", trailers=late).body)
    assert seen["body"] == "abc" and "authorization" not in seen["headers"]
    assert seen["trailers"]["x-fine"] == "1"


@pytest.mark.lateen_only  # Envoy passes all of them on
def test_trailers_that_would_be_misread_are_left_out(matrix):
    late = [("x-fine", "1"), ("authorization", "Bearer x"), ("x-forwarded-for", "1.2.3.4"), ("content-length", "3"), ("host", "other")]
    seen = json.loads(matrix.ask("h2", "h1", "POST", body=b"abc", trailers=late).body)
    assert seen["trailers"] == {"x-fine": "1"}
