"""Scenes of the whole mesh: lateend, sidecars and gateways, brought up by `lateen up`."""
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "up"))

import shop  # noqa: E402
from mesh_lib import LATEEN, Mesh  # noqa: E402


@pytest.fixture
def mesh(tmp_path):
    """Whatever a scene shows: nobody has refused what lateend sent, lateen-proxy or Envoy."""
    directory = tmp_path / "mesh"
    directory.mkdir()
    made = Mesh(directory, tmp_path / "mesh.log")
    yield made
    try:
        assert made.process is None or made.process.poll() is not None or not shop.refused(made)
    finally:
        made.end()
        subprocess.run([LATEEN, "down", str(directory)], capture_output=True, timeout=30)
