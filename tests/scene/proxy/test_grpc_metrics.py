"""Istio's metrics of gRPC calls: status, messages both ways, also while a call lasts."""
import concurrent.futures
import threading

import grpc
import pytest

from lib.client import wait_until
from lib.istio import istio_stats, series
from lib.proxy import bootstrap, cluster, hcm, listener, route

pytestmark = [pytest.mark.quick, pytest.mark.lateen_only]  # this Envoy has none of Istio's filters


class Server:
    """/s/Echo answers each message twice, /s/Refuse with a status."""

    def __init__(self):
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        handlers = {"Echo": grpc.stream_stream_rpc_method_handler(self.echo), "Refuse": grpc.unary_unary_rpc_method_handler(self.refuse)}
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", handlers),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def echo(self, messages, _):
        for message in messages:
            yield message
            yield message * 2

    def refuse(self, message, context):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no")


@pytest.fixture
def calls(run_proxy):
    server = Server()
    made = hcm([route("/", "a")], http_filters=[istio_stats()])
    proxy = run_proxy(bootstrap(listener(made, traffic_direction="INBOUND"), [cluster("a", server.port, http2_protocol_options={})]))
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        yield proxy, channel
    server.server.stop(None)


def total(proxy, name):
    return sum(value for _, value in series(proxy, name))


def test_a_status_is_a_label(calls):
    proxy, channel = calls
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/s/Refuse")(b"x")
    assert failed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    (labels, _), = series(proxy, "istio_requests_total")
    assert (labels["request_protocol"], labels["response_code"], labels["grpc_response_status"]) == ("grpc", "200", "8")
    assert total(proxy, "istio_request_messages_total") == 1 and total(proxy, "istio_response_messages_total") == 0


def test_messages_are_counted_in_whatever_pieces(calls):
    proxy, channel = calls
    messages = [b"", b"x", b"y" * 20000, b"z" * 70000]
    assert len(list(channel.stream_stream("/s/Echo")(iter(messages)))) == 8
    (labels, value), = wait_until(lambda: series(proxy, "istio_request_messages_total"), what="the messages")
    assert value == 4 and total(proxy, "istio_response_messages_total") == 8
    assert labels["reporter"] == "destination" and "response_code" not in labels and "request_protocol" not in labels


def test_a_call_that_lasts_is_told_of(calls):
    proxy, channel = calls
    done = threading.Event()

    def messages():
        yield b"one"
        assert done.wait(120)

    replies = channel.stream_stream("/s/Echo")(messages())
    assert next(replies) == b"one"
    wait_until(lambda: total(proxy, "istio_request_messages_total") == 1, within=60, what="the report")
    assert not series(proxy, "istio_requests_total")  # it has not ended
    done.set()
    assert len(list(replies)) == 1
    wait_until(lambda: series(proxy, "istio_requests_total"), what="the end")
    assert total(proxy, "istio_request_messages_total") == 1 and total(proxy, "istio_response_messages_total") == 2
