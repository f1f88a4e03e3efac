"""When access logs are written: at the beginning, again and again, at the end; of requests, of raw TCP, of listeners."""
import pytest

from lib import certs, client
from lib import proxy as proxy_lib
from lib.backend import free_port
from lib.client import wait_until
from lib.logs import log_to, text
from lib.proxy import FLUSH, bootstrap, cluster, hcm, listener, route, tcp_proxy, typed

pytestmark = pytest.mark.quick

LINE = ("%ACCESS_LOG_TYPE% c=%RESPONSE_CODE% f=%RESPONSE_FLAGS% d=%RESPONSE_CODE_DETAILS% t=%CONNECTION_TERMINATION_DETAILS% "
        "rx=%BYTES_RECEIVED% tx=%BYTES_SENT% cl=%UPSTREAM_CLUSTER% r=%ROUTE_NAME% p=%PROTOCOL% fc=%FILTER_CHAIN_NAME%\n")


@pytest.fixture
def log(workdir):
    path = workdir / "log"
    yield path


def lines(path, count):
    return wait_until(lambda: path.exists() and path.read_text().count("\n") >= count and path.read_text().splitlines(), what=f"{count} lines")


def lines_to(path, end):
    """All of them, when there is one that begins so."""
    return wait_until(lambda: path.exists() and any(line.startswith(end) for line in path.read_text().splitlines()) and path.read_text().splitlines(), what=end)


def over_http(log, **options):
    routes = [{"match": {"prefix": "/own"}, "direct_response": {"status": 200}}, route("/", "a", name="rt")]
    return hcm(routes, access_log=[log_to(log, **text(LINE))], **options)


def over_tcp(log, **options):
    return tcp_proxy("a", access_log=[log_to(log, **text(LINE))], access_log_options=options)


@pytest.mark.parametrize("options", [{"access_log_options": {"flush_access_log_on_new_request": True}}, {"flush_access_log_on_new_request": True}])
def test_at_the_start_of_requests(run_proxy, backends, log, options):
    """As options say it; or as it was said before there were options."""
    proxy = run_proxy(bootstrap(listener(over_http(log, **options)), [cluster("a", backends().port)]), extra=FLUSH)
    client.get(proxy.port, "/bytes/5")
    client.get(proxy.port, "/own")
    assert [line.strip() for line in lines(log, 4)] == [
        "DownstreamStart c=0 f=- d=- t=- rx=0 tx=0 cl=a r=rt p=HTTP/1.1 fc=-", "DownstreamEnd c=200 f=- d=via_upstream t=- rx=0 tx=5 cl=a r=rt p=HTTP/1.1 fc=-",
        "DownstreamStart c=0 f=- d=- t=- rx=0 tx=0 cl=- r=- p=HTTP/1.1 fc=-", "DownstreamEnd c=200 f=- d=direct_response t=- rx=0 tx=0 cl=- r=- p=HTTP/1.1 fc=-"]


def test_again_and_again_while_a_request_lasts(run_proxy, backends, log):
    proxy = run_proxy(bootstrap(listener(over_http(log, access_log_options={"access_log_flush_interval": "0.05s"})), [cluster("a", backends().port)]), extra=FLUSH)
    client.get(proxy.port, "/delay/0.2")
    *before, last = lines_to(log, "DownstreamEnd")
    assert before and all(line.startswith("DownstreamPeriodic c=0 f=- d=- t=- rx=0 tx=0 cl=a r=rt") for line in before) and last.startswith("DownstreamEnd c=200")


def test_when_a_tunnel_stands(run_proxy, backends, log):
    tunnel = route({"connect_matcher": {}}, {"cluster": "a", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]})
    manager = hcm([tunnel], access_log=[log_to(log, **text(LINE))], access_log_options={"flush_log_on_tunnel_successfully_established": True},
                  upgrade_configs=[{"upgrade_type": "CONNECT"}])
    proxy = run_proxy(bootstrap(listener(manager), [cluster("a", backends().port)]), extra=FLUSH)
    with client.Connection(proxy.port) as connection:
        connection.send("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n")
        assert lines(log, 1)[0].startswith("DownstreamTunnelSuccessfullyEstablished c=200 f=- d=via_upstream")


def test_of_raw_tcp(run_proxy, backends, log):
    server = backends()
    ports = [free_port(), free_port()]
    config = [listener(over_tcp(log, flush_access_log_on_connected=True), port=ports[0], name="one"),
              listener(over_tcp(log, access_log_flush_interval="0.05s"), port=ports[1], name="two")]
    run_proxy(bootstrap(config, [cluster("a", server.port)]), extra=FLUSH)
    assert client.get(ports[0], "/bytes/5", headers={"connection": "close"}).status == 200
    first, second = lines(log, 2)
    assert first.startswith("TcpUpstreamConnected c=0 f=- d=- t=- rx=0 tx=0 cl=a") and second.startswith("TcpConnectionEnd c=0 f=- d=- t=- rx=62 tx=")
    assert client.get(ports[1], "/delay/0.2", headers={"connection": "close"}).status == 200
    wait_until(lambda: log.read_text().count("TcpConnectionEnd") == 2, what="the second end")
    *before, last = log.read_text().splitlines()[2:]
    assert before and all(line.startswith("TcpPeriodic c=0 f=- d=- t=- rx=") for line in before) and last.startswith("TcpConnectionEnd")


@pytest.mark.parametrize("make", [over_http, lambda log, access_log_options: over_tcp(log, **access_log_options)], ids=["http", "tcp"])
def test_not_without_a_pause(kind, workdir, log, make):
    config = bootstrap(listener(make(log, access_log_options={"access_log_flush_interval": "0s"})), [cluster("a", 1)])
    proxy = proxy_lib.start(kind, config, workdir, ready=False)
    assert proxy.process.wait(20) != 0


def at_listener(run_proxy, backends, log, chain, ask, target=None, **fields):
    config = listener(chains=[{"name": "c1", **chain}], access_log=[log_to(log, **text(LINE))], **fields)
    proxy = run_proxy(bootstrap(config, [target or cluster("a", backends().port)]), extra=FLUSH)
    try:
        ask(proxy)
    except OSError:
        pass  # it was refused
    return lines(log, 1)[0].strip()


def two_requests(proxy):
    with client.Connection(proxy.port) as connection:
        connection.request(path="/bytes/50")
        assert connection.response().status == 200
        connection.request("POST", "/bytes/50", body=b"z" * 77)
        assert connection.response().status == 200


def test_of_listeners(run_proxy, backends, log):
    line = at_listener(run_proxy, backends, log, {"filters": [hcm([route("/", "a")])]}, two_requests)
    assert line == "NotSet c=0 f=- d=- t=- rx=186 tx=350 cl=- r=- p=HTTP/1.1 fc=c1"


def test_of_listeners_of_raw_tcp(run_proxy, backends, log):
    line = at_listener(run_proxy, backends, log, {"filters": [tcp_proxy("a")]}, two_requests)
    assert line.startswith("NotSet c=0 f=- d=- t=- rx=186 tx=") and line.endswith("cl=a r=- p=- fc=c1")


@pytest.mark.parametrize("chain, expected", [
    ({"filters": [tcp_proxy("gone")]}, "f=UF,URX d=- t=- rx=0 tx=0 cl=gone r=- p=- fc=c1"),
    ({"filters": [tcp_proxy("a")], "filter_chain_match": {"destination_port": 1}}, "f=NR d=filter_chain_not_found t=- rx=0 tx=0 cl=- r=- p=- fc=-")],
    ids=["no host", "no chain"])
def test_of_who_was_not_served(run_proxy, backends, log, chain, expected):
    target = cluster("gone" if "gone" in expected else "a", free_port())
    assert at_listener(run_proxy, backends, log, chain, lambda proxy: client.get(proxy.port), target) == "NotSet c=0 " + expected


def test_of_who_was_turned_away(run_proxy, backends, log):
    deny = {"action": "DENY", "policies": {"p1": {"permissions": [{"any": True}], "principals": [{"any": True}]}}}
    rbac = {"name": "rbac", "typed_config": typed("envoy.extensions.filters.network.rbac.v3.RBAC", stat_prefix="x", rules=deny)}
    line = at_listener(run_proxy, backends, log, {"filters": [rbac, tcp_proxy("a")]}, lambda proxy: client.get(proxy.port))
    assert line.startswith("NotSet c=0 f=- d=- t=rbac_access_denied_matched_policy[p1] rx=")


def test_why_a_handshake_failed(run_proxy, backends, workdir, log):
    root = certs.Root()
    chain = {"filters": [hcm([route("/", "a")])], "transport_socket": certs.downstream(root.leaf("spiffe://cluster.local/ns/a/sa/x"), root)}
    config = listener(chains=[chain], access_log=[log_to(log, **text("%DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n"))])
    proxy = run_proxy(bootstrap(config, [cluster("a", backends().port)]), extra=FLUSH)
    with pytest.raises(OSError):
        client.get(proxy.port, ssl_context=certs.client_context(workdir, root))
    assert "TLS_error:" in lines(log, 1)[0] and "PEER_DID_NOT_RETURN_A_CERTIFICATE" in lines(log, 1)[0]


@pytest.mark.parametrize("chain, ask, expected", [
    ({"filters": [hcm([route("/", "a")])]}, lambda c: c.send("GARBAGE\r\n\r\n"), "f=DPE"),
    ({"filters": [tcp_proxy("a", idle_timeout="0.1s")]}, lambda c: None, "f=-"),
    ({"filters": [tcp_proxy("a", max_downstream_connection_duration="0.1s")]}, lambda c: None, "f=DT")], ids=["no HTTP", "idle", "old"])
def test_flags_of_connections(run_proxy, backends, log, chain, ask, expected):
    def until_the_end(proxy):
        with client.Connection(proxy.port) as connection:
            ask(connection)
            connection.response()
    assert at_listener(run_proxy, backends, log, chain, until_the_end).startswith(f"NotSet c=0 {expected} d=-")
