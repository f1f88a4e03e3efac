"""What the first bytes say, however they are cut: both inspectors in front, a chain for each answer."""
import socket
import ssl
import time

import pytest

from lib.backend import TcpBackend
from lib.proxy import bootstrap, cluster, listener, tcp_proxy, typed

pytestmark = pytest.mark.quick
INSPECTORS = [{"name": f"envoy.filters.listener.{name}", "typed_config": typed(f"envoy.extensions.filters.listener.{name}.v3.{kind}")}
              for name, kind in (("tls_inspector", "TlsInspector"), ("http_inspector", "HttpInspector"))]
MATCHES = {"h1": {"application_protocols": ["http/1.1"]}, "h10": {"application_protocols": ["http/1.0"]}, "h2": {"application_protocols": ["h2c"]},
           "istio": {"transport_protocol": "tls", "application_protocols": ["istio"]}, "tls": {"transport_protocol": "tls"}, "raw": {}}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def answer(name):
    def handle(connection):
        connection.recv(1)
        connection.sendall(name.encode())
        while connection.recv(65536):
            pass
    return handle


def hello(alpn=()):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = context.wrap_bio(incoming, outgoing, server_hostname="a.test")
    with pytest.raises(ssl.SSLWantReadError):
        made.do_handshake()
    return outgoing.read()


@pytest.fixture
def proxy(run_proxy):
    servers = {name: TcpBackend(answer(name)) for name in MATCHES}
    chains = [{"filter_chain_match": match, "filters": [tcp_proxy(name)]} for name, match in MATCHES.items()]
    yield run_proxy(bootstrap(listener(chains=chains, listener_filters=INSPECTORS, listener_filters_timeout="0.5s",
                                       continue_on_listener_filters_timeout=True),
                              [cluster(name, server.port) for name, server in servers.items()]))
    for server in servers.values():
        server.close()


def ask(proxy, *pieces, pause=0.002):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            return connection.recv(100).decode()
        except OSError:
            return ""


def each_byte(data):
    return [data[at:at + 1] for at in range(len(data))]


def test_in_one_piece(proxy):
    expected = {"h1": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "h10": b"GET / HTTP/1.0\r\n\r\n", "h2": PREFACE + b"\0\0\0\4\0\0\0\0\0",
                "istio": hello(["istio-peer-exchange", "istio"]), "tls": hello(["other"]), "raw": b"\x00\x01\x02 binary"}
    assert {name: ask(proxy, data) for name, data in expected.items()} == {name: name for name in expected}


def test_byte_by_byte(proxy):
    assert ask(proxy, *each_byte(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")) == "h1"
    assert ask(proxy, *each_byte(PREFACE)) == "h2"
    data = hello(["istio"])
    assert ask(proxy, *each_byte(data[:60]), data[60:]) == "istio"


def test_a_preface_cut_anywhere(proxy):
    cuts = range(1, len(PREFACE))
    seen = {at: ask(proxy, PREFACE[:at], PREFACE[at:] + b"\0\0\0\4\0\0\0\0\0", pause=0.03) for at in cuts}
    assert seen == dict.fromkeys(cuts, "h2")


def test_what_begins_like_something_else(proxy):
    assert ask(proxy, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n") in ("raw", "h2", "h10")
    assert ask(proxy, b"PUT / HTTP/1.1\r\n\r\n") == "h1"
    assert ask(proxy, b"get\x00 / HTTP/1.1\r\n\r\n") == "raw"
    assert ask(proxy, b"GET / SMTP/1.1\r\n\r\n") == "raw"
    assert ask(proxy, b"\x16\x03", b"\x09garbage that is no record") == "raw"


def test_half_a_word_and_then_silence(proxy):
    """The time is over: what was said stays, and the chain is that of a client that said nothing."""
    assert ask(proxy, b"GE") == "raw"
    assert ask(proxy, hello()[:100]) == "raw"
