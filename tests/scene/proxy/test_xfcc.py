"""x-forwarded-client-cert: every mode and every field, letter by letter as Envoy writes them."""
import hashlib
import urllib.parse

import pytest
from cryptography.hazmat.primitives import serialization

from lib import client, pki
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick
BEFORE = [("x-forwarded-client-cert", "By=a;Hash=1"), ("X-Forwarded-Client-Cert", "By=b")]
MODES = ("SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY")
FIELDS = ("cert", "chain", "subject", "uri", "dns")


@pytest.fixture(scope="module")
def people():
    root = pki.root()
    middle = root.intermediate()
    return {"root": root, "server": root.leaf("s", sans=pki.uri("spiffe://m/1", "spiffe://m/2") + pki.dns("s.test")),
            "nameless": root.leaf("n"), "plain": root.leaf("plain"),
            "caller": middle.leaf('cl, "x"', sans=pki.uri("spiffe://m/a", "spiffe://m/b") + pki.dns("d1.test", "d2.test"))}


def start(run_proxy, backends, people, *rows):
    """rows: (mode, fields, own certificate or None)"""
    app = backends("app")
    listeners = []
    for number, (mode, fields, own) in enumerate(rows):
        manager = hcm([route("/", "app")], stat_prefix=f"s{number}", forward_client_cert_details=mode,
                      set_current_client_cert_details={field: True for field in fields})
        tls = {"transport_socket": pki.downstream(own, validation=pki.trust(people["root"]))} if own else {}
        listeners.append(listener(chains=[{"filters": [manager], **tls}], name=f"l{number}"))
    return run_proxy(bootstrap(listeners, [cluster("app", app.port)])), app


def header(proxy, app, number, workdir, own, headers=BEFORE, is_plain=False):
    client.get(proxy.ports[number], ssl_context=None if is_plain else pki.context(workdir, own), headers=headers)
    return app.requests[-1].header("x-forwarded-client-cert")


def digest(cert):
    return hashlib.sha256(cert.cert.public_bytes(serialization.Encoding.DER)).hexdigest()


def coded(pem):
    return '"' + urllib.parse.quote(pem, safe="-") + '"'


def test_modes(run_proxy, backends, people, workdir):
    proxy, app = start(run_proxy, backends, people, *((mode, ("uri",), people["server"]) for mode in MODES))
    own = f"By=spiffe://m/1;By=spiffe://m/2;Hash={digest(people['caller'])};URI=spiffe://m/a;URI=spiffe://m/b"
    seen = {mode: (header(proxy, app, number, workdir, people["caller"]), header(proxy, app, number, workdir, None))
            for number, mode in enumerate(MODES)}
    before = "By=a;Hash=1,By=b"
    assert seen == {"SANITIZE": (None, None), "FORWARD_ONLY": (before, None), "APPEND_FORWARD": (f"{before},{own}", None),
                    "SANITIZE_SET": (own, None), "ALWAYS_FORWARD_ONLY": (before, before)}


def test_fields(run_proxy, backends, people, workdir):
    rows = [()] + [(field,) for field in FIELDS] + [FIELDS]
    proxy, app = start(run_proxy, backends, people, *(("SANITIZE_SET", fields, people["server"]) for fields in rows))
    caller = people["caller"]
    start_of = f"By=spiffe://m/1;By=spiffe://m/2;Hash={digest(caller)}"
    parts = {"cert": f";Cert={coded(caller.pem)}", "chain": f";Chain={coded(caller.chain)}", "subject": r';Subject="CN=cl\, \"x\""',
             "uri": ";URI=spiffe://m/a;URI=spiffe://m/b", "dns": ";DNS=d1.test;DNS=d2.test"}
    for number, fields in enumerate(rows):
        assert header(proxy, app, number, workdir, caller) == start_of + "".join(parts[field] for field in fields)
    plain = people["plain"]
    assert header(proxy, app, len(rows) - 1, workdir, plain) == (
        f"By=spiffe://m/1;By=spiffe://m/2;Hash={digest(plain)};Cert={coded(plain.pem)};Chain={coded(plain.pem)};"
        'Subject="CN=plain";URI=')


def test_who_has_no_name(run_proxy, backends, people, workdir):
    proxy, app = start(run_proxy, backends, people, ("SANITIZE_SET", ("subject",), people["nameless"]), ("APPEND_FORWARD", (), None))
    assert header(proxy, app, 0, workdir, people["plain"]) == f"Hash={digest(people['plain'])};Subject=\"CN=plain\""
    assert header(proxy, app, 1, workdir, None, is_plain=True) is None


@pytest.mark.lateen_only  # Envoy writes them as they are
def test_a_name_is_no_more_than_a_name(run_proxy, backends, people, workdir):
    """A CA may let names be anything; none of them begins another key or element."""
    proxy, app = start(run_proxy, backends, people, ("SANITIZE_SET", ("uri", "dns"), people["server"]))
    evil = people["root"].leaf("x", sans=pki.uri('spiffe://m/x,By="y";URI=spiffe://m/admin') + pki.dns("a;URI=spiffe://m/admin"))
    assert header(proxy, app, 0, workdir, evil).endswith(
        r';URI="spiffe://m/x,By=\"y\";URI=spiffe://m/admin";DNS="a;URI=spiffe://m/admin"')
