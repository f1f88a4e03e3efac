"""Callers of the CA: service-account tokens, good and forged, certificate requests, and the call itself."""
import base64
import json
import time

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "https://kubernetes.default.svc.cluster.local"


def encode(data):
    """base64url without padding."""
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


class Issuer:
    """Whoever signs service-account tokens."""

    def __init__(self, kid="one"):
        self.key, self.kid = ec.generate_private_key(ec.SECP256R1()), kid

    def jwks(self):
        numbers = self.key.public_key().public_numbers()
        return {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid,
                          "x": encode(numbers.x.to_bytes(32, "big")), "y": encode(numbers.y.to_bytes(32, "big"))}]}

    def rule(self, audiences=("istio-ca",)):
        return json.dumps({"issuer": ISSUER, "audiences": list(audiences), "jwks": json.dumps(self.jwks())})

    def claims(self, ns="shop", account="web", **changed):
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": ["istio-ca"], "sub": f"system:serviceaccount:{ns}:{account}", "iat": now, "nbf": now, "exp": now + 600}
        claims.update(changed)
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, ns="shop", account="web", header=None, **changed):
        text = encode({"alg": "ES256", "typ": "JWT", "kid": self.kid, **(header or {})}) + "." + encode(self.claims(ns, account, **changed))
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return text + "." + encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    def unsigned(self, **changed):
        return encode({"alg": "none", "typ": "JWT", "kid": self.kid}) + "." + encode(self.claims(**changed)) + "."

    def signed_with_public_key(self):
        """HS256, with the public key as the secret: who takes the token's word for the algorithm believes it."""
        text = encode({"alg": "HS256", "typ": "JWT", "kid": self.kid}) + "." + encode(self.claims())
        public = self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        mac = hmac.HMAC(public, hashes.SHA256())
        mac.update(text.encode())
        return text + "." + encode(mac.finalize())


def request_of(uri="spiffe://cluster.local/ns/shop/sa/web", key=None):
    """(CSR in PEM, its key)."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    csr = (x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
           .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True).sign(key, hashes.SHA256()))
    return csr.public_bytes(serialization.Encoding.PEM).decode(), key


# --- protobuf, as much as the two messages need ---

def varint(number):
    out = b""
    while number > 0x7f:
        out, number = out + bytes([number & 0x7f | 0x80]), number >> 7
    return out + bytes([number])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def read_strings(data):
    """All length-delimited fields of number 1."""
    at, found = 0, []

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte, at = data[at], at + 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = number()
        assert tag & 7 == 2, tag
        size = number()
        if tag >> 3 == 1:
            found.append(data[at:at + size].decode())
        at += size
    return found


class Refused(Exception):
    def __init__(self, code, details):
        super().__init__(f"{code.name}: {details}")
        self.code, self.details = code.name, details


def create_certificate(channel, csr, token=None, seconds=0, impersonate=None, metadata=()):
    """The chain (list of PEM texts), or Refused."""
    message = field(1, csr.encode())
    if seconds:
        message += varint(3 << 3) + varint(seconds)
    if impersonate:
        message += field(4, field(1, field(1, b"ImpersonatedIdentity") + field(2, field(3, impersonate.encode()))))
    call = channel.unary_unary("/istio.v1.auth.IstioCertificateService/CreateCertificate",
                               request_serializer=bytes, response_deserializer=bytes)
    headers = [("clusterid", "Kubernetes"), *metadata] + ([("authorization", f"Bearer {token}")] if token is not None else [])
    try:
        return read_strings(call(message, metadata=headers, timeout=10))
    except grpc.RpcError as error:
        raise Refused(error.code(), error.details()) from None


def names_of(pem):
    names = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)
