"""Secrets over streams (SDS): with all else on one, or each on its own; rotation, waiting, refusal."""
import socket
import ssl

import pytest

from lib import certs
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import hcm, listener
from lib.xds import LDS, PREFIX, SDS, ads_source, dynamic_bootstrap, grpc_source, pause, with_type

ONE, TWO = "spiffe://mesh/ns/a/sa/one", "spiffe://mesh/ns/a/sa/two"
SOURCES = {"aggregated": lambda: ads_source(initial_fetch_timeout="0s"), "GRPC": lambda: grpc_source("control", "GRPC", initial_fetch_timeout="0s"),
           "DELTA_GRPC": lambda: grpc_source("control", "DELTA_GRPC", initial_fetch_timeout="0s")}

CONTROL = {"missing": "silent"}


def secret(leaf, name="server"):
    return {"@type": SDS, "name": name, "tls_certificate": {"certificate_chain": {"inline_string": leaf[0]},
                                                            "private_key": {"inline_string": leaf[1]}}}


def served(port, source):
    context = {"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "server", "sds_config": source}]}}
    tls = {"name": "envoy.transport_sockets.tls",
           "typed_config": {"@type": PREFIX + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", **context}}
    answer = hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 201}}])
    return with_type(LDS, listener(chains=[{"filters": [answer], "transport_socket": tls}], port=port))


def shown(port, workdir, root):
    """The name in the certificate; None: there is no TLS to be had."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as raw, certs.client_context(workdir, root).wrap_socket(raw) as tls:
            return tls.getpeercert()["subjectAltName"][0][1]
    except (OSError, ssl.SSLError):
        return None


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_a_secret_comes_and_changes(run_proxy, workdir, control, source):
    root, port = certs.Root(), free_port()
    control.set(secret(root.leaf(ONE)), served(port, SOURCES[source]()))
    run_proxy(dynamic_bootstrap(control))
    wait_until(lambda: shown(port, workdir, root) == ONE, 15, "the first certificate")
    control.set(secret(root.leaf(TWO)))
    wait_until(lambda: shown(port, workdir, root) == TWO, 15, "the second one")
    stream = control.stream(having=SDS)
    assert stream.names(SDS) == {"server"} and not stream.nacks(SDS)
    if source != "aggregated":
        assert stream.path.endswith("SecretDiscoveryService/" + ("DeltaSecrets" if source == "DELTA_GRPC" else "StreamSecrets"))


def test_a_listener_waits_for_its_secret(run_proxy, workdir, control):
    root, port = certs.Root(), free_port()
    control.withhold(SDS)
    control.set(secret(root.leaf(ONE)), served(port, SOURCES["aggregated"]()))
    run_proxy(dynamic_bootstrap(control), ready=False)
    control.stream(having=SDS)
    pause()
    assert shown(port, workdir, root) is None
    control.release(SDS)
    wait_until(lambda: shown(port, workdir, root) == ONE, 15, "the certificate")


def test_a_bad_secret_leaves_the_one_before(run_proxy, workdir, control):
    root, port = certs.Root(), free_port()
    control.set(secret(root.leaf(ONE)), served(port, SOURCES["aggregated"]()))
    run_proxy(dynamic_bootstrap(control))
    wait_until(lambda: shown(port, workdir, root) == ONE, 15, "the certificate")
    control.set({"@type": SDS, "name": "server"})
    control.set({"@type": SDS, "name": "server", "tls_certificate": {"certificate_chain": {"inline_string": "no certificate"}}})
    pause()
    assert shown(port, workdir, root) == ONE
    control.set(secret(root.leaf(TWO)))
    wait_until(lambda: shown(port, workdir, root) == TWO, 15, "a good one")
