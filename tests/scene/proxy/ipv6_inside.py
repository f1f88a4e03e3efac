"""
What test_ipv6.py sees, in a network namespace of its own:

    unshare -Urn python ipv6_inside.py KIND DIRECTORY

Callers with a mark are captured by nft, IPv4 and IPv6 alike; prints what came of each call as one JSON object.
"""
import http.server
import json
import pathlib
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import client  # noqa: E402
from lib import proxy as p  # noqa: E402
from lib.dns import DnsServer  # noqa: E402

MARK, SO_MARK, FIELDS = 77, 36, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_HOST% %REQ(X-NAME)%"
COMMANDS = ("ip link set lo up", "ip -6 addr add fd00::1/128 dev lo nodad", "ip -6 addr add fd00::2/128 dev lo nodad",
            "ip -6 route add local fd10::/64 dev lo", "ip route add local 240.0.0.0/8 dev lo", "nft add table inet capture",
            "nft add chain inet capture output { type nat hook output priority -100 ; }",
            f"nft add rule inet capture output meta mark {MARK} tcp dport 1-65535 redirect to :15001")


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        own = self.connection.getsockname()[0].removeprefix("::ffff:")
        body = json.dumps({"at": own, "xff": self.headers.get("x-forwarded-for"), "host": self.headers.get("host"),
                           "external": self.headers.get("x-envoy-external-address")}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(port):
    server = Server(("::", port), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def endpoint(*hosts, port=8080):
    return {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": p.address(port, host)}} for host in hosts]}]}


def cluster(name, *hosts, **fields):
    return {"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": {"cluster_name": name, **endpoint(*hosts)}, **fields}


def manager(log, to, **fields):
    return p.hcm([p.route("/", to)], access_log=p.access_log(log, FIELDS), use_remote_address=True, **fields)


def front(name, host, port, filters, is_bound=True, **fields):
    return {"name": name, "address": {"socket_address": {"address": host, "port_value": port, "ipv4_compat": fields.pop("ipv4_compat", False)}},
            "bind_to_port": is_bound, "filter_chains": [{"filters": [filters]}], **fields}


def configuration(directory, dns):
    log = str(directory / "access.log")
    raw = p.tcp_proxy("through")
    raw["typed_config"]["access_log"] = p.access_log(log, FIELDS)
    named = {"type": "STRICT_DNS", "typed_dns_resolver_config": dns.resolver(), "dns_refresh_rate": "0.2s"}
    listeners = [
        front("outbound", "::", 15001, raw, use_original_dst=True, ipv4_compat=True),
        front("exact", "fd10::1", 80, manager(log, "six"), is_bound=False),
        front("exact4", "240.0.0.1", 80, manager(log, "four"), is_bound=False),
        front("any", "::", 81, manager(log, "four"), is_bound=False),
        front("any4", "0.0.0.0", 81, manager(log, "six"), is_bound=False),
        front("any-of-both", "::", 82, manager(log, "six"), is_bound=False, ipv4_compat=True),
        front("any-of-six", "::", 83, manager(log, "six"), is_bound=False),
        front("both", "::", 9000, manager(log, "six"), ipv4_compat=True),
        front("alone", "::", 9001, manager(log, "six")),
        front("own", "fd00::1", 9002, manager(log, "named")),
        front("two", "0.0.0.0", 9004, manager(log, "six"), additional_addresses=[{"address": p.address(9004, "::")}]),
        front("two-exact", "240.0.0.7", 84, manager(log, "six"), is_bound=False, additional_addresses=[{"address": p.address(84, "fd10::7")}]),
    ]
    clusters = [cluster("six", "fd00::1"), cluster("four", "127.0.0.1"), cluster("named", "six.example", dns_lookup_family="V6_ONLY", **named),
                cluster("all", "both.example", dns_lookup_family="ALL", **named),
                {"name": "through", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s"}]
    return p.bootstrap(listeners, clusters)


def connect(host, port, source=None, is_marked=False):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(20)
    if is_marked:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
    if source is not None:
        sock.bind((source, 0))
    sock.connect((host, port))
    return sock


def call(name, host, port, **how):
    """What the server saw, or why there was none."""
    try:
        with connect(host, port, **how) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nhost: x.test\r\nx-name: {name}\r\nconnection: close\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: sock.recv(65536), b"")).partition(b"\r\n\r\n")
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "closed"
    if not head:
        return "closed"  # with or without a reset, by what had been read
    status = int(head.split(b" ", 2)[1])
    return json.loads(body) if status == 200 else status


CALLS = {
    "redirected to the listener of its address": ("fd10::1", 80, {"source": "fd00::2", "is_marked": True}),
    "redirected to the listener of any address": ("fd10::2", 81, {"source": "fd00::2", "is_marked": True}),
    "redirected to nobody's": ("fd10::3", 8080, {"source": "fd00::2", "is_marked": True}),
    "IPv4, redirected to the same socket": ("240.0.0.1", 80, {"source": "127.0.0.2", "is_marked": True}),
    "IPv4, any address": ("240.0.0.2", 81, {"source": "127.0.0.2", "is_marked": True}),
    "IPv4, nobody's": ("240.0.0.3", 8080, {"source": "127.0.0.2", "is_marked": True}),
    "IPv4, any address of both kinds": ("240.0.0.4", 82, {"source": "127.0.0.2", "is_marked": True}),
    "IPv6, any address of both kinds": ("fd10::4", 82, {"source": "fd00::2", "is_marked": True}),
    "IPv4, any address of the other kind": ("240.0.0.5", 83, {"source": "127.0.0.2", "is_marked": True}),
    "both, by IPv6": ("fd00::1", 9000, {"source": "fd00::2"}),
    "both, by IPv4": ("127.0.0.1", 9000, {"source": "127.0.0.3"}),
    "IPv6 alone, by IPv6": ("fd00::1", 9001, {"source": "fd00::2"}),
    "IPv6 alone, by IPv4": ("127.0.0.1", 9001, {}),
    "two addresses, by IPv4": ("127.0.0.1", 9004, {"source": "127.0.0.3"}),
    "two addresses, by IPv6": ("fd00::1", 9004, {"source": "fd00::2"}),
    "IPv4, the listener of two addresses": ("240.0.0.7", 84, {"source": "127.0.0.2", "is_marked": True}),
    "IPv6, the listener of two addresses": ("fd10::7", 84, {"source": "fd00::2", "is_marked": True}),
    "a name with IPv6 addresses": ("fd00::1", 9002, {"source": "fd00::2"}),
}


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def main(kind, directory):
    for command in COMMANDS:
        subprocess.run(command.split(), check=True)
    serve(8080)
    dns = DnsServer()
    dns.names.update({"six.example": ["fd00::1", "127.0.0.1"], "both.example": ["fd00::1", "127.0.0.1"]})
    log = directory / "access.log"
    proxy = p.start(kind, configuration(directory, dns), directory, extra=p.FLUSH if kind == "envoy" else ())
    try:
        found = {}
        for name, (host, port, how) in CALLS.items():
            before = len(lines(log))
            seen = call(name.replace(" ", "_"), host, port, **how)
            if seen != "refused":
                client.wait_until(lambda count=before: len(lines(log)) > count, within=20)
            found[name] = [seen, lines(log)[before:]]
        hosts = [line.split("::hostname::")[0] for line in proxy.admin_get("/clusters").body.decode().splitlines() if "::hostname::" in line]
        pages = json.loads(proxy.admin_get("/listeners?format=json").body)["listener_statuses"]
        two = next(page for page in pages if page["name"] == "two")
        listening = sorted(line.split("::", 1)[1] for line in proxy.admin_get("/listeners").body.decode().splitlines())
    finally:
        proxy.stop()
    print(json.dumps({"calls": found, "hosts": sorted(hosts), "listeners": listening, "two": two}))


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
