"""IPv6 and both at once: redirected connections, listeners, hosts, names, and how all of them are told. In a network of its own."""
import json
import pathlib
import subprocess
import sys

import pytest

can_unshare = subprocess.run(["unshare", "-Urn", "sh", "-c", "ip link set lo up && ip -6 addr add fd00::1/128 dev lo && nft list ruleset"],
                             capture_output=True).returncode == 0
pytestmark = pytest.mark.skipif(not can_unshare, reason="needs network namespaces with IPv6, and nft in them")


def told(name, client, local, host):
    """The answer of a manager's host, and the line of its access log."""
    at = host.rsplit(":", 1)[0].strip("[]")
    return [{"at": at, "xff": client, "host": "x.test", "external": client}, [f"{client} {local} {host} {name.replace(' ', '_')}"]]


def passed(client, to):
    return [{"at": to.rsplit(":", 1)[0].strip("[]"), "xff": None, "host": "x.test", "external": None}, [f"{client} {to} {to} -"]]


WANTED = {name: told(name, *parts) for name, parts in {
    "redirected to the listener of its address": ("fd00::2", "[fd10::1]:80", "[fd00::1]:8080"),
    "redirected to the listener of any address": ("fd00::2", "[fd10::2]:81", "127.0.0.1:8080"),
    "IPv4, redirected to the same socket": ("127.0.0.2", "240.0.0.1:80", "127.0.0.1:8080"),
    "IPv4, any address": ("127.0.0.2", "240.0.0.2:81", "[fd00::1]:8080"),
    "IPv4, any address of both kinds": ("127.0.0.2", "240.0.0.4:82", "[fd00::1]:8080"),
    "IPv6, any address of both kinds": ("fd00::2", "[fd10::4]:82", "[fd00::1]:8080"),
    "both, by IPv6": ("fd00::2", "[fd00::1]:9000", "[fd00::1]:8080"),
    "both, by IPv4": ("127.0.0.3", "127.0.0.1:9000", "[fd00::1]:8080"),
    "IPv6 alone, by IPv6": ("fd00::2", "[fd00::1]:9001", "[fd00::1]:8080"),
    "two addresses, by IPv4": ("127.0.0.3", "127.0.0.1:9004", "[fd00::1]:8080"),
    "two addresses, by IPv6": ("fd00::2", "[fd00::1]:9004", "[fd00::1]:8080"),
    "IPv4, the listener of two addresses": ("127.0.0.2", "240.0.0.7:84", "[fd00::1]:8080"),
    "IPv6, the listener of two addresses": ("fd00::2", "[fd10::7]:84", "[fd00::1]:8080"),
    "a name with IPv6 addresses": ("fd00::2", "[fd00::1]:9002", "[fd00::1]:8080"),
}.items()} | {
    "redirected to nobody's": passed("fd00::2", "[fd10::3]:8080"),
    "IPv4, nobody's": passed("127.0.0.2", "240.0.0.3:8080"),
    "IPv4, any address of the other kind": ["closed", ["127.0.0.2 240.0.0.5:83 240.0.0.5:83 -"]],
    "IPv6 alone, by IPv4": ["refused", []],
}


def test_both_kinds_of_addresses(kind, tmp_path):
    inside = pathlib.Path(__file__).with_name("ipv6_inside.py")
    done = subprocess.run(["unshare", "-Urn", sys.executable, str(inside), kind, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calls"] == WANTED
    assert {"named::[fd00::1]:8080", "all::[fd00::1]:8080", "all::127.0.0.1:8080"} < set(found["hosts"])
    assert {"[::]:15001", "[::]:81", "0.0.0.0:81", "[fd10::1]:80", "[fd00::1]:9002", "0.0.0.0:9004", "[::]:9004", "[fd10::7]:84"} < set(found["listeners"])
    at = [{"socket_address": {"address": ip, "port_value": 9004}} for ip in ("0.0.0.0", "::")]
    assert found["two"] == {"name": "two", "local_address": at[0], "additional_local_addresses": [at[1]]}
