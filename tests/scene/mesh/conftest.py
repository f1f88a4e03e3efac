"""Scenes of the whole mesh: lateend, sidecars and gateway, brought up by `lateen up`."""
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "up"))

from mesh_lib import LATEEN, Mesh  # noqa: E402


@pytest.fixture
def mesh(tmp_path):
    directory = tmp_path / "mesh"
    directory.mkdir()
    made = Mesh(directory, tmp_path / "mesh.log")
    yield made
    made.end()
    subprocess.run([LATEEN, "down", str(directory)], capture_output=True, timeout=30)
