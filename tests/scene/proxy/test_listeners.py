"""Listening sockets: in the file system, on addresses that are not there, with options by number; the hand-over by original destination."""
import json
import socket

import pytest

from lib import client
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy

pytestmark = pytest.mark.quick


def http_over(connection):
    connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    data = b""
    while part := connection.recv(65536):
        data += part
    return data.split(b"\r\n", 1)[0]


def test_in_the_file_system(run_proxy, backends, workdir):
    app, path = backends("app"), workdir / "in.sock"
    pipe = {"name": "pipe", "address": {"pipe": {"path": str(path), "mode": 0o620}}, "filter_chains": [{"filters": [hcm([route("/", "app")])]}]}
    raw = {"name": "raw", "address": {"pipe": {"path": str(workdir / "raw.sock")}}, "filter_chains": [{"filters": [tcp_proxy("app")]}]}
    run_proxy(bootstrap([pipe, raw], [cluster("app", app.port)]))
    assert path.stat().st_mode & 0o777 == 0o620
    for name in ("in.sock", "raw.sock"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(workdir / name))
            assert http_over(connection).startswith(b"HTTP/1.1 200")


def test_an_address_that_is_not_there(run_proxy, backends):
    app = backends("app")
    here = listener(hcm([route("/", "app")]), name="here", freebind=True, tcp_fast_open_queue_length=5, tcp_backlog_size=7, socket_options=[
        {"description": "SO_KEEPALIVE", "level": 1, "name": 9, "int_value": 1, "state": "STATE_PREBIND"},
        {"description": "SO_RCVBUF", "level": 1, "name": 8, "int_value": 100000, "state": "STATE_LISTENING"}])
    there = listener(hcm([route("/", "app")], stat_prefix="t"), name="there", freebind=True)
    there["address"]["socket_address"]["address"] = "192.0.2.77"
    proxy = run_proxy(bootstrap([here, there], [cluster("app", app.port)]))
    assert client.get(proxy.port).status == 200
    listening = [line.split()[1] for line in open("/proc/net/tcp").read().splitlines()[1:]]
    assert f"4D0200C0:{proxy.ports[1]:04X}" in listening, "192.0.2.77"


def test_a_listener_without_a_socket(run_proxy, backends):
    """use_original_dst, and nobody redirected: the listener of the local address, where there is one."""
    one, other = backends("one"), backends("other")
    front = listener(hcm([route("/", "one")]), name="front", use_original_dst=True)
    behind = listener(hcm([route("/", "other")], stat_prefix="b"), name="behind", bind_to_port=False)
    proxy = run_proxy(bootstrap([front, behind], [cluster("one", one.port), cluster("other", other.port)]))
    assert json.loads(client.get(proxy.port).body)["server"] == "one"
    with pytest.raises(ConnectionRefusedError):
        client.get(proxy.ports[1])
