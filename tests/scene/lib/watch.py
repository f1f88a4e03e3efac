"""What a process holds, and counts that have come to rest."""
import pathlib
import time


def anonymous(pid):
    """Bytes of memory of its own, without files."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no smaps_rollup")


def descriptors(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def at_rest(count, quiet=0.5, within=30):
    """The value of count() once it has not changed for `quiet` seconds."""
    end = time.monotonic() + within
    value, since = count(), time.monotonic()
    while time.monotonic() - since < quiet:
        assert time.monotonic() < end, f"still moving after {within} s"
        time.sleep(0.02)
        if (now := count()) != value:
            value, since = now, time.monotonic()
    return value
