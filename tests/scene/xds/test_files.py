"""Configuration from files: path_config_source, read again when a file is moved over the old one."""
import json
import socket

import pytest

from lib import certs, client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import bootstrap, cluster, hcm, listener, route
from lib.xds import CDS, LDS, SDS, assignment, eds_cluster, rds_hcm, resource_file, routes, with_type


def path_source(path, **fields):
    return {"path_config_source": {"path": str(path), **fields}, "resource_api_version": "V3"}


def answers(port, path="/"):
    try:
        return client.get(port, path).status
    except OSError:
        return None


def served_by(port):
    return client.get(port, "/").header("x-backend")


def until_answers(port, status, path="/"):
    wait_until(lambda: answers(port, path) == status, 15, f"{path} is answered with {status}")


def answering(status):
    return {"match": {"prefix": "/"}, "direct_response": {"status": status}}


@pytest.fixture
def from_files(run_proxy, workdir):
    """A proxy of cds.json and lds.json, which may be there already."""
    def run():
        for name in ("cds.json", "lds.json"):
            if not (workdir / name).exists():
                resource_file(workdir / name)
        return run_proxy({"dynamic_resources": {"cds_config": path_source(workdir / "cds.json"),
                                                "lds_config": path_source(workdir / "lds.json")}})
    return run


@pytest.mark.quick
def test_a_path_as_it_was_once_said(from_files, workdir, backends):
    """ConfigSource.path, which is path_config_source without a directory."""
    port = free_port()
    resource_file(workdir / "cds.json", with_type(CDS, cluster("web", backends().port)))
    resource_file(workdir / "lds.json", with_type(LDS, listener(rds_hcm("r", source={"path": str(workdir / "rds.json")}), port=port)))
    resource_file(workdir / "rds.json", routes("r", route("/", "web")))
    from_files()
    until_answers(port, 200)
    resource_file(workdir / "rds.json", routes("r", answering(418)), version="2")
    until_answers(port, 418)


@pytest.mark.quick
def test_every_type_from_files(from_files, workdir, backends):
    port, first, second = free_port(), backends("first"), backends("second")
    resource_file(workdir / "cds.json", eds_cluster("web", source=path_source(workdir / "eds.json")))
    resource_file(workdir / "eds.json", assignment("web", first.port))
    resource_file(workdir / "lds.json", with_type(LDS, listener(rds_hcm("r", source=path_source(workdir / "rds.json")), port=port)))
    resource_file(workdir / "rds.json", routes("r", route("/", "web")))
    proxy = from_files()
    until_answers(port, 200)
    resource_file(workdir / "eds.json", assignment("web", second.port), version="2")
    wait_until(lambda: served_by(port) == "second", 10, "the new endpoint")
    resource_file(workdir / "rds.json", routes("r", answering(418)), version="2")
    until_answers(port, 418)
    resource_file(workdir / "lds.json", version="2")
    until_answers(port, None)
    assert proxy.stats()["listener_manager.lds.update_success"] == 2


def test_a_bad_file_leaves_what_serves(from_files, workdir):
    port = free_port()
    resource_file(workdir / "lds.json", with_type(LDS, listener(hcm([answering(201)]), port=port)))
    proxy = from_files()
    until_answers(port, 201)
    beside = workdir / "lds.new"
    for text in ("{", "[]", json.dumps({"resources": [{"@type": LDS, "name": "main", "no_such_field": 1}]}), ""):
        beside.write_text(text)
        beside.rename(workdir / "lds.json")
        wait_until(lambda: (workdir / "lds.json").read_text() == text, 5, "the file is replaced")
    resource_file(workdir / "lds.json", with_type(CDS, cluster("web", 1)), version="3")  # of another type
    wait_until(lambda: proxy.stats()["listener_manager.lds.update_rejected"] > 0, 10, "it is refused")
    assert answers(port) == 201
    resource_file(workdir / "lds.json", with_type(LDS, listener(hcm([answering(202)]), port=port)), version="4")
    until_answers(port, 202)


def test_a_link_that_is_exchanged(run_proxy, workdir):
    """How Kubernetes replaces the files of a ConfigMap: all at once, by a link to a directory."""
    port = free_port()
    for number, status in ((1, 201), (2, 202)):
        (workdir / f"v{number}").mkdir()
        resource_file(workdir / f"v{number}" / "lds.json", with_type(LDS, listener(hcm([answering(status)]), port=port)))
        resource_file(workdir / f"v{number}" / "cds.json")
    mount = workdir / "mount"
    mount.mkdir()
    (mount / "..data").symlink_to(workdir / "v1")
    for name in ("lds.json", "cds.json"):
        (mount / name).symlink_to(f"..data/{name}")
    sources = {kind: path_source(mount / f"{kind[:3]}.json", watched_directory={"path": str(mount)}) for kind in ("lds_config", "cds_config")}
    run_proxy({"dynamic_resources": sources})
    until_answers(port, 201)
    (mount / "..new").symlink_to(workdir / "v2")
    (mount / "..new").rename(mount / "..data")
    until_answers(port, 202)


def test_secrets_from_a_file(run_proxy, workdir):
    """SDS from a file: the next connection shows the new certificate."""
    root = certs.Root()

    def write(identity, version):
        chain, key = root.leaf(identity)
        pair = {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}
        resource_file(workdir / "sds.json", {"@type": SDS, "name": "server", "tls_certificate": pair}, version=version)

    write("spiffe://mesh/ns/a/sa/one", "1")
    port = free_port()
    context = {"common_tls_context": {"tls_certificate_sds_secret_configs": [
        {"name": "server", "sds_config": path_source(workdir / "sds.json")}]}}
    tls = {"name": "envoy.transport_sockets.tls",
              "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", **context}}
    chain = {"filters": [hcm([answering(201)])], "transport_socket": tls}
    run_proxy(bootstrap([listener(chains=[chain], port=port)], []))

    def shown():
        with socket.create_connection(("127.0.0.1", port), 5) as raw, certs.client_context(workdir, root).wrap_socket(raw) as tls:
            return tls.getpeercert()["subjectAltName"][0][1]

    assert shown() == "spiffe://mesh/ns/a/sa/one"
    write("spiffe://mesh/ns/a/sa/two", "2")
    wait_until(lambda: shown() == "spiffe://mesh/ns/a/sa/two", 10, "the new certificate")
