"""Fixtures of the scenes of `lateen up`."""
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from mesh_lib import LATEEN, Mesh  # noqa: E402


@pytest.fixture
def make_mesh(tmp_path):
    """make(name) gives a mesh with an empty directory; all end with the scene."""
    made = []

    def make(name="mesh"):
        directory = tmp_path / name
        directory.mkdir()
        made.append(Mesh(directory, tmp_path / f"{name}.log"))
        return made[-1]

    yield make
    for mesh in made:
        mesh.end()
    for mesh in made:
        subprocess.run([LATEEN, "down", str(mesh.dir)], capture_output=True, timeout=30)


@pytest.fixture
def mesh(make_mesh):
    return make_mesh()
