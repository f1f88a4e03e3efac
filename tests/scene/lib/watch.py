"""What a process holds, and counts that have come to rest."""
import os
import pathlib
import time


def anonymous(pid):
    """Bytes of memory of its own, without files. Under a sanitizer, whose memory they mostly are: none."""
    if "LATEEN_SANITIZER_REPORTS" in os.environ:
        return 0
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no smaps_rollup")


def resident(pid):
    """Bytes, those of files too. Under a sanitizer: none."""
    if "LATEEN_SANITIZER_REPORTS" in os.environ:
        return 0
    return next(int(line.split()[1]) << 10 for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))


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
