"""Scenes of lateend by itself."""
import pytest

from lib.identity import Issuer
from lib.lateend import Lateend


@pytest.fixture
def issuer():
    """Whose tokens lateend believes, when it is told so."""
    return Issuer()


@pytest.fixture
def lateend(workdir):
    """lateend(name, VARIABLE=value ...) starts one; all end with the scene."""
    started = []

    def start(name="lateend", **env):
        one = Lateend(workdir, name, **env)
        started.append(one)
        return one.start()

    yield start
    for one in started:
        one.stop()
