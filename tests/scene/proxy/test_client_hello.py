"""What a TLS client says first decides who takes it: however it cuts its words, and whatever they are made of."""
import socket
import struct

import pytest

from lib.backend import TcpBackend
from lib.client import wait_until
from lib.proxy import bootstrap, cluster, listener, tcp_proxy, typed

pytestmark = pytest.mark.quick

INSPECTOR = {"name": "envoy.filters.listener.tls_inspector",
             "typed_config": typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")}


def hello(name, padding=0):
    """A ClientHello of TLS 1.3 without its record."""
    names = struct.pack(">BH", 0, len(name)) + name
    extensions = [(0, struct.pack(">H", len(names)) + names), (43, b"\x02\x03\x04"), (10, b"\x00\x02\x00\x1d"),
                  (13, b"\x00\x02\x04\x03"), (51, struct.pack(">HHH", 36, 29, 32) + b"k" * 32), (21, bytes(padding))]
    packed = b"".join(struct.pack(">HH", kind, len(body)) + body for kind, body in extensions)
    body = b"\x03\x03" + b"r" * 32 + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00" + struct.pack(">H", len(packed)) + packed
    return b"\x01" + struct.pack(">I", len(body))[1:] + body


def records(message, each=16384):
    parts = [message[at:at + each] for at in range(0, len(message), each)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(part)) + part for part in parts)


@pytest.fixture
def serve(run_proxy, workdir):
    """Chains for one name, for the rest of TLS and for plain bytes; each says which it is. The log has the names."""
    servers = {name: TcpBackend(lambda connection, name=name: connection.sendall(name.encode()))
               for name in ("named", "tls", "plain")}
    log = {"name": "file", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(workdir / "log"),
                                                 log_format={"text_format_source": {"inline_string": "<%REQUESTED_SERVER_NAME%>\n"}})}
    matches = {"named": {"server_names": ["secret.example"]}, "tls": {"transport_protocol": "tls"}, "plain": {}}
    chains = [{"filter_chain_match": match, "filters": [tcp_proxy(name, access_log=[log])]} for name, match in matches.items()]
    proxy = run_proxy(bootstrap(listener(chains=chains, listener_filters=[INSPECTOR]),
                                [cluster(name, server.port) for name, server in servers.items()]))
    yield proxy
    for server in servers.values():
        server.close()


def ask(proxy, said):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(said)
        answer = b""
        try:
            while part := connection.recv(100):
                answer += part
        except ConnectionResetError:
            pass
        return answer.decode()


def test_a_name_is_found_however_it_is_cut(serve):
    message = hello(b"secret.example")
    for each in (16384, 100, 40, 7, 1):
        assert ask(serve, records(message, each)) == "named", f"records of {each} bytes"
    assert ask(serve, records(hello(b"other.example"), 50)) == "tls"


def test_a_hello_too_long_to_be_looked_at_ends(serve):
    """Its name may be one that is not let in."""
    assert ask(serve, records(hello(b"secret.example", padding=20000))) == ""


def test_a_name_is_no_line_of_a_log(serve, workdir):
    names = [b"a.example", b"b\nFORGED", b"c d", b"UPPER.example"]
    for name in names:
        assert ask(serve, records(hello(name))) == "tls"
    serve.stop()
    wanted = ["<a.example>", "<invalid:b_forged>", "<invalid:c_d>", "<upper.example>"]
    wait_until(lambda: (workdir / "log").read_text().splitlines() == wanted, 10, "the log")
