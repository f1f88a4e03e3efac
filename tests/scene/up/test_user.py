"""lateen up as an ordinary user: with a line in /etc/subuid, and the message without one."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import pytest

from lib import client
from lib.backend import claim
from lib.proxy import envoy_program
from mesh_lib import BUILD, deployment, free_port, gateway, service, wait_until

UID = next(uid for uid in range(12345, 13345) if claim(f"uid-{uid}"))  # nobody else's meshes run as this one
FIRST = 231072  # ids before that are others'
started = []  # of one scene
AS_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env", "-u", "XDG_RUNTIME_DIR"]


@pytest.fixture
def place():
    """A directory that the user can reach, with the programs in it; and account files with that user, for a mount namespace."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    started.clear()
    top = pathlib.Path(tempfile.mkdtemp(prefix="lateen-user-", dir="/tmp"))
    top.chmod(0o755)
    for name in ("lateen", "lateend", "lateen-proxy"):
        shutil.copy(BUILD / name, top / name)
    (top / "mesh").mkdir()
    (top / "mesh" / "a.yaml").write_text(deployment("web") + service("web") + deployment("client", ["sleep", "1000"], port=0))
    (top / "passwd").write_text(pathlib.Path("/etc/passwd").read_text() + f"anna:x:{UID}:{UID}::/tmp:/bin/sh\n")
    (top / "none").write_text(f"bob:100000:{FIRST - 100000}\n")
    (top / "etc").mkdir()
    (top / "subids").write_text("anna:100000:65536\n")
    yield top
    for process in started:
        process.kill()
        process.communicate()
    subprocess.run([*AS_USER, str(top / "lateen"), "down", str(top / "mesh")], capture_output=True, timeout=30)
    shutil.rmtree(top)
    shutil.rmtree(f"/tmp/lateen-{UID}", ignore_errors=True)


def up(place, subids):
    """`lateen up` in a mount namespace where the account files are those of `place`."""
    script = (f"mount --bind {place}/passwd /etc/passwd && mount --bind {place}/{subids} /etc/subuid && "
              f"mount --bind {place}/{subids} /etc/subgid && exec \"$@\"")
    started.append(subprocess.Popen(["unshare", "--mount", "sh", "-c", script, "sh", *AS_USER, str(place / "lateen"), "up",
                                     str(place / "mesh")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    return started[-1]


def test_without_a_line_the_command_that_adds_one(place):
    process = up(place, "none")
    message = process.communicate(timeout=10)[1]
    assert process.returncode == 1
    command = f"usermod --add-subuids {FIRST}-{FIRST + 65535} --add-subgids {FIRST}-{FIRST + 65535} anna"
    assert "/etc/subuid has no line" in message and f"sudo {command}\n" in message, message
    # and that command is all it takes; in an /etc of its own, which usermod may write
    script = (f"mount -t tmpfs none {place}/etc && cp -a /etc/. {place}/etc && cp {place}/passwd {place}/etc/passwd && "
              f"cp {place}/none {place}/etc/subuid && cp {place}/none {place}/etc/subgid && "
              f"mount --bind {place}/etc /etc && {command} && exec \"$@\"")
    process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script, "sh", *AS_USER, str(place / "lateen"), "up", str(place / "mesh")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    told = []
    for line in process.stderr:
        told.append(line)
        if "the mesh is up" in line:
            break
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0 and "the mesh is up" in told[-1], told


def test_a_port_of_roots_is_refused_with_what_to_do(place):
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first == 0:
        pytest.skip("every port is anybody's here")
    web = service("web", extra="type: NodePort").replace("targetPort: http", f"targetPort: http, nodePort: {first - 1}")
    (place / "mesh" / "a.yaml").write_text(web)
    process = up(place, "subids")
    message = process.communicate(timeout=10)[1]
    assert process.returncode == 1
    assert f"Service default/web: nodePort {first - 1}: ports below {first} are root's on this machine; name one from {first} on" in message


def test_a_mesh_of_ones_own(place):
    """With sidecars of both kinds: a real Envoy runs as another user of the same range."""
    envoy = json.dumps({"proxy.istio.io/config": json.dumps({"binaryPath": envoy_program()})})[1:-1]
    injected = '"sidecar.istio.io/inject": "true"'
    (place / "mesh" / "b.yaml").write_text(deployment("in", labels=injected) + service("in") +
                                           deployment("envoy", ["sleep", "1000"], port=0, labels=injected, annotations=envoy))

    def lateen(*arguments, check=True):
        done = subprocess.run([*AS_USER, str(place / "lateen"), *arguments], capture_output=True, text=True, timeout=20)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    port = free_port()
    (place / "mesh" / "gateway.yaml").write_text(gateway(port))
    process = up(place, "subids")
    wait_until(lambda: "web" in lateen("workloads", check=False), 10, "the mesh")
    lateen("workloads", "--wait", "--timeout", "30")
    assert '"workload":"web"' in lateen("curl", "client", "http://web/")
    peer = '"peer":"spiffe://cluster.local/ns/default/sa/default"'
    wait_until(lambda: peer in lateen("curl", "envoy", "http://in/", check=False), 10, "the answer")
    assert lateen("exec", "client", "--", "id", "-u") == "10001\n"
    # its gateway has the host's port, too
    wait_until(lambda: client.get(port).status == 200, 10, "the route")
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=("127.0.0.77", 0)) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n")
        assert b'"x-forwarded-for":"127.0.0.77"' in b"".join(iter(lambda: s.recv(65536), b""))
    ids = lateen("exec", "client", "--", "cat", "/proc/self/uid_map").split()
    assert ids == ["0", str(UID), "1", "1", "100000", "65535"]
    lateen("down")
    assert process.wait(10) == 0
    # and what is killed is cleared by the next, which says so
    process = up(place, "subids")
    wait_until(lambda: "web" in lateen("workloads", check=False), 10, "the mesh")
    process.kill()
    wait_until(lambda: "what one left that was killed is cleared" in lateen("down", check=False), 10, "its end")
    gone = subprocess.run([*AS_USER, str(place / "lateen"), "down"], capture_output=True, text=True, timeout=20)
    assert gone.returncode == 1 and "no mesh runs" in gone.stderr
    assert os.listdir(f"/tmp/lateen-{UID}") == []
