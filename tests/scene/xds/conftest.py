"""Control planes of these scenes."""
import pytest

from lib.xds import AdsServer


@pytest.fixture
def make_control():
    """make_control(...) is an AdsServer(...) that ends with the scene."""
    started = []

    def make(**options):
        started.append(AdsServer(**options))
        return started[-1]

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def control(make_control, request):
    """One, as the file's CONTROL says."""
    return make_control(**getattr(request.module, "CONTROL", {}))
