"""What programs inside a mesh need of the tests' own Python packages: containers run the host's python3 as another user."""
import atexit
import functools
import importlib.util
import pathlib
import shutil
import stat
import tempfile

PYTHON = "/usr/bin/python3"
PACKAGES = ("grpc", "typing_extensions.py", "h2", "hpack", "hyperframe")


@functools.cache
def packages():
    """A PYTHONPATH with grpcio and h2 that any user may read: where the tree is closed to others, a copy for this run."""
    site = pathlib.Path(importlib.util.find_spec("grpc").origin).resolve().parents[1]
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in [site, *site.parents]):
        return str(site)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lateen-python-", dir="/var/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in PACKAGES:
        source = site / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            shutil.copy(source, folder / name)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return str(folder)
