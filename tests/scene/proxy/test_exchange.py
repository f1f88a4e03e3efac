"""Istio's exchange of peer metadata over raw TCP. The Envoy at hand lacks it, so that these run on lateen-proxy alone, against
peers that are written down here by the format."""
import base64
import contextlib
import socket
import ssl
import struct
import threading

import pytest
from google.protobuf import any_pb2, struct_pb2

from lib import certs, client
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy

# lateen_only: the Envoy at hand has no such filter
pytestmark = [pytest.mark.quick, pytest.mark.lateen_only]
SERVER, CALLER = "spiffe://cluster.local/ns/shop/sa/server", "spiffe://cluster.local/ns/shop/sa/caller"
ALPN = "istio-peer-exchange"
MAGIC = 0x3D230467
NODE = {"id": "sidecar~10.0.0.9~own-1.own~own.svc.cluster.local", "cluster": "own.own",
        "metadata": {"NAME": "own-1", "NAMESPACE": "own", "WORKLOAD_NAME": "own", "CLUSTER_ID": "c1", "LABELS": {"app": "own", "version": "v3"}}}


def typed_struct(kind, value=None):
    return {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": f"type.googleapis.com/{kind}", "value": value or {}}


EXCHANGE = {"name": "istio.metadata_exchange", "typed_config": typed_struct("envoy.tcp.metadataexchange.config.MetadataExchange", {"protocol": ALPN})}
STATS = {"name": "istio.stats", "typed_config": typed_struct("stats.PluginConfig")}


def preface(workload="web", namespace="shop", ident="sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"):
    message = struct_pb2.Struct()
    message["x-envoy-peer-metadata"] = {"NAME": f"{workload}-1", "NAMESPACE": namespace, "WORKLOAD_NAME": workload, "CLUSTER_ID": "c7",
                                        "LABELS": {"app": workload, "version": "v1", "service.istio.io/canonical-name": workload}}
    message["x-envoy-peer-metadata-id"] = ident
    packed = any_pb2.Any()
    packed.Pack(message)
    return framed(packed.SerializeToString())


def framed(data):
    return struct.pack(">II", MAGIC, len(data)) + data


def read_preface(stream):
    magic, length = struct.unpack(">II", stream.read(8))
    assert magic == MAGIC
    packed, message = any_pb2.Any(), struct_pb2.Struct()
    packed.ParseFromString(stream.read(length))
    assert packed.type_url == "type.googleapis.com/google.protobuf.Struct" and packed.Unpack(message)
    assert message["x-envoy-peer-metadata-id"] == NODE["id"]
    own = message["x-envoy-peer-metadata"]
    assert (own["WORKLOAD_NAME"], own["NAMESPACE"], own["LABELS"]["app"], own["CLUSTER_ID"]) == ("own", "own", "own", "c1")


@pytest.fixture(scope="module")
def root():
    return certs.Root()


def with_alpn(socket_of_tls, *names):
    socket_of_tls["typed_config"]["common_tls_context"]["alpn_protocols"] = list(names)
    return socket_of_tls


@pytest.fixture
def inbound(run_proxy, root, echo):
    tls = with_alpn(certs.downstream(root.leaf(SERVER), root), ALPN, "h2", "http/1.1")
    chains = [{"filters": [EXCHANGE, STATS, tcp_proxy("app")], "transport_socket": tls}]
    config = bootstrap(dict(listener(chains=chains), traffic_direction="INBOUND"), [cluster("app", echo)])
    return run_proxy(dict(config, node=NODE))


@pytest.fixture
def echo():
    """Sends back what it gets, until the end."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=serve, args=(server, echo_one), daemon=True).start()
        yield server.getsockname()[1]


def serve(server, one):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def echo_one(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def connect(proxy, workdir, root, *alpn):
    context = certs.client_context(workdir, root, root.leaf(CALLER), alpn=alpn)
    raw = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    return context.wrap_socket(raw, server_hostname="own")


def series(proxy, name):
    return [line for line in proxy.admin_get("/stats/prometheus").body.decode().splitlines() if line.startswith(name + "{")]


def told(proxy, name, *labels):
    """The series of that name, once there is one that has all of these."""
    def find():
        return [line for line in series(proxy, name) if all(label in line for label in labels)]
    return client.wait_until(find, what=f"{name} with {labels}")


def test_a_client_of_the_mesh(inbound, root, workdir):
    with connect(inbound, workdir, root, ALPN, "istio") as tls, tls.makefile("rb") as stream:
        assert tls.selected_alpn_protocol() == ALPN
        data = preface() + b"hello\n"
        for at in range(len(data)):  # in the smallest pieces
            tls.sendall(data[at:at + 1])
        read_preface(stream)
        assert stream.readline() == b"hello\n"
    for name in ("opened", "closed"):
        lines = told(inbound, f"istio_tcp_connections_{name}_total", 'reporter="destination"')
        assert len(lines) == 1
        for label in ('source_workload="web"', 'source_workload_namespace="shop"', 'source_app="web"', 'source_version="v1"', 'source_cluster="c7"',
                      'source_canonical_service="web"', f'source_principal="{CALLER}"', 'destination_workload="own"'):
            assert label in lines[0]
    sent = told(inbound, "istio_tcp_received_bytes_total", 'source_workload="web"')
    assert sent[0].endswith(" 6")  # the preface is none of the application's bytes
    stats = inbound.stats()
    assert stats["metadata_exchange.alpn_protocol_found"] == 1 and stats["metadata_exchange.metadata_added"] == 1


def test_nothing_is_told_before_it_is_known_who_it_is(inbound, root, workdir):
    with connect(inbound, workdir, root, ALPN) as tls, tls.makefile("rb") as stream:
        read_preface(stream)
        assert series(inbound, "istio_tcp_connections_opened_total") == []
        tls.sendall(preface("late"))
        told(inbound, "istio_tcp_connections_opened_total", 'source_workload="late"')


@pytest.mark.parametrize("alpn", [(), ("istio",), ("h2",)])
def test_whoever_does_not_ask_for_it(inbound, root, workdir, alpn):
    with connect(inbound, workdir, root, *alpn) as tls, tls.makefile("rb") as stream:
        tls.sendall(b"hello\n")
        assert stream.readline() == b"hello\n"
        told(inbound, "istio_tcp_connections_opened_total", 'source_workload="unknown"')


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\x3d\x23\x04\x68 nearly\n", b"\n"])
def test_no_preface_is_payload(inbound, root, workdir, first):
    with connect(inbound, workdir, root, ALPN) as tls, tls.makefile("rb") as stream:
        read_preface(stream)
        tls.sendall(first)
        assert stream.read(len(first)) == first
        told(inbound, "istio_tcp_connections_opened_total", 'source_workload="unknown"')


@pytest.mark.parametrize("junk", [b"", b"rubbish", any_pb2.Any(type_url="type.googleapis.com/x.Y", value=b"z").SerializeToString(), b"\xff" * 40000])
def test_a_preface_that_says_nothing(inbound, root, workdir, junk):
    with connect(inbound, workdir, root, ALPN) as tls, tls.makefile("rb") as stream:
        read_preface(stream)
        tls.sendall(framed(junk) + b"hello\n")
        assert stream.readline() == b"hello\n"
        told(inbound, "istio_tcp_connections_opened_total", 'source_workload="unknown"')


def test_a_preface_without_end(inbound, root, workdir):
    with connect(inbound, workdir, root, ALPN) as tls, tls.makefile("rb") as stream:
        read_preface(stream)
        tls.sendall(struct.pack(">II", MAGIC, 1 << 30))
        with contextlib.suppress(OSError):  # it is ended, one way or the other
            assert stream.read() == b""
    client.wait_until(lambda: inbound.stats().get("metadata_exchange.header_not_found") == 1, what="its count")


def test_an_end_inside_the_preface(inbound, root, workdir):
    with connect(inbound, workdir, root, ALPN) as tls:
        tls.sendall(preface()[:20])
    told(inbound, "istio_tcp_connections_closed_total", 'source_workload="unknown"')


# --- as client ---

@pytest.fixture
def peer(root, workdir):
    """A server of the mesh; its part of the talk is set by the test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = root.leaf(SERVER)
    path = workdir / "server.pem"
    path.write_text(leaf[0] + leaf[1])
    context.load_cert_chain(path)
    context.load_verify_locations(cadata=root.pem)
    context.verify_mode = ssl.CERT_REQUIRED

    class Peer:
        alpn = [ALPN]
        seen = []

        @staticmethod
        def one(connection):
            context.set_alpn_protocols(Peer.alpn)
            with context.wrap_socket(connection, server_side=True) as tls, tls.makefile("rb") as stream:
                Peer.seen.append(tls.selected_alpn_protocol())
                Peer.talk(tls, stream)

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        Peer.port = server.getsockname()[1]
        threading.Thread(target=serve, args=(server, Peer.one), daemon=True).start()
        yield Peer


def outbound(run_proxy, root, peer, has_filter=True):
    tls = with_alpn(certs.upstream(root.leaf(CALLER), root, [{"exact": SERVER}]), ALPN, "istio")
    target = cluster("peer", peer.port, transport_socket=tls, **({"filters": [EXCHANGE]} if has_filter else {}))
    config = bootstrap(dict(listener(chains=[{"filters": [STATS, tcp_proxy("peer")]}]), traffic_direction="OUTBOUND"), [target])
    return run_proxy(dict(config, node=NODE))


def speak(proxy, words=b"hello\n"):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as plain, plain.makefile("rb") as stream:
        if words:
            plain.sendall(words)
        line = stream.readline()
    return line


def test_a_server_of_the_mesh(run_proxy, root, peer):
    def talk(tls, stream):
        read_preface(stream)
        tls.sendall(preface("db") + stream.readline().upper())
    peer.talk = talk
    proxy = outbound(run_proxy, root, peer)
    assert speak(proxy) == b"HELLO\n"
    for name in ("opened", "closed"):
        (line,) = told(proxy, f"istio_tcp_connections_{name}_total", 'reporter="source"')
        for label in ('destination_workload="db"', 'destination_workload_namespace="shop"', 'source_workload="own"', f'destination_principal="{SERVER}"'):
            assert label in line


def test_a_server_that_speaks_first(run_proxy, root, peer):
    def talk(tls, stream):
        tls.sendall(preface("db") + b"welcome\n")
        read_preface(stream)
    peer.talk = talk
    assert speak(outbound(run_proxy, root, peer), b"") == b"welcome\n"


def test_a_server_that_does_not_know_it(run_proxy, root, peer):
    peer.alpn = ["istio"]
    peer.talk = lambda tls, stream: tls.sendall(stream.readline().upper())
    assert speak(outbound(run_proxy, root, peer)) == b"HELLO\n"
    assert peer.seen[-1] == "istio"


def test_without_the_filter_it_is_not_offered(run_proxy, root, peer):
    peer.talk = lambda tls, stream: tls.sendall(stream.readline().upper())
    assert speak(outbound(run_proxy, root, peer, has_filter=False)) == b"HELLO\n"
    assert peer.seen[-1] is None


# --- HTTP has headers ---

def over_http(run_proxy, backends, direction="OUTBOUND", metadata=None, **config):
    server = backends("a", behaviour=lambda request, handler: (200, [("x-envoy-peer-metadata", peer_header("db")), ("x-envoy-peer-metadata-id", "db-1")], b""))
    target = cluster("a", server.port, **({"metadata": {"filter_metadata": {"istio": metadata}}} if metadata else {}))
    exchange = {"name": "istio.metadata_exchange", "typed_config": typed_struct("io.istio.http.peer_metadata.Config", config)}
    manager = hcm([route("/", "a")], http_filters=[exchange, STATS])
    proxy = run_proxy(dict(bootstrap(dict(listener(manager), traffic_direction=direction), [target]), node=NODE))
    return proxy, server


def peer_header(workload):
    message = struct_pb2.Struct()
    message.update({"WORKLOAD_NAME": workload, "NAMESPACE": "shop"})
    return base64.b64encode(message.SerializeToString()).decode()


HEADERS = [{"istio_headers": {}}, {"workload_discovery": {}}]


@pytest.mark.parametrize("metadata,propagation,is_told", [
    (None, [{"istio_headers": {}}], True),
    ({"disable_mx": True}, [{"istio_headers": {}}], False),
    ({"disable_mx": False}, [{"istio_headers": {}}], True),
    ({"external": True}, [{"istio_headers": {}}], True),
    ({"external": True}, [{"istio_headers": {"skip_external_clusters": True}}], False),
    (None, [{"istio_headers": {"skip_external_clusters": True}}], True),
    (None, [{"baggage": {}}], False),
    (None, [], False)])
def test_who_gets_our_metadata(run_proxy, backends, metadata, propagation, is_told):
    proxy, server = over_http(run_proxy, backends, metadata=metadata, upstream_discovery=HEADERS, upstream_propagation=propagation)
    response = client.get(proxy.port)
    assert response.header("x-envoy-peer-metadata") is None
    assert server.requests[0].header("x-envoy-peer-metadata-id") == (NODE["id"] if is_told else None)
    told(proxy, "istio_requests_total", 'destination_workload="db"')


@pytest.mark.parametrize("propagation", [True, False])
def test_a_client_that_asks_is_answered(run_proxy, backends, propagation):
    config = {"downstream_propagation": [{"istio_headers": {}}]} if propagation else {}
    proxy, server = over_http(run_proxy, backends, "INBOUND", downstream_discovery=HEADERS, **config)
    asked = client.get(proxy.port, headers={"x-envoy-peer-metadata": peer_header("web"), "x-envoy-peer-metadata-id": "web-1"})
    assert asked.header("x-envoy-peer-metadata-id") == (NODE["id"] if propagation else None)
    assert client.get(proxy.port).header("x-envoy-peer-metadata-id") is None
    assert [r.header("x-envoy-peer-metadata") for r in server.requests] == [None, None]
    told(proxy, "istio_requests_total", 'source_workload="web"')
