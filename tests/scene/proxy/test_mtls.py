"""Mutual TLS with SPIFFE names, on both sides of a proxy."""
import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509

from lib import certs, client
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy, typed

pytestmark = pytest.mark.quick
SERVER, CALLER = "spiffe://cluster.local/ns/b/sa/server", "spiffe://cluster.local/ns/a/sa/caller"
INSPECTOR = {"name": "envoy.filters.listener.tls_inspector",
             "typed_config": typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")}


@pytest.fixture(scope="module")
def root():
    return certs.Root()


def inbound(run_proxy, backends, root, permissive=False, **fields):
    """What a sidecar's inbound side is."""
    server = backends("app")
    manager = hcm([route("/", "app")], forward_client_cert_details="APPEND_FORWARD",
                  set_current_client_cert_details={"subject": True, "dns": True, "uri": True}, **fields)
    chains = [{"filter_chain_match": {"transport_protocol": "tls"}, "filters": [manager],
               "transport_socket": certs.downstream(root.leaf(SERVER), root)}]
    if permissive:
        chains.append({"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [manager]})
    proxy = run_proxy(bootstrap(listener(chains=chains, listener_filters=[INSPECTOR]), [cluster("app", server.port)]))
    return proxy, server


def fails(port, **options):
    """True when no response comes back."""
    try:
        return client.get(port, **options) is None
    except (OSError, ssl.SSLError):
        return True


def test_strict_takes_its_own_and_nobody_else(run_proxy, backends, root, workdir):
    proxy, server = inbound(run_proxy, backends, root)
    good = certs.client_context(workdir, root, root.leaf(CALLER))
    response = client.get(proxy.port, ssl_context=good)
    assert response.json()["server"] == "app"
    assert fails(proxy.port), "plaintext"
    assert fails(proxy.port, ssl_context=certs.client_context(workdir, root)), "no certificate"
    other = certs.Root("other")
    assert fails(proxy.port, ssl_context=certs.client_context(workdir, root, other.leaf(CALLER))), "another root"
    foreign = root.leaf("spiffe://elsewhere/ns/a/sa/caller")
    assert fails(proxy.port, ssl_context=certs.client_context(workdir, root, foreign)), "another trust domain"
    expired = root.leaf(CALLER, expired=True)
    assert fails(proxy.port, ssl_context=certs.client_context(workdir, root, expired)), "expired"
    assert len(server.requests) == 1
    assert client.get(proxy.port, ssl_context=good).status == 200


def test_who_finds_no_filter_chain_is_counted(run_proxy, backends, root):
    proxy, _ = inbound(run_proxy, backends, root)
    name = f"listener.127.0.0.1_{proxy.port}.no_filter_chain_match"
    assert proxy.stats().get(name, 0) == 0
    assert fails(proxy.port) and fails(proxy.port)
    client.wait_until(lambda: proxy.stats().get(name) == 2, what="the count")
    text = proxy.admin_get("/stats/prometheus").body.decode()
    assert f'envoy_listener_no_filter_chain_match{{envoy_listener_address="127.0.0.1_{proxy.port}"}} 2' in text or \
        f'envoy_listener_no_filter_chain_match{{listener_address="127.0.0.1_{proxy.port}"}} 2' in text, text


def test_the_application_sees_who_called(run_proxy, backends, root, workdir):
    proxy, server = inbound(run_proxy, backends, root)
    good = certs.client_context(workdir, root, root.leaf(CALLER))
    client.get(proxy.port, ssl_context=good, headers={"x-forwarded-client-cert": "By=before"})
    header = server.requests[0].header("x-forwarded-client-cert")
    before, element = header.split(",", 1)
    parts = dict(part.split("=", 1) for part in element.split(";"))
    assert before == "By=before"
    assert (parts["By"], parts["URI"], parts["Subject"]) == (SERVER, CALLER, '""')
    assert len(parts["Hash"]) == 64
    assert server.requests[0].header("x-forwarded-proto") == "https"


def test_a_long_name_is_passed_on(run_proxy, backends, root, workdir):
    """A customer's CA may sign what it likes; the name goes on whole, and the proxy stays."""
    proxy, server = inbound(run_proxy, backends, root)
    names = [f"unit-{number:03}-" + "u" * 50 for number in range(300)]
    long = certs.client_context(workdir, root, root.leaf(CALLER, units=names))
    assert client.get(proxy.port, ssl_context=long).status == 200
    header = server.requests[0].header("x-forwarded-client-cert")
    assert all(name in header for name in names)


def test_permissive_takes_both_and_believes_no_claims(run_proxy, backends, root, workdir):
    proxy, server = inbound(run_proxy, backends, root, permissive=True)
    assert client.get(proxy.port, headers={"x-forwarded-client-cert": f"URI={CALLER}"}).status == 200
    assert server.requests[0].header("x-forwarded-client-cert") is None
    assert client.get(proxy.port, ssl_context=certs.client_context(workdir, root, root.leaf(CALLER))).status == 200


def test_garbage_on_a_tls_port(run_proxy, backends, root, workdir):
    proxy, server = inbound(run_proxy, backends, root)
    for data in (b"\x16\x03\x01\xff\xff" + b"\0" * 100, b"\x16\x03\x01\x00\x05hello", b"\x00" * 10):
        with client.Connection(proxy.port) as connection:
            try:
                connection.send(data)
                connection.socket.shutdown(1)
                connection.stream.read()
            except OSError:
                pass
    assert client.get(proxy.port, ssl_context=certs.client_context(workdir, root, root.leaf(CALLER))).status == 200
    assert len(server.requests) == 1


def pair(run_proxy, backends, root, sans, server_root=None, **fields):
    """Two proxies with mutual TLS between: outbound of the one, inbound of the other."""
    inner, server = inbound(run_proxy, backends, server_root or root)
    target = cluster("peer", inner.port, transport_socket=certs.upstream(root.leaf(CALLER), root, sans), **fields)
    outer = run_proxy(bootstrap(listener(hcm([route("/", "peer")])), [target]))
    return outer, inner, server


def test_two_proxies(run_proxy, backends, root):
    outer, _, server = pair(run_proxy, backends, root, [{"exact": SERVER}])
    with client.Connection(outer.port) as connection:
        for size in (0, 10, 100000):
            connection.request("POST", f"/bytes/{size}", body=b"z" * size, headers=[("Content-Length", str(size))])
            assert connection.response().body == b"x" * size
    assert [len(r.body) for r in server.requests] == [0, 10, 100000]
    assert f"URI={CALLER}" in server.requests[0].header("x-forwarded-client-cert")


def test_a_server_with_another_name_is_not_spoken_to(run_proxy, backends, root):
    outer, _, server = pair(run_proxy, backends, root, [{"exact": "spiffe://cluster.local/ns/b/sa/somebody-else"}])
    assert client.get(outer.port).status == 503
    assert not server.requests


def test_a_server_of_another_root_is_not_spoken_to(run_proxy, backends, root):
    outer, _, server = pair(run_proxy, backends, root, [{"exact": SERVER}], server_root=certs.Root("other"))
    assert client.get(outer.port).status == 503
    assert not server.requests


def test_tcp_over_mutual_tls(run_proxy, backends, root, workdir):
    server = backends("app")
    chains = [{"filters": [tcp_proxy("app")], "transport_socket": certs.downstream(root.leaf(SERVER), root)}]
    proxy = run_proxy(bootstrap(listener(chains=chains), [cluster("app", server.port)]))
    context = certs.client_context(workdir, root, root.leaf(CALLER))
    with client.Connection(proxy.port, ssl_context=context) as connection:
        connection.request(path="/bytes/3000000")
        assert len(connection.response().body) == 3000000


def test_server_name_chooses_the_chain(run_proxy, backends, root, workdir):
    one, other = backends("one"), backends("other")

    def chain(name, to):
        return {"filter_chain_match": {"server_names": [name]}, "filters": [hcm([route("/", to)])],
                "transport_socket": certs.downstream(root.leaf(SERVER), root)}

    proxy = run_proxy(bootstrap(listener(chains=[chain("one.test", "one"), chain("*.test", "other")], listener_filters=[INSPECTOR]),
                                [cluster("one", one.port), cluster("other", other.port)]))
    context = certs.client_context(workdir, root, root.leaf(CALLER))
    expected = {"one.test": "one", "ONE.test": "one", "two.test": "other", "a.one.test": "other"}
    assert {name: client.get(proxy.port, ssl_context=context, server_name=name).json()["server"] for name in expected} == expected
    assert fails(proxy.port, ssl_context=context, server_name="elsewhere")


def test_the_page_of_certificates(run_proxy, backends, root, workdir):
    """What istioctl asks for: of each context what it trusts and what it shows, from files and inline."""
    more = [x509.DNSName("b.test"), x509.RFC822Name("me@b.test"), x509.IPAddress(ipaddress.ip_address("10.0.0.7"))]
    server, caller = root.leaf(SERVER, names=more, serial=0x0abc), root.leaf(CALLER)
    paths = {name: workdir / name for name in ("chain.pem", "key.pem", "root.pem")}
    second = certs.Root("second")
    for path, text in zip(paths.values(), (server[0] + root.pem, server[1], root.pem + second.pem)):
        path.write_text(text)
    by_file = certs.downstream(server, root)
    common = by_file["typed_config"]["common_tls_context"]
    common["tls_certificates"] = [{"certificate_chain": {"filename": str(paths["chain.pem"])}, "private_key": {"filename": str(paths["key.pem"])}}]
    common["validation_context"]["trusted_ca"] = {"filename": str(paths["root.pem"])}
    app = backends("app")
    proxy = run_proxy(bootstrap(listener(chains=[{"filters": [hcm([route("/", "peer")])], "transport_socket": by_file}]),
                                [cluster("peer", app.port, transport_socket=certs.upstream(caller, root)), cluster("plain", app.port)]))

    def told(path, cert, names):
        stamp, serial = "%Y-%m-%dT%H:%M:%SZ", f"{cert.serial_number:x}"
        return {"path": str(path), "serial_number": "0" * (len(serial) % 2) + serial, "subject_alt_names": names,
                "days_until_expiration": str((cert.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)).days),
                "valid_from": cert.not_valid_before_utc.strftime(stamp), "expiration_time": cert.not_valid_after_utc.strftime(stamp)}

    def by_path(entry):
        return entry["ca_cert"][0]["path"]

    page = proxy.admin_get("/certs")
    leaf, mine = (x509.load_pem_x509_certificate(pem[0].encode()) for pem in (server, caller))
    expected = [{"ca_cert": [told("<inline>", root.cert, [])], "cert_chain": [told("<inline>", mine, [{"uri": CALLER}])]},
                {"ca_cert": [told(paths["root.pem"], cert, []) for cert in (root.cert, second.cert)],
                 "cert_chain": [told(paths["chain.pem"], leaf, [{"dns": "b.test"}, {"uri": SERVER}, {"ip_address": "10.0.0.7"}])]}]
    assert page.header("content-type") == "application/json"
    assert sorted(page.json()["certificates"], key=by_path) == sorted(expected, key=by_path)
