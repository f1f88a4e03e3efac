"""gRPC server and client of ours against Python's grpcio, plaintext and mutual TLS.

Usage: grpc_interop_test.py PATH_OF_GRPC_PEER. Exit 77: grpcio or cryptography isn't installed.
"""

import concurrent.futures
import contextlib
import datetime
import ipaddress
import pathlib
import subprocess
import sys
import tempfile
import threading

try:
    import grpc
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

PEER = sys.argv[1]
WAIT = 20  # seconds: a limit, never a pause
SPIFFE = "spiffe://cluster.local/ns/shop/sa/cart"
BIG = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


# --- certificates ---------------------------------------------------------------------------------

def make_cert(name, issuer=None, sans=()):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(cert, key):
    return (
        cert.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


class Pki:
    """One root; a server for 127.0.0.1 and a client with a SPIFFE identity."""

    def __init__(self, folder):
        root = make_cert("root")
        self.root = pem(*root)[0]
        ip = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        self.server = pem(*make_cert("server", root, [ip, x509.DNSName("localhost")]))
        self.client = pem(*make_cert("client", root, [x509.UniformResourceIdentifier(SPIFFE)]))
        self.folder = pathlib.Path(folder)
        (self.folder / "ca.pem").write_bytes(self.root)
        for name, (cert, key) in (("server", self.server), ("client", self.client)):
            (self.folder / f"{name}.pem").write_bytes(cert)
            (self.folder / f"{name}.key").write_bytes(key)

    def files(self, name):
        return [str(self.folder / f) for f in (f"{name}.pem", f"{name}.key", "ca.pem")]


# --- our server, grpcio's client ------------------------------------------------------------------

@contextlib.contextmanager
def our_server(*args):
    process = subprocess.Popen(
        [PEER, "server", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield int(process.stdout.readline()), process
    finally:
        if not process.stdin.closed:
            process.stdin.close()
        assert process.wait(WAIT) == 0


def unary(channel, method, message, **kwargs):
    return channel.unary_unary(f"/t.S/{method}")(message, timeout=WAIT, **kwargs)


def failure_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call did not fail")


def check_client(channel):
    assert unary(channel, "Echo", b"hello") == b"hello"
    assert unary(channel, "Echo", b"") == b""
    large = bytes(range(256)) * 4 * 4096 * 4  # 16 MiB
    assert unary(channel, "Echo", large) == large
    bidi = channel.stream_stream("/t.S/Echo")
    messages = [b"x" * (i * 37 % 5000) for i in range(500)]
    assert list(bidi(iter(messages), timeout=WAIT)) == messages
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda i: unary(channel, "Echo", b"%d" % i), range(400))
        assert list(answers) == [b"%d" % i for i in range(400)]


def check_failures(channel):
    code, details = failure_of(lambda: unary(channel, "Refuse", b"x"))
    assert (code, details) == (grpc.StatusCode.PERMISSION_DENIED, "not you: ä 100%\n"), details
    assert failure_of(lambda: unary(channel, "Nothing", b""))[0] == grpc.StatusCode.UNIMPLEMENTED
    code, _ = failure_of(lambda: channel.unary_unary("/t.S/Hang")(b"x", timeout=0.2))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    zipped = lambda: unary(channel, "Echo", b"z" * 5000, compression=grpc.Compression.Gzip)
    assert failure_of(zipped)[0] == grpc.StatusCode.UNIMPLEMENTED
    call = channel.stream_stream("/t.S/Hang")(iter([b"x"]), timeout=WAIT)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED


def test_grpcio_client_plaintext():
    with our_server() as (port, _), grpc.insecure_channel(f"127.0.0.1:{port}", BIG) as channel:
        check_client(channel)
        check_failures(channel)
        peer = unary(channel, "Peer", b"", metadata=[("authorization", "Bearer tok")])
        assert peer == b"127.0.0.1|0||Bearer tok", peer
        check_client(channel)  # the connection took no harm


def test_grpcio_client_mutual_tls(pki):
    credentials = grpc.ssl_channel_credentials(pki.root, pki.client[1], pki.client[0])
    with our_server(*pki.files("server")) as (port, _):
        with grpc.secure_channel(f"127.0.0.1:{port}", credentials, BIG) as channel:
            check_client(channel)
            peer = unary(channel, "Peer", b"")
            assert peer == f"127.0.0.1|1|{SPIFFE}|".encode(), peer
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            code, _ = failure_of(lambda: unary(channel, "Echo", b""))
            assert code == grpc.StatusCode.UNAVAILABLE


def test_grpcio_client_sees_a_graceful_drain():
    with our_server() as (port, process), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        sent = iter([b"one", b"two"])
        begun, drained = threading.Event(), threading.Event()

        def messages():
            yield next(sent)
            begun.set()
            drained.wait(WAIT)
            yield next(sent)

        answers = channel.stream_stream("/t.S/Echo")(messages(), timeout=WAIT)
        assert next(answers) == b"one"
        assert begun.wait(WAIT)
        process.stdin.write("drain\n")
        process.stdin.flush()
        drained.set()
        assert next(answers) == b"two"
        assert list(answers) == [] and answers.code() == grpc.StatusCode.OK


# --- grpcio's server, our client ------------------------------------------------------------------

class Services(grpc.GenericRpcHandler):
    def service(self, details):
        handlers = {
            "/t.S/Echo": grpc.stream_stream_rpc_method_handler(self.echo),
            "/t.S/Refuse": grpc.stream_stream_rpc_method_handler(self.refuse),
            "/t.S/Token": grpc.stream_stream_rpc_method_handler(self.token),
        }
        return handlers.get(details.method)

    def echo(self, messages, _context):
        yield from messages

    def refuse(self, messages, context):
        yield next(messages)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "later: ü %")

    def token(self, messages, context):
        metadata = dict(context.invocation_metadata())
        yield f"{metadata.get('authorization')}".encode()
        for _ in messages:
            pass


@contextlib.contextmanager
def grpcio_server(credentials=None):
    pool = concurrent.futures.ThreadPoolExecutor(4)
    server = grpc.server(pool, handlers=[Services()], options=BIG)
    if credentials:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait(WAIT)
        pool.shutdown()


def our_client(port, method, count, size, *tls):
    result = subprocess.run(
        [PEER, "client", f"127.0.0.1:{port}", f"/t.S/{method}", str(count), str(size), *tls],
        capture_output=True, text=True, timeout=WAIT * 2, check=True,
    )
    return result.stdout.strip()


def check_server(port, *tls):
    assert our_client(port, "Echo", 1, 5, *tls) == "OK||1|5"
    assert our_client(port, "Echo", 500, 1000, *tls) == "OK||500|500000"
    big = 24 << 20
    assert our_client(port, "Echo", 2, big, *tls) == f"OK||2|{2 * big}"
    assert our_client(port, "Refuse", 3, 1, *tls) == "FAILED_PRECONDITION|later: ü %|1|1"
    assert our_client(port, "Nothing", 1, 1, *tls).startswith("UNIMPLEMENTED|")
    assert our_client(port, "Token", 1, 1, *tls) == f"OK||1|{len('Bearer abc')}"


def test_grpcio_server_plaintext():
    with grpcio_server() as port:
        check_server(port)


def test_grpcio_server_mutual_tls(pki):
    credentials = grpc.ssl_server_credentials(
        [(pki.server[1], pki.server[0])], pki.root, require_client_auth=True
    )
    with grpcio_server(credentials) as port:
        check_server(port, *pki.files("client"))


def main():
    with tempfile.TemporaryDirectory() as folder:
        pki = Pki(folder)
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                test(pki) if test.__code__.co_argcount else test()
                print(f"ok {name}")


main()
