"""
Who reads what in the same bytes of HTTP/1: what gets through us is plain for the strictest reader, and all others read the same in
it. A table of cases on both proxies, HAProxy and Node's parser; and mutants of them.
"""
import random

import pytest

from lib import framing

pytestmark = pytest.mark.quick

REFUSED = "refused"


def went(first):
    """It got through so, and the request behind it, too."""
    return f"{first} | GET /next"


def get(*fields, line="GET / HTTP/1.1", host="Host: x"):
    return "\r\n".join([line, *([host] if host else []), *fields]).encode("latin-1") + b"\r\n\r\n"


def post(*fields, body=b"", line="POST / HTTP/1.1"):
    return get(*fields, line=line) + body


def chunked(body, *fields):
    return post("Transfer-Encoding: chunked", *fields, body=body)


NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
AB = b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"

# what is sent, and what gets through; "@" is a Host other than "x", "+" a trailer
CASES = {
    # how long is it
    "length": (post("Content-Length: 2", body=b"ab" + NEXT), went("POST / 'ab'")),
    "two equal lengths": (post("Content-Length: 2", "Content-Length: 2", body=b"ab" + NEXT), REFUSED),
    "two lengths": (post("Content-Length: 2", "Content-Length: 3", body=b"ab" + NEXT), REFUSED),
    "list of equal lengths": (post("Content-Length: 2, 2", body=b"ab" + NEXT), REFUSED),
    "list of lengths": (post("Content-Length: 2, 3", body=b"ab" + NEXT), REFUSED),
    "length with plus": (post("Content-Length: +2", body=b"ab" + NEXT), REFUSED),
    "length with minus": (post("Content-Length: -2", body=b"ab" + NEXT), REFUSED),
    "length in hex": (post("Content-Length: 0x2", body=b"ab" + NEXT), REFUSED),
    "length with leading zeros": (post("Content-Length: 002", body=b"ab" + NEXT), went("POST / 'ab'")),
    "length with a blank inside": (post("Content-Length: 1 0", body=b"0123456789" + NEXT), REFUSED),
    "length with a dot": (post("Content-Length: 2.0", body=b"ab" + NEXT), REFUSED),
    "empty length": (post("Content-Length:", body=NEXT), REFUSED),
    "length above 64 bits": (post("Content-Length: 18446744073709551618", body=b"ab" + NEXT), REFUSED),
    "length above 63 bits": (post("Content-Length: 9223372036854775810", body=b"ab" + NEXT), REFUSED),
    "length of wide digits": (post("Content-Length: \xb2", body=b"ab" + NEXT), REFUSED),
    "length of a GET": (get("Content-Length: 2") + b"ab" + NEXT, went("GET / 'ab'")),
    "chunked": (chunked(AB + NEXT), went("POST / 'ab'")),
    "chunked GET": (get("Transfer-Encoding: chunked") + AB + NEXT, went("GET / 'ab'")),
    "length and chunked": (post("Content-Length: 4", "Transfer-Encoding: chunked", body=AB + NEXT), REFUSED),
    "chunked and length": (post("Transfer-Encoding: chunked", "Content-Length: 4", body=AB + NEXT), REFUSED),
    "length zero and chunked": (post("Content-Length: 0", "Transfer-Encoding: chunked", body=AB + NEXT), REFUSED),
    "chunked twice": (post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=AB + NEXT), REFUSED),
    "chunked, chunked": (post("Transfer-Encoding: chunked, chunked", body=AB + NEXT), REFUSED),
    "gzip, chunked": (post("Transfer-Encoding: gzip, chunked", body=AB + NEXT), REFUSED),
    "chunked, identity": (post("Transfer-Encoding: chunked, identity", body=AB + NEXT), REFUSED),
    "identity": (post("Transfer-Encoding: identity", body=NEXT), REFUSED),
    "identity and length": (post("Transfer-Encoding: identity", "Content-Length: 2", body=b"ab" + NEXT), REFUSED),
    "xchunked": (post("Transfer-Encoding: xchunked", body=AB + NEXT), REFUSED),
    "chunked in capitals": (post("Transfer-Encoding: CHUNKED", body=AB + NEXT), went("POST / 'ab'")),
    "chunked in quotes": (post('Transfer-Encoding: "chunked"', body=AB + NEXT), REFUSED),
    "chunked behind a comma": (post("Transfer-Encoding: ,chunked", body=AB + NEXT), REFUSED),
    "chunked with a parameter": (post("Transfer-Encoding: chunked;q=1", body=AB + NEXT), REFUSED),
    "chunked behind a tab": (post("Transfer-Encoding:\tchunked", body=AB + NEXT), went("POST / 'ab'")),
    "chunked behind a vertical tab": (post("Transfer-Encoding: \x0bchunked", body=AB + NEXT), REFUSED),
    "chunked with a bare CR": (post("Transfer-Encoding: chunked\rX: y", body=AB + NEXT), REFUSED),
    "blank before the colon of a coding": (post("Transfer-Encoding : chunked", body=AB + NEXT), REFUSED),
    "name of a coding with a NUL": (post("Transfer-Encoding\0: chunked", body=AB + NEXT), REFUSED),
    "name of a coding with an underscore": (post("Transfer_Encoding: chunked", "Content-Length: 0", body=NEXT), went("POST /")),
    "empty coding": (post("Transfer-Encoding:", body=NEXT), REFUSED),
    "empty coding and length": (post("Transfer-Encoding:", "Content-Length: 2", body=b"ab" + NEXT), REFUSED),
    "coding in HTTP/1.0": (post("Transfer-Encoding: chunked", body=AB, line="POST / HTTP/1.0"), REFUSED),
    "Connection names the length": (post("Connection: content-length", "Content-Length: 2", body=b"ab" + NEXT), went("POST / 'ab'")),
    "Connection names the coding": (
        post("Connection: transfer-encoding", "Transfer-Encoding: chunked", body=AB + NEXT), went("POST / 'ab'")),
    "Connection names Host": (get("Connection: host") + NEXT, REFUSED),
    # chunks
    "chunk extension": (chunked(b"2;a=b\r\nab\r\n0\r\n\r\n" + NEXT), went("POST / 'ab'")),
    "chunk extension in quotes with a line feed": (chunked(b'2;a="\n"\r\nab\r\n0\r\n\r\n' + NEXT), REFUSED),
    "chunk extension with a bare CR": (chunked(b"2;a\rb\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk extension with a NUL": (chunked(b"2;a\0b\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk extension of 20 KB": (chunked(b"2;" + b"a" * 20000 + b"\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size with leading zeros": (chunked(b"0000000002\r\nab\r\n0\r\n\r\n" + NEXT), went("POST / 'ab'")),
    "chunk size with many leading zeros": (chunked(b"0" * 40 + b"2\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size in capitals": (chunked(b"A\r\n0123456789\r\n0\r\n\r\n" + NEXT), went("POST / '0123456789'")),
    "chunk size with 0x": (chunked(b"0x2\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size with plus": (chunked(b"+2\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size with minus": (chunked(b"-2\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size behind a blank": (chunked(b" 2\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size before a blank": (chunked(b"2 \r\nab\r\n0\r\n\r\n" + NEXT), went("POST / 'ab'")),
    "chunk size before a blank and an extension": (chunked(b"2 ;a\r\nab\r\n0\r\n\r\n" + NEXT), went("POST / 'ab'")),
    "chunk size above 64 bits": (chunked(b"10000000000000002\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size above 63 bits": (chunked(b"8000000000000002\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size with an underscore": (chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n" + NEXT), REFUSED),
    "no chunk size": (chunked(b"\r\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size before LF": (chunked(b"2\nab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk size before CR": (chunked(b"2\rab\r\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk before LF": (chunked(b"2\r\nab\n0\r\n\r\n" + NEXT), REFUSED),
    "chunk without an end": (chunked(b"2\r\nab0\r\n\r\n" + NEXT), REFUSED),
    "chunk longer than its size": (chunked(b"2\r\nabc\r\n0\r\n\r\n" + NEXT), REFUSED),
    "last chunk before LF": (chunked(b"2\r\nab\r\n0\n\n" + NEXT), REFUSED),
    "last chunk without the empty line": (chunked(b"2\r\nab\r\n0\r\n" + NEXT), REFUSED),
    "last chunk of many zeros": (chunked(b"2\r\nab\r\n000\r\n\r\n" + NEXT), went("POST / 'ab'")),
    # trailers
    "trailer": (chunked(b"2\r\nab\r\n0\r\nA: b\r\n\r\n" + NEXT), went("POST / 'ab'")),
    "trailer with a length": (chunked(b"2\r\nab\r\n0\r\nContent-Length: 5\r\n\r\n" + NEXT), went("POST / 'ab'")),
    "trailer with a coding": (chunked(b"2\r\nab\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + NEXT), went("POST / 'ab'")),
    "trailer with Host": (chunked(b"2\r\nab\r\n0\r\nHost: y\r\n\r\n" + NEXT), went("POST / 'ab'")),
    "trailer without a colon": (chunked(b"2\r\nab\r\n0\r\nGET /next HTTP/1.1\r\n\r\n" + NEXT), REFUSED),
    "trailer with a bare LF": (chunked(b"2\r\nab\r\n0\r\nA: b\n\r\n" + NEXT), REFUSED),
    "trailer with a NUL": (chunked(b"2\r\nab\r\n0\r\nA: b\0\r\n\r\n" + NEXT), REFUSED),
    # lines
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n" + NEXT, went("GET /")),
    "bare LF behind a field": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nX: y\r\n\r\n" + NEXT, went("GET / a=b")),
    "empty line is a bare LF": (b"GET / HTTP/1.1\r\nHost: x\r\n\n" + NEXT, went("GET /")),
    "bare CR in a value": (get("A: b\rX: y") + NEXT, REFUSED),
    "bare CR behind the request line": (b"GET / HTTP/1.1\rHost: x\r\n\r\n" + NEXT, REFUSED),
    "CR CR LF": (b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n" + NEXT, REFUSED),
    "folded value": (get("A: b", " c") + NEXT, REFUSED),
    "folded value by a tab": (get("A: b", "\tc") + NEXT, REFUSED),
    "folded coding": (post("Transfer-Encoding:", " chunked", body=AB + NEXT), REFUSED),
    "folded first field": (b"GET / HTTP/1.1\r\n Host: y\r\nHost: x\r\n\r\n" + NEXT, REFUSED),
    "empty lines in front": (b"\r\n\r\n" + get() + NEXT, went("GET /")),
    "blank line in front": (b" \r\n" + get() + NEXT, REFUSED),
    "NUL in a value": (get("A: b\0c") + NEXT, REFUSED),
    "control in a value": (get("A: b\x01c") + NEXT, REFUSED),
    "DEL in a value": (get("A: b\x7fc") + NEXT, REFUSED),
    "escape in a value": (get("A: b\x1bc") + NEXT, REFUSED),
    "tab in a value": (get("A: b\tc") + NEXT, went("GET / a=b\tc")),
    "high bytes in a value": (get("A: b\xe9c") + NEXT, went("GET / a=b\u00e9c")),
    "control in a name": (get("A\x01: b") + NEXT, REFUSED),
    "high byte in a name": (get("A\xe9: b") + NEXT, REFUSED),
    "blank in a name": (get("A B: b") + NEXT, REFUSED),
    "blank before the colon": (get("A : b") + NEXT, REFUSED),
    "no name": (get(": b") + NEXT, REFUSED),
    "no colon": (get("A") + NEXT, REFUSED),
    "parenthesis in a name": (get("A(: b") + NEXT, REFUSED),
    # the request line
    "two blanks behind the method": (get(line="GET  / HTTP/1.1") + NEXT, REFUSED),
    "tab behind the method": (get(line="GET\t/ HTTP/1.1") + NEXT, REFUSED),
    "two blanks before the version": (get(line="GET /  HTTP/1.1") + NEXT, REFUSED),
    "blank behind the version": (get(line="GET / HTTP/1.1 ") + NEXT, REFUSED),
    "blank in the target": (get(line="GET /a b HTTP/1.1") + NEXT, REFUSED),
    "tab in the target": (get(line="GET /a\tb HTTP/1.1") + NEXT, REFUSED),
    "NUL in the target": (get(line="GET /a\0b HTTP/1.1") + NEXT, REFUSED),
    "high byte in the target": (get(line="GET /\xe9 HTTP/1.1") + NEXT, REFUSED),
    "no version": (b"GET /\r\nHost: x\r\n\r\n" + NEXT, REFUSED),
    "version 1.2": (get(line="GET / HTTP/1.2") + NEXT, REFUSED),
    "version 1.10": (get(line="GET / HTTP/1.10") + NEXT, REFUSED),
    "version 01.1": (get(line="GET / HTTP/01.1") + NEXT, REFUSED),
    "version in small letters": (get(line="GET / http/1.1") + NEXT, REFUSED),
    "version 2.0": (get(line="GET / HTTP/2.0") + NEXT, REFUSED),
    "method in small letters": (get(line="get / HTTP/1.1") + NEXT, REFUSED),
    "method with a bracket": (get(line="GE[T / HTTP/1.1") + NEXT, REFUSED),
    "unknown method": (get(line="PURGE / HTTP/1.1") + NEXT, went("PURGE /")),
    "target without a slash": (get(line="GET a HTTP/1.1") + NEXT, REFUSED),
    "unknown method that Envoy does not know": (get(line="FOO / HTTP/1.1") + NEXT, went("FOO /")),
    "method in mixed case": (get(line="Post / HTTP/1.1") + NEXT, REFUSED),
    # whom it is for
    "no Host": (get(host=None) + NEXT, REFUSED),
    "empty Host": (get(host="Host:") + NEXT, went("GET / @")),
    "two Hosts": (get("Host: y") + NEXT, REFUSED),
    "two equal Hosts": (get("Host: x") + NEXT, REFUSED),
    "list of Hosts": (get(host="Host: x, y") + NEXT, REFUSED),
    "Host with a port": (get(host="Host: x:80") + NEXT, went("GET / @x:80")),
    "Host with a bad port": (get(host="Host: x:8a") + NEXT, REFUSED),
    "Host with a large port": (get(host="Host: x:99999") + NEXT, REFUSED),
    "Host with an empty port": (get(host="Host: x:") + NEXT, went("GET / @x:")),
    "Host with two ports": (get(host="Host: x:80:80") + NEXT, REFUSED),
    "Host of IPv6 without brackets": (get(host="Host: ::1") + NEXT, went("GET / @::1")),
    "Host of IPv6 and more": (get(host="Host: [::1]x") + NEXT, REFUSED),
    "Host with an underscore": (get(host="Host: a_b") + NEXT, went("GET / @a_b")),
    "Host with userinfo": (get(host="Host: u@x") + NEXT, REFUSED),
    "Host with a slash": (get(host="Host: x/y") + NEXT, REFUSED),
    "Host with a blank": (get(host="Host: x y") + NEXT, REFUSED),
    "Host with a question mark": (get(host="Host: x?y") + NEXT, REFUSED),
    "Host with a hash": (get(host="Host: x#y") + NEXT, REFUSED),
    "Host with a backslash": (get(host="Host: x\\y") + NEXT, REFUSED),
    "Host of IPv6": (get(host="Host: [::1]:80") + NEXT, went("GET / @[::1]:80")),
    "Host of half an IPv6": (get(host="Host: [::1") + NEXT, REFUSED),
    "absolute target": (get(line="GET http://y/a HTTP/1.1") + NEXT, went("GET /a @y")),
    "absolute target with userinfo": (get(line="GET http://u@y/a HTTP/1.1") + NEXT, REFUSED),
    "absolute target with a bad port": (get(line="GET http://y:8a/a HTTP/1.1") + NEXT, REFUSED),
    "absolute target with a large port": (get(line="GET http://y:99999/a HTTP/1.1") + NEXT, REFUSED),
    "absolute target with a comma": (get(line="GET http://y,z/a HTTP/1.1") + NEXT, went("GET /a @y,z")),
    "absolute target with an underscore": (get(line="GET http://a_b/a HTTP/1.1") + NEXT, went("GET /a @a_b")),
    "absolute target without a path": (get(line="GET http://y HTTP/1.1") + NEXT, went("GET / @y")),
    "absolute target with a query and no path": (get(line="GET http://y?q HTTP/1.1") + NEXT, went("GET /?q @y")),
    "absolute target without a host": (get(line="GET http:///a HTTP/1.1") + NEXT, REFUSED),
    "absolute target of ftp": (get(line="GET ftp://y/a HTTP/1.1") + NEXT, REFUSED),
    "absolute target with capitals": (get(line="GET HTTP://y/a HTTP/1.1") + NEXT, went("GET /a @y")),
    "absolute target without Host": (get(line="GET http://y/a HTTP/1.1", host=None) + NEXT, went("GET /a @y")),
    "authority as the target of a GET": (get(line="GET x:80 HTTP/1.1") + NEXT, REFUSED),
    "asterisk of a GET": (get(line="GET * HTTP/1.1") + NEXT, REFUSED),
    # what belongs to one connection
    "Connection names a field": (get("Connection: a", "A: b") + NEXT, went("GET /")),
    "Connection names X-Forwarded-For": (get("Connection: x-forwarded-for", "X-Forwarded-For: 1.2.3.4") + NEXT, REFUSED),
    "Connection names Authorization": (get("Connection: authorization", "Authorization: z") + NEXT, REFUSED),
    "Connection names a pseudo header": (get("Connection: :path") + NEXT, REFUSED),
    "TE": (get("TE: gzip, trailers", "Connection: te") + NEXT, went("GET / te=trailers")),
    "upgrade that nobody allowed": (get("Connection: Upgrade", "Upgrade: websocket") + NEXT, REFUSED),
    "upgrade that nobody allowed, behind an empty one": (
        get("Connection: Upgrade", "Upgrade:", "Upgrade: websocket") + NEXT, REFUSED),
    "upgrade that nobody allowed, before an empty one": (
        get("Connection: Upgrade", "Upgrade: websocket", "Upgrade:") + NEXT, REFUSED),
    "two empty upgrades": (get("Connection: Upgrade", "Upgrade:", "Upgrade:") + NEXT, went("GET /")),
    "offer of h2c": (
        get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA") + NEXT, went("GET /")),
    "upgrade with a body": (post("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 2", body=b"ab" + NEXT), REFUSED),
    "Expect of something else": (post("Expect: 200-ok", "Content-Length: 2", body=b"ab" + NEXT), went("POST / 'ab' expect=200-ok")),
    "CONNECT": (get(line="CONNECT y:80 HTTP/1.1") + NEXT, REFUSED),
    "CONNECT with a length": (post("Content-Length: 2", body=b"ab" + NEXT, line="CONNECT y:80 HTTP/1.1"), REFUSED),
    "preface of HTTP/2 behind a request": (get() + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / | refused"),
}

# what gets through Envoy instead, and why we do otherwise
ENVOY = {
    "length above 63 bits": ("dropped", "it waits for the body"),
    "chunk extension with a NUL": (went("POST / 'ab'"), "no text"),
    "chunk extension of 20 KB": (went("POST / 'ab'"), "only attackers use extensions: 4 KB are enough"),
    "chunk size with many leading zeros": (went("POST / 'ab'"), "sixteen digits are enough"),
    "chunk size above 63 bits": ("dropped", "it waits for the chunk"),
    "chunk before LF": (went("POST / 'ab'"), "chunks may be passed on as they came"),
    "chunk longer than its size": (went("POST / 'ab'"), "where its end is, is anybody's guess"),
    "trailer with a bare LF": (went("POST / 'ab'"), "as within chunks"),
    "bare CR in a value": (went("GET / a=bX: y"), "a line end to some"),
    "CR CR LF": (went("GET /"), "a line end to some"),
    "folded value": (went("GET / a=b c"), "RFC 9112 section 5.2 has it refused or made plain; some read two fields"),
    "folded value by a tab": (went("GET / a=b\tc"), "the same"),
    "folded coding": (went("POST / 'ab'"), "the same"),
    "two blanks behind the method": (went("GET /"), "RFC 9112 section 3: one blank"),
    "tab behind the method": (went("GET /"), "the same"),
    "two blanks before the version": (went("GET /"), "the same"),
    "blank behind the version": (went("GET /"), "the same"),
    "unknown method that Envoy does not know": (REFUSED, "methods may be made up (RFC 9110 section 16.1), and are in HTTP/2"),
    "two Hosts": (went("GET / @x,y"), "which of them policy judged, and which the backend, is anybody's guess"),
    "two equal Hosts": (went("GET / @x,x"), "the same"),
    "Host with a bad port": (went("GET / @x:8a"), "no port"),
    "Host with a large port": (went("GET / @x:99999"), "no port"),
    "Host with two ports": (went("GET / @x:80:80"), "which is it"),
    "Host of IPv6 and more": (went("GET / @[::1]x"), "no host"),
    "Host with userinfo": (went("GET / @u@x"), "RFC 9110 section 7.2: none"),
    "Host of half an IPv6": (went("GET / @[::1"), "no host"),
    "absolute target with userinfo": (went("GET /a @y"), "RFC 9110 section 4.2.4: none"),
    "absolute target with a comma": (REFUSED, "as in Host"),
    "absolute target with an underscore": (REFUSED, "as in Host"),
    "absolute target with a query and no path": ("GET /next | refused", "RFC 9112 section 3.2.1"),
    "two empty upgrades": (REFUSED, "an empty field says nothing (RFC 9110 section 5.6.1.2)"),
    "Connection names Authorization": (went("GET /"), "who is vouched for by a hop before must not be taken away by the client"),
}


def expected(kind, name):
    return ENVOY[name][0] if kind == "envoy" and name in ENVOY else CASES[name][1]


@pytest.fixture(scope="module")
def passed(kind, tmp_path_factory):
    """What the proxy of this kind makes of each."""
    return framing.settled(
        lambda cases, quiet: framing.through_proxy(kind, cases, tmp_path_factory.mktemp("framing"), quiet),
        {name: sent for name, (sent, _) in CASES.items()}, lambda name, outcome: str(outcome) == expected(kind, name))


def test_table(kind, passed):
    wrong = [f"{name}: {outcome}, not {expected(kind, name)}" for name, outcome in passed.items()
             if str(outcome) != expected(kind, name)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.lateen_only  # the point is what goes out of us
def test_what_gets_through_is_plain(passed):
    complaints = {name: outcome.complaints for name, outcome in passed.items() if outcome.complaints}
    assert not complaints
    assert all(len(outcome.requests) == outcome.statuses.count(200) for outcome in passed.values())


METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PURGE"}


def up_to_strange_method(requests, reader):
    """Node stops at methods that it does not know."""
    strange = [i for i, (method, _, _) in enumerate(requests) if method not in METHODS]
    return requests[:strange[0]] if strange and reader == "node" else requests


def read_by_others(tmp_path_factory, sent, is_right):
    """The same bytes to HAProxy and to Node; is_right(reader, name, requests)."""
    def haproxy(cases, quiet):
        return framing.through_haproxy(cases, tmp_path_factory.mktemp("haproxy"), quiet)

    for reader, run in (("haproxy", haproxy), ("node", framing.through_node)):
        def check(name, outcome):
            return is_right(reader, name, framing.plainly(outcome.requests))

        found = framing.settled(run, sent, check)
        wrong = [f"{name}: {found[name]}, in {sent[name]!r}" for name in sent if not check(name, found[name])]
        assert not wrong, reader + ":\n" + "\n".join(wrong)


def check_others(tmp_path_factory, passed):
    """Other readers see in the bytes that we let through just what the strictest reader sees there."""
    raw, plain = {}, {}
    for name, outcome in passed.items():
        for number, data in enumerate(outcome.raw):
            if data and b" * HTTP/1" not in data:
                raw[f"{name} {number}"] = data
                plain[f"{name} {number}"] = framing.plainly(framing.take_all(data))
    read_by_others(tmp_path_factory, raw,
                   lambda reader, name, requests: requests == up_to_strange_method(plain[name], reader))


@pytest.mark.lateen_only
def test_others_read_the_same_in_what_gets_through(passed, tmp_path_factory):
    check_others(tmp_path_factory, passed)


# where HAProxy or Node read something else in what was sent than we do, and both take it
READ_OTHERWISE = {
    "absolute target without a host": "HAProxy passes it on as it is",
    "absolute target without Host": "HAProxy passes on what has no Host",
}


@pytest.mark.lateen_only
def test_others_read_the_same_in_what_was_sent(passed, tmp_path_factory):
    def is_right(_, name, theirs):
        ours = framing.plainly(passed[name].requests)
        both = min(len(ours), len(theirs))  # one may have stopped before the other
        return name in READ_OTHERWISE or ours[:both] == theirs[:both]

    read_by_others(tmp_path_factory, {name: sent for name, (sent, _) in CASES.items()}, is_right)


def mutant(chance, seeds):
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(data))
        deed = chance.randrange(4)
        if deed == 0:
            data[at] = chance.choice(b"\0\r\n\t :;,0123456789abcxX\x0b\x7f\x80\xff")
        elif deed == 1:
            data[at:at] = chance.choice([b"\r\n", b"\n", b"\r", b" ", b"\0", b"0", b"chunked", b"Content-Length: 3\r\n",
                                         b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"\r\n\r\n", b"Host: z\r\n", b":"])
        elif deed == 2:
            del data[at:at + chance.choice([1, 1, 2, 10])]
        else:
            end = min(len(data), at + chance.randrange(1, 30))
            data[at:at] = data[at:end]
        if not data:
            data = bytearray(b"x")
    return bytes(data)


@pytest.mark.lateen_only
def test_mutants(kind, tmp_path_factory):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    seeds = [sent for sent, _ in CASES.values() if len(sent) < 2000]
    found = framing.through_proxy(kind, {str(i): mutant(chance, seeds) for i in range(200)}, tmp_path_factory.mktemp("mutants"))
    complaints = {name: outcome.complaints for name, outcome in found.items() if outcome.complaints}
    assert not complaints
    check_others(tmp_path_factory, found)
