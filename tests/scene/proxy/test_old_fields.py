"""Fields that Envoy still takes though newer ones replace them: configurations of years ago say them."""
import json
import subprocess

import pytest

from lib import client, h2
from lib.proxy import address, binary, bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick


def log_to(path, **fields):
    return {"name": "envoy.access_loggers.file", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(path), **fields)}


@pytest.mark.parametrize("fields, line", [
    ({"format": "%REQ(X-A)% %RESPONSE_CODE% old\n"}, "a 200 old\n"),
    ({"log_format": {"text_format": "%REQ(X-A)% %RESPONSE_CODE% text\n"}}, "a 200 text\n"),
    ({"json_format": {"z": "%RESPONSE_CODE%", "a": "%REQ(X-A)%", "b": "%REQ(X-B)%"}}, {"a": "a", "b": None, "z": 200}),
    ({"typed_json_format": {"code": "%RESPONSE_CODE%", "in": {"x": "<%REQ(X-A)%>"}}}, {"code": 200, "in": {"x": "<a>"}})])
def test_formats_of_access_logs(run_proxy, backends, workdir, fields, line):
    path = workdir / "log"
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")], access_log=[log_to(path, **fields)])), [cluster("a", backends().port)]))
    assert client.get(proxy.port, headers={"x-a": "a"}).status == 200
    proxy.stop()  # what is buffered is written
    assert path.read_text() == line if isinstance(line, str) else json.loads(path.read_text()) == line


def test_the_engine_of_regular_expressions(run_proxy, backends):
    old = {"safe_regex": {"google_re2": {"max_program_size": 100}, "regex": "/a+"}}
    proxy = run_proxy(bootstrap(listener(hcm([{"match": old, "route": {"cluster": "a"}}])), [cluster("a", backends().port)]))
    assert client.get(proxy.port, "/aa").status == 200
    assert client.get(proxy.port, "/b").status == 404


def test_the_protocol_of_the_client(run_proxy, backends):
    """A request of HTTP/2 goes on as HTTP/2, one of HTTP/1 as HTTP/1."""
    server = h2.Backend()
    old = {"protocol_selection": "USE_DOWNSTREAM_PROTOCOL", "http2_protocol_options": {}}
    proxy = run_proxy(bootstrap(listener(hcm([route("/one", "one"), route("/", "two")])),
                                [cluster("one", backends().port, **old), cluster("two", server.port, **old)]))
    assert client.get(proxy.port, "/one").status == 200
    assert h2.ask(proxy.port, "GET", "/two").status == 200
    server.close()


def test_what_is_taken_at_least(kind, workdir, backends):
    """Envoy takes these, too; some do nothing in lateen-proxy, which lists them."""
    old_route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 100}], "total_weight": 100},
                                                     "include_vh_rate_limits": True, "max_internal_redirects": 2, "cors": {"allow_methods": "GET"}}}
    manager = hcm([old_route], access_log_flush_interval="1s", http_filters=[])
    manager["typed_config"]["http_filters"][-1]["typed_config"]["start_child_span"] = True
    config = bootstrap(listener(manager), [cluster("a", backends().port, http_protocol_options={"use_balsa_parser": True},
                                                   dns_resolvers=[address(53)])])
    config |= {"admin": {"access_log_path": "/dev/null", "address": address(0)}, "watchdog": {"kill_timeout": "1s"}}
    path = workdir / "old.json"
    path.write_text(json.dumps(config))
    run = subprocess.run([*binary(kind), "--mode", "validate", "-c", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
