"""Response flags, in the order in which they came up, and the details beside them; limits of what hosts may answer."""
import pytest

from lib import client
from lib.backend import free_port
from lib.client import wait_until
from lib.logs import log_to, text
from lib.proxy import FLUSH, bootstrap, cluster, hcm, listener, route, typed

pytestmark = pytest.mark.quick

REFUSED = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"


def fault(**fields):
    return {"name": "envoy.filters.http.fault", "typed_config": typed("envoy.extensions.filters.http.fault.v3.HTTPFault", **fields)}


DELAY = fault(delay={"fixed_delay": "0.02s", "percentage": {"numerator": 100}})


def http_options(**common):
    return {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http_protocol_options": {}}, common_http_protocol_options=common)}}


class Logged:
    def __init__(self, run_proxy, workdir, to, target, **fields):
        self.path, self.lines = workdir / "log", 0
        line = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS%\n"
        self.proxy = run_proxy(bootstrap(listener(hcm([route("/", to)], access_log=[log_to(self.path, **text(line))], **fields)), [target]), extra=FLUSH)

    def line(self):
        self.lines += 1
        return wait_until(lambda: (self.path.read_text().splitlines()[self.lines - 1:] or [None])[0] if self.path.exists() else None, what="a line")

    def ask(self, path="/", **options):
        reply = client.get(self.proxy.port, path, **options)
        return reply.status, self.line()


def with_retries(count):
    return {"cluster": "a", "retry_policy": {"retry_on": "5xx", "num_retries": count, "retry_back_off": {"base_interval": "0.001s"}}}


@pytest.mark.parametrize("to, filters, flags, names", [
    ("a", [], "UF", "UpstreamConnectionFailure"),
    (with_retries(1), [], "URX,UF", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure"),
    (with_retries(0), [], "URX,UF", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure"),
    (with_retries(1), [DELAY], "DI,URX,UF", "DelayInjected,UpstreamRetryLimitExceeded,UpstreamConnectionFailure")])
def test_flags_stand_in_the_order_of_events(run_proxy, workdir, to, filters, flags, names):
    place = Logged(run_proxy, workdir, to, cluster("a", free_port()), http_filters=filters)
    assert place.ask() == (503, f"503 {flags} {names} {REFUSED}")


def test_a_client_that_leaves_a_delayed_request(run_proxy, backends, workdir):
    server = backends()
    place = Logged(run_proxy, workdir, "a", cluster("a", server.port), http_filters=[DELAY])
    with client.Connection(place.proxy.port) as connection:
        connection.request(path="/delay/30")
        wait_until(lambda: server.requests, what="the request")
    assert place.line() == "0 DI,DC DelayInjected,DownstreamConnectionTermination downstream_remote_disconnect"


@pytest.mark.parametrize("common, good, bad", [
    ({}, ["/many/90", "/large/60000"], ["/many/150", "/large/100000"]),
    ({"max_headers_count": 20}, ["/many/15", "/large/60000"], ["/many/30"]),
    ({"max_response_headers_kb": 10}, ["/many/90", "/large/9900"], ["/many/150", "/large/10300"]),
    ({"max_response_headers_kb": 200, "max_headers_count": 1000}, ["/many/900", "/large/190000"], ["/large/210000"])], ids=str)
def test_heads_of_hosts_have_limits(run_proxy, backends, workdir, common, good, bad):
    def behaviour(request, _):
        verb, count = request.path.strip("/").split("/")
        fields = [(f"x-{i}", "v") for i in range(int(count))] if verb == "many" else [("x-large", "v" * int(count))]
        return 200, fields, b"ok"
    place = Logged(run_proxy, workdir, "a", cluster("a", backends(behaviour=behaviour).port, **http_options(**common)))
    for path in good:
        assert place.ask(path) == (200, "200 - - via_upstream"), path
    for path in bad:
        assert place.ask(path) == (502, "502 UPE UpstreamProtocolError upstream_reset_before_response_started{protocol_error}"), path


@pytest.mark.parametrize("to, tries, flags", [("a", 1, "UMSDR UpstreamMaxStreamDurationReached"),
                                              (with_retries(2), 3, "URX,UMSDR UpstreamRetryLimitExceeded,UpstreamMaxStreamDurationReached")])
def test_a_try_ends_with_the_clusters_duration(run_proxy, backends, workdir, to, tries, flags):
    server = backends()
    place = Logged(run_proxy, workdir, to, cluster("a", server.port, **http_options(max_stream_duration="0.1s")))
    assert client.get(place.proxy.port).status == 200 and place.line() == "200 - - via_upstream"
    assert place.ask("/delay/30") == (504, f"504 {flags} upstream_max_stream_duration_reached")
    wait_until(lambda: len(server.requests) == 1 + tries, what="all tries")
    assert place.proxy.stats()["cluster.a.upstream_rq_max_duration_reached"] == tries
