"""Sessions are resumed, on both sides, and none that proves what is no longer true."""
import socket
import ssl
import threading

import pytest

from lib import pki
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy

pytestmark = pytest.mark.quick
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def root():
    return pki.root()


@pytest.fixture(scope="module")
def server(root):
    return root.leaf("server", sans=pki.dns("a.test"))


@pytest.fixture(scope="module")
def client(root):
    return root.leaf("client", sans=pki.uri("spiffe://mesh/client"))


def start(run_proxy, backends, *sockets):
    """One listener for each of the sockets."""
    app = backends("app")
    listeners = [listener(chains=[{"filters": [hcm([route("/", "app")], stat_prefix=f"s{i}")], "transport_socket": tls}], name=f"l{i}")
                 for i, tls in enumerate(sockets)]
    return run_proxy(bootstrap(listeners, [cluster("app", app.port)]))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ticket", (True, False), ids=("ticket", "session-id"))
def test_a_client_resumes(run_proxy, backends, server, workdir, version, ticket):
    proxy = start(run_proxy, backends, pki.downstream(server))
    context = pki.context(workdir, version=version)
    if not ticket:
        context.options |= ssl.OP_NO_TICKET
    status, session, _, _ = pki.ask(proxy.port, context, "a.test")
    assert status == 200
    status, _, resumed, _ = pki.ask(proxy.port, context, "a.test", session)
    assert status == 200
    if version == ssl.TLSVersion.TLSv1_2 or ticket:
        assert resumed


@pytest.mark.parametrize("version", VERSIONS)
def test_an_identity_is_resumed_with_its_names(run_proxy, backends, root, server, client, workdir, version):
    context = pki.context(workdir, client, version=version)
    app = backends("app")
    manager = hcm([route("/", "app")], forward_client_cert_details="SANITIZE_SET", set_current_client_cert_details={"uri": True})
    tls = pki.downstream(server, validation=pki.trust(root), require=True)
    proxy = run_proxy(bootstrap(listener(chains=[{"filters": [manager], "transport_socket": tls}]), [cluster("app", app.port)]))
    _, session, _, _ = pki.ask(proxy.port, context)
    status, _, resumed, _ = pki.ask(proxy.port, context, session=session)
    assert (status, resumed) == (200, True)
    first, second = (r.header("x-forwarded-client-cert") for r in app.requests)
    assert first == second and first.endswith("URI=spiffe://mesh/client")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_good_for_its_own_trust_only(run_proxy, backends, root, server, client, workdir, version):
    """Equal ticket keys are what several gateways have; a session of another trust or name is worth nothing there."""
    keys = {"keys": [{"inline_bytes": _KEY}]}
    other = pki.root("other")
    same = pki.downstream(server, validation=pki.trust(root), require=True, session_ticket_keys=keys)
    elsewhere = pki.downstream(server, validation=pki.trust(other), require=True, session_ticket_keys=keys)
    names = pki.trust(root, match_typed_subject_alt_names=[{"san_type": "URI", "matcher": {"exact": "spiffe://mesh/other"}}])
    renamed = pki.downstream(server, validation=names, require=True, session_ticket_keys=keys)
    another = pki.downstream(root.leaf("server", sans=pki.dns("b.test")), validation=pki.trust(root), require=True, session_ticket_keys=keys)
    proxy = start(run_proxy, backends, same, same, elsewhere, renamed, another)
    context = pki.context(workdir, client, version=version)
    _, session, _, _ = pki.ask(proxy.ports[0], context, "a.test")
    assert session is not None
    assert pki.ask(proxy.ports[1], context, "a.test", session)[::2][:2] == (200, True), "the same trust: resumed"
    _, session, _, _ = pki.ask(proxy.ports[0], context, "a.test")
    assert pki.ask(proxy.ports[2], context, "a.test", session)[0] is None, "another root"
    _, session, _, _ = pki.ask(proxy.ports[0], context, "a.test")
    assert pki.ask(proxy.ports[3], context, "a.test", session)[0] is None, "another name"
    _, session, _, _ = pki.ask(proxy.ports[0], context, "a.test")
    status, _, resumed, _ = pki.ask(proxy.ports[4], context, "a.test", session)
    assert (status, resumed) == (200, False), "another certificate: in full"


_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.mark.parametrize("version", VERSIONS)
def test_resumption_can_be_turned_off(run_proxy, backends, server, workdir, version):
    off = pki.downstream(server, disable_stateless_session_resumption=True, disable_stateful_session_resumption=True)
    proxy = start(run_proxy, backends, off)
    context = pki.context(workdir, version=version)
    _, session, _, _ = pki.ask(proxy.port, context)
    status, _, resumed, _ = pki.ask(proxy.port, context, session=session)
    assert (status, resumed) == (200, False)


class Tally:
    """A TLS server that counts which of its connections were resumed."""

    def __init__(self, workdir, own, version):
        self.resumed = []
        self.context = pki.server_context(workdir, own)
        self.context.minimum_version = self.context.maximum_version = version
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                plain, _ = self.socket.accept()
                with self.context.wrap_socket(plain, server_side=True) as tls:
                    self.resumed.append(tls.session_reused)
                    tls.recv(10)
                    tls.sendall(b"bye")
                    tls.unwrap()
            except (OSError, ssl.SSLError):
                if self.socket.fileno() < 0:
                    return


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kept", (None, 0))
def test_an_upstream_is_resumed(run_proxy, root, server, workdir, version, kept):
    """By default one session for each host, as Envoy's max_session_keys has it."""
    tally = Tally(workdir, server, version)
    fields = {} if kept is None else {"max_session_keys": kept}
    target = cluster("a", tally.port, transport_socket=pki.upstream(
        validation=pki.trust(root), sni="a.test", common={"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}, **fields))
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a")), [target]))
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            connection.sendall(b"x")
            data = b""
            while part := connection.recv(100):
                data += part
            assert data == b"bye"
    assert tally.resumed == [False, True, True] if kept is None else [False] * 3
    tally.socket.close()
