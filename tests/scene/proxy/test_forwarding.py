"""Names and addresses that a connection manager tells or takes away: the host's port, x-forwarded-*, via, server, attempts."""
import json

import pytest

from lib import client
from lib.proxy import bootstrap, cluster, hcm, listener, route


def seen(proxy, headers=(), host="test.local", path="/"):
    """(what the backend saw, the response)"""
    response = client.get(proxy.port, path, headers=headers, host=host)
    assert response.status == 200, (response.status, response.body)
    shown = json.loads(response.body)
    return shown["headers"], response


def answering(*headers, statuses=(200,)):
    """What the backend saw, with these headers; one status after the other, the last one again and again."""
    left = list(statuses)

    def answer(request, connection):
        status = left.pop(0) if len(left) > 1 else left[0]
        return status, list(headers), json.dumps({"headers": {n.lower(): v for n, v in request.headers}}).encode()
    return answer


@pytest.fixture
def manager(run_proxy, backends):
    def run(answer=None, vhost=None, route_config=None, **fields):
        behind = backends("behind", behaviour=answer)
        vhosts = [{"name": "all", "domains": ["*"], "routes": [route("/", "c")], **(vhost or {})}]
        return run_proxy(bootstrap(listener(hcm(vhosts=vhosts, route_config=route_config or {}, **fields)), [cluster("c", behind.port)]))
    return run


HOSTS = ["shop.test", "shop.test:80", "shop.test.", "shop.test.:80", "10.0.0.1:8080", "[::1]", "[::1]:80", "shop.test:"]


@pytest.mark.parametrize("fields, expected", [
    ({}, HOSTS),
    ({"strip_any_host_port": True}, ["shop.test", "shop.test", "shop.test.", "shop.test.", "10.0.0.1", "[::1]", "[::1]", None]),
    ({"strip_matching_host_port": True}, HOSTS),
    ({"strip_trailing_host_dot": True}, ["shop.test", "shop.test:80", "shop.test", "shop.test:80", "10.0.0.1:8080", "[::1]", "[::1]:80", None]),
])
def test_host_as_it_goes_on(manager, fields, expected):
    proxy = manager(**fields)
    for host, wanted in zip(HOSTS, expected):
        response = client.get(proxy.port, host=host)
        got = json.loads(response.body)["headers"]["host"] if response.status == 200 else response.status
        if wanted is not None:
            assert got == wanted, host


def test_own_port_is_stripped_and_others_stay(manager):
    proxy = manager(strip_matching_host_port=True)
    assert seen(proxy, host=f"shop.test:{proxy.port}")[0]["host"] == "shop.test"
    assert seen(proxy, host=f"shop.test:{proxy.port + 1}")[0]["host"] == f"shop.test:{proxy.port + 1}"


@pytest.mark.parametrize("mode, answered, unanswered", [
    ("OVERWRITE", "edge", "edge"), ("APPEND_IF_ABSENT", "backend/1", "edge"), ("PASS_THROUGH", "backend/1", None)])
def test_server_header(manager, mode, answered, unanswered):
    proxy = manager(answering(("Server", "backend/1")), server_name="edge", server_header_transformation=mode)
    assert seen(proxy)[1].header("server") == answered
    proxy = manager(server_name="edge", server_header_transformation=mode)
    assert seen(proxy)[1].header("server") == unanswered


def test_server_header_of_its_own_answers(manager):
    for mode, wanted in (("OVERWRITE", "edge"), ("APPEND_IF_ABSENT", "edge"), ("PASS_THROUGH", None)):
        proxy = manager(vhost={"routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 418}}]}, server_name="edge",
                        server_header_transformation=mode)
        response = client.get(proxy.port)
        assert (response.status, response.header("server")) == (418, wanted), mode


def test_via_is_appended_both_ways(manager):
    proxy = manager(answering(("Via", "1.0 behind")), via="edge")
    headers, response = seen(proxy, headers={"Via": "1.1 before"})
    assert headers["via"] == "1.1 before, edge"
    assert response.header("via") == "1.0 behind, edge"
    assert seen(proxy)[0]["via"] == "edge"


def test_forwarded_port_and_addresses(manager):
    told = manager(use_remote_address=True, append_x_forwarded_port=True)
    headers, _ = seen(told, headers={"X-Forwarded-Port": "1", "X-Forwarded-For": "1.2.3.4"})
    assert headers["x-forwarded-port"] == str(told.port)
    assert headers["x-forwarded-for"].startswith("1.2.3.4,")  # Envoy puts an address of its machine for a client on loopback
    trusting = manager(use_remote_address=True, append_x_forwarded_port=True, xff_num_trusted_hops=1)
    assert seen(trusting, headers={"X-Forwarded-Port": "8443"})[0]["x-forwarded-port"] == "8443"
    assert seen(trusting)[0]["x-forwarded-port"] == str(trusting.port)
    inside = manager(use_remote_address=False, append_x_forwarded_port=True)
    assert seen(inside)[0]["x-forwarded-port"] == str(inside.port)
    assert seen(inside, headers={"X-Forwarded-Port": "8443"})[0]["x-forwarded-port"] == "8443"
    kept = manager(use_remote_address=True, skip_xff_append=True)
    assert seen(kept, headers={"X-Forwarded-For": "1.2.3.4"})[0]["x-forwarded-for"] == "1.2.3.4"
    assert "x-forwarded-for" not in seen(kept)[0]


# lateen_only: for a client on loopback Envoy writes an address of its machine, which it does not map
@pytest.mark.lateen_only
def test_ipv4_as_ipv6(manager):
    proxy = manager(use_remote_address=True, represent_ipv4_remote_address_as_ipv4_mapped_ipv6=True)
    assert seen(proxy)[0]["x-forwarded-for"] == "::ffff:127.0.0.1"


@pytest.mark.parametrize("hops", [0, 1])
def test_forwarded_proto_of_a_trusted_proxy_stays(manager, hops):
    proxy = manager(use_remote_address=True, xff_num_trusted_hops=hops)
    assert seen(proxy, headers={"X-Forwarded-Proto": "https"})[0]["x-forwarded-proto"] == ("https" if hops else "http")
    assert seen(proxy)[0]["x-forwarded-proto"] == "http"


def test_headers_that_only_insiders_may_send(manager):
    proxy = manager(route_config={"internal_only_headers": ["x-inside", "x-debug"]})
    headers, _ = seen(proxy, headers={"X-Inside": "1", "x-debug": "2", "x-other": "3"})
    assert "x-inside" not in headers and "x-debug" not in headers and headers["x-other"] == "3"


def test_attempts_are_told(manager):
    retries = {"retry_on": "5xx", "num_retries": 2}
    proxy = manager(answering(statuses=[503, 200]), vhost={
        "include_request_attempt_count": True, "include_attempt_count_in_response": True, "include_is_timeout_retry_header": True,
        "routes": [route("/", {"cluster": "c", "retry_policy": retries})]})
    headers, response = seen(proxy)
    assert headers["x-envoy-attempt-count"] == response.header("x-envoy-attempt-count") == "2"
    assert headers["x-envoy-is-timeout-retry"] == "false"


@pytest.mark.parametrize("fields, what", [
    ({"strip_any_host_port": True, "strip_matching_host_port": True}, "strip"),
    ({"scheme_header_transformation": {"scheme_to_overwrite": "ftp"}}, "scheme_to_overwrite"),
])
def test_what_contradicts_itself_is_refused(kind, workdir, fields, what):
    from lib import proxy as p
    config = bootstrap(listener(hcm([route("/", "c")], **fields)), [cluster("c", 1)])
    started = p.start(kind, config, workdir, ready=False)
    assert started.process.wait(20) != 0
    assert what in started.output().lower() or "SchemeToOverwrite" in started.output()


def test_scheme_as_the_manager_says(manager):
    there = [{"match": {"prefix": "/"}, "redirect": {"path_redirect": "/there"}}]
    plain = manager(vhost={"routes": there})
    assert client.get(plain.port).header("location") == "http://test.local/there"
    proxy = manager(vhost={"routes": there}, scheme_header_transformation={"scheme_to_overwrite": "https"})
    assert client.get(proxy.port).header("location") == "https://test.local/there"
