"""What sidecars tell whoever watches them: their ports and pages, Istio's metrics on both sides of a call, the access log."""
import json
import re

import pytest

import shop
from mesh_lib import ACCESS_LOG, wait_until

LABELS = """reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace source_principal
source_app source_version source_cluster destination_workload destination_workload_namespace destination_principal destination_app
destination_version destination_service destination_canonical_service destination_canonical_revision destination_service_name
destination_service_namespace destination_cluster request_protocol response_code grpc_response_status response_flags
connection_security_policy""".split()
CALLER, WEB = "spiffe://cluster.local/ns/shop/sa/caller", "spiffe://cluster.local/ns/shop/sa/web"
CALL = {  # what both sides say of one call
    "source_workload": "caller", "source_canonical_service": "caller", "source_canonical_revision": "v1",
    "source_workload_namespace": "shop", "source_principal": CALLER, "source_app": "caller", "source_version": "v1",
    "source_cluster": "Kubernetes", "destination_workload": "web-v1", "destination_workload_namespace": "shop",
    "destination_principal": WEB, "destination_app": "web", "destination_version": "v1",
    "destination_service": "web.shop.svc.cluster.local", "destination_canonical_service": "web",
    "destination_canonical_revision": "v1", "destination_service_name": "web", "destination_service_namespace": "shop",
    "destination_cluster": "Kubernetes", "request_protocol": "http", "response_code": "200", "grpc_response_status": "",
    "response_flags": "-",
}


@pytest.fixture
def pair(mesh):
    """A caller and a server, and the answer to one call after the way was found."""
    shop.write(mesh, "mesh.yaml", ACCESS_LOG.strip().removesuffix("---"), shop.NAMESPACE, shop.server("web", versions=["v1"]),
               shop.caller("caller"))
    mesh.up()
    shop.first_answer(mesh)
    return mesh


def ask(mesh, workload, port, path, *options):
    """Status and text of a page of its sidecar."""
    text = mesh.exec(workload, "curl", "-s", "-w", "\n%{http_code}", *options, f"http://localhost:{port}{path}", container="istio-proxy",
                     check=False)
    body, _, status = text.rpartition("\n")
    return int(status), body


def series(mesh, workload, port=15020):
    """(name, labels, value) of every series of Istio's."""
    status, text = ask(mesh, workload, port, "/stats/prometheus")
    assert status == 200
    found = re.findall(r"^(istio_\w+)\{(.*)\} (\S+)$", text, re.M)
    return [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for name, labels, value in found]


def test_pages_and_ports_of_a_sidecar(pair):
    status, info = ask(pair, "caller", 15000, "/server_info")
    info = json.loads(info)
    assert status == 200 and info["state"] == "LIVE" and re.fullmatch(r"sidecar~[\d.]+~caller-.*\.shop~shop\.svc\.cluster\.local", info["node"]["id"])
    assert ask(pair, "caller", 15000, "/ready") == (200, "LIVE\n")
    clusters = ask(pair, "caller", 15000, "/clusters")[1]
    assert re.search(r"^outbound\|8080\|\|web\.shop\.svc\.cluster\.local::10\.[\d.]+:8080::rq_total::[1-9]", clusters, re.M), clusters
    listeners = ask(pair, "caller", 15000, "/listeners")[1].splitlines()
    assert {"virtualOutbound::0.0.0.0:15001", "virtualInbound::0.0.0.0:15006"} <= set(listeners), listeners
    names = {item["name"] for item in json.loads(ask(pair, "caller", 15000, "/listeners?format=json")[1])["listener_statuses"]}
    assert names == {line.rsplit("::", 1)[0] for line in listeners}
    # Istio's default matcher shows few of the other counters
    assert re.search(r"^cluster_manager\.cds\.update_success: [1-9]", ask(pair, "caller", 15000, "/stats")[1], re.M)
    for port, path in ((15000, "/stats/prometheus"), (15000, "/stats?format=prometheus"), (15020, "/stats/prometheus"), (15090, "/stats/prometheus")):
        status, text = ask(pair, "caller", port, path)
        assert status == 200 and "# TYPE istio_requests_total counter" in text, (port, path)
    for port in (15020, 15021):
        assert ask(pair, "caller", port, "/healthz/ready")[0] == 200
    assert ask(pair, "caller", 15000, "/nowhere")[0] == 404
    assert ask(pair, "caller", 15000, "/quitquitquit")[0] == 405  # who only looks round ends nothing
    assert ask(pair, "caller", 15000, "/ready") == (200, "LIVE\n")


@pytest.mark.parametrize("port", [15000, 15020])
def test_it_quits_when_it_is_told_to(pair, port):
    def sidecar():
        return next(c for c in pair.workloads()["caller"][0]["containers"] if c["role"] == "proxy")

    before = sidecar()
    assert before["restarts"] == 0
    # asked from the application's container: what runs in the sidecar's ends with it
    assert pair.exec("caller", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST",
                     f"http://localhost:{port}/quitquitquit").strip() == "200"
    # the Pod goes on, and so its sidecar comes back
    after = wait_until(lambda: (now := sidecar())["restarts"] == 1 and now["isUp"] and now, what="its return")
    assert after["pid"] != before["pid"]
    shop.first_answer(pair)


def test_metrics_of_both_sides_of_a_call(pair):
    def of_the_call(workload, reporter):
        return [(name, labels, value) for name, labels, value in series(pair, workload) if labels.get("reporter") == reporter and
                labels["response_code"] == "200"]

    for workload, reporter, policy in (("caller", "source", "unknown"), ("web-v1", "destination", "mutual_tls")):
        found = wait_until(lambda: of_the_call(workload, reporter), what=f"metrics of {workload}")
        count = {name: value for name, labels, value in found}
        for name, labels, _ in found:
            assert [label for label in labels if label != "le"] == LABELS, (name, labels)
            assert {**CALL, "reporter": reporter, "connection_security_policy": policy}.items() <= labels.items(), (name, labels)
        total = count["istio_requests_total"]
        assert total >= 1
        for name in ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"):
            assert count[f"{name}_count"] == total, name
        assert count["istio_request_bytes_sum"] > 0 and count["istio_response_bytes_sum"] > count["istio_request_bytes_sum"]
        bounds = [labels["le"] for name, labels, _ in found if name == "istio_request_bytes_bucket"]
        assert bounds[0] == "0.5" and bounds[-2:] == ["3600000", "+Inf"] and len(bounds) == 20
    # nobody sees what sidecars tell each other about themselves
    assert not [name for name in pair.get("caller", "http://web:8080/")["headers"] if "peer-metadata" in name]
    assert "peer-metadata" not in pair.curl("caller", "http://web:8080/", "-i")


LINE = re.compile(r"""\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]\ "GET\ /told\?x=1\ HTTP/1\.1"\ 200\ -\ via_upstream\ -\ "-"\ 0\ (?P<sent>\d+)
    \ \d+\ \d+\ "(?P<xff>[^"]*)"\ "curl/[^"]*"\ "(?P<id>[0-9a-f-]{36})"\ "web:8080"\ "(?P<host>[\d.]+:8080)"\ (?P<cluster>\S+)
    \ (?P<local>[\d.]+:\d+)\ (?P<to>[\d.]+:8080)\ (?P<client>[\d.]+:\d+)\ (?P<name>\S+)\ (?P<route>\S+)""", re.X)


def test_the_access_log_is_istios(pair):
    pair.exec("caller", "curl", "-s", "http://web:8080/told?x=1")
    line = {}
    for workload in ("caller", "web-v1"):
        text = wait_until(lambda: [line for line in pair.logs(workload, container="istio-proxy").splitlines() if "/told" in line], what="a line")
        assert len(text) == 1
        line[workload] = LINE.fullmatch(text[0])
        assert line[workload], text
    caller, web = (line[workload].groupdict() for workload in ("caller", "web-v1"))
    address = {name: pods[0]["address"] for name, pods in pair.workloads().items()}
    assert caller["id"] == web["id"] and caller["sent"] == web["sent"]
    assert caller["cluster"] == "outbound|8080||web.shop.svc.cluster.local" and web["cluster"] == "inbound|8080||"
    assert caller["host"] == web["host"] == web["to"] == f"{address['web-v1']}:8080"
    assert caller["client"].split(":")[0] == web["client"].split(":")[0] == address["caller"]
    assert (caller["name"], web["name"]) == ("-", "outbound_.8080_._.web.shop.svc.cluster.local")
    assert web["local"].startswith("127.0.0.6:") and web["route"] == "default"
