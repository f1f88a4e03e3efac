"""The status port: the application's own metrics behind the proxy's."""
import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest

from lib import backend
from lib.client import wait_until
from lib.proxy import binary

pytestmark = pytest.mark.quick

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class Sidecar:
    """lateen-proxy as a sidecar that never hears of its control plane."""

    def __init__(self, workdir, annotations):
        status, admin, discovery, health, prometheus = (backend.free_port() for _ in range(5))
        self.port, self.log = status, workdir / "log"
        config = {"statusPort": status, "proxyAdminPort": admin, "discoveryAddress": f"127.0.0.1:{discovery}", "controlPlaneAuthPolicy": "NONE"}
        env = {"PATH": os.environ["PATH"], "POD_NAME": "p", "POD_NAMESPACE": "n", "INSTANCE_IP": "127.0.0.1", "SERVICE_ACCOUNT": "sa",
               "PROXY_CONFIG": json.dumps(config), "ENVOY_STATUS_PORT": str(health), "ENVOY_PROMETHEUS_PORT": str(prometheus),
               "ISTIO_PROMETHEUS_ANNOTATIONS": json.dumps(annotations)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*binary("lateen"), "proxy", "sidecar"], env=env, cwd=workdir, stdout=log, stderr=log)

    def get(self, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/stats/prometheus", headers={name.replace("_", "-"): value for name, value in headers.items()})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.headers["content-type"], reply.read().decode()

    def is_open(self):
        try:
            self.get()
            return True
        except (urllib.error.URLError, ConnectionError):
            assert self.process.poll() is None, self.log.read_text()
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def sidecar(workdir):
    started = []

    def start(annotations):
        started.append(Sidecar(workdir, annotations))
        wait_until(started[-1].is_open, within=60, what="the status port")
        return started[-1]

    yield start
    for one in started:
        one.stop()


def failures(text):
    lines = [line for line in text.splitlines() if line.startswith('istio_agent_scrape_failures_total{type="application"}')]
    return int(lines[0].split()[-1]) if lines else 0


@pytest.mark.parametrize("content_type, body, shown", [
    ("text/plain; version=0.0.4", b"# TYPE app counter\napp 5", PLAIN), ("application/openmetrics-text; version=0.0.1", b"app_total 5\n# EOF\n", OPEN)])
def test_both_are_told(sidecar, backends, content_type, body, shown):
    app = backends(behaviour=lambda request, _: (200, [("content-type", content_type)], body))
    proxy = sidecar({"scrape": "true", "path": "/own/metrics", "port": str(app.port)})
    kind, text = proxy.get(accept="application/openmetrics-text", user_agent="prometheus", x_prometheus_scrape_timeout_seconds="9.5", cookie="no")
    assert kind == shown and "istio_agent_scrapes_total" in text and text.endswith(body.decode().rstrip("\n") + "\n")
    asked = app.requests[-1]
    assert (asked.path, asked.header("accept"), asked.header("user-agent")) == ("/own/metrics", "application/openmetrics-text", "prometheus")
    assert asked.header("x-prometheus-scrape-timeout-seconds") == "9.5" and asked.header("cookie") is None
    assert failures(text) == 0


@pytest.mark.parametrize("status, content_type, body", [
    (500, "text/plain", b"app 5\n"), (200, "application/json", b"{}"), (200, "text/plain", b"x 1\n" * (5 << 20))], ids=["status", "type", "size"])
def test_what_the_application_spoils_is_its_own(sidecar, backends, status, content_type, body):
    app = backends(behaviour=lambda request, _: (status, [("content-type", content_type)], body))
    proxy = sidecar({"port": str(app.port)})
    kind, text = proxy.get()
    assert kind == PLAIN and "istio_agent_scrapes_total" in text and "x 1\n" not in text and "app 5" not in text
    assert failures(text) > 0 and app.requests[-1].path == "/metrics"


def test_nobody_there_or_nobody_asked(sidecar, backends):
    proxy = sidecar({"port": str(backend.free_port())})
    assert failures(proxy.get()[1]) > 0
    proxy.stop()
    app = backends()
    proxy = sidecar({"scrape": "false", "port": str(app.port)})
    assert "istio_agent_scrapes_total" in proxy.get()[1] and not app.requests


def test_a_slow_application_is_not_waited_for(sidecar, backends):
    import threading
    gate = threading.Event()
    app = backends(behaviour=lambda request, _: gate.wait(60) and None)
    proxy = sidecar({"port": str(app.port)}) if gate.set() is None else None
    gate.clear()
    before = failures(proxy.get(x_prometheus_scrape_timeout_seconds="0.2")[1])
    gate.set()
    assert before > 0


def test_it_does_not_ask_itself(workdir):
    env = {"PATH": os.environ["PATH"], "POD_NAME": "p", "POD_NAMESPACE": "n", "INSTANCE_IP": "127.0.0.1", "SERVICE_ACCOUNT": "sa",
           "ISTIO_PROMETHEUS_ANNOTATIONS": '{"port": "15020"}'}
    done = subprocess.run([*binary("lateen"), "proxy", "sidecar"], env=env, cwd=workdir, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "ISTIO_PROMETHEUS_ANNOTATIONS" in done.stderr + done.stdout
