"""What is read: any order, any number of documents and files; what is wrong is told with its place, and all else goes on."""
import pytest

from mesh_lib import deployment, service, wait_until

pytestmark = pytest.mark.quick

SIDECAR = '"sidecar.istio.io/inject": "true"'


def test_what_up_adds_is_no_duplicate(mesh):
    mesh.write("a.yaml", deployment("web", labels=SIDECAR) + service("web") + deployment("client", ["sleep", "1000"], port=0, labels=SIDECAR))
    mesh.write("b.yaml", """
apiVersion: v1
kind: Pod
metadata: {name: single, labels: {app: single, sidecar.istio.io/inject: "true"}}
spec: {containers: [{name: main, image: x, ports: [{containerPort: 8080}]}]}
""")
    mesh.write("twice.yaml", service("web"))
    mesh.up()
    told = f"{mesh.dir}/twice.yaml:2: error: Service default/web: duplicate of the object in {mesh.dir}/a.yaml:"
    assert told in mesh.output()
    # the sidecar knows the cluster IP: else it would pass the request on as it is, in plaintext
    resolve = "import socket; print(socket.gethostbyname('web'))"
    address = mesh.exec("client", "/usr/bin/python3", "-c", resolve).strip()
    wait_until(lambda: mesh.curl("client", f"http://{address}/", check=False).startswith("{"), 10, "an answer")
    assert mesh.get("client", f"http://{address}/")["peer"] == "spiffe://cluster.local/ns/default/sa/default"
    log = mesh.logs("istiod")
    assert [line.count("twice.yaml") for line in log.splitlines() if "duplicate" in line] == [1], log
