"""The last good resources: a proxy that was killed while its control plane is away serves as before."""
import os
import signal

import pytest

from lib import client, proxy
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import hcm, listener, route, typed
from lib.xds import (CDS, LDS, VHDS, ads_source, assignment, cluster_of_static, dynamic_bootstrap, eds_cluster, rds_hcm, routes,
                     with_type)

API_TYPES = ["GRPC", "DELTA_GRPC"]
pytestmark = pytest.mark.lateen_only  # Envoy keeps nothing


@pytest.fixture
def run(run_proxy, workdir, monkeypatch):
    (workdir / "state").mkdir()
    monkeypatch.setenv("LATEEN_PROXY_STATE_DIR", str(workdir / "state"))
    return run_proxy


def answers(port):
    try:
        return client.get(port, "/").status
    except OSError:
        return None


def until_answers(port, status):
    wait_until(lambda: answers(port) == status, 15, f"{status} from {port}")


def answering(port, status, name="main"):
    return with_type(LDS, listener(hcm([{"match": {"prefix": "/"}, "direct_response": {"status": status}}]), port=port, name=name))


def kill(running):
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(10)


def everything(control, backend, port):
    control.set(eds_cluster("web"), assignment("web", backend.port), routes("r", route("/", "web")),
                with_type(LDS, listener(rds_hcm("r"), port=port)))


@pytest.mark.parametrize("api_type", API_TYPES)
def test_killed_and_started_again(kind, run, control, backends, api_type):
    port, gone = free_port(), free_port()
    everything(control, backends(), port)
    control.set(answering(gone, 201, "gone"), eds_cluster("old"), assignment("old", 1))
    config = dynamic_bootstrap(control, api_type)
    first = run(config)
    until_answers(port, 200)
    control.remove(LDS, "gone")  # what went before the end does not come back
    control.remove(CDS, "old")
    until_answers(gone, None)
    wait_until(lambda: "old::" not in first.admin_get("/clusters").body.decode(), 10, "the cluster goes")
    control.stop()
    kill(first)
    second = run(config)  # ready: with nobody there who could tell it anything
    assert answers(port) == 200 and answers(gone) is None
    assert "old::" not in second.admin_get("/clusters").body.decode()
    assert second.stats()["control_plane.connected_state"] == 0
    control.start()
    control.set(routes("r", {"match": {"prefix": "/"}, "direct_response": {"status": 418}}))
    until_answers(port, 418)


def test_what_is_held_is_said_to_the_control_plane(kind, run, control, backends):
    port, other = free_port(), free_port()
    everything(control, backends(), port)
    control.set(answering(other, 201, "other"))
    config = dynamic_bootstrap(control)
    first = run(config)
    until_answers(other, 201)
    versions = {name: version for name, (version, _) in control.resources[LDS].items()}
    kill(first)
    control.remove(LDS, "other", push=False)
    before = len(control.streams)
    run(config)
    stream = control.stream(number=before)
    until_answers(other, None)
    asked = stream.of(LDS)[0]
    assert dict(asked.initial_resource_versions) == versions
    assert answers(port) == 200


@pytest.mark.parametrize("damage", ["torn", "spoilt", "other"])
def test_a_damaged_file_is_no_danger(kind, run, workdir, control, backends, damage):
    port = free_port()
    everything(control, backends(), port)
    config = dynamic_bootstrap(control)
    first = run(config)
    until_answers(port, 200)
    wait_until(lambda: (workdir / "state/resources").exists(), 10, "the file")
    control.stop()
    kill(first)
    path = workdir / "state/resources"
    data = bytearray(path.read_bytes())
    assert path.stat().st_mode & 0o077 == 0
    if damage == "torn":
        path.write_bytes(data[:-7])
    elif damage == "spoilt":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        config["node"] = {"id": "somebody-else", "cluster": "scene"}
    second = run(config, ready=False)
    wait_until(lambda: answers(second.admin) is not None, 10, "the admin port")
    assert answers(port) in ((None, 200) if damage != "other" else (None,))
    if damage != "other":
        assert "spoilt" in second.output()
    control.start()
    until_answers(port, 200)
    proxy.wait_ready(second)


def test_the_file_does_not_grow_without_end(kind, run, workdir, control, backends):
    port = free_port()
    everything(control, backends(), port)
    first = run(dynamic_bootstrap(control))
    until_answers(port, 200)
    padding = "x" * 200_000
    for number in range(30):
        status = 400 + number
        control.set(routes("r", {"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": "x"}},
                                 "metadata": {"filter_metadata": {"pad": {"text": padding}}}}))
        until_answers(port, status)
    assert (workdir / "state/resources").stat().st_size < 3_000_000
    control.stop()
    kill(first)
    run(dynamic_bootstrap(control))
    assert answers(port) == 429


def test_what_came_on_demand_is_kept(kind, run, control, backends, workdir):
    port = free_port()
    filters = [{"name": "on_demand", "typed_config": typed("envoy.extensions.filters.http.on_demand.v3.OnDemand",
                                                           odcds={"source": ads_source()})}]
    control.set(with_type(LDS, listener(rds_hcm("r", http_filters=filters), port=port)),
                routes("r", vhosts=[], vhds={"config_source": ads_source(initial_fetch_timeout="5s")}))
    control.set(cluster_of_static("web", backends("web").port), push=False)
    control.set({"@type": VHDS, "name": "r/shop", "domains": ["shop.example"], "routes": [route("/", "web")]}, aliases=["r/shop.example"],
                push=False)
    bootstrap = dynamic_bootstrap(control)
    del bootstrap["dynamic_resources"]["cds_config"]
    running = run(bootstrap)
    assert client.get(port, "/", host="shop.example").header("x-backend") == "web"
    wait_until(lambda: b"shop.example" in b"".join(path.read_bytes() for path in (workdir / "state").rglob("*") if path.is_file()), 10,
               "it is kept")
    kill(running)
    control.stop()
    run(bootstrap)
    assert client.get(port, "/", host="shop.example").header("x-backend") == "web"
    control.set(cluster_of_static("web", backends("another").port), push=False)
    control.set({"@type": VHDS, "name": "r/shop", "domains": ["shop.example"], "routes": [route("/", "web")], "require_tls": "NONE"},
                aliases=["r/shop.example"], push=False)
    control.start()
    wait_until(lambda: client.get(port, "/", host="shop.example").header("x-backend") == "another", 20, "clusters are asked for again")
    stream = control.open_streams()[0]
    assert "r/shop" in stream.names(VHDS) and "web" in stream.names(CDS)
