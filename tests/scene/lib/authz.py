"""External authorization servers: one that speaks gRPC (a real grpcio server), one that speaks HTTP."""
from concurrent import futures

import grpc
from envoy.service.auth.v3 import external_auth_pb2 as auth
from google.protobuf import json_format


class GrpcAuthz:
    """decide(request) is given the CheckRequest as a dict and returns a CheckResponse as a dict; requests keeps what came."""

    def __init__(self, decide=None):
        self.requests, self.metadata, self.decide = [], [], decide or (lambda _: {"status": {"code": 0}})
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        method = grpc.unary_unary_rpc_method_handler(self._check, request_deserializer=auth.CheckRequest.FromString,
                                                     response_serializer=auth.CheckResponse.SerializeToString)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method}),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def _check(self, request, context):
        asked = json_format.MessageToDict(request, preserving_proto_field_name=True)
        self.requests.append(asked)
        self.metadata.append(dict(context.invocation_metadata()))
        answer = self.decide(asked)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "no")
        return json_format.ParseDict(answer, auth.CheckResponse())

    def close(self):
        self.server.stop(None)


def denied(status=403, body="", headers=()):
    return {"status": {"code": 7}, "denied_response": {"status": {"code": status}, "body": body, "headers": list(headers)}}


def ok(**fields):
    return {"status": {"code": 0}, "ok_response": fields}


def set_header(key, value, **fields):
    return {"header": {"key": key, "value": value}, **fields}
