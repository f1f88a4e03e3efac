"""h2spec, the conformance tests of HTTP/2 and HPACK, all of them and strictly."""
import pathlib
import re
import shutil
import subprocess

import pytest

from lib.proxy import bootstrap, cluster, hcm, listener, route

# lateen_only: Envoy 1.40 fails a dozen
pytestmark = [pytest.mark.quick, pytest.mark.lateen_only]

TOOLS = pathlib.Path(__file__).resolve().parents[3] / "tools"


@pytest.fixture(scope="session")
def h2spec():
    built = subprocess.run([TOOLS / "h2spec.sh"], capture_output=True, text=True)
    if built.returncode != 0 and shutil.which("go") is None:
        pytest.skip(f"h2spec needs Go, or a way to its registry: {built.stderr[-500:]}")
    assert built.returncode == 0, built.stderr
    return built.stdout.strip()


@pytest.mark.parametrize("codec", ["AUTO", "HTTP2"])
def test_h2spec(run_proxy, backends, h2spec, codec):
    server = backends("a")
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")], codec_type=codec)), [cluster("a", server.port)]))
    run = subprocess.run([h2spec, "generic", "http2", "hpack", "--strict", "--host", "127.0.0.1", "--port", str(proxy.port),
                          "--timeout", "10"], capture_output=True, text=True, timeout=600)
    total, passed, skipped, failed = map(int, re.search(
        r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", run.stdout).groups())
    assert (total, passed, skipped, failed) == (146, 146, 0, 0), run.stdout[run.stdout.find("Failures:"):]
