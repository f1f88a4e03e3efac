"""What a VirtualService says about requests, and raw TCP: lateend's translation gives the same on either data path."""
import json

import pytest

import shop
from lib import client
from mesh_lib import free_port, wait_until

VOLATILE = {"date", "x-envoy-upstream-service-time", "content-length"}

RULES = """
  - name: moved
    match: [{uri: {exact: /moved}}]
    redirect: {uri: /new, authority: other.test, redirectCode: 302}
  - name: moved-below
    match: [{uri: {prefix: /docs/}}]
    redirect: {scheme: https, port: 8443, redirectCode: 308}
  - name: teapot
    match: [{uri: {exact: /teapot}}]
    directResponse: {status: 418, body: {string: "short and stout"}}
    headers: {response: {set: {x-made-by: the proxy}}}
  - name: api
    match: [{uri: {prefix: /api/}, method: {exact: GET}}]
    rewrite: {uri: /}
    headers:
      request: {set: {x-set: "1"}, add: {x-add: "2"}, remove: [x-gone]}
      response: {set: {x-answer: "3"}, remove: [content-type]}
    route: [{destination: {host: web.shop.svc.cluster.local}}]
  - name: pattern
    match: [{uri: {regex: "/r/[0-9]+/.*"}}]
    rewrite: {uriRegexRewrite: {match: "^/r/([0-9]+)/(.*)$", rewrite: "/\\\\2/\\\\1"}}
    route: [{destination: {host: web.shop.svc.cluster.local}}]
  - name: other-host
    match: [{uri: {exact: /host}}]
    rewrite: {authority: inside.example}
    route: [{destination: {host: web.shop.svc.cluster.local}}]
  - name: in-time
    match: [{uri: {prefix: /delay/}}]
    timeout: 0.5s
    route: [{destination: {host: web.shop.svc.cluster.local}}]
  - name: tried-again
    match: [{uri: {prefix: /flaky/}}]
    retries: {attempts: 3, retryOn: "503"}
    route: [{destination: {host: flaky.shop.svc.cluster.local}}]
  - name: asked
    match: [{queryParams: {v: {exact: two}}, withoutHeaders: {x-not: {exact: "1"}}}]
    route: [{destination: {host: web.shop.svc.cluster.local, subset: v2}}]
  - name: own-edit
    match: [{uri: {exact: /own}}]
    route:
    - {destination: {host: web.shop.svc.cluster.local, subset: v1}, headers: {response: {add: {x-share: one}}}}
  - name: rest
    match: [{uri: {prefix: /status/}}]
    route: [{destination: {host: web.shop.svc.cluster.local}}]
"""

# answers 503 until the same path was asked for as often as its last part says
FLAKY = """
import collections, http.server
seen = collections.Counter()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        seen[self.path] += 1
        good = seen[self.path] > int(self.path.split("/")[-1])
        body = f"try {seen[self.path]}".encode()
        self.send_response(200 if good else 503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def through_gateway(port):
    def ask(path, method="GET", headers=()):
        response = client.get(port, path, method, host="web.test", headers=headers)
        return response.status, {n.lower(): v for n, v in response.headers}, response.body.decode()
    return ask


def through_sidecar(mesh):
    def ask(path, method="GET", headers=()):
        extra = [word for n, v in dict(headers).items() for word in ("-H", f"{n}: {v}")]
        text = mesh.exec("caller", "curl", "-s", "-D", "-", "-X", method, *extra, f"http://web:8080{path}")
        head, _, body = text.replace("\r\n", "\n").partition("\n\n")
        lines = head.split("\n")
        return int(lines[0].split()[1]), {n.lower(): v for n, v in (line.split(": ", 1) for line in lines[1:] if ": " in line)}, body
    return ask


def check(ask, who, authority):
    def seen(path, *more, **headers):
        status, _, body = ask(path, *more, headers={n.replace("_", "-"): v for n, v in headers.items()})
        assert status == 200, (path, status, body)
        return json.loads(body)

    def answer(path, *more):
        status, headers, body = ask(path, *more)
        return status, {n: v for n, v in headers.items() if n not in VOLATILE}, body

    made_here = {"server": who}
    assert answer("/moved?q=1") == (302, {"location": "http://other.test/new?q=1", **made_here}, "")
    assert answer("/docs/a?b") == (308, {"location": f"https://{authority.split(':')[0]}:8443/docs/a?b", **made_here}, "")
    assert answer("/teapot") == (418, {"content-type": "text/plain", "x-made-by": "the proxy", **made_here}, "short and stout")
    assert answer("/nowhere") == (404, made_here, "")
    assert answer("/api/x", "POST") == (404, made_here, "")
    status, headers, body = answer("/api/a/b?c=d")
    api = json.loads(body)
    assert (status, headers) == (200, {"x-answer": "3", **made_here}), headers
    assert (api["path"], api["query"], api["host"]) == ("/a/b", "c=d", authority)
    arrived = seen("/api/x", x_gone="no", x_add="1", x_kept="yes")["headers"]
    assert (arrived["x-set"], arrived["x-add"], arrived["x-kept"]) == ("1", "1,2", "yes") and "x-gone" not in arrived
    assert arrived["x-envoy-original-path"] == "/api/x"
    assert seen("/r/12/tail")["path"] == "/tail/12"
    assert seen("/host")["host"] == "inside.example"
    assert {seen("/?v=two")["version"] for _ in range(8)} == {"v2"} and ask("/?v=two", headers={"x-not": "1"})[0] == 404
    assert answer("/own")[1]["x-share"] == "one"
    assert answer("/status/299")[0] == 299
    assert answer("/delay/10")[0] == 200
    assert answer("/delay/30000")[::2] == (504, "upstream request timeout")
    # three tries more: the third one or the fourth may be good, a fifth there is not
    assert answer(f"/flaky/{who}/2")[::2] == (200, "try 3") and answer(f"/flaky/{who}/3")[::2] == (200, "try 4")
    assert answer(f"/flaky/{who}/4")[::2] == (503, "try 4")


def test_rules_for_requests(mesh, kind):
    port = free_port()
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.gateway(port, kind), shop.WEB_GATEWAY, shop.server("web", kind),
               shop.caller("caller", kind), shop.destinations(), shop.routes(RULES),
               shop.account("flaky"), shop.workload("flaky", kind=kind, command=["/usr/bin/python3", "-c", FLAKY]), shop.service("flaky"))
    mesh.up()
    wait_until(lambda: client.get(port, "/status/200", host="web.test").status == 200, what="the route")
    wait_until(lambda: client.get(port, "/flaky/ready/0", host="web.test").status == 200, what="the other service")
    wait_until(lambda: client.get(port, "/?v=two", host="web.test").status == 200, what="the second version")
    check(through_gateway(port), "istio-envoy", "web.test")
    wait_until(lambda: shop.status(mesh, "caller", "http://web:8080/status/200") == "200", what="the route")
    wait_until(lambda: shop.status(mesh, "caller", "http://web:8080/?v=two") == "200", what="the second version")
    check(through_sidecar(mesh), "envoy", "web:8080")


# --- raw TCP ---

# says who is there first, then gives back every line, turned round; after the client's end how many there were
TURNER = """
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"ready\\n")
        count = 0
        for line in self.rfile:
            count += 1
            self.wfile.write(line.strip()[::-1] + b"\\n")
        self.wfile.write(b"%d lines" % count)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("", 9000), Handler).serve_forever()
"""

TALKER = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000), timeout=10) as s:
    f = s.makefile("rb")
    if sys.argv[2:]:
        s.sendall(sys.argv[2].encode() + b"\\n")
    print(f.readline().decode().strip())
    if sys.argv[2:]:
        print(f.readline().decode().strip())
        sys.exit()
    for i in range(3):
        s.sendall(b"line %d\\n" % i)
        print(f.readline().decode().strip())
    s.sendall(b"x" * 300000 + b"\\n")
    print(len(f.readline()))
    s.shutdown(socket.SHUT_WR)
    print(f.read().decode())
"""

SPOKEN = ["ready", "0 enil", "1 enil", "2 enil", "300001", "4 lines"]


@pytest.mark.parametrize("mode", ["STRICT", "PERMISSIVE"])
def test_raw_tcp_between_all_pairs(mesh, mode):
    """A port that says "tcp": in the mesh the server may speak first, ends are passed on, bytes are as they were."""
    def turner(name, kind):
        return "---".join([shop.account(name), shop.workload(name, kind=kind, command=["/usr/bin/python3", "-c", TURNER],
                                                             ports="{name: tcp, containerPort: 9000}"), shop.service(name, "tcp", 9000)])

    kinds = ["lateen", "envoy"]
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE.replace("STRICT", mode), *(turner(f"to-{k}", k) for k in kinds),
               *(shop.caller(f"from-{k}", k) for k in kinds), shop.caller("stranger", labels=', sidecar.istio.io/inject: "false"'),
               shop.server("web", "envoy", ["v1"]))
    mesh.up()

    def talk(who, *words):
        return mesh.exec(who, "/usr/bin/python3", "-c", TALKER, *words, check=False).splitlines()

    for target in kinds:
        for source in kinds:
            wait_until(lambda: talk(f"from-{source}", f"to-{target}") == SPOKEN, what=f"words from {source} to {target}")
        # plaintext is known by its first bytes: that client has to begin, as with Istio
        assert "".join(talk("stranger", f"to-{target}", "hello")) == ("" if mode == "STRICT" else "readyolleh")


def test_a_port_that_says_nothing_is_looked_at(mesh):
    """Its first bytes tell: HTTP is routed and counted as HTTP, anything else goes through as it is."""
    shop.write(mesh, "mesh.yaml", shop.NAMESPACE, shop.account("web"), shop.workload("web"), shop.service("web", "main"),
               shop.account("turner"), shop.workload("turner", command=["/usr/bin/python3", "-c", TURNER], ports="{containerPort: 9000}"),
               shop.service("turner", "main", 9000), shop.caller("caller"))
    mesh.write("rule.yaml", """
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: web, namespace: shop}
        spec: {hosts: [web], http: [{headers: {request: {set: {x-route: web}}}, route: [{destination: {host: web}}]}]}
        """)
    mesh.up()
    answer = shop.first_answer(mesh)
    assert answer["peer"] == "spiffe://cluster.local/ns/shop/sa/caller" and answer["headers"]["x-route"] == "web"

    def talk():
        return mesh.exec("caller", "/usr/bin/python3", "-c", TALKER, "turner", "hello", check=False).splitlines()

    wait_until(lambda: talk() == ["ready", "olleh"], what="an answer")
    stats = mesh.exec("caller", "curl", "-s", "http://127.0.0.1:15020/stats/prometheus", container="istio-proxy")
    counted = [line for line in stats.splitlines() if line.startswith("istio_requests_total{") and 'destination_service_name="web"' in line]
    assert counted and all('request_protocol="http"' in line and 'reporter="source"' in line for line in counted), stats
    assert not [line for line in stats.splitlines() if line.startswith("istio_requests_total{") and 'destination_service_name="turner"' in line]
