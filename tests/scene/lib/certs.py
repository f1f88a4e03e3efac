"""Certificates of a small mesh: roots, and leaves with SPIFFE names."""
import datetime
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


class Root:
    def __init__(self, organisation="cluster.local"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)])
        self.cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
                     .serial_number(x509.random_serial_number()).not_valid_before(NOW - datetime.timedelta(minutes=5))
                     .not_valid_after(NOW + datetime.timedelta(days=30, hours=1))
                     .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                     .sign(self.key, hashes.SHA256()))
        self.pem = self.cert.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def load(cls, cert_pem, key_pem):
        """One that is there already: a mesh's own."""
        root = cls.__new__(cls)
        root.key = serialization.load_pem_private_key(key_pem.encode(), None)
        root.cert, root.pem = x509.load_pem_x509_certificate(cert_pem.encode()), cert_pem
        return root

    def leaf(self, uri=None, expired=False, units=(), names=(), serial=None):
        """(chain PEM, key PEM) of a workload; names: more subject names, behind the URI if there is one."""
        names = [*([x509.UniformResourceIdentifier(uri)] if uri else []), *names]
        key = ec.generate_private_key(ec.SECP256R1())
        end = NOW - datetime.timedelta(minutes=1) if expired else NOW + datetime.timedelta(days=1, hours=1)
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units])
        cert = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.cert.subject)
                .public_key(key.public_key()).serial_number(serial or x509.random_serial_number())
                .not_valid_before(NOW - datetime.timedelta(minutes=4)).not_valid_after(end)
                .add_extension(x509.SubjectAlternativeName(names), critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
                .sign(self.key, hashes.SHA256()))
        return cert.public_bytes(serialization.Encoding.PEM).decode(), pem(key)


def client_context(directory, root, leaf=None, alpn=()):
    """An ssl.SSLContext that trusts root and shows leaf."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=root.pem)
    if leaf:
        path = directory / f"leaf-{abs(hash(leaf[1]))}.pem"
        path.write_text(leaf[0] + leaf[1])
        context.load_cert_chain(path)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def downstream(leaf, root, sans=({"prefix": "spiffe://cluster.local/"},), require=True):
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": require, "common_tls_context": common(leaf, root, sans)}}


def upstream(leaf, root, sans=(), sni="outbound_.80_._.a.b.svc.cluster.local"):
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": sni, "common_tls_context": common(leaf, root, sans)}}


def common(leaf, root, sans):
    context = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
               "validation_context": {"trusted_ca": {"inline_string": root.pem}, "match_typed_subject_alt_names": [
                   {"san_type": "URI", "matcher": san} for san in sans]}}
    if leaf:
        context["tls_certificates"] = [{"certificate_chain": {"inline_string": leaf[0]}, "private_key": {"inline_string": leaf[1]}}]
    return context
