"""Network filters echo, direct_response and connection_limit; listeners with more addresses, and one socket for all workers."""
import socket

import pytest

from lib import certs, client
from lib import proxy as proxy_lib
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import address, bootstrap, cluster, listener, tcp_proxy, typed

pytestmark = pytest.mark.quick


def net(name, message, **fields):
    return {"name": name, "typed_config": typed(f"envoy.extensions.filters.network.{message}", **fields)}


ECHO = net("echo", "echo.v3.Echo")


def limit(**fields):
    return net("limit", "connection_limit.v3.ConnectionLimit", stat_prefix="lim", **fields)


def connect(port):
    made = socket.create_connection(("127.0.0.1", port), timeout=10)
    made.settimeout(10)
    return made


def read_all(connection):
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionResetError:
        pass  # Envoy does not wait for what was sent
    return data


def test_echo(run_proxy):
    proxy = run_proxy(bootstrap(listener(ECHO), []))
    with connect(proxy.port) as connection:
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"
        sent = bytes(range(256)) * 4000
        connection.settimeout(20)
        left = len(sent)
        for at in range(0, len(sent), 32768):
            connection.sendall(sent[at:at + 32768])
            expected = min(32768, len(sent) - at)
            got = b""
            while len(got) < expected:
                got += connection.recv(expected - len(got))
            assert got == sent[at:at + 32768]
            left -= expected
        connection.shutdown(socket.SHUT_WR)
        assert left == 0 and connection.recv(10) == b""


def test_echo_behind_tls(run_proxy, workdir):
    root = certs.Root()
    leaf = root.leaf("spiffe://cluster.local/ns/a/sa/x")
    proxy = run_proxy(bootstrap(listener(chains=[{"filters": [ECHO], "transport_socket": certs.downstream(leaf, root)}]), []))
    with client.Connection(proxy.port, ssl_context=certs.client_context(workdir, root, leaf)) as connection:
        connection.send("hello")
        assert connection.stream.read(5) == b"hello"


@pytest.mark.parametrize("text", ["hi there", "", "x" * 3_000_000], ids=len)
def test_a_direct_response(run_proxy, text):
    fields = {"response": {"inline_string": text}} if text else {}
    proxy = run_proxy(bootstrap(listener(net("direct", "direct_response.v3.Config", **fields)), []))
    with connect(proxy.port) as connection:
        assert read_all(connection) == text.encode()


@pytest.mark.parametrize("fields, is_second_served", [({}, False), ({"delay": "0.05s"}, False), ({"runtime_enabled": {"default_value": False, "runtime_key": "x"}}, True)],
                         ids=str)
def test_so_many_connections(run_proxy, fields, is_second_served):
    proxy = run_proxy(bootstrap(listener(limit(max_connections=1, **fields), ECHO), []), concurrency=2)
    first, second = connect(proxy.port), None
    first.sendall(b"a")
    assert first.recv(1) == b"a"
    second = connect(proxy.port)
    if is_second_served:
        second.sendall(b"b")
        assert second.recv(1) == b"b"
        return
    assert read_all(second) == b""
    assert proxy.stats()["connection_limit.lim.limited_connections"] == 1
    first.close()

    def has_room():
        with connect(proxy.port) as third:
            try:
                third.sendall(b"c")
                return third.recv(1) == b"c"
            except OSError:
                return False
    wait_until(has_room, what="room for another")


@pytest.mark.parametrize("filters", [[limit(max_connections=0), ECHO], [limit(max_connections=1)], [ECHO, tcp_proxy("a")]], ids=["zero", "last", "not last"])
def test_refused(kind, workdir, filters):
    proxy = proxy_lib.start(kind, bootstrap(listener(*filters), [cluster("a", 1)]), workdir, ready=False)
    assert proxy.process.wait(20) != 0


def test_more_addresses(run_proxy, backends):
    ports = [free_port(), free_port()]
    more = [{"address": address(ports[0])}, {"address": address(ports[1], "::1")}]
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a"), additional_addresses=more), [cluster("a", backends().port)]), concurrency=2)
    assert client.get(proxy.port).status == client.get(ports[0]).status == 200
    with client.Connection(ports[1], host="::1") as connection:
        connection.request()
        assert connection.response().status == 200


def test_both_families_at_one_port(run_proxy, backends):
    """What a mesh of two families asks for."""
    port = free_port()
    config = listener(tcp_proxy("a"), port=port, additional_addresses=[{"address": address(port, "::")}])
    config["address"] = address(port, "0.0.0.0")
    run_proxy(bootstrap(config, [cluster("a", backends().port)]))
    for host in ("127.0.0.1", "::1"):
        with client.Connection(port, host=host) as connection:
            connection.request()
            assert connection.response().status == 200


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_one_socket_for_all_workers(run_proxy, backends, workdir, family):
    config = listener(tcp_proxy("a"), enable_reuse_port=False)
    if family == "unix":
        config["address"] = {"pipe": {"path": str(workdir / "s")}}
    proxy = run_proxy(bootstrap(config, [cluster("a", backends().port)]), concurrency=4)
    for _ in range(20):
        if family == "tcp":
            assert client.get(proxy.port).status == 200
            continue
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(workdir / "s"))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
