"""Certificates in a running mesh: whose are believed, and their rotation while requests flow."""
import collections
import json
import pathlib
import subprocess

import pytest

import shop
from lib import certs
from mesh_lib import LATEEN, wait_until

PYTHON = "/usr/bin/python3"  # the host's, which containers see

# --- who is believed ---

KNOCK = """
import json, socket, ssl, sys
tls = json.loads(sys.argv[1])
connection = socket.create_connection(("web", 8080), timeout=20)
if tls is not None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["istio"])
    if tls:
        open("/tmp/leaf.pem", "w").write(tls)
        context.load_cert_chain("/tmp/leaf.pem")
    connection = context.wrap_socket(connection)
connection.sendall(b"GET / HTTP/1.1\\r\\nHost: web\\r\\nConnection: close\\r\\n\\r\\n")
data = b""
while part := connection.recv(65536):
    data += part
sys.stdout.write(data.decode())
"""


def test_a_sidecar_believes_the_mesh_and_nobody_else(mesh, kind):
    """STRICT: the same caller, outside of the mesh, with a certificate of the mesh's root and with others."""
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.server("web", kind, versions=("v1",)), shop.caller("caller", kind),
               shop.caller("stranger", labels=', sidecar.istio.io/inject: "false"'))
    mesh.up()
    shop.first_answer(mesh)
    state = pathlib.Path(mesh.state) / "istiod"
    root = certs.Root.load((state / "ca-cert.pem").read_text(), (state / "ca-key.pem").read_text())
    name = "spiffe://cluster.local/ns/shop/sa/stranger"

    def knock(leaf):
        """The answer's body, or None."""
        tls = leaf if leaf is None else "".join(leaf)
        text = mesh.exec("stranger", PYTHON, "-c", KNOCK, json.dumps(tls), check=False)
        return json.loads(text.split("\n\n", 1)[1]) if text.startswith("HTTP/1.1 200") else None

    wait_until(lambda: knock(root.leaf(name)), what="an answer to a certificate of the mesh")
    assert knock(root.leaf(name))["peer"] == name
    refused = {"plaintext": None, "no certificate": (), "another root": certs.Root().leaf(name), "expired": root.leaf(name, expired=True),
               "another trust domain": root.leaf("spiffe://elsewhere/ns/shop/sa/stranger")}
    assert {what: knock(leaf) for what, leaf in refused.items()} == {what: None for what in refused}
    assert knock(root.leaf(name))["peer"] == name  # it was not for another reason


# --- rotation ---

LOAD = """
import collections, http.client, json, os, threading, time
counts, lock = collections.Counter(), threading.Lock()

def run(host, port, keeps):
    connection = None
    while not os.path.exists("/tmp/stop"):
        try:
            connection = connection or http.client.HTTPConnection(host, port, timeout=30)
            connection.request("GET", "/")
            response = connection.getresponse()
            body = response.read()
            seen = json.loads(body).get("peer", "") if response.status == 200 else body.decode()[:200]
            word = f"{host} {response.status} {seen}"
        except (OSError, http.client.HTTPException) as error:
            word, connection = repr(error), None
        with lock:
            counts[word] += 1
        if connection is not None and not keeps:
            connection.close()
            connection = None
        time.sleep(0.005)

threads = [threading.Thread(target=run, args=arguments) for arguments in (("web", 8080, True), ("web", 8080, False), ("raw", 9090, True), ("raw", 9090, False))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(counts))
"""

RAW = """
apiVersion: v1
kind: Service
metadata: {name: raw, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: tcp, port: 9090}]
"""


def proxy_config(**metadata):
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    defaultConfig:
      proxyMetadata: {json.dumps(metadata)}
"""


class Watcher:
    """Serial numbers of what a sidecar shows and trusts, as its /certs has them."""

    def __init__(self, mesh, name):
        self.mesh, self.name, self.leaves, self.roots = mesh, name, [], []

    def look(self):
        page = json.loads(self.mesh.exec(self.name, "curl", "-s", "http://127.0.0.1:15000/certs", container="istio-proxy"))
        for entry in page["certificates"]:
            for serials, part in ((self.leaves, "cert_chain"), (self.roots, "ca_cert")):
                serials += [cert["serial_number"] for cert in entry[part] if cert["serial_number"] not in serials]
        return self


def rotate(mesh, kind, ttl, is_enough, within):
    """
    One server and one caller; load over both protocols, on connections that stay and on new ones, until
    is_enough(watchers). What was answered, and the watchers.
    """
    ports = "{containerPort: 8080}, {containerPort: 9090}"
    shop.write(mesh, "mesh.yaml", proxy_config(SECRET_TTL=ttl), shop.NAMESPACE, shop.server("web", kind, versions=("v1",), ports=ports), RAW,
               shop.caller("caller", kind))
    mesh.up()
    shop.first_answer(mesh)
    shop.first_answer(mesh, url="http://raw:9090/")
    watchers = [Watcher(mesh, name) for name in ("caller", "web-v1")]
    load = subprocess.Popen([LATEEN, "exec", "-m", str(mesh.dir), "caller", "--", PYTHON, "-c", LOAD], stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: is_enough([watcher.look() for watcher in watchers]) or load.poll() is not None, within, "rotations")
        mesh.exec("caller", "touch", "/tmp/stop")
        out, _ = load.communicate(timeout=60)
    finally:
        load.kill()
    return collections.Counter(json.loads(out)), watchers


def agent_stats(mesh, name):
    """What the agent says of itself on the status port, whichever the data path."""
    text = mesh.exec(name, "curl", "-s", "http://127.0.0.1:15020/stats/prometheus", container="istio-proxy")
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("istio_agent_")}


def expect_no_failure(counts):
    assert set(counts) == {"web 200 spiffe://cluster.local/ns/shop/sa/caller", "raw 200 "}, counts
    assert min(counts.values()) > 50, counts  # so many answers while the certificates changed, on a busy machine too


def test_certificates_of_six_seconds_rotate_under_load(mesh, kind):
    counts, watchers = rotate(mesh, kind, "6s", lambda both: all(w.leaves[3:] for w in both), 120)
    expect_no_failure(counts)
    assert all(len(watcher.roots) == 1 for watcher in watchers)
    for name in ("caller", "web-v1"):
        stats = agent_stats(mesh, name)
        assert 0 < stats['istio_agent_cert_expiry_seconds{resource_name="default"}'] <= 6
        assert stats['istio_agent_num_outgoing_requests{request_type="csr"}'] >= 4
        assert stats['istio_agent_num_failed_outgoing_requests{request_type="csr"}'] == 0


@pytest.mark.long
def test_certificates_of_twenty_seconds_and_the_root_rotate_under_load(mesh, kind, monkeypatch):
    """Past the end of the first root; the streams of the proxies stand, and a change of the world still reaches them."""
    monkeypatch.setenv("CITADEL_SELF_SIGNED_CA_CERT_TTL", "60s")
    monkeypatch.setenv("CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL", "1s")
    monkeypatch.setenv("CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE", "50")
    counts, watchers = rotate(mesh, kind, "20s", lambda both: all(w.leaves[3:] and w.roots[2:] for w in both), 600)
    expect_no_failure(counts)
    for name in ("caller", "web-v1"):
        assert agent_stats(mesh, name)["istio_agent_istiod_connection_failures"] == 0, mesh.logs(name, "istio-proxy")
    mesh.write("more.yaml", shop.server("late", kind, versions=("v1",)))
    wait_until(lambda: "version" in mesh.curl("caller", "http://late:8080/", check=False), 60, "a workload that came later")
