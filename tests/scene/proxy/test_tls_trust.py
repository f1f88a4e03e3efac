"""Whom a TLS listener and a cluster take for what they say, and whom not: as Envoy judges, certificate by certificate."""
import base64
import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from lib import client, pki
from lib.backend import Backend
from lib.proxy import bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick
MESH = "spiffe://mesh/ns/a/sa/b"
SIGNS_DATA = x509.KeyUsage(True, False, False, False, False, False, False, False, False)


@pytest.fixture(scope="module")
def root():
    return pki.root()


@pytest.fixture(scope="module")
def server(root):
    return root.leaf("server", sans=pki.dns("a.test"))


def start(run_proxy, backends, *sockets):
    app = backends("app")
    listeners = [listener(chains=[{"filters": [hcm([route("/", "app")], stat_prefix=f"s{i}")], "transport_socket": tls}], name=f"l{i}")
                 for i, tls in enumerate(sockets)]
    return run_proxy(bootstrap(listeners, [cluster("app", app.port)]))


def answers(proxy, workdir, clients, port=None):
    """Who is let in."""
    return {name: pki.ask(port or proxy.port, pki.context(workdir, own))[0] == 200 for name, own in clients.items()}


def test_modes_of_a_gateway(run_proxy, backends, root, server, workdir):
    """SIMPLE, MUTUAL, OPTIONAL_MUTUAL."""
    good, foreign = root.leaf("good"), pki.root("other").leaf("bad")
    clients = {"none": None, "good": good, "foreign": foreign}
    proxy = start(run_proxy, backends, pki.downstream(server), pki.downstream(server, validation=pki.trust(root), require=True),
                  pki.downstream(server, validation=pki.trust(root)))
    seen = [answers(proxy, workdir, clients, port) for port in proxy.ports]
    assert seen == [{"none": True, "good": True, "foreign": True}, {"none": False, "good": True, "foreign": False},
                    {"none": True, "good": True, "foreign": False}]


def test_certificates_that_are_no_good(run_proxy, backends, root, server, workdir):
    middle = root.intermediate()
    short = root.intermediate("short", path_length=0)
    only_dns = x509.NameConstraints(permitted_subtrees=pki.dns("good.test"), excluded_subtrees=None)
    bound = root.intermediate("bound", constraints=only_dns)
    deep = root
    for number in range(5):
        deep = deep.intermediate(f"deep {number}")
    no_signer = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    weak = root.intermediate("weak", key_usage=no_signer)
    alone = pki.Cert("alone")
    fake = root.leaf("fake")
    clients = {
        "plain": root.leaf("plain"), "by an intermediate": middle.leaf("x"), "five deep": deep.leaf("x"),
        "not yet": root.leaf("later", start=60, end=120), "expired": root.leaf("old", start=-120, end=-60),
        "of an expired CA": root.intermediate("old", start=-120, end=-60).leaf("x"), "self-signed": alone,
        "signed by a leaf": pki.Cert("x", fake), "server only": root.leaf("x", usage=[ExtendedKeyUsageOID.SERVER_AUTH]),
        "client only": root.leaf("x", usage=[ExtendedKeyUsageOID.CLIENT_AUTH]), "no usage": root.leaf("x", usage=()),
        "code signing": root.leaf("x", usage=[ExtendedKeyUsageOID.CODE_SIGNING]),
        "any usage": root.leaf("x", usage=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        "too long a path": short.intermediate().leaf("x"), "as long as it may be": short.leaf("x"),
        "within constraints": bound.leaf("x", sans=pki.dns("good.test")), "outside of them": bound.leaf("x", sans=pki.dns("bad.test")),
        "by a CA that may not sign": weak.leaf("x"), "a CA itself": middle,
    }
    good = {"plain", "by an intermediate", "five deep", "client only", "no usage", "as long as it may be", "within constraints", "a CA itself"}
    proxy = start(run_proxy, backends, pki.downstream(server, validation=pki.trust(root), require=True))
    seen = answers(proxy, workdir, clients)
    assert {name for name, is_in in seen.items() if is_in} == good
    assert pki.ask(proxy.port, pki.context(workdir, clients["plain"]))[0] == 200


def test_depth(run_proxy, backends, root, server, workdir):
    one = root.intermediate()
    two = one.intermediate("second")
    clients = {"none": root.leaf("x"), "one": one.leaf("x"), "two": two.leaf("x")}
    proxy = start(run_proxy, backends, pki.downstream(server, validation=pki.trust(root, max_verify_depth=1), require=True))
    assert answers(proxy, workdir, clients) == {"none": True, "one": False, "two": False}


def test_revoked(run_proxy, backends, root, server, workdir):
    middle = root.intermediate()
    bad, good, below = root.leaf("bad"), root.leaf("good"), middle.leaf("below")
    by_root = {"crl": {"inline_string": root.crl(bad)}}
    by_both = {"crl": {"inline_string": root.crl(bad, middle) + middle.crl()}}
    proxy = start(run_proxy, backends, pki.downstream(server, validation=pki.trust(root, **by_root), require=True),
                  pki.downstream(server, validation=pki.trust(root, **by_both), require=True),
                  pki.downstream(server, validation=pki.trust(root, only_verify_leaf_cert_crl=True, **by_both), require=True))
    clients = {"bad": bad, "good": good, "below": below}
    seen = [answers(proxy, workdir, clients, port) for port in proxy.ports]
    assert seen == [{"bad": False, "good": True, "below": False}, {"bad": False, "good": True, "below": False},
                    {"bad": False, "good": True, "below": True}]


def test_expired_is_allowed_where_said(run_proxy, backends, root, server, workdir):
    clients = {"expired": root.leaf("old", start=-120, end=-60), "not yet": root.leaf("later", start=60, end=120), "good": root.leaf("x"),
               "foreign": pki.root("other").leaf("x", start=-120, end=-60)}
    proxy = start(run_proxy, backends, pki.downstream(server, validation=pki.trust(root, allow_expired_certificate=True), require=True))
    assert answers(proxy, workdir, clients) == {"expired": True, "not yet": True, "good": True, "foreign": False}


def test_pinned(run_proxy, backends, root, server, workdir):
    one, two, three = (root.leaf(name) for name in ("one", "two", "three"))
    foreign = pki.root("other").leaf("x")

    def digest(cert):
        return hashlib.sha256(cert.cert.public_bytes(serialization.Encoding.DER)).hexdigest()

    def key_digest(cert):
        public = cert.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(public).digest()).decode()

    colons = ":".join(digest(two)[i:i + 2] for i in range(0, 64, 2)).upper()
    by_hash = pki.trust(root, verify_certificate_hash=[digest(one), colons, digest(foreign)])
    by_key = pki.trust(root, verify_certificate_spki=[key_digest(three), key_digest(foreign)])
    either = pki.trust(root, verify_certificate_spki=[key_digest(three)], verify_certificate_hash=[digest(one)])
    alone = {"verify_certificate_hash": [digest(one), digest(foreign)]}
    proxy = start(run_proxy, backends, *(pki.downstream(server, validation=v, require=True) for v in (by_hash, by_key, either, alone)))
    clients = {"one": one, "two": two, "three": three, "foreign": foreign}
    seen = [{name for name, is_in in answers(proxy, workdir, clients, port).items() if is_in} for port in proxy.ports]
    assert seen == [{"one", "two"}, {"three"}, {"one", "three"}, {"one", "foreign"}]


def other_name(text):
    raw = text.encode()
    return [x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c" + bytes([len(raw)]) + raw)]


def test_names_of_all_kinds(run_proxy, backends, root, server, workdir):
    import ipaddress
    clients = {
        "uri": root.leaf("x", sans=pki.uri(MESH)), "URI": root.leaf("x", sans=pki.uri(MESH.upper())), "dns": root.leaf("x", sans=pki.dns("web.a.test")),
        "DNS": root.leaf("x", sans=pki.dns("WEB.a.test")), "wild": root.leaf("x", sans=pki.dns("*.a.test")), "wider": root.leaf("x", sans=pki.dns("*.test")),
        "star": root.leaf("x", sans=pki.dns("*")), "mail": root.leaf("x", sans=[x509.RFC822Name("me@a.test")]),
        "ip": root.leaf("x", sans=[x509.IPAddress(ipaddress.ip_address("10.0.0.7"))]),
        "ip6": root.leaf("x", sans=[x509.IPAddress(ipaddress.ip_address("fd00::7"))]),
        "ip as dns": root.leaf("x", sans=pki.dns("10.0.0.7")), "dns as uri": root.leaf("x", sans=pki.uri("web.a.test")),
        "other": root.leaf("x", sans=other_name("me@corp")), "other 2": root.leaf("x", sans=other_name("you@corp")),
        "second": root.leaf("x", sans=pki.dns("b.test", "web.a.test")), "common": root.leaf("web.a.test"),
    }
    rows = [
        ("URI", {"exact": MESH}, {"uri"}), ("URI", {"exact": MESH, "ignore_case": True}, {"uri", "URI"}),
        ("URI", {"prefix": "spiffe://mesh/"}, {"uri"}), ("URI", {"suffix": "/sa/b"}, {"uri"}),
        ("URI", {"contains": "/ns/a/"}, {"uri"}), ("URI", {"safe_regex": {"regex": "spiffe://mesh/ns/[ab]/sa/.*"}}, {"uri"}),
        ("DNS", {"exact": "web.a.test"}, {"dns", "DNS", "wild", "second"}),
        ("DNS", {"suffix": ".a.test"}, {"dns", "DNS", "wild", "second"}), ("DNS", {"prefix": "web"}, {"dns", "second"}),
        ("DNS", {"safe_regex": {"regex": r"web\.a\.test"}}, {"dns", "second"}),
        ("EMAIL", {"exact": "me@a.test"}, {"mail"}), ("IP_ADDRESS", {"exact": "10.0.0.7"}, {"ip"}),
        ("IP_ADDRESS", {"exact": "fd00::7"}, {"ip6"}), ("OTHER_NAME", {"exact": "me@corp"}, {"other"}),
        ("OTHER_NAME", {"suffix": "@corp"}, {"other", "other 2"}),
    ]

    def typed_matcher(kind, matcher):
        return {"san_type": kind, "matcher": matcher, **({"oid": "1.3.6.1.4.1.311.20.2.3"} if kind == "OTHER_NAME" else {})}

    sockets = [pki.downstream(server, validation=pki.trust(root, match_typed_subject_alt_names=[typed_matcher(kind, matcher)]), require=True)
               for kind, matcher, _ in rows]
    untyped = pki.trust(root, match_subject_alt_names=[{"exact": "web.a.test"}, {"exact": "10.0.0.7"}])
    proxy = start(run_proxy, backends, *sockets, pki.downstream(server, validation=untyped, require=True))
    seen = [{name for name, is_in in answers(proxy, workdir, clients, port).items() if is_in} for port in proxy.ports]
    expected = [wanted for _, _, wanted in rows]
    assert dict(enumerate(seen[:-1])) == dict(enumerate(expected))
    assert seen[-1] == {"dns", "DNS", "wild", "second", "ip", "ip as dns", "dns as uri"}


@pytest.mark.lateen_only  # Envoy takes "w*.a.test" for a pattern, and a name with a NUL for a name
def test_names_that_are_made_to_deceive(run_proxy, backends, root, server, workdir):
    clients = {"part": root.leaf("x", sans=pki.dns("w*.a.test")), "nul": root.leaf("x", sans=pki.dns("web.a.test\0.evil.test")),
               "nul uri": root.leaf("x", sans=pki.uri(MESH + "\0x")), "good": root.leaf("x", sans=pki.dns("web.a.test"))}
    sans = [("DNS", {"exact": "web.a.test"}), ("DNS", {"prefix": "web"}), ("URI", {"prefix": "spiffe://mesh/"})]
    proxy = start(run_proxy, backends, *(pki.downstream(server, require=True, validation=pki.trust(
        root, match_typed_subject_alt_names=[{"san_type": kind, "matcher": matcher}])) for kind, matcher in sans))
    seen = [{name for name, is_in in answers(proxy, workdir, clients, port).items() if is_in} for port in proxy.ports]
    assert seen == [{"good"}, {"good"}, set()]


def test_roots_by_trust_domain(run_proxy, backends, server, workdir):
    """SPIFFE: each domain is vouched for by its own roots alone."""
    one, two = pki.root("one"), pki.root("two")
    validator = {"name": "envoy.tls.cert_validator.spiffe", "typed_config": typed(
        f"{pki.TLS}SPIFFECertValidatorConfig", trust_domains=[{"name": "one.test", "trust_bundle": {"inline_string": one.pem}},
                                                             {"name": "two.test", "trust_bundle": {"inline_string": two.pem}}])}
    signer = x509.KeyUsage(True, False, False, False, False, True, True, False, False)

    def svid(by, uri="spiffe://one.test/a", **options):
        return by.leaf("x", sans=pki.uri(uri), **{"key_usage": SIGNS_DATA, **options})

    clients = {
        "one": svid(one), "two": svid(two, "spiffe://two.test/a"), "one's by two": svid(two), "of nobody": svid(one, "spiffe://three.test/a"),
        "no name": one.leaf("x", key_usage=SIGNS_DATA), "another scheme": svid(one, "https://one.test/a"), "no usage": svid(one, key_usage=None),
        "a CA": one.intermediate("x", sans=pki.uri("spiffe://one.test/a"), key_usage=SIGNS_DATA), "may sign": svid(one, key_usage=signer),
        "none": None, "server only": svid(one, usage=[ExtendedKeyUsageOID.SERVER_AUTH]), "expired": svid(one, start=-120, end=-60),
        "below": svid(one.intermediate("m")), "no path": svid(one, "spiffe://one.test"), "empty path": svid(one, "spiffe://one.test/"),
    }
    names = {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://two.test/"}}]}
    proxy = start(run_proxy, backends, pki.downstream(server, validation={"custom_validator_config": validator}),
                  pki.downstream(server, validation={"custom_validator_config": validator, **names}))
    seen = [{name for name, is_in in answers(proxy, workdir, clients, port).items() if is_in} for port in proxy.ports]
    assert seen == [{"one", "two", "server only", "below", "empty path"}, {"two"}]


@pytest.mark.lateen_only  # Envoy looks at the first name, and then matches the other
def test_two_trust_domains_in_one_certificate(run_proxy, backends, server, workdir):
    one, two = pki.root("one"), pki.root("two")
    validator = {"name": "envoy.tls.cert_validator.spiffe", "typed_config": typed(
        f"{pki.TLS}SPIFFECertValidatorConfig", trust_domains=[{"name": "one.test", "trust_bundle": {"inline_string": one.pem}},
                                                             {"name": "two.test", "trust_bundle": {"inline_string": two.pem}}])}
    both = one.leaf("x", sans=pki.uri("spiffe://one.test/a", "spiffe://two.test/admin"), key_usage=SIGNS_DATA)
    names = {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": "spiffe://two.test/admin"}}]}
    proxy = start(run_proxy, backends, pki.downstream(server, validation={"custom_validator_config": validator, **names}))
    good = two.leaf("x", sans=pki.uri("spiffe://two.test/admin"), key_usage=SIGNS_DATA)
    assert answers(proxy, workdir, {"both": both, "good": good}) == {"both": False, "good": True}


def test_certificates_by_name_and_key(run_proxy, backends, root, workdir):
    """The name chooses, then the keys that the client knows; a name of nobody gets the first."""
    plain = root.leaf("first", sans=pki.dns("first.test"), key="rsa")
    rsa, ec = (root.leaf(kind, sans=pki.dns("both.test"), key=kind) for kind in ("rsa", "ec"))
    wild, exact = root.leaf("wild", sans=pki.dns("*.wild.test")), root.leaf("exact", sans=pki.dns("a.wild.test"))
    common = root.leaf("common.test")
    proxy = start(run_proxy, backends, pki.downstream(plain, rsa, ec, wild, exact, common))
    known = {cert.cert.public_bytes(serialization.Encoding.DER): name for name, cert in
             {"first": plain, "rsa": rsa, "ec": ec, "wild": wild, "exact": exact, "common": common}.items()}

    def shown(name, **options):
        return known.get(pki.ask(proxy.port, pki.context(workdir, **options), name)[3])

    seen = {name: shown(name) for name in ("first.test", "both.test", "a.wild.test", "b.wild.test", "x.b.wild.test", "common.test", "no.test")}
    assert seen == {"first.test": "first", "both.test": "ec", "a.wild.test": "exact", "b.wild.test": "wild",
                    "x.b.wild.test": "first", "common.test": "common", "no.test": "first"}
    only_rsa = {"version": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-RSA-AES128-GCM-SHA256"}
    assert shown("both.test", **only_rsa) == "rsa"
    only_ec = {"version": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"}
    assert shown("both.test", **only_ec) == "ec"


def test_versions_and_ciphers(run_proxy, backends, root, workdir):
    own = root.leaf("x", key="rsa")
    old, new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    proxy = start(run_proxy, backends, pki.downstream(own, common={"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}),
                  pki.downstream(own, common={"tls_params": {"tls_maximum_protocol_version": "TLSv1_2", "cipher_suites": [
                      "[ECDHE-RSA-AES256-GCM-SHA384|ECDHE-RSA-CHACHA20-POLY1305]", "AES128-GCM-SHA256"], "ecdh_curves": ["P-256"]}}),
                  pki.downstream(own))

    def works(port, **options):
        return pki.ask(port, pki.context(workdir, **options))[0] == 200

    strict, listed, usual = proxy.ports
    assert [works(strict, version=v) for v in (old, new)] == [False, True]
    assert [works(listed, version=v) for v in (old, new)] == [True, False]
    ciphers = ("ECDHE-RSA-AES256-GCM-SHA384", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "AES256-SHA256")
    assert [works(listed, version=old, ciphers=c) for c in ciphers] == [True, True, False, False]
    assert [works(usual, version=old, ciphers=c) for c in ciphers] == [True, False, True, False]


def reach(run_proxy, workdir, own, tls, **request):
    app = Backend("app", ssl_context=pki.server_context(workdir, own))
    fields = {"typed_extension_protocol_options": request.pop("options")} if "options" in request else {}
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "app")])), [cluster("app", app.port, transport_socket=tls, **fields)]))
    status = client.get(proxy.port, **request).status
    app.close()
    return status


def test_servers_that_are_no_good(run_proxy, root, workdir):
    """Origination: the chain, the usage, the end, and the name that is expected."""
    named = pki.trust(root, match_typed_subject_alt_names=[{"san_type": "DNS", "matcher": {"exact": "a.test"}}])
    tls = pki.upstream(validation=named, sni="a.test")
    name = pki.dns("a.test")
    servers = {"good": root.leaf("x", sans=name), "wild": root.leaf("x", sans=pki.dns("*.test")), "another": root.leaf("x", sans=pki.dns("b.test")),
               "common name": root.leaf("a.test"), "foreign": pki.root("other").leaf("x", sans=name), "self": pki.Cert("x", sans=name),
               "expired": root.leaf("x", sans=name, start=-120, end=-60), "client only": root.leaf("x", sans=name, usage=[ExtendedKeyUsageOID.CLIENT_AUTH]),
               "nul": root.leaf("x", sans=pki.dns("a.test\0.evil.test"))}
    assert {n for n, own in servers.items() if reach(run_proxy, workdir, own, tls) == 200} == {"good", "wild"}
    insecure = pki.upstream(sni="a.test")
    assert {n for n in ("foreign", "self", "expired") if reach(run_proxy, workdir, servers[n], insecure) == 200} == {"foreign", "self", "expired"}


def test_the_requests_host_is_the_name(run_proxy, root, workdir):
    """SIMPLE without sni: auto_sni and auto_san_validation, as istiod sends them."""
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http_protocol_options": {}},
        upstream_http_protocol_options={"auto_sni": True, "auto_san_validation": True})}
    own = root.leaf("x", sans=pki.dns("a.test"))
    tls = pki.upstream(validation=pki.trust(root))
    assert reach(run_proxy, workdir, own, tls, options=options, host="a.test") == 200
    assert reach(run_proxy, workdir, own, tls, options=options, host="b.test") == 503


def test_what_is_counted(run_proxy, backends, root, server, workdir):
    """A counter for each way in which a handshake ends, by Envoy's names."""
    named = pki.trust(root, match_typed_subject_alt_names=[{"san_type": "URI", "matcher": {"exact": MESH}}])
    pinned = pki.trust(root, verify_certificate_hash=["00" * 32])
    proxy = start(run_proxy, backends, pki.downstream(server, validation=named, require=True), pki.downstream(server),
                  pki.downstream(server, validation=pinned, require=True))
    good = pki.context(workdir, root.leaf("good", sans=pki.uri(MESH)), version=ssl.TLSVersion.TLSv1_2)
    session = pki.ask(proxy.ports[0], good)[1]
    assert pki.ask(proxy.ports[0], good, session=session)[2]
    for own in (None, root.leaf("bad", sans=pki.uri(MESH + "x")), pki.root("other").leaf("x", sans=pki.uri(MESH))):
        assert pki.ask(proxy.ports[0], pki.context(workdir, own))[0] is None
    assert pki.ask(proxy.ports[1], pki.context(workdir))[0] == 200
    assert pki.ask(proxy.ports[1], pki.context(workdir, version=ssl.TLSVersion.TLSv1_2, ciphers="AES256-SHA256"))[0] is None
    assert pki.ask(proxy.ports[2], pki.context(workdir, root.leaf("x")))[0] is None
    names = ("handshake", "session_reused", "no_certificate", "connection_error", "fail_verify_no_cert", "fail_verify_error",
             "fail_verify_san", "fail_verify_cert_hash")
    expected = [{"handshake": 2, "session_reused": 1, "fail_verify_no_cert": 1, "fail_verify_san": 1, "fail_verify_error": 1},
                {"handshake": 1, "no_certificate": 1, "connection_error": 1}, {"fail_verify_cert_hash": 1}]

    def counted(port):
        stats = proxy.stats()
        return {name: stats[key] for name in names if stats.get(key := f"listener.127.0.0.1_{port}.ssl.{name}", 0) > 0}

    client.wait_until(lambda: [counted(port) for port in proxy.ports] == expected, what="the counts")


def test_what_is_counted_of_servers(run_proxy, root, workdir):
    name = pki.dns("a.test")
    named = pki.trust(root, match_typed_subject_alt_names=[{"san_type": "DNS", "matcher": {"exact": "a.test"}}])
    servers = {"good": root.leaf("x", sans=name), "another": root.leaf("x", sans=pki.dns("b.test")), "foreign": pki.root("other").leaf("x", sans=name)}
    apps = {kind: Backend(kind, ssl_context=pki.server_context(workdir, own)) for kind, own in servers.items()}
    routes = [route(f"/{kind}", kind) for kind in servers]
    proxy = run_proxy(bootstrap(listener(hcm(routes)), [cluster(kind, app.port, transport_socket=pki.upstream(validation=named, sni="a.test"))
                                                        for kind, app in apps.items()]))
    assert [client.get(proxy.port, f"/{kind}").status for kind in servers] == [200, 503, 503]
    stats = proxy.stats()
    assert stats["cluster.good.ssl.handshake"] == 1
    assert stats["cluster.another.ssl.fail_verify_san"] == 1
    assert stats["cluster.foreign.ssl.fail_verify_error"] == 1
    for app in apps.values():
        app.close()
