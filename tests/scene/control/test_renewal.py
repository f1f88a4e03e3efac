"""What lateend renews by itself, while proxies are connected."""
import collections
import datetime
import queue
import threading

from cryptography import x509
from envoy.config.core.v3 import base_pb2 as core_pb2
from envoy.service.discovery.v3 import discovery_pb2

from lib.client import wait_until
from lib.identity import create_certificate, request_of

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def delta_stream(channel, token, stop):
    """An open delta stream that subscribes to all clusters, as a sidecar's; yields responses."""
    requests = queue.Queue()
    node = core_pb2.Node(id="sidecar~10.0.0.9~web-1.shop~shop.svc.cluster.local")
    node.metadata.update({"NAMESPACE": "shop", "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0", "SERVICE_ACCOUNT": "web"})
    requests.put(discovery_pb2.DeltaDiscoveryRequest(node=node, type_url=CLUSTER))
    call = channel.stream_stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
                                 request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
                                 response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString)
    responses = call(iter(requests.get, stop), metadata=[("authorization", f"Bearer {token}")])

    def answers():
        for response in responses:
            requests.put(discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce))
            yield response

    return answers(), lambda: requests.put(stop)


def read_names(answers, seen):
    for answer in answers:
        seen.extend(resource.name for resource in answer.resources)


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
"""


def test_root_and_serving_certificate_are_renewed_in_time(lateend, issuer):
    """A root of six seconds, renewed each three: the stream of a proxy stands, callers come and go."""
    control = lateend(JWT_RULE=issuer.rule(), CITADEL_SELF_SIGNED_CA_CERT_TTL="6s", CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL="500ms",
                      CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE="50")
    first = x509.load_pem_x509_certificate(control.root().encode())
    channel = control.channel()
    answers, end = delta_stream(channel, issuer.token(), object())
    seen = collections.deque()
    reader = threading.Thread(target=read_names, args=(answers, seen))
    reader.start()
    try:
        roots, number = [control.root()], 0
        while len(roots) < 4:
            number += 1
            (control.config / "services.yaml").write_text(SERVICE % f"web-{number}")
            wait_until(lambda: any(f"web-{number}.shop" in name for name in seen), what=f"cluster web-{number} on the old stream")
            wait_until(lambda: control.root() != roots[-1], within=60, what="another root")
            roots.append(control.root())
            csr = request_of()[0]
            with control.channel() as fresh:  # trusts the newest root alone
                chain = create_certificate(fresh, csr, token=issuer.token())
            newest = x509.load_pem_x509_certificate(roots[-1].encode())
            assert chain[-1] == roots[-1] and newest.public_key() == first.public_key()
            x509.load_pem_x509_certificate(chain[0].encode()).verify_directly_issued_by(newest)
        assert datetime.datetime.now(datetime.timezone.utc) > first.not_valid_after_utc  # the stream began under a root that is over
        assert reader.is_alive()
        assert len(control.lines("the root was renewed")) >= 3 and len(control.lines("serving certificate was renewed")) >= 3
        assert (control.state / "ca-cert.pem").read_text() == control.root()
    finally:
        end()
        reader.join(10)
