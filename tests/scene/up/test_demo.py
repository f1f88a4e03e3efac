"""make demo: what a newcomer sees first, and that it says so when something is wrong."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from mesh_lib import LATEEN, free_port

TOP = pathlib.Path(__file__).parents[3]


@pytest.fixture
def demo(tmp_path):
    """run(change) runs the demo on a copy of the example, changed by change(directory), on a port of its own."""
    shop, port = tmp_path / "bookshop", free_port()
    shutil.copytree(TOP / "examples/bookshop", shop)
    gateway = shop / "gateway.yaml"
    gateway.write_text(gateway.read_text().replace("30080", str(port)))

    def run(change=lambda shop: None, keep=False):
        change(shop)
        env = dict(os.environ, SHOP=str(shop), PORT=str(port), KEEP="1" if keep else "")
        if keep:
            return subprocess.Popen([TOP / "tools/demo.sh"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                    start_new_session=True)
        return subprocess.run([TOP / "tools/demo.sh"], env=env, capture_output=True, text=True, timeout=120)

    yield run
    subprocess.run([LATEEN, "down", str(shop)], capture_output=True, timeout=30)


@pytest.mark.quick
def test_it_shows_what_a_mesh_does(demo):
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\033" not in done.stdout  # a file is no terminal
    assert re.search(r"ingressgateway-\S+ +10\.244\.\S+ +ready +\d\.\d MB +spiffe://cluster.local/ns/bookshop-ingress/sa/ingressgateway +gateway",
                     done.stdout), done.stdout
    assert re.search(r"bookshop +catalog-v1-\S+ +10\.244\.\S+ +ready +\d\.\d MB +spiffe://cluster.local/ns/bookshop/sa/catalog +stand-in",
                     done.stdout), done.stdout
    split = dict(re.findall(r"catalog (v\d) +(\d+)  #+\n", done.stdout.split("20 more")[0]))
    assert int(split["v1"]) + int(split["v2"]) == 1000 and 50 < int(split["v2"]) < 150, split
    assert "catalog saw spiffe://cluster.local/ns/bookshop/sa/storefront" in done.stdout
    assert re.search(r"legacy, without one, in plaintext: refused \(.+\)", done.stdout)
    assert re.search(r"catalog-v\d-\S+: istio_requests_total \d+, with", done.stdout)
    assert re.search(r"connection_security_policy +mutual_tls", done.stdout)
    assert re.search(r"catalog-v\d-\S+: listener\.0\.0\.0\.0_15006\.no_filter_chain_match [12]:", done.stdout)


def test_kept_it_stays_until_ctrl_c(demo):
    with demo(keep=True) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "catalog.yaml" in line:
                break
        told = next(line for line in said if "It stays up until Ctrl-C" in line)
        command = said[said.index(told) + 1].split()  # what a person is told to try works
        answer = subprocess.run(["curl", "-s", *(word for word in command[1:2]), " ".join(command[2:4]).strip("'"), command[4]],
                                capture_output=True, text=True, timeout=20).stdout
        assert json.loads(answer)["workload"] == "storefront", answer
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        assert process.wait(20) == 0


@pytest.mark.parametrize("file,old,new,reason", [
    ("mesh.yaml", "STRICT", "PERMISSIVE", "demo: legacy has no sidecar and was answered"),
    ("catalog.yaml", "exact: \"true\"", "exact: \"false\"", "demo: the header did not choose the canary"),
    ("gateway.yaml", "- catalog.bookshop.example", "", "demo: the gateway does not lead to the catalog"),
    ("storefront.yaml", "        app: storefront\n        version: v1\n", "        app: storefront\n        sidecar.istio.io/inject: \"false\"\n",
     "demo: storefront got no answer"),
])
def test_it_fails_with_the_reason(demo, file, old, new, reason):
    def change(shop):
        text = (shop / file).read_text()
        assert old in text
        (shop / file).write_text(text.replace(old, new, 1))

    done = demo(change)
    assert done.returncode == 1 and reason in done.stderr, done.stdout + done.stderr
    assert "what the mesh said last:" in done.stdout
