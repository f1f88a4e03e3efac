"""The sidecar's own ports answer at each of its Pod's addresses, of whichever kind the primary one is, and at 127.0.0.1."""
import socket

import pytest

from lib.backend import free_port
from test_names import SHOP, control, sidecar, table, upstream  # noqa: F401, the latter are fixtures


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="needs ::1")


def answer(host, port):
    try:
        with socket.create_connection((host, port), 20) as sock:
            sock.sendall(b"GET /healthz/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return int(sock.makefile("rb").readline().split()[1])
    except ConnectionRefusedError:
        return None


@pytest.mark.parametrize("ips, by_six, by_four", [("127.0.0.1", None, 200), ("::1", 200, 200), ("::1,127.0.0.1", 200, 200),
                                                  ("127.0.0.1,::1", 200, 200)])
def test_health_at_each_address(control, sidecar, ips, by_six, by_four):  # noqa: F811
    control.set(table(**SHOP))
    health = free_port()
    sidecar(INSTANCE_IP=ips.split(",")[0], ISTIO_META_INSTANCE_IPS=ips, ENVOY_STATUS_PORT=str(health))
    assert (answer("::1", health), answer("127.0.0.1", health)) == (by_six, by_four)
