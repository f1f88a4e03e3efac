"""A proxy as far as a control plane sees it: one delta ADS stream, that takes and acknowledges everything unless told otherwise."""
import queue
import threading

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2

from lib.client import wait_until

TYPES = {
    "CDS": ("envoy.config.cluster.v3.Cluster", cluster_pb2.Cluster),
    "EDS": ("envoy.config.endpoint.v3.ClusterLoadAssignment", endpoint_pb2.ClusterLoadAssignment),
    "LDS": ("envoy.config.listener.v3.Listener", listener_pb2.Listener),
    "RDS": ("envoy.config.route.v3.RouteConfiguration", route_pb2.RouteConfiguration),
}
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


def node(name="caller-1", ns="shop", ip="10.9.0.1", kind="sidecar", **metadata):
    made = base_pb2.Node(id=f"{kind}~{ip}~{name}.{ns}~{ns}.svc.cluster.local")
    made.metadata.update({"NAMESPACE": ns, "NAME": name, "INSTANCE_IPS": ip, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0", **metadata})
    return made


class Stream:
    """node None: a stream that doesn't say who it is."""

    def __init__(self, channel, node=None, token=None):
        self.node, self.requests, self.resources = node, queue.Queue(), {kind: {} for kind in TYPES}
        self.responses, self.error, self.ended = [], None, threading.Event()
        self.holds_acks = set()  # types whose answers the test gives itself
        call = channel.stream_stream(METHOD, request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
                                     response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString)
        self.call = call(iter(self.requests.get, None), metadata=[("authorization", f"Bearer {token}")] if token else [])
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        try:
            for response in self.call:
                self.take(response)
        except grpc.RpcError as error:
            self.error = error
        self.ended.set()

    def take(self, response):
        kind = next(kind for kind, (name, _) in TYPES.items() if response.type_url.endswith(name))
        for resource in response.resources:
            message = TYPES[kind][1]()
            assert resource.resource.Unpack(message)
            self.resources[kind][resource.name] = (resource.version, message)
        for name in response.removed_resources:
            self.resources[kind].pop(name, None)
        self.responses.append((kind, response))
        if kind not in self.holds_acks:
            self.send(kind, response_nonce=response.nonce)

    def send(self, kind, **fields):
        request = discovery_pb2.DeltaDiscoveryRequest(type_url="type.googleapis.com/" + TYPES[kind][0], **fields)
        if self.node is not None:
            request.node.CopyFrom(self.node)
            self.node = None
        self.requests.put(request)

    def ask(self, kind, *names, **initial):
        self.send(kind, resource_names_subscribe=names, initial_resource_versions=initial)

    def ask_all(self, *routes):
        """As a sidecar begins, once there is a service."""
        self.ask("CDS")
        wait_until(lambda: any(name.startswith("outbound|") for name in list(self.resources["CDS"])), what="clusters")
        self.ask("EDS", *[name for name, (_, cluster) in self.resources["CDS"].items() if cluster.type == cluster_pb2.Cluster.EDS])
        self.ask("LDS")
        self.ask("RDS", *routes)

    def has(self, kind, name):
        return name in self.resources[kind]

    def get(self, kind, name):
        wait_until(lambda: self.has(kind, name), what=f"{kind} {name}")
        return self.resources[kind][name][1]

    def endpoints(self, cluster):
        """Addresses of those that are healthy."""
        assignment = self.resources["EDS"].get(cluster, (None, endpoint_pb2.ClusterLoadAssignment()))[1]
        return sorted(e.endpoint.address.socket_address.address for group in assignment.endpoints for e in group.lb_endpoints
                      if e.health_status != health_check_pb2.UNHEALTHY)

    def status(self):
        """(code, details) of the stream's end."""
        assert self.ended.wait(10), "the stream did not end"
        return (self.error.code().name, self.error.details()) if self.error else ("OK", "")

    def close(self):
        self.requests.put(None)
        self.call.cancel()
        self.reader.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
