"""PCDS: roots that the control plane adds at run time are trusted by whoever trusts the mesh."""
import json
import os
import subprocess

import pytest
from google.protobuf import any_pb2

from lib import certs, client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import BUILD, hcm, listener
from lib.xds import LDS, PCDS, PREFIX, AdsServer, with_type

SOURCE = {"api_config_source": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]},
          "resource_api_version": "V3", "initial_fetch_timeout": "0s"}


def proxy_config(*roots):
    """ProxyConfig with ca_certificates_pem (34) alone."""
    value = b""
    for root in roots:
        data, length = root.encode(), b""
        size = len(data)
        while size > 0x7f:
            length, size = length + bytes([size & 0x7f | 0x80]), size >> 7
        value += bytes([0x92, 0x02]) + length + bytes([size]) + data
    return any_pb2.Any(type_url=PCDS, value=value)


def tls_listener(port):
    entry = with_type(LDS, listener(hcm([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]), port=port))
    tls = {"@type": PREFIX + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True,
           "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": SOURCE}],
                                  "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": SOURCE}}}
    entry["filter_chains"][0]["transport_socket"] = {"name": "tls", "typed_config": tls}
    return entry


@pytest.fixture
def sidecar(workdir):
    """run(server, root) starts one whose certificate is in files, as a platform puts it there."""
    started = []

    def run(server, root, **env):
        folder = workdir / "var/run/secrets/workload-spiffe-credentials"
        folder.mkdir(parents=True, exist_ok=True)
        chain, key = root.leaf("spiffe://cluster.local/ns/shop/sa/web")
        for name, text in (("cert-chain.pem", chain), ("key.pem", key), ("root-cert.pem", root.pem)):
            (folder / name).write_text(text)
        (workdir / "var/run/secrets/istio").mkdir(exist_ok=True)
        (workdir / "var/run/secrets/istio/root-cert.pem").write_text(root.pem)
        status = free_port()
        config = {"discoveryAddress": server.address, "controlPlaneAuthPolicy": "NONE", "proxyAdminPort": free_port(), "statusPort": status}
        full = {"PATH": os.environ["PATH"], "PROXY_CONFIG": json.dumps(config), "POD_NAME": "web-1", "POD_NAMESPACE": "shop",
                "INSTANCE_IP": "127.0.0.1", "ENVOY_STATUS_PORT": str(free_port()), "ENVOY_PROMETHEUS_PORT": str(free_port()), **env}
        with open(workdir / "sidecar.log", "ab") as out:
            process = subprocess.Popen([str(BUILD / "lateen-proxy"), "proxy", "sidecar"], env=full, cwd=workdir, stdout=out,
                                       stderr=subprocess.STDOUT)
        started.append(process)

        def is_ready():
            assert process.poll() is None, (workdir / "sidecar.log").read_text()
            try:
                return client.get(status, "/healthz/ready").status == 200
            except OSError:
                return False

        wait_until(is_ready, 20, "the sidecar is ready")

    yield run
    for process in started:
        process.terminate()
        process.wait(20)


def is_let_in(workdir, port, ours, theirs):
    folder = workdir / f"client-{id(theirs)}"
    folder.mkdir(exist_ok=True)
    context = certs.client_context(folder, ours, theirs.leaf("spiffe://other/ns/a/sa/b"))
    try:
        return client.get(port, "/", ssl_context=context).status == 200
    except OSError:
        return False


def test_roots_come_at_run_time(sidecar, workdir):
    server, port = AdsServer(), free_port()
    ours, theirs = certs.Root(), certs.Root("other")
    try:
        server.set(tls_listener(port))
        sidecar(server, ours, PROXY_CONFIG_XDS_AGENT="true")
        stream = server.stream(having=PCDS)
        wait_until(lambda: is_let_in(workdir, port, ours, ours), 20, "our own are let in")
        assert not is_let_in(workdir, port, ours, theirs)
        server.set(proxy_config("no certificate"))
        nack = wait_until(lambda: stream.nacks(PCDS), 10, "a NACK")[0]
        assert "ca_certificates_pem[0]" in nack.error_detail.message
        server.set(proxy_config(theirs.pem))
        wait_until(lambda: is_let_in(workdir, port, ours, theirs), 20, "theirs are let in")
        assert is_let_in(workdir, port, ours, ours)
        server.set(proxy_config())
        wait_until(lambda: not is_let_in(workdir, port, ours, theirs), 20, "and no longer")
        assert is_let_in(workdir, port, ours, ours)
    finally:
        server.stop()


def test_only_where_it_is_asked_for(sidecar, workdir):
    server, port = AdsServer(), free_port()
    ours, theirs = certs.Root(), certs.Root("other")
    try:
        server.set(tls_listener(port), proxy_config(theirs.pem))
        sidecar(server, ours)
        wait_until(lambda: is_let_in(workdir, port, ours, ours), 20, "our own are let in")
        assert not server.stream(having=LDS).of(PCDS) and not is_let_in(workdir, port, ours, theirs)
    finally:
        server.stop()
