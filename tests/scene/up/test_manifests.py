"""What is read: any order, any number of documents and files; what is wrong is told with its place, and all else goes on."""
import json

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


def test_any_number_of_documents_in_any_order(mesh):
    """Who needs something comes before what it needs; the Namespace, which says who gets a sidecar, comes last."""
    client = deployment("client", ["sleep", "1000"], port=0, ns="shop").replace("    spec:\n", "    spec:\n      serviceAccountName: anna\n")
    mesh.write("all.yaml", f"""
# only a comment
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [web.shop.svc.cluster.local]
  http: [{{route: [{{destination: {{host: web.shop.svc.cluster.local, subset: v2}}}}]}}]
---
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec: {{host: web, subsets: [{{name: v2, labels: {{version: v2}}}}]}}
---
{service("web", ns="shop")}
{deployment("web-1", app="web", version="v1", ns="shop")}
{deployment("web-2", app="web", version="v2", ns="shop")}
...
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: anna, namespace: shop}}
---
{client}
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{istio-injection: enabled}}}}
""")
    mesh.write("more/list.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "again", "namespace": "shop"},
         "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}}]}))
    mesh.up()
    assert "error" not in mesh.output() and "warning" not in mesh.output(), mesh.output()
    wait_until(lambda: mesh.curl("client", "http://web/", check=False).startswith("{"), 10, "an answer")
    for _ in range(8):
        answer = mesh.get("client", "http://web/")
        assert answer["version"] == "v2" and answer["peer"] == "spiffe://cluster.local/ns/shop/sa/anna"
    assert mesh.get("client", "http://again/")["workload"] in ("web-1", "web-2")


def test_nothing_to_read_is_said(mesh):
    mesh.write("notes.txt", "kind: Service")
    mesh.up()
    assert f"lateen: {mesh.dir} has no manifests (*.yaml, *.yml, *.json) that are read; those that come are followed" in mesh.output()
    mesh.write("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: on}\n---\n" + deployment("web"))
    wait_until(lambda: "web" in mesh.workloads(), 10, "what came")
    # YAML's "on" is no text; that it is required, too, would only confuse
    assert mesh.output().count("a.yaml:3: error: metadata.name: ") == 1 and "expected a string, got bool" in mesh.output()


def test_other_kinds_are_named_and_no_error(mesh):
    others = {"Gizmo": "example.com/v1", "StatefulSet": "apps/v1", "HorizontalPodAutoscaler": "autoscaling/v2", "Ingress": "networking.k8s.io/v1",
              "ServiceEntry": "networking.istio.io/v1", "Secret": "v1"}
    for number, (kind, version) in enumerate(others.items()):
        mesh.write(f"{number}.yaml", f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec: {{a: [1, 2]}}\n")
    mesh.write("guard.yaml", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x, namespace: shop}\nspec: {}\n")
    mesh.write("z.yaml", deployment("web"))
    mesh.up()
    guard = "AuthorizationPolicy shop/x: AuthorizationPolicy of security.istio.io/v1 is not read yet: it forbids nothing"
    assert f"{mesh.dir}/guard.yaml:1: warning: {guard}" in mesh.output()
    for number, (kind, version) in enumerate(others.items()):
        assert f"{mesh.dir}/{number}.yaml:1: info: {kind} shop/x: {kind} of {version} is not read yet" in mesh.output(), mesh.output()
    assert "error" not in mesh.output() and list(mesh.workloads()) == ["web"]


MISTAKES = {
    "yaml.yaml": ("a: [1\n", ["yaml.yaml:", "error: "]),
    "indent.yaml": ("apiVersion: v1\nkind: Service\nmetadata:\n  name: s\n spec: {}\n", ["indent.yaml:5: error: "]),
    "field.yaml": ("""\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: field}
spec:
  hosts: [web]
  http:
  - retries: {atempts: 2}
    route: [{destination: {host: web}}]
""", ["field.yaml:7: error: VirtualService default/field: spec.http[0].retries.atempts: unknown field, did you mean attempts?"]),
    "k8s-field.yaml": ("apiVersion: v1\nkind: Service\nmetadata: {name: fields}\nspec:\n  ports: [{port: 80}]\n  selektor: {app: web}\n",
                       ["k8s-field.yaml:6: warning: Service default/fields: spec.selektor: unknown field, did you mean selector?"]),
    "type.yaml": ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: type}\nspec:\n  replicas: many\n"
                  "  selector: {matchLabels: {app: x}}\n  template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c}]}}\n",
                  ["type.yaml:5: error: Deployment default/type: spec.replicas: expected a whole number, got string"]),
    "range.yaml": ("apiVersion: v1\nkind: Service\nmetadata: {name: range}\nspec: {ports: [{port: 70000}]}\n",
                   ["range.yaml:4: error: Service default/range: spec.ports[0].port: expected a number from 1 to 65535, got 70000"]),
    "host.yaml": ("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: host}\nspec:\n  hosts: [web.default.svc.cluster.local]\n"
                  "  http: [{route: [{destination: {host: web}}]}]\n",
                  ["duplicate host web.default.svc.cluster.local: VirtualService default/", "VirtualService default/host"]),
    "dangling.yaml": ("""\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: dangling}
spec:
  hosts: [dangling.test]
  gateways: [nowhere]
  http:
  - route: [{destination: {host: web, subset: v8}}]
  - route: [{destination: {host: nobody}}]
  - route: [{destination: {host: web, port: {number: 81}}}]
""", ["dangling.yaml:8: warning: VirtualService default/dangling: spec.http[0].route[0].destination: there is no subset v8 of host "
      "web.default.svc.cluster.local in any DestinationRule",
      "dangling.yaml:9: warning: VirtualService default/dangling: spec.http[1].route[0].destination: there is no Service for host "
      "nobody.default.svc.cluster.local",
      "dangling.yaml:10: warning: VirtualService default/dangling: spec.http[2].route[0].destination: host web.default.svc.cluster.local has no port 81",
      "VirtualService default/dangling: spec.gateways[0]: there is no Gateway default/nowhere"]),
    "rule.yaml": ("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: rule}\nspec:\n  host: web\n"
                  "  subsets: [{name: v9, labels: {version: v9}}]\n",
                  ["rule.yaml:6: warning: DestinationRule default/rule: spec.subsets[0].labels: no Pod of web.default.svc.cluster.local has the "
                   "labels of subset v9"]),
    "selector.yaml": ("apiVersion: v1\nkind: Service\nmetadata: {name: selector}\nspec: {selector: {app: wbe}, ports: [{port: 80}]}\n",
                      ["selector.yaml:1: warning: Service default/selector: spec.selector: selects nothing: no Pod, Deployment or Job of "
                       "namespace default has app: wbe"]),
    "kind.yaml": ("apiVersion: networking.istio.io/v1\nkind: VirtualServce\nmetadata: {name: kind}\n",
                  ["kind.yaml:1: warning: VirtualServce kind: VirtualServce of networking.istio.io/v1 is unknown, did you mean VirtualService"]),
    "tab.yaml": ("kind: Service\nmetadata:\n\tname: tab\n", ["tab.yaml:3: error: a tab in the indentation"]),
    "annotation.yaml": (deployment("annotation", annotations='"traffic.sidecar.istio.io/excludeInboundPorts": "80,x"', labels=SIDECAR),
                        ["Deployment default/annotation: annotation traffic.sidecar.istio.io/excludeInboundPorts: \"x\" is no port"]),
}


def test_mistakes_are_told_with_their_place_and_all_else_goes_on(mesh):
    mesh.write("a.yaml", deployment("web", labels=SIDECAR) + service("web") + deployment("client", ["sleep", "1000"], port=0, labels=SIDECAR) + """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [web], http: [{headers: {request: {set: {x-route: a}}}, route: [{destination: {host: web}}]}]}
""")
    for name, (text, _) in MISTAKES.items():
        (mesh.dir / name).write_text(text)
    mesh.up()
    for name, (_, expected) in MISTAKES.items():
        for line in expected:
            assert line in mesh.output(), f"{name}: no {line!r} in\n{mesh.output()}"
    assert set(mesh.workloads()) == {"web", "client"}
    # what is right serves, as its VirtualService says
    wait_until(lambda: mesh.curl("client", "http://web/", check=False).startswith("{"), 10, "an answer")
    answer = mesh.get("client", "http://web/")
    assert answer["headers"]["x-route"] == "a" and answer["peer"] == "spiffe://cluster.local/ns/default/sa/default"
    # a mistake while it runs: told once, and what was there before goes on
    before = mesh.workloads()["web"][0]["name"]
    mesh.write("a.yaml", (mesh.dir / "a.yaml").read_text().replace("replicas: 1", "replicas: one", 1))
    wait_until(lambda: "Deployment default/web: the object stays as it was before the error" in mesh.output(), 10, "the message")
    assert mesh.output().count("Deployment default/web: spec.replicas: expected a whole number, got string") == 1
    assert mesh.workloads()["web"][0]["name"] == before and mesh.output().count("there is no subset v8") == 1


def test_edits_are_told(mesh):
    """Who edits a file sees that it was read, and when the last mistake is mended."""
    web, rule = deployment("web"), "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: web}, ports: [{port: %s}]}\n"
    mesh.write("a.yaml", web)
    mesh.write("b.yaml", rule % 80)
    mesh.up()
    assert "changed" not in mesh.output() and "added" not in mesh.output()
    mesh.write("b.yaml", rule % 81)
    wait_until(lambda: "  changed Service default/s\n" in mesh.output(), 10, "the change")
    mesh.write("b.yaml", rule % "x")
    wait_until(lambda: "b.yaml:4: error: Service default/s: spec.ports[0].port" in mesh.output(), 10, "the mistake")
    assert "no errors any more" not in mesh.output()
    mesh.write("b.yaml", rule % 81)
    wait_until(lambda: "lateen: the manifests have no errors any more\n" in mesh.output(), 10, "the end of it")
    mesh.remove("b.yaml")
    wait_until(lambda: "  removed Service default/s\n" in mesh.output(), 10, "the removal")
    assert mesh.output().count("  changed ") == 1


MESH_CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    defaultConfig: {proxyMetadata: {COLOUR: blue}}
"""


def test_a_broken_mesh_configuration_restarts_nobody(mesh):
    mesh.write("mesh.yaml", MESH_CONFIG)
    mesh.write("a.yaml", deployment("web", labels=SIDECAR))
    mesh.up()
    before = mesh.workloads()["web"][0]["name"]
    for wrong, message in (("accessLogFile: [", "mesh configuration: line "), ("accesLogFile: x", "data.mesh, line 1: accesLogFile: unknown field"),
                           ("accessLogEncoding: XML", "data.mesh, line 1: accessLogEncoding: expected TEXT or JSON")):
        mesh.write("mesh.yaml", MESH_CONFIG.replace("accessLogFile: /dev/stdout", wrong))
        wait_until(lambda: message in mesh.output(), 10, message)
        mesh.wait()
        assert [pod["name"] for pod in mesh.workloads()["web"]] == [before], message
    assert "the mesh configuration stays as it was before the error" in mesh.output()
    mesh.write("mesh.yaml", MESH_CONFIG.replace("blue", "red"))
    wait_until(lambda: [pod["name"] for pod in mesh.workloads()["web"]] not in ([], [before]), 20, "the new Pod")
