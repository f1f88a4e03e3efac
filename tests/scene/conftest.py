"""Fixtures of the scenes. A scene is one page: configuration, backend, client, expectations."""
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from lib import backend as backend_lib  # noqa: E402
from lib import proxy as proxy_lib  # noqa: E402


SANITIZER_REPORTS = os.environ.get("LATEEN_SANITIZER_REPORTS")  # a folder: our programs were built with one (make test-long)


def pytest_configure(config):
    config.addinivalue_line("markers", "no_sanitizer: measures memory or instructions of the program as users have it")
    config.addinivalue_line("markers", "quick: part of make check")
    config.addinivalue_line("markers", "slow: not part of make check, though its file is")
    config.addinivalue_line("markers", "long: only in make test-long")
    config.addinivalue_line("markers", "lateen_only: what Envoy does differently, with the reason in the scene")


@pytest.fixture
def workdir(tmp_path):
    return tmp_path


def pytest_generate_tests(metafunc):
    """The same scene on lateen-proxy and on a real Envoy, unless it says that they differ there."""
    if "kind" in metafunc.fixturenames:
        is_alone = any(mark.name == "lateen_only" for mark in metafunc.definition.iter_markers())
        metafunc.parametrize("kind", ["lateen"] if is_alone or SANITIZER_REPORTS else ["lateen", "envoy"], scope="module")


def pytest_collection_modifyitems(config, items):
    if SANITIZER_REPORTS:
        out = [item for item in items if item.get_closest_marker("no_sanitizer")]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture(autouse=True)
def no_reports():
    """What a sanitizer finds fails the scene at whose end it is there."""
    yield
    for path in pathlib.Path(SANITIZER_REPORTS).iterdir() if SANITIZER_REPORTS else ():
        text = path.read_text(errors="replace")
        path.rename(f"{path}.seen") if not path.name.endswith(".seen") else None
        assert path.name.endswith(".seen"), f"{path}\n{text[:6000]}"


@pytest.fixture
def backends():
    """make(name) starts an HTTP server that says what it saw; all end with the scene."""
    started = []

    def make(name="backend", **options):
        server = backend_lib.Backend(name, **options)
        started.append(server)
        return server

    yield make
    for server in started:
        server.close()


@pytest.fixture
def run_proxy(kind, workdir):
    """run(bootstrap) starts the proxy of this scene's kind and waits until it is ready."""
    started = []

    def run(bootstrap, **options):
        proxy = proxy_lib.start(kind, bootstrap, workdir, **options)
        started.append(proxy)
        return proxy

    yield run
    for proxy in started:
        proxy.stop()


@pytest.fixture(scope="module")
def run_shared(kind, tmp_path_factory):
    """As run_proxy, for a proxy that all scenes of a file may use: they leave it as they found it."""
    started = []

    def run(bootstrap, **options):
        proxy = proxy_lib.start(kind, bootstrap, tmp_path_factory.mktemp("shared"), **options)
        started.append(proxy)
        return proxy

    yield run
    for proxy in started:
        proxy.stop()


@pytest.fixture(scope="session")
def openssl():
    assert shutil.which("openssl"), "openssl is needed"
    return "openssl"
