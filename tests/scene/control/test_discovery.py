"""lateend by itself, and who asks it: who may, what he gets, and what a change or a mistake in the manifests does to it."""
import json
import os
import signal
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization

from lib import client
from lib.ads import Stream, node
from lib.client import wait_until
from lib.identity import Issuer, create_certificate, names_of, request_of
from lib.lateend import Lateend
from lib.proxy import BUILD

WEB = "outbound|80||web.shop.svc.cluster.local"


def service(name, ns="shop", port=80, address="10.0.0.1"):
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {ns}}}
spec: {{clusterIP: {address}, selector: {{app: {name}}}, ports: [{{name: http, port: {port}, targetPort: 8080}}]}}
"""


def pod(name, app, ip, ns="shop", ready=True):
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {ns}, labels: {{app: {app}}}}}
spec: {{serviceAccountName: {app}, containers: [{{name: main}}]}}
status: {{podIP: {ip}, conditions: [{{type: Ready, status: "{ready}"}}]}}
"""


SHOP = "---".join([service("web"), pod("web-1", "web", "10.1.0.1"), pod("web-2", "web", "10.1.0.2")])


def put(control, name, text):
    """As editors do it: beside, then over it."""
    (control.config / f".{name}").write_text(text)
    (control.config / f".{name}").rename(control.config / name)


# --- who may ---

def test_plaintext_takes_everybody(lateend):
    control = lateend()
    put(control, "shop.yaml", SHOP)
    with control.plain_channel() as channel, Stream(channel, node()) as stream:
        stream.ask_all("80")
        assert [c.name for c in stream.get("CDS", WEB).filters] == ["istio.metadata_exchange"]
        assert wait_until(lambda: stream.endpoints(WEB), what="endpoints") == ["10.1.0.1", "10.1.0.2"]
        assert stream.get("LDS", "virtualOutbound").address.socket_address.port_value == 15001
        assert "web" in [d for vhost in stream.get("RDS", "80").virtual_hosts for d in vhost.domains]
        kinds = [kind for kind, _ in stream.responses]
        assert kinds.index("CDS") < kinds.index("LDS") and kinds.index("EDS") < kinds.index("RDS")


def test_tls_takes_tokens_and_certificates_of_the_mesh(lateend, issuer):
    control = lateend(JWT_RULE=issuer.rule())
    put(control, "shop.yaml", SHOP)
    with control.channel() as channel, Stream(channel, node(), token=issuer.token()) as stream:
        stream.ask("CDS")
        stream.get("CDS", WEB)
        csr, key = request_of()
        chain = create_certificate(channel, csr, token=issuer.token())
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    with control.channel(key_pem, "".join(chain)) as channel, Stream(channel, node()) as stream:
        stream.ask("CDS")
        stream.get("CDS", WEB)


@pytest.mark.parametrize("token", [None, "nonsense", "expired", "other-audience"])
def test_tls_refuses_others(lateend, issuer, token):
    control = lateend(JWT_RULE=issuer.rule())
    tokens = {"expired": issuer.token(exp=1), "other-audience": issuer.token(aud=["vault"])}
    with control.channel() as channel, Stream(channel, node(), token=tokens.get(token, token)) as stream:
        stream.ask("CDS")
        assert stream.status() == ("UNAUTHENTICATED", "authentication failure")
    assert control.lines("xds: a caller is refused")


def test_who_says_he_is_another_is_refused(lateend, issuer):
    control = lateend(JWT_RULE=issuer.rule())
    with control.channel() as channel:
        for claimed in (node(ns="bank"), node(SERVICE_ACCOUNT="admin")):
            with Stream(channel, claimed, token=issuer.token()) as stream:
                stream.ask("CDS")
                code, details = stream.status()
                assert code == "PERMISSION_DENIED"
                assert "no identities ([spiffe://cluster.local/ns/shop/sa/web]) matched" in details


def test_a_stream_begins_with_who_it_is(lateend):
    control = lateend()
    with control.plain_channel() as channel:
        with Stream(channel) as stream:
            stream.ask("CDS")
            assert stream.status() == ("INVALID_ARGUMENT", "missing node information")
        wrong = node()
        wrong.id = "me"
        with Stream(channel, wrong) as stream:
            stream.ask("CDS")
            assert stream.status() == ("INVALID_ARGUMENT", 'missing parts in the service node "me"')


# --- what changes ---

def test_changes_of_files_reach_the_proxy(lateend):
    control = lateend()
    put(control, "shop.yaml", SHOP)
    with control.plain_channel() as channel, Stream(channel, node()) as stream:
        stream.ask_all("80")
        wait_until(lambda: stream.endpoints(WEB) == ["10.1.0.1", "10.1.0.2"], what="both")
        put(control, "shop.yaml", SHOP.replace('status: "True"', 'status: "False"', 1))
        wait_until(lambda: stream.endpoints(WEB) == ["10.1.0.2"], what="the other alone")
        (control.config / "more").mkdir()
        (control.config / "more" / "cart.yaml").write_text(service("cart", address="10.0.0.2"))
        stream.get("CDS", "outbound|80||cart.shop.svc.cluster.local")
        wait_until(lambda: "cart" in str(stream.get("RDS", "80")), what="its route")
        (control.config / "more").rename(control.config.parent / "away")
        wait_until(lambda: "cart" not in str(stream.get("RDS", "80")), what="no route to it")
        wait_until(lambda: not stream.has("CDS", "outbound|80||cart.shop.svc.cluster.local"), within=60, what="the end of the cluster")


def test_who_comes_back_gets_what_has_changed(lateend):
    control = lateend()
    put(control, "shop.yaml", SHOP + "---" + service("cart", address="10.0.0.2"))
    cart = "outbound|80||cart.shop.svc.cluster.local"
    with control.plain_channel() as channel:
        with Stream(channel, node()) as stream:
            stream.ask_all("80")
            stream.get("RDS", "80")
            wait_until(lambda: len(stream.resources["EDS"]) == 2, what="endpoints")
            had = {kind: {name: version for name, (version, _) in found.items()} for kind, found in stream.resources.items()}
        os.kill(control.process.pid, signal.SIGKILL)
        control.process.wait()
        put(control, "shop.yaml", SHOP + "---" + service("shelf", address="10.0.0.3"))
        control.start()
    with control.plain_channel() as channel, Stream(channel, node()) as stream:
        stream.holds_acks.add("CDS")
        stream.send("CDS", initial_resource_versions=had["CDS"])
        stream.send("EDS", resource_names_subscribe=list(had["EDS"]), initial_resource_versions=had["EDS"])
        stream.send("LDS", initial_resource_versions=had["LDS"])
        stream.send("RDS", resource_names_subscribe=["80"], initial_resource_versions=had["RDS"])
        wait_until(lambda: stream.endpoints(WEB), what="endpoints")
        clusters = next(response for kind, response in stream.responses if kind == "CDS")
        # what both have is not sent again, what names clusters waits for them
        assert [r.name for r in clusters.resources] == ["outbound|80||shelf.shop.svc.cluster.local"]
        assert {kind for kind, _ in stream.responses} == {"CDS", "EDS"}
        stream.holds_acks.clear()
        stream.send("CDS", response_nonce=clusters.nonce)
        assert "shelf" in str(stream.get("RDS", "80"))
        wait_until(lambda: any(cart in response.removed_resources for _, response in stream.responses), within=60, what="the end of the cluster")


# --- what is wrong ---

def bad_files():
    """(file, text, what the message must hold)"""
    vs = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad, namespace: shop}\nspec:\n"
    yield "yaml.yaml", "apiVersion: v1\nkind: [\n", ["yaml.yaml:", "error"]
    yield "unknown.yaml", vs + "  hosts: [web]\n  htpp: []\n", ["unknown.yaml:6:", "VirtualService shop/bad", "spec.htpp", "did you mean http?"]
    yield "type.yaml", vs + "  hosts: [web]\n  http: 7\n", ["type.yaml:6:", "VirtualService shop/bad", "spec.http", "expected a list, got number"]
    yield "host.yaml", vs + "  hosts: [web, web]\n  http: [{route: [{destination: {host: web}}]}]\n", [
        "host.yaml:", "VirtualService shop/bad", "spec.hosts", "expected different hosts"]
    yield "dangling.yaml", vs + "  hosts: [web]\n  http: [{route: [{destination: {host: web, subset: v9}}]}]\n", [
        "dangling.yaml:6:", "VirtualService shop/bad", "spec.http[0].route[0].destination", "there is no subset v9"]


@pytest.mark.parametrize("name, text, words", list(bad_files()), ids=lambda value: value if isinstance(value, str) and value.endswith(".yaml") else "")
def test_a_mistake_is_named_once_and_all_else_goes_on(lateend, name, text, words):
    control = lateend()
    put(control, "shop.yaml", SHOP)
    with control.plain_channel() as channel, Stream(channel, node()) as stream:
        stream.ask_all("80")
        stream.get("RDS", "80")
        put(control, name, text)
        wait_until(lambda: control.lines(*words), what=f"a message with {words}")
        put(control, "cart.yaml", service("cart", address="10.0.0.2"))
        stream.get("CDS", "outbound|80||cart.shop.svc.cluster.local")
        wait_until(lambda: "cart" in str(stream.get("RDS", "80")), what="the change")
        assert len(control.lines(*words)) == 1
        assert stream.has("CDS", WEB)


def test_two_virtual_services_for_one_host_are_named(lateend):
    control = lateend()
    put(control, "shop.yaml", SHOP)
    for name in ("first", "second"):
        put(control, f"{name}.yaml", f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: shop}}
spec: {{hosts: [web], http: [{{route: [{{destination: {{host: web}}}}]}}]}}
""")
    wait_until(lambda: control.lines("second.yaml:", "VirtualService shop/second", "spec.hosts[0]", "duplicate host web.shop.svc.cluster.local",
                                     "VirtualService shop/first"), what="the message")


def test_a_bad_edit_keeps_what_was_good(lateend):
    control = lateend()
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: %s}}}}
"""
    put(control, "shop.yaml", SHOP)
    put(control, "rule.yaml", rule % 7)
    put(control, "mesh.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'accessLogFile: /dev/stdout'}\n")

    def limit():
        return stream.get("CDS", WEB).circuit_breakers.thresholds[0].max_connections.value

    with control.plain_channel() as channel, Stream(channel, node()) as stream:
        stream.ask_all("80")
        wait_until(lambda: limit() == 7, what="the rule")
        put(control, "rule.yaml", rule % "many")
        put(control, "mesh.yaml", (control.config / "mesh.yaml").read_text().replace("/dev/stdout", "[stdout]"))
        wait_until(lambda: control.lines("rule.yaml:", "maxConnections", "expected a whole number"), what="the message")
        wait_until(lambda: control.lines("mesh.yaml:", "ConfigMap istio-system/istio", "accessLogFile", "expected a string"), what="the other")
        put(control, "cart.yaml", service("cart", address="10.0.0.2"))
        stream.get("CDS", "outbound|80||cart.shop.svc.cluster.local")
        assert limit() == 7 and "/dev/stdout" in str(stream.get("LDS", "virtualOutbound"))
        put(control, "rule.yaml", rule % 8)
        wait_until(lambda: limit() == 8, what="the mended rule")


# --- pages and addresses ---

def metrics(control, port=None):
    lines = client.get(port or control.monitoring, "/metrics").body.decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_pages_have_istiods_names_and_shapes(lateend):
    control = lateend()
    put(control, "shop.yaml", SHOP)
    put(control, "bad.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: bad, namespace: shop}\nspec: {ports: 7}\n")
    with control.plain_channel() as channel, Stream(channel, node()) as stream:
        stream.ask_all("80")
        stream.get("RDS", "80")
        wait_until(lambda: stream.endpoints(WEB) and control.lines("bad.yaml"), what="endpoints")
        put(control, "shop.yaml", SHOP.replace("10.1.0.2", "10.1.0.3"))
        wait_until(lambda: "10.1.0.3" in stream.endpoints(WEB), what="the change")
        wait_until(lambda: int(metrics(control)["pilot_proxy_convergence_time_count"]) >= 1, what="a change that has arrived")
        seen = metrics(control)
        assert seen['pilot_xds{version="1.31.0"}'] == "1"
        for kind in ("cds", "eds", "lds", "rds"):
            assert int(seen[f'pilot_xds_pushes{{type="{kind}"}}']) >= 1 and seen[f'pilot_xds_pushes{{type="{kind}_senderr"}}'] == "0"
        assert seen["pilot_services"] == "1" and seen['istio_build{component="pilot",tag="0.1.0"}'] == "1"
        assert seen['pilot_total_rejected_configs{type="Service",name="shop/bad"}'] == "1"
        assert float(seen["citadel_server_root_cert_expiry_timestamp"]) > 1.7e9 and "citadel_server_csr_count" in seen
        (proxy,) = json.loads(client.get(control.http, "/debug/syncz").body)
        assert (proxy["proxy"], proxy["cluster_id"], proxy["proxy_type"], proxy["istio_version"]) == ("caller-1.shop", "Kubernetes", "sidecar", "1.31.0")
        for kind, url in (("cluster", "cluster.v3.Cluster"), ("listener", "listener.v3.Listener"),
                          ("endpoint", "endpoint.v3.ClusterLoadAssignment"), ("route", "route.v3.RouteConfiguration")):
            state = proxy["resources"][f"type.googleapis.com/envoy.config.{url}"]
            assert proxy[f"{kind}_sent"] == proxy[f"{kind}_acked"] == state["sent"] == state["acked"] and state["sentTime"].endswith("Z")
        # a refusal
        stream.holds_acks.add("EDS")
        put(control, "shop.yaml", SHOP)
        kind, response = wait_until(lambda: stream.responses[-1][0] == "EDS" and stream.responses[-1][1].nonce != proxy["endpoint_sent"] and
                                    stream.responses[-1], what="endpoints")
        stream.send("EDS", response_nonce=response.nonce, error_detail={"code": 13, "message": "not like this"})
        wait_until(lambda: 'pilot_total_xds_rejects{type="eds"}' in metrics(control), what="the count")
        seen = metrics(control)
        assert seen['pilot_total_xds_rejects{type="eds"}'] == "1"
        assert seen['pilot_xds_eds_reject{node="sidecar~10.9.0.1~caller-1.shop~shop.svc.cluster.local",err="Internal"}'] == "1"
        (proxy,) = json.loads(client.get(control.http, "/debug/syncz").body)
        state = proxy["resources"]["type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"]
        assert state["lastError"] == "not like this" and state["refused"] == {WEB: "not like this"}
        assert proxy["endpoint_acked"] != proxy["endpoint_sent"]
    wait_until(lambda: metrics(control)['pilot_xds{version="1.31.0"}'] == "0", what="nobody")
    assert not [name for name in metrics(control) if name.startswith("pilot_xds_eds_reject")]
    assert client.get(control.http, "/debug/nothing").status == 404 and client.get(control.monitoring, "/version").status == 200


# A network of its own, with an address that isn't loopback; the status of the page for each token, "-" being none.
NEIGHBOURS = """
ip link set lo up && ip address add 10.77.0.1/32 dev lo || exit 1
"$1" discovery --configDir "$2" --grpcAddr "" --secureGRPCAddr "" --monitoringAddr "" --httpAddr 0.0.0.0:8080 >/dev/null 2>&1 &
for i in $(seq 500); do curl -sf http://127.0.0.1:8080/ready && break; sleep 0.02; done
curl -so /dev/null -w '%{http_code} ' http://127.0.0.1:8080/debug/syncz
curl -so /dev/null -w '%{http_code} ' http://10.77.0.1:8080/metrics
shift 2
for token; do
  curl -so /dev/null -w '%{http_code} ' -H "Authorization: Bearer $token" http://10.77.0.1:8080/debug/syncz
done
kill $! && wait $!
"""


def test_who_is_connected_is_for_this_machine_and_the_system_namespace(workdir, issuer):
    control = Lateend(workdir, JWT_RULE=issuer.rule())
    tokens = ["-", Issuer().token(ns="istio-system"), issuer.token(ns="shop"), issuer.token(ns="istio-system")]
    done = subprocess.run(["unshare", "--map-root-user", "--net", "sh", "-c", NEIGHBOURS, "sh", str(BUILD / "lateend"), str(control.config), *tokens],
                          env=control.env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["200", "200", "401", "401", "403", "200"], done.stderr


def test_an_empty_address_puts_it_on_the_http_port(workdir):
    control = Lateend(workdir)
    control.arguments = {"--grpcAddr": "", "--monitoringAddr": ""}
    control.start()
    try:
        put(control, "shop.yaml", SHOP)
        control.plain = control.http
        with control.plain_channel() as channel, Stream(channel, node()) as stream:
            stream.ask("CDS")
            stream.get("CDS", WEB)
            assert metrics(control, control.http)['pilot_xds{version="1.31.0"}'] == "1"
        assert client.get(control.http, "/ready").status == 200
    finally:
        control.stop()


def test_the_trust_domain_is_the_mesh_configurations(workdir, issuer):
    control = Lateend(workdir, JWT_RULE=issuer.rule())
    put(control, "mesh.yaml", 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n'
                              'data: {mesh: "trustDomain: shop.example"}\n')
    control.start()
    try:
        with control.channel() as channel:
            assert names_of(create_certificate(channel, request_of()[0], token=issuer.token())[0]) == ["spiffe://shop.example/ns/shop/sa/web"]
    finally:
        control.stop()


def test_the_mesh_config_file_is_followed(workdir):
    control = Lateend(workdir)
    mesh = workdir / "mesh.yaml"
    mesh.write_text("accessLogFile: /dev/stdout\n")
    control.arguments = {"--meshConfig": str(mesh), "--httpsAddr": ""}
    control.start()
    try:
        put(control, "shop.yaml", SHOP)
        with control.plain_channel() as channel, Stream(channel, node()) as stream:
            stream.ask_all("80")
            assert "/dev/stdout" in str(stream.get("LDS", "virtualOutbound"))
            mesh.write_text("accessLogFile: /dev/stderr\n")
            wait_until(lambda: "/dev/stderr" in str(stream.get("LDS", "virtualOutbound")), what="the change")
            mesh.write_text("accessLogFile: [\n")
            wait_until(lambda: control.lines("mesh.yaml", "mesh configuration"), what="the message")
            put(control, "cart.yaml", service("cart", address="10.0.0.2"))
            stream.get("CDS", "outbound|80||cart.shop.svc.cluster.local")
            assert "/dev/stderr" in str(stream.get("LDS", "virtualOutbound"))
    finally:
        control.stop()


def test_the_self_signed_root_is_kept(lateend):
    control = lateend()
    root = control.root()
    control.stop()
    control.start()
    assert control.root() == root and oct((control.state / "ca-key.pem").stat().st_mode & 0o777) == "0o600"
