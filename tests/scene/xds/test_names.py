"""The DNS proxy: names of the mesh from the control plane's table, all others from the system's servers."""
import json
import os
import signal
import socket
import struct
import subprocess
import threading

import pytest
from google.protobuf import any_pb2

from lib import client
from lib.backend import free_port
from lib.client import wait_until
from lib.dns import A, AAAA, DnsServer
from lib.proxy import BUILD, hcm, listener
from lib.xds import LDS, NDS, with_type

CNAME, TXT, TC, AA = 5, 16, 0x0200, 0x0400
SEARCH = "shop.svc.cluster.local"


# --- messages ---

def field(number, data):
    data = data.encode() if isinstance(data, str) else data
    size, length = b"", len(data)
    while length > 0x7f:
        size, length = size + bytes([length & 0x7f | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data


def table(**hosts):
    """A NameTable: host -> (addresses, registry, shortname, namespace)."""
    value = b""
    for host, (ips, registry, shortname, namespace) in hosts.items():
        info = b"".join(field(1, ip) for ip in ips) + field(2, registry) + field(3, shortname) + field(4, namespace)
        value += field(1, field(1, host) + field(2, info))
    return any_pb2.Any(type_url=NDS, value=value)


def question(name, kind=A, edns=0, number=77):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    opt = b"\0" + struct.pack(">HHIH", 41, edns, 0, 0) if edns else b""
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, bool(edns)) + labels + b"\0" + struct.pack(">HH", kind, 1) + opt


def read_name(data, at):
    labels = []
    while True:
        size = data[at]
        if size >= 0xc0:
            rest, _ = read_name(data, (size & 0x3f) << 8 | data[at + 1])
            return ".".join([*labels, *([rest] if rest else [])]), at + 2
        if size == 0:
            return ".".join(labels), at + 1
        labels.append(data[at + 1:at + 1 + size].decode())
        at += 1 + size


class Reply:
    def __init__(self, data):
        number, self.flags, questions, answers, _, _ = struct.unpack(">HHHHHH", data[:12])
        assert number == 77 and self.flags & 0x8000
        self.code, self.answers, at = self.flags & 15, [], 12
        for _ in range(questions):
            _, at = read_name(data, at)
            at += 4
        for _ in range(answers):
            name, at = read_name(data, at)
            kind, _, self.ttl, size = struct.unpack(">HHIH", data[at:at + 10])
            value = data[at + 10:at + 10 + size]
            text = read_name(data, at + 10)[0] if kind == CNAME else socket.inet_ntop(
                socket.AF_INET if kind == A else socket.AF_INET6, value) if kind in (A, AAAA) else value
            self.answers.append((name, kind, text))
            at += 10 + size

    def addresses(self):
        return {value for _, kind, value in self.answers if kind in (A, AAAA)}


def ask(port, name, kind=A, edns=0, tcp=False, deadline=10):
    query = question(name, kind, edns)
    if tcp:
        with socket.create_connection(("127.0.0.1", port), deadline) as connection:
            connection.sendall(struct.pack(">H", len(query)) + query)
            stream = connection.makefile("rb")
            return Reply(stream.read(struct.unpack(">H", stream.read(2))[0]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(deadline)
        datagrams.connect(("127.0.0.1", port))
        datagrams.send(query)
        return Reply(datagrams.recv(65535))


class Upstream(DnsServer):
    """Also by TCP; by UDP what does not fit is cut."""

    def __init__(self):
        self.by_tcp = []
        while True:
            super().__init__()
            try:
                self.listening = socket.create_server(("127.0.0.1", self.port))
                break
            except OSError:  # somebody has that port by TCP
                super().close()
        threading.Thread(target=self._serve_tcp, daemon=True).start()

    def _serve_tcp(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            stream = connection.makefile("rb")
            reply = super()._reply(stream.read(struct.unpack(">H", stream.read(2))[0]))
            self.by_tcp.append(reply)
            if reply is not None:
                connection.sendall(struct.pack(">H", len(reply)) + reply)
            connection.close()

    def _reply(self, data):
        reply = super()._reply(data)
        if reply is None or len(reply) <= 512:
            return reply
        end = read_name(reply, 12)[1] + 4
        return reply[:2] + struct.pack(">HHHHH", 0x8380, 1, 0, 0, 0) + reply[12:end]

    def close(self):
        super().close()
        self.listening.close()


# --- a sidecar's agent ---

@pytest.fixture
def control(make_control):
    server = make_control()
    server.set(with_type(LDS, listener(hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]), port=free_port())))
    return server


@pytest.fixture
def upstream():
    server = Upstream()
    yield server
    server.close()


class Sidecar:
    def __init__(self, workdir, control, servers, **env):
        self.workdir, self.dns, self.status = workdir, free_port(), free_port()
        (workdir / "resolv.conf").write_text(f"search {SEARCH} svc.cluster.local\n" + "".join(f"nameserver {s}\n" for s in servers))
        config = {"discoveryAddress": control.address, "controlPlaneAuthPolicy": "NONE", "proxyAdminPort": free_port(),
                  "statusPort": self.status}
        self.env = {"PATH": os.environ["PATH"], "PROXY_CONFIG": json.dumps(config), "POD_NAME": "web-1", "POD_NAMESPACE": "shop",
                    "INSTANCE_IP": "127.0.0.1", "ISTIO_META_DNS_CAPTURE": "true", "DNS_PROXY_ADDR": f"localhost:{self.dns}",
                    "ENVOY_STATUS_PORT": str(free_port()), "ENVOY_PROMETHEUS_PORT": str(free_port()), "DNS_FORWARD_TIMEOUT": "500ms",
                    "LATEEN_RESOLV_CONF": str(workdir / "resolv.conf"), "LATEEN_PROXY_STATE_DIR": str(workdir), **env}
        self.process = None

    def start(self, ready=True):
        with open(self.workdir / "sidecar.log", "ab") as out:
            self.process = subprocess.Popen([str(BUILD / "lateen-proxy"), "proxy", "sidecar"], env=self.env, cwd=self.workdir,
                                            stdout=out, stderr=subprocess.STDOUT)
        if ready:
            wait_until(self.is_ready, 20, "the sidecar is ready")
        return self

    def is_ready(self):
        assert self.process.poll() is None, (self.workdir / "sidecar.log").read_text()
        try:
            return client.get(self.status, "/healthz/ready").status == 200
        except OSError:
            return False

    def metric(self, name):
        lines = client.get(self.status, "/stats/prometheus").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.fixture
def sidecar(workdir, control, upstream):
    started = []

    def make(servers=None, ready=True, **env):
        servers = [f"127.0.0.1:{upstream.port}"] if servers is None else servers
        started.append(Sidecar(workdir, control, servers, **env).start(ready))
        return started[-1]

    yield make
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)


SHOP = {"web.shop.svc.cluster.local": (["10.0.0.1"], "Kubernetes", "web", "shop"),
        "db.stock.svc.cluster.local": (["10.0.0.2", "2001:db8::2"], "Kubernetes", "db", "stock"),
        "api.example.com": (["10.0.0.3"], "External", "", "shop"),
        "*.wild.example.com": (["10.0.0.4", "10.9.0.0/16"], "External", "", "shop"),
        "far.other.svc.remote.domain": (["10.0.0.5"], "Kubernetes", "far", "other")}


@pytest.mark.quick
def test_names_of_the_table(control, sidecar, upstream):
    control.set(table(**SHOP))
    port = sidecar().dns
    for name, wanted in {"web.shop.svc.cluster.local": "10.0.0.1", "web.shop": "10.0.0.1", "web.shop.svc": "10.0.0.1", "web": "10.0.0.1",
                         "WEB.Shop.SVC.cluster.LOCAL": "10.0.0.1", "db.stock": "10.0.0.2", "api.example.com": "10.0.0.3",
                         "a.wild.example.com": "10.0.0.4", "a.b.wild.example.com": "10.0.0.4",
                         "far.other.svc.remote.domain": "10.0.0.5"}.items():
        for tcp in (False, True):
            reply = ask(port, name, tcp=tcp)
            assert reply.addresses() == {wanted} and reply.flags & AA and reply.ttl == 30, name
    assert ask(port, "db.stock", AAAA).addresses() == {"2001:db8::2"}
    empty = ask(port, "web", AAAA)  # known, and without such an address
    assert empty.code == 0 and not empty.answers and empty.flags & AA
    assert not upstream.asked
    for name in ("db", "far.other", "wild.example.com", "nobody.example.com"):  # of nobody here
        assert ask(port, name).code == 3, name
    assert {name for name, _ in upstream.asked} == {"db", "far.other", "wild.example.com", "nobody.example.com"}


def test_the_first_search_domain_is_short_cut(control, sidecar, upstream):
    control.set(table(**SHOP))
    port = sidecar().dns
    reply = ask(port, f"api.example.com.{SEARCH}")
    assert reply.answers == [(f"api.example.com.{SEARCH}", CNAME, "api.example.com"), ("api.example.com", A, "10.0.0.3")]
    assert ask(port, f"x.wild.example.com.{SEARCH}").addresses() == {"10.0.0.4"}
    assert ask(port, "web.shop.svc.cluster.local").answers == [("web.shop.svc.cluster.local", A, "10.0.0.1")]
    assert not upstream.asked
    assert ask(port, "api.example.com.svc.cluster.local").code == 3  # the second one is not
    assert len(upstream.asked) == 1


def test_other_names_and_types_are_passed_on(control, sidecar, upstream):
    control.set(table(**SHOP))
    upstream.names.update({"outside.example.org": ["192.0.2.1"], "many.example.org": [f"192.0.2.{i}" for i in range(1, 60)]})
    one = sidecar()
    assert ask(one.dns, "outside.example.org").addresses() == {"192.0.2.1"}
    assert ask(one.dns, "web", TXT).code == 3 and upstream.asked[-1] == ("web", TXT)
    cut = ask(one.dns, "many.example.org")
    assert cut.flags & TC and not cut.answers
    assert len(ask(one.dns, "many.example.org", tcp=True).answers) == 59 and len(upstream.by_tcp) == 1
    assert one.metric("istio_agent_dns_requests_total") == 4
    assert one.metric("istio_agent_dns_upstream_requests_total") == 4
    took = "istio_agent_dns_upstream_request_duration_seconds"
    assert one.metric(took + '_bucket{le="+Inf"}') == one.metric(took + "_count") == one.metric(took + '_bucket{le="5"}') == 4
    assert 0 < one.metric(took + "_sum") < 20


@pytest.mark.parametrize("at_once", ["false", "true"])
def test_a_silent_server_is_not_the_only_one(control, sidecar, upstream, at_once):
    control.set(table(**SHOP))
    upstream.names["outside.example.org"] = ["192.0.2.1"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        servers = [f"127.0.0.1:{silent.getsockname()[1]}", f"127.0.0.1:{free_port()}", f"127.0.0.1:{upstream.port}"]
        one = sidecar(servers, DNS_FORWARD_PARALLEL=at_once)
        for _ in range(5):
            assert ask(one.dns, "outside.example.org").addresses() == {"192.0.2.1"}
    upstream.names["outside.example.org"] = None
    for tcp in (False, True):
        upstream.close() if tcp else None
        assert ask(one.dns, "outside.example.org", tcp=tcp, deadline=20).code == 2
    # questions are counted, not who was asked in vain before
    assert one.metric("istio_agent_dns_upstream_requests_total") == 7
    assert one.metric("istio_agent_dns_upstream_failures_total") == 2
    assert one.metric("istio_agent_dns_upstream_request_duration_seconds_count") == 7


def test_answers_are_cut_to_what_the_client_takes(control, sidecar):
    control.set(table(**{"many.shop.svc.cluster.local": ([f"10.1.0.{i}" for i in range(1, 201)], "Kubernetes", "many", "shop")}))
    port = sidecar().dns
    plain, larger, whole = ask(port, "many"), ask(port, "many", edns=1232), ask(port, "many", tcp=True)
    assert plain.flags & TC and larger.flags & TC and not whole.flags & TC
    assert 20 < len(plain.answers) < len(larger.answers) < len(whole.answers) == 200
    orders = {tuple(value for _, _, value in ask(port, "many", tcp=True).answers) for _ in range(5)}
    assert len(orders) > 1  # shuffled


def test_the_table_changes_and_bad_ones_are_refused(control, sidecar):
    control.set(table(**SHOP))
    port = sidecar().dns
    stream = control.stream(having=NDS)
    control.set(table(**{"web.shop.svc.cluster.local": (["10.0.0.9"], "Kubernetes", "web", "shop")}))
    wait_until(lambda: ask(port, "web").addresses() == {"10.0.0.9"}, 10, "the new table")
    assert ask(port, "api.example.com").code == 3
    control.set(any_pb2.Any(type_url=NDS, value=b"\x0a\xff"))
    wait_until(lambda: stream.nacks(NDS), 10, "a NACK")
    assert ask(port, "web").addresses() == {"10.0.0.9"}


def test_not_ready_without_a_table_and_again_from_disk(control, sidecar):
    control.withhold(NDS)
    control.set(table(**SHOP))
    one = sidecar(ready=False)
    wait_until(lambda: control.streams and control.streams[0].acks(LDS), 20, "listeners are taken")
    assert not one.is_ready() and ask(one.dns, "web").code == 2
    control.release(NDS)
    wait_until(one.is_ready, 10, "readiness")
    control.stop()
    os.kill(one.process.pid, signal.SIGKILL)
    one.process.wait(10)
    one.start()  # ready, with nobody to ask
    assert ask(one.dns, "web").addresses() == {"10.0.0.1"}


def test_what_is_no_question_harms_nobody(control, sidecar):
    control.set(table(**SHOP))
    port = sidecar().dns
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for data in (b"", b"x", b"\0" * 12, question("web")[:-3], b"\0\1\x80\0" + b"\0" * 8, question("a" * 63 + "." + "b" * 63) * 3, b"\xff" * 400):
            datagrams.sendto(data, ("127.0.0.1", port))
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(b"\xff\xff" + b"x" * 5000)
        connection.settimeout(5)
        try:
            assert connection.recv(10) == b""
        except ConnectionResetError:
            pass
    assert ask(port, "web").addresses() == {"10.0.0.1"}
