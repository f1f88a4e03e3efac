"""JSON Web Tokens: keys, key sets, tokens."""
import base64
import hashlib
import hmac
import json
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Secret:
    """HS256."""

    def __init__(self, kid="secret", secret=b"a secret of some length, as it should be"):
        self.kid, self.secret, self.alg = kid, secret, "HS256"

    def jwk(self):
        return {"kty": "oct", "kid": self.kid, "alg": self.alg, "k": b64(self.secret)}

    def sign(self, data):
        return hmac.new(self.secret, data, hashlib.sha256).digest()


class Ec:
    """ES256."""

    def __init__(self, kid="ec"):
        self.kid, self.alg, self.key = kid, "ES256", ec.generate_private_key(ec.SECP256R1())

    def jwk(self):
        numbers = self.key.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "kid": self.kid, "alg": self.alg,
                "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}

    def sign(self, data):
        r, s = utils.decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Rsa:
    """RS256."""

    def __init__(self, kid="rsa"):
        self.kid, self.alg, self.key = kid, "RS256", rsa.generate_private_key(65537, 2048)

    def jwk(self):
        numbers = self.key.public_key().public_numbers()
        return {"kty": "RSA", "kid": self.kid, "alg": self.alg, "n": b64(numbers.n.to_bytes(256, "big")), "e": "AQAB"}

    def sign(self, data):
        return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def key_set(*keys):
    return json.dumps({"keys": [key.jwk() for key in keys]})


def token(key, header=None, **claims):
    """A token of these claims, good for an hour unless exp says otherwise (None: no exp)."""
    claims.setdefault("exp", int(time.time()) + 3600)
    claims = {name: value for name, value in claims.items() if value is not None}
    head = header or {"alg": key.alg, "kid": key.kid, "typ": "JWT"}
    text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
    return text + "." + b64(key.sign(text.encode()))
