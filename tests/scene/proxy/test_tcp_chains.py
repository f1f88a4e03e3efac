"""TCP proxies as gateways have them: TLS passed through by its server name, clusters named by it, limits of a connection."""
import json
import socket

import pytest

from lib import client, pki
from lib.backend import TcpBackend, free_port
from lib.proxy import bootstrap, cluster, hcm, listener, route, tcp_proxy, typed

pytestmark = pytest.mark.quick
INSPECTOR = {"name": "envoy.filters.listener.tls_inspector",
             "typed_config": typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")}
SNI_CLUSTER = {"name": "envoy.filters.network.sni_cluster", "typed_config": typed("envoy.extensions.filters.network.sni_cluster.v3.SniCluster")}
LOG = {"name": "envoy.access_loggers.file", "typed_config": typed(
    "envoy.extensions.access_loggers.file.v3.FileAccessLog", path="log.json", log_format={"json_format": {
        "flags": "%RESPONSE_FLAGS%", "cluster": "%UPSTREAM_CLUSTER%", "sni": "%REQUESTED_SERVER_NAME%"}})}


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def tls_backend(backends, workdir, root, name):
    own = root.leaf(name, sans=pki.dns(f"{name}.test"))
    return backends(name, ssl_context=pki.server_context(workdir, own)), own


def shown(port, workdir, name):
    """Common name of the server's certificate."""
    der = pki.ask(port, pki.context(workdir), name)[3]
    from cryptography import x509
    return der and x509.load_der_x509_certificate(der).subject.rfc4514_string()


def test_passed_through_by_name(run_proxy, backends, workdir):
    root = pki.root()
    one, two = (tls_backend(backends, workdir, root, name)[0] for name in ("one", "two"))
    chains = [{"filter_chain_match": {"server_names": ["one.test"]}, "filters": [tcp_proxy("one")]},
              {"filter_chain_match": {"server_names": ["*.test"]}, "filters": [tcp_proxy("two")]}]
    proxy = run_proxy(bootstrap(listener(chains=chains, listener_filters=[INSPECTOR]),
                                [cluster("one", one.port), cluster("two", two.port)]))
    assert shown(proxy.port, workdir, "one.test") == "CN=one"
    assert shown(proxy.port, workdir, "other.test") == "CN=two"
    assert shown(proxy.port, workdir, "elsewhere") is None


def test_the_name_is_the_cluster(run_proxy, backends, workdir):
    """AUTO_PASSTHROUGH: east-west gateways."""
    root = pki.root()
    names = {kind: f"outbound_.80_._.{kind}.shop.svc.cluster.local" for kind in ("one", "two")}
    chains = [{"filter_chain_match": {"server_names": ["*.shop.svc.cluster.local"]},
               "filters": [SNI_CLUSTER, tcp_proxy("BlackHoleCluster", access_log=[LOG])]}]
    servers = {kind: tls_backend(backends, workdir, root, kind)[0] for kind in names}
    proxy = run_proxy(bootstrap(listener(chains=chains, listener_filters=[INSPECTOR]),
                                [cluster(names[kind], servers[kind].port) for kind in names] + [cluster("BlackHoleCluster")]))
    assert {kind: shown(proxy.port, workdir, names[kind]) for kind in names} == {"one": "CN=one", "two": "CN=two"}
    assert shown(proxy.port, workdir, "outbound_.80_._.three.shop.svc.cluster.local") is None
    assert shown(proxy.port, workdir, "outbound_.80_._.one.other.svc.cluster.local") is None

    def lines():
        path = workdir / "log.json"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    client.wait_until(lambda: len(lines()) == 3, what="the log")
    assert sorted((line["sni"].split(".")[2], line["flags"]) for line in lines()) == [("_", "-"), ("_", "-"), ("_", "NC")]


def test_a_connection_has_an_end(run_proxy, workdir):
    server = TcpBackend(echo)
    fields = {"max_downstream_connection_duration": "0.5s", "access_log": [LOG]}
    proxy = run_proxy(bootstrap(listener(tcp_proxy("a", **fields)), [cluster("a", server.port)]))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"still there")
                if connection.recv(100) == b"":
                    raise OSError("ended")
    client.wait_until(lambda: (workdir / "log.json").exists() and '"DT"' in (workdir / "log.json").read_text(), what="the log")
    server.close()


def test_another_host_is_tried(run_proxy, backends):
    """max_connect_attempts"""
    app = backends("app")
    target = cluster("a", free_port(), app.port)
    proxy = run_proxy(bootstrap([listener(tcp_proxy("a", max_connect_attempts=3), name="tries"), listener(tcp_proxy("a"), name="once")], [target]))

    def works(port):
        try:
            return client.get(port).status == 200
        except (OSError, AttributeError):
            return False

    assert [works(proxy.ports[0]) for _ in range(6)] == [True] * 6
    assert sorted({works(proxy.ports[1]) for _ in range(6)}) == [False, True]


def test_who_connects_chooses_the_chain(run_proxy, backends):
    names = ("local", "from2", "port")
    apps = {name: backends(name) for name in names}
    port = free_port()

    def chain(to, **match):
        return {"filter_chain_match": match, "filters": [hcm([route("/", to)])]}

    def cidr(address, bits=32):
        return {"address_prefix": address, "prefix_len": bits}

    chains = [chain("local", source_type="SAME_IP_OR_LOOPBACK"), chain("from2", direct_source_prefix_ranges=[cidr("127.0.0.2")]),
              chain("port", direct_source_prefix_ranges=[cidr("127.0.0.2")], source_ports=[port])]
    proxy = run_proxy(bootstrap(listener(chains=chains), [cluster(name, apps[name].port) for name in names]))

    def served(source):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10, source_address=source) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            data = b""
            while part := connection.recv(65536):
                data += part
            return json.loads(data.split(b"\r\n\r\n", 1)[1])["server"]

    assert served(("127.0.0.1", 0)) == "local"
    assert served(("127.0.0.2", 0)) == "from2"
    assert served(("127.0.0.2", port)) == "port"
