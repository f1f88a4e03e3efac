"""Access logs: what a line holds, how long it may be, and which formats are refused."""
import json

import pytest

from lib import client
from lib import proxy as proxy_lib
from lib.client import wait_until
from lib.logs import log_to, text
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick


def serve(run_proxy, backends, *logs, **fields):
    server = backends()
    return run_proxy(bootstrap(listener(hcm([route("/", "a")], access_log=list(logs), **fields)), [cluster("a", server.port)]))


def test_a_line_is_as_long_as_its_values(run_proxy, backends, workdir):
    """Values as long as heads may be, several in a line; the lines behind are not touched."""
    plain, in_json = workdir / "plain.log", workdir / "json.log"
    proxy = serve(run_proxy, backends,
                  log_to(plain, **text("%REQ(X-A)%|%REQ(X-B)%|%REQ(X-A)%|%REQ(X-A):5%|%RESPONSE_CODE% end\n")),
                  log_to(in_json, json_format={"a": "%REQ(X-A)%", "b": ["<%REQ(X-B)%>"], "code": "%RESPONSE_CODE%"}))
    a, b = "a" * 30000, "b" * 25000
    for headers in ({"x-a": a, "x-b": b}, {"x-a": "1", "x-b": "2"}):
        assert client.get(proxy.port, headers=headers).status == 200
    proxy.stop()  # what is buffered is written
    assert plain.read_text().splitlines() == [f"{a}|{b}|{a}|aaaaa|200 end", "1|2|1|1|200 end"]
    assert [json.loads(line) for line in in_json.read_text().splitlines()] == [
        {"a": a, "b": [f"<{b}>"], "code": 200}, {"a": "1", "b": ["<2>"], "code": 200}]


def test_a_line_ends_as_its_format_says(run_proxy, backends, workdir):
    path = workdir / "log"
    proxy = serve(run_proxy, backends, log_to(path, **text("%RESPONSE_CODE%;100%%;%START_TIME(%Y%z and %%, no matter how much of it there is, in the "
                                                           "end there is all of it that a person asked for and nothing less)%;")))
    for _ in range(2):
        assert client.get(proxy.port).status == 200
    proxy.stop()
    line = path.read_text()
    year = line.split(";")[2][:4]
    assert line == f"200;100%;{year}+0000 and %, no matter how much of it there is, in the end there is all of it that a person asked for and nothing less;" * 2


@pytest.mark.parametrize("line", ["%REQ(X-A)% and %REQ(X-B)", "50% off", "%REQ(X-A):few%"])
def test_a_format_that_would_lose_something_is_refused(kind, backends, workdir, line):
    server = backends()
    config = bootstrap(listener(hcm([route("/", "a")], access_log=[log_to(workdir / "log", **text(line))])), [cluster("a", server.port)])
    proxy = proxy_lib.start(kind, config, workdir, ready=False)
    assert proxy.process.wait(20) != 0
    if kind == "lateen":
        assert "access_log[0].log_format.text_format_source: at " in proxy.output(), proxy.output()


def test_a_path_that_cannot_be_opened_is_refused(kind, backends, workdir):
    server = backends()
    config = bootstrap(listener(hcm([route("/", "a")], access_log=[log_to(workdir / "none/log", **text("x\n"))])), [cluster("a", server.port)])
    proxy = proxy_lib.start(kind, config, workdir, ready=False)
    assert proxy.process.wait(20) != 0
    assert "none/log" in proxy.output()


@pytest.mark.parametrize("value", ["50% off", "%REQ(X-A)"])
def test_a_header_value_that_would_lose_something_is_refused(kind, backends, workdir, value):
    server = backends()
    entry = route("/", "a", request_headers_to_add=[{"header": {"key": "x-new", "value": value}}])
    proxy = proxy_lib.start(kind, bootstrap(listener(hcm([entry])), [cluster("a", server.port)]), workdir, ready=False)
    assert proxy.process.wait(20) != 0
    if kind == "lateen":
        assert "request_headers_to_add: at " in proxy.output(), proxy.output()


def test_a_long_header_value_is_whole(run_proxy, backends):
    server = backends()
    entry = route("/", "a", request_headers_to_add=[{"header": {"key": "x-copy", "value": "<%REQ(X-A)%>"}}])
    proxy = run_proxy(bootstrap(listener(hcm([entry])), [cluster("a", server.port)]))
    assert client.get(proxy.port, headers={"x-a": "a" * 20000}).status == 200
    assert server.requests[0].header("x-copy") == "<" + "a" * 20000 + ">"


def test_a_failure_is_told_whole(run_proxy, backends, workdir):
    """A reason as long as two SPIFFE names."""
    from lib import certs
    root, path = certs.Root(), workdir / "log"
    mine, theirs, wanted = (f"spiffe://cluster.local/ns/a-namespace-with-a-long-name/sa/{name}" for name in ("me", "them", "somebody-else-altogether"))
    inner = run_proxy(bootstrap(listener(chains=[{"filters": [hcm([route("/", "a")])], "transport_socket": certs.downstream(root.leaf(theirs), root)}]),
                                [cluster("a", backends().port)]))
    target = cluster("a", inner.port, transport_socket=certs.upstream(root.leaf(mine), root, [{"exact": wanted}]))
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")], access_log=[log_to(path, **text("%RESPONSE_CODE% %UPSTREAM_TRANSPORT_FAILURE_REASON%.\n"))])),
                                [target]))
    assert client.get(proxy.port).status == 503
    proxy.stop()
    line = wait_until(path.read_text, what="the line")
    assert line.startswith("503 ") and line.endswith(".\n"), line
    if proxy.kind == "lateen":
        assert theirs in line and wanted in line, line
