"""Admin pages: Envoy's paths, shapes and refusals."""
import json
import re

import pytest

from lib import client
from lib.client import wait_until
from lib.logs import log_to, text
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick


def serve(run_proxy, backends, **fields):
    server = backends()
    return run_proxy({**bootstrap(listener(hcm([route("/", "a")], **fields.pop("hcm", {}))), [cluster("a", server.port)]), **fields})


def shape(value):
    """Names and types; what is under a name of its own (numbers of the process) does not count."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value[:1]] if isinstance(value, list) else type(value).__name__


def page(proxy, path, method="GET", status=200):
    reply = proxy.admin_get(path, method=method)
    assert reply.status == status, (reply.status, reply.body)
    return reply.body.decode()


@pytest.mark.parametrize("path, expected", [
    ("/memory", {key: "str" for key in ("allocated", "heap_size", "pageheap_unmapped", "pageheap_free", "total_thread_cache", "total_physical_bytes")}),
    ("/runtime", {"entries": {}, "layers": []}),
    ("/init_dump", {}),
    ("/listeners?format=json", {"listener_statuses": [{"name": "str", "local_address": {"socket_address": {"address": "str", "port_value": "int"}}}]})])
def test_pages_in_json(run_proxy, backends, path, expected):
    assert shape(json.loads(page(serve(run_proxy, backends), path))) == expected


def test_runtime_layers(run_proxy, backends):
    proxy = serve(run_proxy, backends, layered_runtime={"layers": [
        {"name": "first", "static_layer": {"some": {"key": 5, "flag": True}, "text": "a"}}, {"name": "second", "static_layer": {"some.key": 6}}]})
    shown = json.loads(page(proxy, "/runtime"))
    assert shown["layers"] == ["first", "second"]
    assert shown["entries"]["some.key"] == {"final_value": "6", "layer_values": ["5", "6"]}
    assert shown["entries"]["text"] == {"final_value": "a", "layer_values": ["a", ""]}
    assert page(proxy, "/runtime_modify?a=b", "POST", 503) == "No admin layer specified"


def test_server_info(run_proxy, backends):
    shown = json.loads(page(serve(run_proxy, backends), "/server_info"))
    assert shown["state"] == "LIVE" and re.fullmatch(r"\d+s", shown["uptime_current_epoch"])
    assert shown["command_line_options"]["concurrency"] == 1 and shown["command_line_options"]["mode"] == "Serve"


@pytest.mark.parametrize("path", ["/logging", "/reset_counters", "/healthcheck/fail", "/healthcheck/ok", "/quitquitquit", "/reopen_logs", "/runtime_modify"])
def test_what_turns_something_wants_post(run_proxy, backends, path):
    assert page(serve(run_proxy, backends), path, status=405) == "Method GET not allowed, POST required."


def test_levels(run_proxy, backends):
    proxy = serve(run_proxy, backends)
    assert "\n  http: error\n" in page(proxy, "/logging?level=error", "POST")
    shown = page(proxy, "/logging?http=debug", "POST")
    assert "\n  http: debug\n" in shown and "\n  rbac: error\n" in shown
    shown = page(proxy, "/logging?paths=http:warning,rbac:trace", "POST")
    assert "\n  http: warning\n" in shown and "\n  rbac: trace\n" in shown
    assert "unknown logger name" in page(proxy, "/logging?nonsense=info", "POST", 400)
    assert "unknown logger level" in page(proxy, "/logging?level=loud", "POST", 400)


def test_unknown_path(run_proxy, backends):
    proxy = serve(run_proxy, backends)
    assert page(proxy, "/nonsense", status=404).startswith("invalid path. admin commands are:\n  /: Admin home page\n")
    assert page(proxy, "/help").startswith("admin commands are:\n  /: Admin home page\n")
    reply = proxy.admin_get("/")
    assert reply.status == 200 and reply.header("content-type").startswith("text/html") and b"config_dump" in reply.body


def test_forms_of_stats(run_proxy, backends):
    proxy = serve(run_proxy, backends)
    for _ in range(3):
        assert client.get(proxy.port).status == 200
    assert page(proxy, "/stats?filter=cluster.a.upstream_rq_2xx") == "cluster.a.upstream_rq_2xx: 3\n"
    assert json.loads(page(proxy, "/stats?format=json&filter=cluster.a.upstream_rq_2xx")) == {"stats": [{"name": "cluster.a.upstream_rq_2xx", "value": 3}]}
    assert page(proxy, "/stats?filter=cluster.a.upstream_rq_2xx&type=Gauges") == ""
    assert page(proxy, "/stats?usedonly&type=Counters&filter=cluster.a.upstream_rq_2xx") == "cluster.a.upstream_rq_2xx: 3\n"
    assert "upstream_rq_total" in page(proxy, "/stats?format=prometheus&filter=rq_total")
    assert page(proxy, "/reset_counters", "POST") == "OK\n"
    assert "cluster.a.upstream_rq_2xx: 0\n" in page(proxy, "/stats?filter=cluster.a.upstream_rq_2xx") + "cluster.a.upstream_rq_2xx: 0\n"
    assert "usage: /stats?format=" in page(proxy, "/stats?format=x", status=400)
    assert "usage: /stats?histogram_buckets=" in page(proxy, "/stats?histogram_buckets=x", status=400)
    assert page(proxy, "/stats?type=x", status=400) == "invalid &type= param"
    assert "Invalid re2 regex" in page(proxy, "/stats?filter=(", status=400)


def test_logs_are_opened_anew(run_proxy, backends, workdir):
    path = workdir / "log"
    proxy = serve(run_proxy, backends, hcm={"access_log": [log_to(path, **text("%REQ(:PATH)%\n"))]})
    assert client.get(proxy.port, "/one").status == 200
    if proxy.kind == "lateen":  # Envoy writes when it is asked
        wait_until(lambda: path.read_text() == "/one\n", what="the first line")
    path.rename(workdir / "old")
    assert page(proxy, "/reopen_logs", "POST") == "OK\n"
    assert client.get(proxy.port, "/two").status == 200

    def new():
        assert page(proxy, "/reopen_logs", "POST") == "OK\n"  # writes what is buffered
        return path.exists() and path.read_text()

    assert wait_until(new, what="the new file").endswith("/two\n")
    assert (workdir / "old").read_text() + path.read_text() == "/one\n/two\n"
