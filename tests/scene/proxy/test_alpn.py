"""Which version of HTTP is spoken, on either side: by configuration, by ALPN, by the client's own, by Istio's filter."""
import ssl

import pytest

from lib import backend, certs, client, h2
from lib.proxy import bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick

PROXY, SERVER = "spiffe://cluster.local/ns/a/sa/proxy", "spiffe://cluster.local/ns/b/sa/server"


@pytest.fixture(scope="module")
def mesh():
    class Mesh:
        root = certs.Root()
        proxy, server = root.leaf(PROXY), root.leaf(SERVER)

    return Mesh


def server_context(directory, mesh, alpn, chosen):
    """A server of TLS; what each handshake chose is put into `chosen`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = directory / "server.pem"
    path.write_text(mesh.server[0] + mesh.server[1])
    context.load_cert_chain(path)
    context.load_verify_locations(cadata=mesh.root.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(alpn)

    class Socket(ssl.SSLSocket):
        def do_handshake(self, *args, **kwargs):
            super().do_handshake(*args, **kwargs)
            chosen.append(self.selected_alpn_protocol())

    context.sslsocket_class = Socket
    return context


def with_alpn(socket, *names):
    socket["typed_config"]["common_tls_context"]["alpn_protocols"] = list(names)
    return socket


@pytest.mark.parametrize("offered, spoken", [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)], ids=str)
@pytest.mark.parametrize("accepted", [["h2", "http/1.1"], ["http/1.1"]], ids=["both", "HTTP/1.1 alone"])
def test_clients(run_proxy, backends, workdir, mesh, offered, spoken, accepted):
    server = backends("a")
    socket = with_alpn(certs.downstream(mesh.server, mesh.root), *accepted)
    proxy = run_proxy(bootstrap(
        listener(chains=[{"filters": [hcm([route("/", "a")])], "transport_socket": socket}]), [cluster("a", server.port)]))
    context = certs.client_context(workdir, mesh.root, mesh.proxy, alpn=offered)
    connection = client.Connection(proxy.port, ssl_context=context)
    chosen = connection.socket.selected_alpn_protocol()
    connection.close()
    assert chosen == (spoken if spoken in accepted else "http/1.1" if "http/1.1" in offered else None)
    if chosen == "h2":
        assert h2.ask(proxy.port, ssl_context=context).json()["headers"]["x-forwarded-proto"] == "https"
    else:
        assert client.get(proxy.port, ssl_context=context).json()["headers"]["x-forwarded-proto"] == "https"


EXPLICIT_1 = {"explicit_http_config": {"http_protocol_options": {}}}
EXPLICIT_2 = {"explicit_http_config": {"http2_protocol_options": {}}}
AUTO, AS_CLIENT = {"auto_config": {}}, {"use_downstream_protocol_config": {"http2_protocol_options": {}}}


@pytest.mark.parametrize("choice, names, server_speaks, client_speaks, chosen", [
    (EXPLICIT_1, [], "h1", "h1", "http/1.1"),
    (EXPLICIT_1, [], "h1", "h2", "http/1.1"),
    (EXPLICIT_2, [], "h2", "h1", "h2"),
    (EXPLICIT_2, ["istio", "h2"], "h2", "h2", "h2"),
    (AUTO, [], "h2", "h1", "h2"),
    (AUTO, [], "h1", "h2", "http/1.1"),
    (AUTO, [], "none", "h2", None),
    (AUTO, ["http/1.1"], "h1", "h2", "http/1.1"),
    (AS_CLIENT, [], "h1", "h1", "http/1.1"),
    (AS_CLIENT, [], "h2", "h2", "h2"),
], ids=str)
def test_hosts(run_proxy, workdir, mesh, choice, names, server_speaks, client_speaks, chosen):
    seen = []
    context = server_context(workdir, mesh, {"h1": ["http/1.1"], "h2": ["h2"], "none": []}[server_speaks], seen)
    server = h2.Backend("a", ssl_context=context) if server_speaks == "h2" else backend.Backend("a", ssl_context=context)
    socket = certs.upstream(mesh.proxy, mesh.root)
    if names:
        with_alpn(socket, *names)
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])),
                                [cluster("a", server.port, transport_socket=socket, **h2.options(**choice))]))
    for _ in range(3):
        answer = h2.ask(proxy.port) if client_speaks == "h2" else client.get(proxy.port)
        assert answer.status == 200 and answer.json()["server"] == "a"
    assert set(seen) == {chosen}
    if server_speaks == "h2":
        assert server.connections == 1
    server.close()


@pytest.mark.parametrize("client_speaks", ["h1", "h2"])
def test_plain_hosts_as_the_client(run_proxy, backends, client_speaks):
    """use_downstream_protocol_config without TLS: prior knowledge, or HTTP/1.1."""
    server = h2.Backend("a") if client_speaks == "h2" else backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port, **h2.options(**AS_CLIENT))]))
    answer = h2.ask(proxy.port) if client_speaks == "h2" else client.get(proxy.port)
    assert answer.json()["version"] == {"h1": "HTTP/1.1", "h2": "HTTP/2"}[client_speaks]
    server.close()


@pytest.mark.lateen_only  # the filter is Istio's, and not in Envoy as its project builds it
@pytest.mark.parametrize("choice, client_speaks, offered", [
    (EXPLICIT_1, "h1", "istio-http/1.1"), (EXPLICIT_2, "h1", "istio-h2"), (AS_CLIENT, "h2", "istio-h2"), (AS_CLIENT, "h1", "istio-http/1.1")],
    ids=str)
@pytest.mark.parametrize("is_off", [False, True], ids=["", "off by metadata"])
def test_istios_filter(run_proxy, workdir, mesh, choice, client_speaks, offered, is_off):
    seen, is_h2 = [], "h2" in offered
    context = server_context(workdir, mesh, [offered, "own"], seen)
    server = h2.Backend("a", ssl_context=context) if is_h2 else backend.Backend("a", ssl_context=context)
    alpn = {"name": "istio.alpn", "typed_config": typed("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", alpn_override=[
        {"upstream_protocol": "HTTP11", "alpn_override": ["istio-http/1.1", "istio", "http/1.1"]},
        {"upstream_protocol": "HTTP2", "alpn_override": ["istio-h2", "istio", "h2"]}])}
    metadata = {"metadata": {"filter_metadata": {"istio": {"alpn_override": "false"}}}} if is_off else {}
    proxy = run_proxy(bootstrap(
        listener(hcm([route("/", "a")], http_filters=[alpn])),
        [cluster("a", server.port, transport_socket=with_alpn(certs.upstream(mesh.proxy, mesh.root), "own"),
                 **h2.options(**choice), **metadata)]))
    answer = h2.ask(proxy.port) if client_speaks == "h2" else client.get(proxy.port)
    assert answer.status == 200
    assert seen == ["own" if is_off else offered]
    server.close()
