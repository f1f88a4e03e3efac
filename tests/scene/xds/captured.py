"""
Drives traffic through a captured configuration: run in a network namespace of its own by test_captures.py.

    unshare -Urn python captured.py DIRECTORY

The control plane sends the resources as they were recorded. What follows from them is read out of them here, by other
code than the proxy's: which virtual host, which route, which endpoints, TLS or not. Every address of the mesh is local;
connections from CALLER are captured as those of the application, from STRANGER as those that come in.
"""
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests/scene"))

import h2.events  # noqa: E402
from cryptography import x509  # noqa: E402
from h2.config import H2Configuration  # noqa: E402
from h2.connection import H2Connection  # noqa: E402

from lib import certs, proxy  # noqa: E402
from lib.client import wait_until  # noqa: E402
from lib.xds import (CDS, ECDS, EDS, LDS, RDS, SDS, AdsServer, ads_source, api_source, control_cluster, learn, to_any)  # noqa: E402

CALLER, STRANGER = "10.50.0.9", "10.50.0.10"
KINDS = {"cds": CDS, "eds": EDS, "lds": LDS, "rds": RDS, "sds": SDS, "ecds": ECDS}
OWN_TYPES = ("istio_alpn", "istio_stats", "istio_metadata_exchange", "istio_peer_metadata")
FAULT = "envoy.filters.http.fault"


def prepare_network():
    for words in ("ip link set lo up", "ip route add local 10.0.0.0/8 dev lo", "ip route add local 172.16.0.0/12 dev lo",
                  "ip route add local 240.0.0.0/4 dev lo", "nft add table ip capture",
                  "nft add chain ip capture output { type nat hook output priority -100 ; }",
                  f"nft add rule ip capture output ip saddr {CALLER} tcp dport 1-65535 redirect to :15001",
                  f"nft add rule ip capture output ip saddr {STRANGER} tcp dport 1-65535 redirect to :15006"):
        subprocess.run(words.split(), check=True)


# --- whoever is behind the mesh ---

class World:
    """Answers at every port of the endpoints, in HTTP or by an echo, in plaintext or with a certificate of every service."""

    def __init__(self, root, names, directory):
        chain, key = root.leaf(names=[x509.UniformResourceIdentifier(n) for n in names])
        pem = directory / "world.pem"
        pem.write_text(chain + key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.context.load_verify_locations(cadata=root.pem)
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.set_alpn_protocols(["istio-http/1.1", "istio-http/1.0", "istio", "http/1.1"])
        self.ports = set()

    def open(self, port):
        if port in self.ports:
            return
        self.ports.add(port)
        listening = socket.create_server(("0.0.0.0", port), backlog=100)
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def _accept(self, listening):
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection.settimeout(20)
            address = "%s:%d" % connection.getsockname()
            first = connection.recv(1, socket.MSG_PEEK)
            is_tls = first == b"\x16"
            if is_tls:
                connection = self.context.wrap_socket(connection, server_side=True)
            self._talk(connection, address, is_tls)
        except OSError:
            pass
        finally:
            connection.close()

    def _talk(self, connection, address, is_tls):
        data = b""
        while True:
            more = connection.recv(65536)
            if not more:
                return
            data += more
            if data.startswith(b"PRI * HTTP/2.0\r\n"):
                self._talk_http2(connection, data, json.dumps({"at": address, "tls": is_tls, "head": []}).encode())
                return
            if data.startswith((b"GET ", b"POST ")):
                if b"\r\n\r\n" not in data:
                    continue
                head = data.split(b"\r\n\r\n")[0].decode().splitlines()
                body = json.dumps({"at": address, "tls": is_tls, "head": head}).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                if "connection: close" in head:
                    return
            else:
                connection.sendall(json.dumps({"at": address, "tls": is_tls}).encode())
            data = b""


    @staticmethod
    def _talk_http2(connection, data, body):
        server = H2Connection(H2Configuration(client_side=False))
        server.initiate_connection()
        while data:
            for event in server.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    server.send_headers(event.stream_id, [(":status", "200"), ("content-length", str(len(body)))])
                    server.send_data(event.stream_id, body, end_stream=True)
            connection.sendall(server.data_to_send())
            data = connection.recv(65536)


# --- what the configuration says, read on its own ---

class Captured:
    def __init__(self, directory):
        self.all = {}  # type -> name -> dict
        for path in sorted(pathlib.Path(directory).glob("*.json")):
            kind = KINDS.get(path.name.split("-")[0].split(".")[0])
            if kind is not None:
                for resource in json.loads(path.read_text()):
                    self.all.setdefault(kind, {})[resource.get("cluster_name") or resource["name"]] = resource

    def of(self, kind):
        return self.all.get(kind, {})

    def endpoints(self, cluster):
        """address -> TLS or not; None: not recorded, or of a kind whose other side the world does not play."""
        config = self.of(CDS).get(cluster)
        if config is None or config.get("type") != "EDS" or "transport_socket" in config:
            return None
        load = self.of(EDS).get(config.get("eds_cluster_config", {}).get("service_name") or cluster)
        found = {}
        for locality in (load or {}).get("endpoints", []):
            for entry in locality.get("lb_endpoints", []):
                address = entry["endpoint"]["address"].get("socket_address")
                if address is None or entry.get("health_status", "HEALTHY") not in ("HEALTHY", "UNKNOWN"):
                    continue
                found[f"{address['address']}:{address['port_value']}"] = self.is_tls(config, entry)
        return found if load is not None else None

    @staticmethod
    def is_tls(config, entry):
        labels = entry.get("metadata", {}).get("filter_metadata", {}).get("envoy.transport_socket_match", {})
        for choice in config.get("transport_socket_matches", []):
            if all(labels.get(name) == value for name, value in choice.get("match", {}).items()):
                return choice["transport_socket"]["name"].endswith("tls")
        return False

    def names(self):
        """Every name that a client expects of a server."""
        found = set()

        def walk(value):
            if isinstance(value, dict):
                if "exact" in value and str(value["exact"]).startswith("spiffe://"):
                    found.add(value["exact"])
                for item in value.values():
                    walk(item)
            elif isinstance(value, list):
                for item in value:
                    walk(item)
        walk(self.of(CDS))
        return found

    @staticmethod
    def chosen(vhost, path="/probe/it"):
        """The route of a plain GET that carries nothing; None: the first that may match is not that plain."""
        for entry in vhost.get("routes", []):
            match = entry.get("match", {})
            if set(match) - {"prefix", "case_sensitive", "path", "path_separated_prefix", "safe_regex", "headers", "query_parameters"}:
                return None
            if match.get("headers") or match.get("query_parameters"):
                if any(not set(h) & {"string_match", "present_match"} or h.get("invert_match") for h in match.get("headers", [])):
                    return None  # it may match what isn't there
                if any(h["name"].startswith(":") for h in match.get("headers", [])):
                    return None
                continue
            if "safe_regex" in match:
                return None
            if path.startswith(match.get("prefix", "\0")) or path.startswith(match.get("path_separated_prefix", "\0") + "/"):
                return entry
        return False


# --- the proxy ---

def bootstrap(server, node):
    lds = ads_source(initial_fetch_timeout="0s")
    sds = control_cluster(server.address, "sds-grpc")
    return {"node": node, "static_resources": {"clusters": [control_cluster(server.address, "xds-grpc"), sds]},
            "dynamic_resources": {"lds_config": lds, "cds_config": lds, "ads_config": api_source("xds-grpc")}}


def secret(name, pair=None, root=None):
    if root is not None:
        return {"@type": SDS, "name": name, "validation_context": {"trusted_ca": {"inline_string": root.pem}}}
    return {"@type": SDS, "name": name, "tls_certificate": {"certificate_chain": {"inline_string": pair[0]},
                                                            "private_key": {"inline_string": pair[1]}}}


def connect(source, host, port, context=None, sni=None):
    connection = socket.create_connection((host, port), 15, source_address=(source, 0) if source else None)
    return context.wrap_socket(connection, server_hostname=sni) if context else connection


def exchange(open_it, host, path):
    data = b""
    try:
        with open_it() as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            while more := connection.recv(65536):
                data += more
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        pass  # refused on the way, or after the answer
    return data


def http(open_it, host, path="/probe/it"):
    """(status, what the backend said, headers); status 0: no answer."""
    data = exchange(open_it, host, path)
    if not data:
        return 0, None, ""
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else None, f"{head.decode()} {body[:200]}"


class Drive:
    def __init__(self, directory):
        self.captured, self.root, self.counts = Captured(directory), certs.Root(), {}
        self.workdir = pathlib.Path(tempfile.mkdtemp(prefix="lateen-captured-"))
        self.world = World(self.root, self.captured.names() | {"spiffe://cluster.local/ns/x/sa/y"}, self.workdir)
        is_router = "gateway" in str(directory)
        nodes = json.loads((pathlib.Path(directory).parent / "nodes" / ("router.json" if is_router else "sidecar.json")).read_text())
        self.server = AdsServer(missing="silent")
        leaf = self.root.leaf("spiffe://cluster.local/ns/shop/sa/storefront")
        self.server.set(secret("default", leaf), secret("ROOTCA", root=self.root))
        for name in self.captured.of(SDS):
            is_root = name.endswith("-cacert")
            self.server.set(secret(name, root=self.root) if is_root else secret(name, self.root.leaf(names=[x509.DNSName("*.example")])))
        listeners = {r["address"]["socket_address"]["port_value"] for r in self.captured.of(LDS).values()
                     if r.get("bind_to_port", True) and "socket_address" in r.get("address", {})}
        for cluster in self.captured.of(CDS):
            for address in self.captured.endpoints(cluster) or {}:
                if int(address.rsplit(":", 1)[1]) not in listeners:
                    self.world.open(int(address.rsplit(":", 1)[1]))
        node = nodes.get("node", nodes)
        wanted = {"id": node["id"], "cluster": node.get("cluster", "x"), "metadata": node.get("metadata", {})}
        resources = [to_any({"@type": kind, **resource}) for kind in (CDS, EDS, LDS, RDS, ECDS)
                     for resource in self.captured.of(kind).values()]
        self.server.set(*resources)
        # what was not recorded is empty: istiod answers every name
        for name in {m["rds"]["route_config_name"] for r in self.captured.of(LDS).values() for _, m in self.managers(r) if "rds" in m}:
            if name not in self.captured.of(RDS):
                self.server.set({"@type": RDS, "name": name, "validate_clusters": False})
        for name, config in self.captured.of(CDS).items():
            wanted_name = config.get("eds_cluster_config", {}).get("service_name") or name
            if config.get("type") == "EDS" and wanted_name not in self.captured.of(EDS):
                self.server.set({"@type": EDS, "cluster_name": wanted_name})
        self.proxy = proxy.start("lateen", bootstrap(self.server, wanted), self.workdir, ready=False)
        stream = self.server.stream(20, having=LDS)
        wait_until(lambda: len(stream.acks(LDS)) + len(stream.nacks(LDS)) > 0, 30, "listeners are answered")
        proxy.wait_ready(self.proxy)
        self.refused = {kind: [r.error_detail.message for r in stream.nacks(kind)] for kind in (CDS, EDS, LDS, RDS)}

    def is_refused(self, name):
        return any(f" {name}: " in text for texts in self.refused.values() for text in texts)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- expectations ---

    def expect_cluster(self, cluster, answer, where):
        status, seen, head = answer
        endpoints = self.captured.endpoints(cluster)
        if endpoints is None:
            self.count("left out")
            return
        if self.is_refused(cluster):
            assert status == 503, (where, cluster, answer)
            self.count("cluster refused")
        elif not endpoints:
            assert status == 503, (where, cluster, answer)
            self.count("no endpoint")
        else:
            reachable = {a: tls for a, tls in endpoints.items() if int(a.rsplit(":", 1)[1]) in self.world.ports}
            if len(reachable) < len(endpoints):
                self.count("left out")
                return
            assert status == 200 and seen["at"] in endpoints, (where, cluster, answer, endpoints)
            assert seen["tls"] == endpoints[seen["at"]], (where, cluster, answer, endpoints)
            self.count("HTTP over TLS" if seen["tls"] else "HTTP")

    def expect_route(self, route_config, vhost, connection, where):
        entry = self.captured.chosen(vhost)
        host = vhost["domains"][0].replace("*", "any")
        if "/" in host:  # of a namespaced server: no client can say that
            return
        if entry is None or (entry and FAULT in entry.get("typed_per_filter_config", {})) or FAULT in vhost.get("typed_per_filter_config", {}):
            self.count("left out")
            return
        answer = http(connection, host)
        if vhost.get("require_tls") or (entry and "redirect" in entry):
            assert answer[0] in (301, 302, 303, 307, 308), (where, answer)
            self.count("redirect")
        elif entry is False:
            assert answer[0] == 404, (where, answer)
            self.count("no route")
        elif "direct_response" in entry:
            assert answer[0] == entry["direct_response"]["status"], (where, answer)
            self.count("direct response")
        elif "cluster" in entry.get("route", {}):
            self.expect_cluster(entry["route"]["cluster"], answer, where)
        elif "weighted_clusters" in entry.get("route", {}):
            of_each = [self.captured.endpoints(one["name"]) for one in entry["route"]["weighted_clusters"]["clusters"]]
            if None in of_each:
                self.count("left out")
                return
            endpoints = {address: tls for one in of_each for address, tls in one.items()}
            assert answer[0] == 200 and answer[1]["at"] in endpoints, (where, answer, endpoints)
            self.count("weighted")
        else:
            self.count("left out")

    # --- what is tried ---

    def managers(self, listener):
        """(chain, its connection manager) of those that have one."""
        chains = listener.get("filter_chains", []) + ([listener["default_filter_chain"]] if "default_filter_chain" in listener else [])
        for chain in chains:
            for entry in chain.get("filters", []):
                if entry.get("typed_config", {}).get("@type", "").endswith("HttpConnectionManager"):
                    yield chain, entry["typed_config"]

    def try_outbound_http(self, name, listener):
        address = listener["address"]["socket_address"]
        host = "10.96.99.1" if address["address"] == "0.0.0.0" else address["address"]
        for _, manager in self.managers(listener):
            routes = self.captured.of(RDS).get(manager.get("rds", {}).get("route_config_name"))
            for vhost in (routes or {}).get("virtual_hosts", []):
                if vhost["domains"] == ["*"]:
                    continue
                self.expect_route(routes, vhost, lambda: connect(CALLER, host, address["port_value"]),
                                  f"{name} {vhost['name']}")

    def try_outbound_tcp(self, name, listener):
        address = listener["address"]["socket_address"]
        chains = listener.get("filter_chains", [])
        filters = chains[0].get("filters", []) if len(chains) == 1 and not chains[0].get("filter_chain_match") else []
        config = filters[-1].get("typed_config", {}) if filters else {}
        cluster = config.get("cluster")
        if not config.get("@type", "").endswith("TcpProxy") or not self.captured.endpoints(cluster) or address["address"] == "0.0.0.0":
            return
        endpoints = self.captured.endpoints(cluster)
        if self.is_refused(cluster) or any(int(a.rsplit(":", 1)[1]) not in self.world.ports for a in endpoints):
            self.count("left out")
            return
        with connect(CALLER, address["address"], address["port_value"]) as connection:
            connection.sendall(b"hello")
            seen = json.loads(connection.recv(4096))
        assert seen["at"] in endpoints and seen["tls"] == endpoints[seen["at"]], (name, seen, endpoints)
        self.count("TCP over TLS" if seen["tls"] else "TCP")

    def try_gateway(self, name, listener):
        port = listener["address"]["socket_address"]["port_value"]
        for chain, manager in self.managers(listener):
            routes = self.captured.of(RDS).get(manager.get("rds", {}).get("route_config_name"))
            servers = chain.get("filter_chain_match", {}).get("server_names", [])
            context, sni = None, None
            if "transport_socket" in chain:
                common = chain["transport_socket"]["typed_config"]["common_tls_context"]
                rules = common.get("combined_validation_context", {}).get("default_validation_context", {})
                expected = [rule["exact"] for rule in rules.get("match_subject_alt_names", []) if "exact" in rule]
                leaf = self.root.leaf("spiffe://cluster.local/ns/x/sa/y", names=[x509.DNSName(name) for name in expected])
                context = certs.client_context(self.workdir, self.root, leaf)
                sni = servers[0].replace("*", "any") if servers else None
            for vhost in (routes or {}).get("virtual_hosts", []):
                self.expect_route(routes, vhost, lambda: connect(None, "127.0.0.1", port, context, sni), f"{name} {vhost['name']}")

    def try_passthrough(self):
        self.world.open(4242)
        status, seen, _ = http(lambda: connect(CALLER, "10.77.0.1", 4242), "outside.example")
        allows = "PassthroughCluster" in json.dumps(self.captured.of(LDS)["virtualOutbound"].get("filter_chains"))
        if allows:
            assert status == 200 and seen["at"] == "10.77.0.1:4242" and not seen["tls"], (status, seen)
        else:
            assert status == 0, (status, seen)
        self.count("passed through" if allows else "kept in")

    def try_inbound(self, listener):
        ports = {}
        for chain, manager in self.managers(listener):
            match = chain.get("filter_chain_match", {})
            cluster = manager["route_config"]["virtual_hosts"][0]["routes"][0].get("route", {}).get("cluster")
            leads_there = self.captured.of(CDS).get(cluster, {}).get("type") == "ORIGINAL_DST"
            if "destination_port" in match and leads_there:
                ports.setdefault(match["destination_port"], []).append((match.get("transport_protocol", ""), manager))
        for port, chains in ports.items():
            guarded = any(kind in json.dumps(m.get("http_filters")) for _, m in chains for kind in ("RBAC", "JwtAuth", "ExtAuthz"))
            self.world.open(port)
            plain = any(protocol != "tls" for protocol, _ in chains)
            status, seen, head = http(lambda: connect(STRANGER, "10.20.0.9", port), "any.host")
            if not plain:
                assert status == 0, (port, status)
                self.count("plaintext refused")
            elif not guarded:
                assert status == 200 and seen["at"] == f"10.20.0.9:{port}", (port, status, seen, head)
                self.count("inbound plaintext")
            if any(protocol == "tls" for protocol, _ in chains):
                context = certs.client_context(self.workdir, self.root, self.root.leaf("spiffe://cluster.local/ns/x/sa/y"),
                                               ["istio-http/1.1"])
                status, seen, head = http(lambda: connect(STRANGER, "10.20.0.9", port, context, "x"), "any.host")
                if not guarded:
                    assert status == 200 and any("x-forwarded-client-cert" in line for line in seen["head"]), (port, status, seen, head)
                else:
                    assert status in (200, 401, 403), (port, status, head)
                self.count("inbound mTLS" if status == 200 else "inbound guarded")

    def run(self):
        for name, listener in self.captured.of(LDS).items():
            if self.is_refused(name):
                self.count("listener refused")
            elif name == "virtualInbound":
                self.try_inbound(listener)
            elif name == "virtualOutbound":
                self.try_passthrough()
            elif "virtualOutbound" in self.captured.of(LDS):
                self.try_outbound_http(name, listener)
                self.try_outbound_tcp(name, listener)
            elif name.startswith("0.0.0.0_") and listener.get("bind_to_port", True):
                self.try_gateway(name, listener)
        assert self.proxy.process.poll() is None, self.proxy.output()
        return {"counts": self.counts, "refused": {kind.rsplit(".", 1)[1]: texts for kind, texts in self.refused.items() if texts}}


def main():
    prepare_network()
    for name in OWN_TYPES:
        learn(TOP / "src/wire/proto" / f"{name}.proto")
    drive = Drive(pathlib.Path(sys.argv[1]))
    try:
        print(json.dumps(drive.run()))
    except BaseException:
        print(drive.proxy.output()[-4000:], file=sys.stderr)
        raise
    finally:
        drive.proxy.stop()
        drive.server.stop()


if __name__ == "__main__":
    main()
