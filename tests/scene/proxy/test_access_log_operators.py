"""What operators of access logs say: certificates, metadata, hosts, bytes; in text and as members of JSON."""
import ipaddress
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from lib import certs, client
from lib.client import wait_until
from lib.logs import log_to
from lib.proxy import FLUSH, bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

NAMES = [x509.DNSName("one.test"), x509.DNSName("two.test"), x509.IPAddress(ipaddress.ip_address("10.1.2.3")), x509.RFC822Name("me@x.test")]
DEEP = {"k": "host-v", "n": {"deep": [1, 2.5, True]}}


def meta(**fields):
    return {"metadata": {"filter_metadata": {"com.x": fields}}}


def serial(cert):
    """In hex, of whole bytes."""
    text = f"{cert.serial_number:x}"
    return text.zfill(len(text) + len(text) % 2)


def told(run_proxy, workdir, config, clusters, operators, ask):
    """A line for each request that ask(proxy) makes."""
    path = workdir / "log"
    config = config(log_to(path, json_format={name: f"%{name}%" for name in operators}))
    proxy = run_proxy(bootstrap(config, clusters), extra=FLUSH)
    ask(proxy)
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), what="a line")
    return json.loads(path.read_text().splitlines()[0]), proxy


@pytest.fixture
def mesh(run_proxy, backends):
    """A server behind mutual TLS: who is who, and the server's port."""
    root = certs.Root()
    leaves = {name: root.leaf(f"spiffe://cluster.local/ns/a/sa/{name}", names=NAMES, units=[name]) for name in ("client", "gateway", "up", "server")}
    def answer(request, _):
        if request.path.startswith("/t"):
            return 200, [("transfer-encoding", "chunked"), ("x-b", "bee")], b"4\r\nbody\r\n0\r\nX-T: tee\r\n\r\n"
    trailers = {"http_protocol_options": {"enable_trailers": True}}
    behind = run_proxy(bootstrap(listener(chains=[{"filters": [hcm([route("/", "a")], **trailers)], "transport_socket": certs.downstream(leaves["server"], root)}]),
                                 [cluster("a", backends(behaviour=answer).port, **trailers)]))
    return root, leaves, behind.port


def test_certificates_and_metadata(run_proxy, workdir, mesh):
    root, leaves, port = mesh
    target = cluster("t", port, transport_socket=certs.upstream(leaves["up"], root), http_protocol_options={"enable_trailers": True}, **meta(k="cluster-v"))
    host = target["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    host.update(meta(**DEEP))
    host["endpoint"]["hostname"] = "host.name"

    def config(log):
        manager = hcm([route("/", "t", name="the-route", **meta(k="route-v"))], access_log=[log], http_protocol_options={"enable_trailers": True})
        manager["typed_config"]["route_config"]["virtual_hosts"][0].update(meta(k="vhost-v"))
        chain = {"name": "chain-1", "filters": [manager], "transport_socket": certs.downstream(leaves["gateway"], root), **meta(k="chain-v")}
        return listener(chains=[chain], name="outer", **meta(k="listener-v"))

    context = certs.client_context(workdir, root, leaves["client"])
    shown = x509.load_pem_x509_certificate(leaves["client"][0].encode())
    uri = "spiffe://cluster.local/ns/a/sa/"
    spelled = leaves["client"][0]
    for char, code in (("\n", "%0A"), (" ", "%20"), ("+", "%2B"), ("/", "%2F"), ("=", "%3D")):
        spelled = spelled.replace(char, code)
    both = [shown, root.cert]
    expected = {
        "DOWNSTREAM_PEER_URI_SAN": uri + "client", "DOWNSTREAM_PEER_DNS_SAN": "one.test,two.test", "DOWNSTREAM_PEER_IP_SAN": "10.1.2.3",
        "DOWNSTREAM_PEER_EMAIL_SAN": "me@x.test", "DOWNSTREAM_PEER_SUBJECT": "OU=client", "DOWNSTREAM_PEER_ISSUER": "O=cluster.local",
        "DOWNSTREAM_PEER_SERIAL": serial(shown), "DOWNSTREAM_PEER_FINGERPRINT_256": shown.fingerprint(hashes.SHA256()).hex(),
        "DOWNSTREAM_PEER_FINGERPRINT_1": shown.fingerprint(hashes.SHA1()).hex(), "DOWNSTREAM_PEER_CERT": spelled,
        "DOWNSTREAM_PEER_CHAIN_SERIALS": ",".join(serial(cert) for cert in both),
        "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256": ",".join(cert.fingerprint(hashes.SHA256()).hex() for cert in both),
        "DOWNSTREAM_PEER_CERT_V_START": shown.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "DOWNSTREAM_PEER_CERT_V_END(%Y/%m)": shown.not_valid_after_utc.strftime("%Y/%m"),
        "DOWNSTREAM_LOCAL_URI_SAN": uri + "gateway", "DOWNSTREAM_LOCAL_DNS_SAN": "one.test,two.test", "DOWNSTREAM_LOCAL_IP_SAN": "10.1.2.3",
        "DOWNSTREAM_LOCAL_EMAIL_SAN": "me@x.test", "DOWNSTREAM_LOCAL_SUBJECT": "OU=gateway", "UPSTREAM_LOCAL_URI_SAN": uri + "up",
        "UPSTREAM_LOCAL_DNS_SAN": "one.test,two.test", "UPSTREAM_LOCAL_IP_SAN": "10.1.2.3", "UPSTREAM_PEER_URI_SAN": uri + "server",
        "UPSTREAM_PEER_DNS_SAN": "one.test,two.test", "UPSTREAM_PEER_IP_SAN": "10.1.2.3", "UPSTREAM_PEER_SUBJECT": "OU=server",
        "UPSTREAM_PEER_ISSUER": "O=cluster.local",
        "METADATA(ROUTE:com.x:k)": "route-v", "METADATA(VIRTUAL_HOST:com.x:k)": "vhost-v", "METADATA(LISTENER:com.x:k)": "listener-v",
        "METADATA(LISTENER_FILTER_CHAIN:com.x:k)": "chain-v", "METADATA(CLUSTER:com.x:k)": "cluster-v", "CLUSTER_METADATA(com.x:k)": "cluster-v",
        "METADATA(UPSTREAM_HOST:com.x:n:deep)": [1, 2.5, True], "UPSTREAM_METADATA(com.x)": DEEP, "UPSTREAM_METADATA(com.x:k)": "host-v",
        "METADATA(ROUTE:com.x:none)": None, "METADATA(DYNAMIC:com.x:k)": None,
        "LISTENER_NAME": "outer", "FILTER_CHAIN_NAME": "chain-1", "UPSTREAM_HOSTS_ATTEMPTED": f"127.0.0.1:{port}",
        "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT": "127.0.0.1", "UPSTREAM_HOST_NAMES_ATTEMPTED": "host.name", "UPSTREAM_HOST_NAME_WITHOUT_PORT": "host.name",
        "REQUEST_HEADER(X-A)": "aye", "RESPONSE_HEADER(X-B)": "bee", "RESPONSE_TRAILER(X-T)": "tee", "RESPONSE_TRAILERS_BYTES": 6,
        "QUERY_PARAMS": "q=1&z=2", "QUERY_PARAM(z)": "2", "RESPONSE_FLAGS_LONG": "-", "ACCESS_LOG_TYPE": "DownstreamEnd",
        "DOWNSTREAM_WIRE_BYTES_RECEIVED": 55, "BYTES_RETRANSMITTED": 0,
        "REQUEST_HEADERS_BYTES": 168}
    line, proxy = told(run_proxy, workdir, config, [target], [*expected, "DOWNSTREAM_WIRE_BYTES_SENT", "RESPONSE_HEADERS_BYTES"],
                       lambda proxy: client.get(proxy.port, "/t?q=1&z=2", ssl_context=context, server_name="sni.name", headers={"x-a": "aye"}))
    assert 167 <= line["DOWNSTREAM_WIRE_BYTES_SENT"] <= 170 and 85 <= line["RESPONSE_HEADERS_BYTES"] <= 95  # digits of x-envoy-upstream-service-time
    assert {name: line[name] for name in expected} == expected


def test_times_and_ids(run_proxy, backends, workdir):
    operators = ["START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "START_TIME(%s.%3f)", "UNIQUE_ID", "STREAM_ID", "REQUEST_TX_DURATION", "DOWNSTREAM_DIRECT_LOCAL_PORT"]
    server = backends()
    line, proxy = told(run_proxy, workdir, lambda log: listener(hcm([route("/", "a")], access_log=[log])), [cluster("a", server.port)], operators,
                       lambda proxy: client.get(proxy.port, "/delay/0.02"))
    assert line["START_TIME"].endswith("Z") and line["START_TIME"] < line["EMIT_TIME"]
    assert line["START_TIME_LOCAL"][:-5] + "Z" == line["START_TIME"] or not line["START_TIME_LOCAL"].endswith("+0000")
    assert line["START_TIME"][20:23] == line["START_TIME(%s.%3f)"].split(".")[1]
    assert len(line["UNIQUE_ID"]) == 36 and line["UNIQUE_ID"] != line["STREAM_ID"] == server.requests[0].header("x-request-id")
    assert line["REQUEST_TX_DURATION"] < 20 and line["DOWNSTREAM_DIRECT_LOCAL_PORT"] == proxy.port


@pytest.mark.parametrize("how, expected", [("", None), ("(SNI_ONLY)", None), ("(SNI_FIRST)", "shop.test:99"), ("(HOST_FIRST)", "shop.test:99")])
def test_whom_a_request_is_for(run_proxy, backends, workdir, how, expected):
    line, _ = told(run_proxy, workdir, lambda log: listener(hcm([route("/", "a")], access_log=[log])), [cluster("a", backends().port)],
                   [f"REQUESTED_SERVER_NAME{how}"], lambda proxy: client.get(proxy.port, host="shop.test:99"))
    assert line == {f"REQUESTED_SERVER_NAME{how}": expected}
