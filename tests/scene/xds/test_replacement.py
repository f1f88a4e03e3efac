"""A listener is replaced or removed while it serves: what is under way ends well, what is new gets the new one."""

from lib import client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import hcm, listener, route
from lib.xds import LDS, cluster_of_static, dynamic_bootstrap, with_type


def status(port, path="/"):
    try:
        return client.get(port, path).status
    except OSError:
        return None


def until(port, wanted):
    wait_until(lambda: status(port) == wanted, 15, f"{wanted} from {port}")


def answering(code):
    return {"match": {"path": "/"}, "direct_response": {"status": code}}


def at(port, *routes, **fields):
    return with_type(LDS, listener(hcm(list(routes), **fields), port=port))


def test_what_is_under_way_ends_well(run_proxy, backends, control):
    port = free_port()
    control.set(cluster_of_static("web", backends().port), at(port, answering(201), route("/delay", "web")))
    run_proxy(dynamic_bootstrap(control))
    until(port, 201)
    with client.Connection(port) as busy, client.Connection(port) as idle:
        idle.request(path="/")
        assert idle.response().status == 201
        busy.request(path="/delay/2")
        control.set(at(port, answering(202), stat_prefix="second"))
        until(port, 202)  # new connections
        assert busy.response().status == 200  # of the routes that are gone
        idle.request(path="/")
        try:
            assert idle.response().status == 201  # the connection keeps what it began with
        except (OSError, AttributeError, ValueError):
            pass  # or was closed while it was idle
    assert status(port, "/delay/0") == 404


def test_removed_and_come_back_elsewhere(run_proxy, backends, control):
    one, two = free_port(), free_port()
    control.set(cluster_of_static("web", backends().port), at(one, answering(201), route("/delay", "web")))
    proxy = run_proxy(dynamic_bootstrap(control))
    until(one, 201)
    with client.Connection(one) as busy:
        busy.request(path="/delay/1")
        wait_until(lambda: proxy.stats().get("cluster.web.upstream_rq_active") == 1)  # accepted, and not in a backlog that is closed
        control.remove(LDS, "main")
        until(one, None)
        assert busy.response().status == 200
    control.set(at(two, answering(203)))
    until(two, 203)
    assert status(one) is None


def test_another_address_for_the_same_name(run_proxy, control):
    one, two = free_port(), free_port()
    control.set(at(one, answering(201)))
    run_proxy(dynamic_bootstrap(control))
    until(one, 201)
    control.set(at(two, answering(202)))
    until(two, 202)
    until(one, None)


def test_the_address_of_one_that_goes(run_proxy, control):
    port = free_port()
    control.set(at(port, answering(201)))
    run_proxy(dynamic_bootstrap(control))
    until(port, 201)
    other = at(port, answering(204))
    other["name"] = "other"
    control.set(other, push=False)
    control.remove(LDS, "main", push=False)
    control.push(LDS, {"other"}, {"main"})  # both in one response
    until(port, 204)
    assert not control.streams[0].nacks(LDS)
