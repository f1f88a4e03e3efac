"""gRPC by its own library on both ends: all four kinds of calls, ends of all kinds, through one proxy and two."""
import threading
import time
from concurrent import futures

import grpc
import pytest

from lib import certs, client, h2
from lib.backend import free_port
from lib.proxy import FLUSH, access_log, bootstrap, cluster, hcm, listener, route

pytestmark = pytest.mark.quick

SERVICE = "scene.Service"
LARGE = 9 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]


class Server:
    """Methods by name; what they saw is in `seen`, what clients gave up is in `cancelled`."""

    def __init__(self, port=0):
        self.seen, self.cancelled, self.go_on = [], threading.Event(), threading.Event()
        handlers = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Join": grpc.stream_unary_rpc_method_handler(lambda requests, context: b"".join(requests)),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Half": grpc.unary_stream_rpc_method_handler(self.half),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
        }
        self.server = grpc.server(futures.ThreadPoolExecutor(32), options=OPTIONS)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def echo(self, request, context):
        self.seen.append((dict(context.invocation_metadata()), context.time_remaining()))
        context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"), ("x-bytes-bin", b"\0\1\2")))
        return request

    def count(self, request, context):
        for i in range(int(request)):
            yield str(i).encode()
            if not self.go_on.wait(10):  # the next goes only when the client has seen this one
                return
            self.go_on.clear()

    def chat(self, requests, context):
        for request in requests:
            yield request.upper()

    def fail(self, request, context):
        context.set_trailing_metadata((("x-why", "so"),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "50% of ünder\nall")

    def half(self, request, context):
        yield b"one"
        context.abort(grpc.StatusCode.DATA_LOSS, "no more")

    def sleep(self, request, context):
        over = threading.Event()
        context.add_callback(lambda: (self.cancelled.set(), over.set()))
        over.wait(float(request))
        return b"slept"

    def close(self):
        self.server.stop(0)


class Caller:
    def __init__(self, port, credentials=None):
        target, options = f"127.0.0.1:{port}", [*OPTIONS, ("grpc.default_authority", "service.local")]
        self.channel = (grpc.secure_channel(target, credentials, options) if credentials
                        else grpc.insecure_channel(target, options))

    def unary(self, method, request=b"", service=SERVICE, **options):
        options.setdefault("timeout", 20)
        return self.channel.unary_unary(f"/{service}/{method}").with_call(request, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()


def sidecars(run, server, mesh=None):
    """One proxy, or with a mesh two with mTLS between them; the port for clients."""
    inner = run(bootstrap(
        listener(chains=[{"filters": [hcm([route("/", {"cluster": "a", "timeout": "0s"})])],
                          **({"transport_socket": inbound(mesh)} if mesh else {})}]),
        [cluster("a", server.port, **h2.explicit())]))
    if mesh is None:
        return inner.port
    socket = certs.upstream(mesh["leaf"], mesh["root"])
    socket["typed_config"]["common_tls_context"]["alpn_protocols"] = ["istio", "h2"]
    return run(bootstrap(listener(hcm([route("/", {"cluster": "b", "timeout": "0s"})])),
                         [cluster("b", inner.port, transport_socket=socket, **h2.explicit())])).port


def inbound(mesh):
    socket = certs.downstream(mesh["leaf"], mesh["root"])
    socket["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2", "http/1.1"]
    return socket


@pytest.fixture(scope="module", params=[1, 2], ids=["one proxy", "two with mTLS"])
def world(request, run_shared):
    root = certs.Root()
    mesh = {"root": root, "leaf": root.leaf("spiffe://cluster.local/ns/a/sa/a")}

    class World:
        server = Server()

    World.port = sidecars(run_shared, World.server, mesh if request.param == 2 else None)
    yield World
    World.server.close()


@pytest.fixture
def caller(world):
    with Caller(world.port) as made:
        yield made


def test_unary(world, caller):
    # not 20 s: the library writes that as 20.1 more often than not, and the server believes it
    answer, call = caller.unary("Echo", b"hello", metadata=(("x-own", "v"), ("x-raw-bin", b"\xff\0")), timeout=19.5)
    assert answer == b"hello" and call.code() == grpc.StatusCode.OK
    seen, remaining = world.server.seen[-1]
    assert seen["x-own"] == "v" and seen["x-raw-bin"] == b"\xff\0" and 0 < remaining <= 20
    assert dict(call.initial_metadata())["x-first"] == "1"
    assert dict(call.trailing_metadata())["x-last"] == "2" and dict(call.trailing_metadata())["x-bytes-bin"] == b"\0\1\2"


@pytest.mark.parametrize("size", [0, 1, 16384, LARGE])
def test_sizes(caller, size):
    message = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    assert caller.unary("Echo", message)[0] == message


def test_client_streaming(caller):
    parts = [str(i).encode() * 100 for i in range(500)]
    assert caller.channel.stream_unary(f"/{SERVICE}/Join")(iter(parts), timeout=20) == b"".join(parts)


def test_server_streaming_is_not_held_back(world, caller):
    """Each message must come through before the server makes the next."""
    got = []
    for message in caller.channel.unary_stream(f"/{SERVICE}/Count")(b"20", timeout=20):
        got.append(message)
        world.server.go_on.set()
    assert got == [str(i).encode() for i in range(20)]


def test_both_ways_is_not_held_back(caller):
    """Each answer must come back before the client says the next; the stream stays open all the while."""
    turn, answers = threading.Semaphore(1), []

    def say():
        for i in range(30):
            assert turn.acquire(timeout=10)
            yield b"word %d" % i

    for answer in caller.channel.stream_stream(f"/{SERVICE}/Chat")(say(), timeout=20):
        answers.append(answer)
        turn.release()
    assert answers == [b"WORD %d" % i for i in range(30)]


def test_many_at_once(caller):
    calls = [caller.channel.unary_unary(f"/{SERVICE}/Echo").future(b"%d" % i, timeout=30) for i in range(300)]
    assert [call.result() for call in calls] == [b"%d" % i for i in range(300)]


@pytest.mark.parametrize("method, got, code", [("Fail", [], "RESOURCE_EXHAUSTED"), ("Half", [b"one"], "DATA_LOSS")])
def test_status_and_message(caller, method, got, code):
    """Alone in the first headers (trailers-only), and behind messages."""
    call = caller.channel.unary_stream(f"/{SERVICE}/{method}")(b"", timeout=20)
    seen = []
    with pytest.raises(grpc.RpcError):
        for message in call:
            seen.append(message)
    assert seen == got and call.code() == getattr(grpc.StatusCode, code)
    assert call.details() == ("50% of ünder\nall" if method == "Fail" else "no more")
    if method == "Fail":
        assert dict(call.trailing_metadata())["x-why"] == "so"


def test_unknown_method(caller):
    with pytest.raises(grpc.RpcError) as error:
        caller.unary("Nothing")
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_deadline(world, caller):
    world.server.cancelled.clear()
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as error:
        caller.unary("Sleep", b"15", timeout=0.5)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - started < 10
    assert world.server.cancelled.wait(10)


def test_cancellation_reaches_the_server(world, caller):
    world.server.cancelled.clear()
    call = caller.channel.unary_unary(f"/{SERVICE}/Sleep").future(b"15", timeout=20)
    time.sleep(0.3)
    call.cancel()
    assert world.server.cancelled.wait(10)
    assert caller.unary("Echo", b"after")[0] == b"after"


# --- what the proxy says by itself ---

STATUSES = {"/none": (404, "UNIMPLEMENTED"), "/no-cluster": (503, "UNAVAILABLE"), "/no-host": (503, "UNAVAILABLE"),
            "/refused": (503, "UNAVAILABLE"), "/late": (504, "UNAVAILABLE"), "/reset": (503, "UNAVAILABLE"),
            **{f"/direct/{code}": (code, status) for code, status in {
                400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED", 429: "UNAVAILABLE",
                500: "UNKNOWN", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE", 418: "UNKNOWN"}.items()}}


@pytest.fixture(scope="module")
def failing(run_shared, tmp_path_factory):
    class World:
        log = tmp_path_factory.mktemp("log") / "access.log"
        server = h2.Backend("a", behaviour=lambda stream: stream.cancel(2) or True if "reset" in stream.header(":path")
                            else stream.header(":path").startswith("/late"))
        routes = [route(f"/direct/{code}", None, direct_response={"status": code, "body": {"inline_string": f"said {code}"}})
                  for code in (400, 401, 403, 404, 429, 500, 502, 503, 504, 418)]
        routes += [route("/no-cluster", "nothing"), route("/no-host", "empty"), route("/refused", "refused"), route("/reset", "a"),
                   route("/late", {"cluster": "a", "timeout": "0.3s"})]

    World.port = run_shared(bootstrap(
        listener(hcm(World.routes, access_log=access_log(World.log, "%REQ(:PATH)% %RESPONSE_CODE% %GRPC_STATUS% %RESPONSE_FLAGS%"),
                     route_config={"validate_clusters": False})),
        [cluster("a", World.server.port, **h2.explicit()), cluster("empty"), cluster("refused", free_port(), **h2.explicit())]),
        extra=FLUSH).port
    yield World
    World.server.close()


@pytest.mark.parametrize("path", STATUSES)
def test_replies_of_the_proxy(failing, path):
    """gRPC's status instead of the code of HTTP; the words go along."""
    code, status = STATUSES[path]
    with Caller(failing.port) as caller:
        with pytest.raises(grpc.RpcError) as error:
            caller.unary("Method", service=path.strip("/"))
    assert error.value.code() == getattr(grpc.StatusCode, status)
    if path.startswith("/direct/"):
        assert error.value.details() == f"said {code}"
    elif path == "/reset":
        assert error.value.details().endswith("reset reason: remote reset")
    plain = h2.ask(failing.port, "POST", path, body=b"")
    assert plain.status == code and plain.header("grpc-status") is None


def test_http_errors_of_the_host_stay_as_they_are(run_proxy):
    server = h2.Backend("a", behaviour=lambda stream: stream.send_headers([(":status", "403")], end=True) or True)
    proxy = run_proxy(bootstrap(listener(hcm([route("/", "a")])), [cluster("a", server.port, **h2.explicit())]))
    stream = h2.ask(proxy.port, "POST", headers=[("content-type", "application/grpc"), ("te", "trailers")], body=b"")
    assert (stream.status, stream.header("grpc-status")) == (403, None)
    server.close()


def test_retries_by_status(run_proxy):
    """Trailers-only UNAVAILABLE is tried again; behind a message it is too late."""
    asked = []

    def behaviour(stream):
        stream.wait(lambda s: s.ended)
        asked.append(stream.header(":path"))
        if stream.header(":path") == "/late":
            stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
            stream.send(b"\0\0\0\0\1x")
            stream.send_headers([("grpc-status", "14")], end=True)
        else:
            status = "14" if len(asked) == 1 else "0"
            stream.send_headers([(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)], end=True)
        return True

    server = h2.Backend("a", behaviour=behaviour)
    proxy = run_proxy(bootstrap(
        listener(hcm([route("/", {"cluster": "a", "retry_policy": {"retry_on": "unavailable", "num_retries": 2}})])),
        [cluster("a", server.port, **h2.explicit())]))
    headers = [("content-type", "application/grpc"), ("te", "trailers")]
    assert h2.ask(proxy.port, "POST", "/early", headers=headers, body=b"").header("grpc-status") == "0"
    assert asked == ["/early"] * 2
    assert h2.ask(proxy.port, "POST", "/late", headers=headers, body=b"").trailer("grpc-status") == "14"
    assert asked == ["/early"] * 2 + ["/late"]
    server.close()


def test_keeps_serving_while_the_host_restarts(run_proxy):
    """grpcio's graceful stop says GOAWAY; calls that were taken end, others go to the new one."""
    server = Server()
    policy = {"retry_on": "unavailable,cancelled,refused-stream,connect-failure,reset", "num_retries": 10, "retry_back_off": {"base_interval": "0.02s"}}
    port = server.port
    proxy = run_proxy(bootstrap(
        listener(hcm([route("/", {"cluster": "a", "timeout": "20s", "retry_policy": policy})])),
        [cluster("a", port, circuit_breakers={"thresholds": [{"max_retries": 100}]}, **h2.explicit())]))
    results, is_over = [], threading.Event()

    def load():
        with Caller(proxy.port) as caller:
            while not is_over.is_set():
                try:
                    results.append(caller.unary("Echo", b"x" * 1000)[0] == b"x" * 1000)
                except grpc.RpcError as error:
                    results.append(str(error))

    threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        seen = len(results)
        client.wait_until(lambda: len(results) > seen + 100, within=30)
        server.server.stop(2).wait(10)
        server = Server(port)
    seen = len(results)
    client.wait_until(lambda: len(results) > seen + 100, within=30)
    is_over.set()
    for thread in threads:
        thread.join(40)
    assert set(results) == {True}
    server.close()
