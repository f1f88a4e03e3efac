"""Certificates of every kind, good and bad, for scenes that look at what TLS takes."""
import datetime
import socket
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lib.proxy import typed

NOW = datetime.datetime.now(datetime.timezone.utc)
TLS = "envoy.extensions.transport_sockets.tls.v3."
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
KEYS = {"ec": lambda: ec.generate_private_key(ec.SECP256R1()), "rsa": lambda: rsa.generate_private_key(65537, 2048)}


def dns(*names):
    return [x509.DNSName(name) for name in names]


def uri(*names):
    return [x509.UniformResourceIdentifier(name) for name in names]


class Cert:
    """A certificate with its key; `signer` None: signed by itself."""

    def __init__(self, name="leaf", signer=None, sans=(), ca=False, key="ec", usage=BOTH, start=-5, end=1440, serial=None,
                 path_length=None, constraints=None, extra=(), key_usage=None):
        self.signer, self.key = signer, KEYS[key]()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = signer.cert.subject if signer else subject
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(self.key.public_key())
                   .serial_number(serial or x509.random_serial_number())
                   .not_valid_before(NOW + datetime.timedelta(minutes=start)).not_valid_after(NOW + datetime.timedelta(minutes=end)))
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), critical=False)
        if usage and not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usage)), critical=False)
        if constraints:
            builder = builder.add_extension(constraints, critical=True)
        if key_usage:
            builder = builder.add_extension(key_usage, critical=True)
        for extension in extra:
            builder = builder.add_extension(extension, critical=False)
        self.cert = builder.sign((signer or self).key, hashes.SHA256())

    @property
    def pem(self):
        return self.cert.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()

    @property
    def chain(self):
        """Without the root."""
        return self.pem + (self.signer.chain if self.signer is not None and self.signer.signer is not None else "")

    def leaf(self, name="leaf", **options):
        return Cert(name, self, **options)

    def intermediate(self, name="middle", **options):
        return Cert(name, self, ca=True, **options)

    def crl(self, *revoked):
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.cert.subject).last_update(
            NOW - datetime.timedelta(minutes=5)).next_update(NOW + datetime.timedelta(days=1))
        for cert in revoked:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(cert.cert.serial_number)
                                                      .revocation_date(NOW - datetime.timedelta(minutes=1)).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def entry(self):
        """tls_certificates"""
        return {"certificate_chain": {"inline_string": self.chain}, "private_key": {"inline_string": self.key_pem}}


def root(name="root", **options):
    return Cert(name, ca=True, **options)


def trust(*roots, **fields):
    """validation_context"""
    return {"trusted_ca": {"inline_string": "".join(r.pem for r in roots)}, **fields}


def downstream(*own, validation=None, require=False, common=(), **fields):
    return _socket("Downstream", own, validation, common, require_client_certificate=require, **fields)


def upstream(*own, validation=None, common=(), **fields):
    return _socket("Upstream", own, validation, common, **fields)


def _socket(side, own, validation, common, **fields):
    context = dict(common)
    if own:
        context["tls_certificates"] = [cert.entry() for cert in own]
    if validation is not None:
        context["validation_context"] = validation
    return {"name": "envoy.transport_sockets.tls",
            "typed_config": typed(f"{TLS}{side}TlsContext", common_tls_context=context, **fields)}


def context(workdir, own=None, roots=(), version=None, alpn=(), ciphers=None):
    """A client's ssl.SSLContext; without roots it takes any server."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED if roots else ssl.CERT_NONE
    for anchor in roots:
        made.load_verify_locations(cadata=anchor.pem)
    load(made, workdir, own)
    if version:
        made.minimum_version = made.maximum_version = version
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if ciphers:
        made.set_ciphers(ciphers)
    return made


def load(made, workdir, own):
    if own is not None:
        path = workdir / f"own-{own.cert.serial_number:x}.pem"
        path.write_text(own.chain + own.key_pem)
        made.load_cert_chain(path)


def server_context(workdir, own, roots=()):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(made, workdir, own)
    for anchor in roots:
        made.load_verify_locations(cadata=anchor.pem)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def ask(port, made, server_name=None, session=None, path="/"):
    """One request: (status or None, session, was it resumed, the server's certificate). None: refused, wherever that is noticed."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, \
                made.wrap_socket(plain, server_hostname=server_name, session=session) as tls:
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {server_name or 'a.test'}\r\nConnection: close\r\n\r\n".encode())
            shown, data = tls.getpeercert(binary_form=True), b""
            while part := tls.recv(65536):
                data += part
            status = int(data.split(b" ", 2)[1]) if data.startswith(b"HTTP/1.1") else None
            return status, tls.session, tls.session_reused, shown
    except (OSError, ssl.SSLError):
        return None, None, False, None
