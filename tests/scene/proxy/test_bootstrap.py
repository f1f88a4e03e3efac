"""A `-c` file as people write it by Envoy's documentation, and what is refused of one."""
import json
import subprocess

import pytest

from lib import certs, client
from lib.proxy import binary, bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick


def answer(text):
    return {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": text}}}


def test_listeners_without_names_are_all_served(run_proxy):
    listeners = [listener(hcm([answer(text)])) for text in ("one", "two")]
    for unnamed in listeners:
        del unnamed["name"]
    proxy = run_proxy(bootstrap(listeners, []))
    assert [client.get(port).body for port in proxy.ports] == [b"one", b"two"]


def validate(kind, config, folder):
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(config))
    done = subprocess.run([*binary(kind), "--mode", "validate", "-c", str(path)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def routed(to, **fields):
    return bootstrap(listener(hcm([route("/x", to)], **fields)), [cluster("a")])


def weighted(*names):
    return {"weighted_clusters": {"clusters": [{"name": name, "weight": 1} for name in names]}}


@pytest.mark.parametrize("config, word", [
    (routed("b"), "'b'"),
    (routed(weighted("a", "c")), "'c'"),
    (routed({"cluster": "a", "request_mirror_policies": [{"cluster": "d"}]}), "'d'"),
    (bootstrap([], [cluster("a"), cluster("b"), cluster("a")]), "duplicate"),
], ids=["route", "weighted", "mirror", "clusters"])
def test_what_does_not_fit_together_is_refused(kind, config, word, workdir):
    code, said = validate(kind, config, workdir)
    assert code == 1 and word in said, said


@pytest.mark.parametrize("config", [
    routed("a"),
    routed("b", route_config={"validate_clusters": False}),
    routed({"cluster_header": "x-cluster"}),
    routed(weighted("a")),
], ids=["known", "unchecked", "header", "weighted"])
def test_what_fits_is_taken(kind, config, workdir):
    code, said = validate(kind, config, workdir)
    assert code == 0, said


def test_a_key_that_is_none_is_refused(kind, workdir):
    chain, key = certs.Root().leaf("spiffe://cluster.local/ns/a/sa/b")
    for good, text in ((True, key), (False, chain)):
        secrets = {"tls_certificates": [{"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": text}}]}
        socket = {"name": "envoy.transport_sockets.tls",
                  "typed_config": typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=secrets)}
        code, said = validate(kind, bootstrap(listener(chains=[{"filters": [hcm([answer("x")])], "transport_socket": socket}]), []), workdir)
        assert (code == 0) == good, said
