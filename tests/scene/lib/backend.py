"""Servers that scenes put behind a proxy: an HTTP/1.1 one that says what it saw, and raw TCP ones."""
import json
import random
import socket
import socketserver
import threading
import time


class Request:
    """What arrived, as it was on the wire."""

    def __init__(self, method, path, version, headers, body):
        self.method, self.path, self.version = method, path, version
        self.headers, self.body = headers, body  # headers: list of (name, value) as received
        self.trailers = None

    def header(self, name, default=None):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return ",".join(values) if values else default


def read_request(stream, on_head=None):
    """One request from a binary stream; None at the end of the connection. on_head(request): before its body is read."""
    line = stream.readline(65536)
    if not line.strip():
        return None
    method, path, version = line.decode("latin-1").strip().split(" ", 2)
    headers = []
    while True:
        line = stream.readline(65536)
        if line in (b"\r\n", b"\n", b""):
            break
        name, value = line.decode("latin-1").split(":", 1)
        headers.append((name, value.strip()))
    request = Request(method, path, version, headers, b"")
    if on_head is not None:
        on_head(request)
    if (request.header("transfer-encoding") or "").lower() == "chunked":
        request.trailers = []
        request.body = read_chunks(stream, request.trailers)
    elif request.header("content-length"):
        request.body = stream.read(int(request.header("content-length")))
        if len(request.body) < int(request.header("content-length")):
            return None  # it was cut short: no request
    return request


def read_chunks(stream, trailers=None):
    """The payload; trailers: a list to put (name, value) into."""
    body = b""
    while True:
        size = int(stream.readline().split(b";")[0], 16)
        if size == 0:
            while (line := stream.readline()) not in (b"\r\n", b"\n", b""):
                if trailers is not None:
                    name, value = line.decode("latin-1").split(":", 1)
                    trailers.append((name, value.strip()))
            return body
        body += stream.read(size)
        stream.readline()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512


class Backend:
    """
    An HTTP/1.1 server on a loopback port. Answers 200 with JSON of the request, unless the request's path or the
    `behaviour` asks for something else: /status/503, /delay/0.5, /bytes/100000, /chunked/5, /trailers, /hints,
    /continue (100 before the body), /reset, /hang.
    behaviour(request, connection) may return (status, headers, body) or None for the usual answer.
    """

    def __init__(self, name, behaviour=None, host="127.0.0.1", port=0, ssl_context=None):
        self.name, self.behaviour, self.requests, self.connections = name, behaviour, [], 0
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                outer.connections += 1
                outer._serve(self)

        self.server = _Server((host, port), Handler, bind_and_activate=True)
        if ssl_context is not None:
            self.server.socket = ssl_context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _serve(self, handler):
        try:
            while True:
                request = read_request(handler.rfile, lambda head: self._continue(head, handler))
                if request is None:
                    return
                self.requests.append(request)
                if not self._answer(request, handler):
                    return
        except (OSError, ValueError):
            return

    def _continue(self, head, handler):
        if head.path == "/continue" and head.header("expect") == "100-continue":
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(self, request, handler):
        out = handler.wfile
        made = self.behaviour(request, handler) if self.behaviour else None
        if made is None:
            made = self._by_path(request, handler)
        if made is None:
            return False
        status, headers, body = made
        lines = [f"HTTP/1.1 {status} Status"] + [f"{n}: {v}" for n, v in headers]
        if status not in (204, 304) and not any(n.lower() in ("transfer-encoding", "content-length") for n, _ in headers):
            lines.append(f"content-length: {len(body)}")
        payload = b"" if request.method == "HEAD" or status in (204, 304) else body
        out.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + payload)
        out.flush()
        return (request.header("connection") or "").lower() != "close"

    def _by_path(self, request, handler):
        parts = request.path.split("?")[0].strip("/").split("/")
        verb, value = parts[0], parts[1] if len(parts) > 1 else ""
        if verb == "status":
            return int(value), [], b"status " + value.encode()
        if verb == "delay":
            time.sleep(float(value))
        elif verb == "bytes":
            return 200, [], b"x" * int(value)
        elif verb == "chunked":
            body = b"".join(b"6\r\nchunk%d\r\n" % (i % 10) for i in range(int(value))) + b"0\r\n\r\n"
            return 200, [("transfer-encoding", "chunked")], body
        elif verb == "trailers":
            return 200, [("transfer-encoding", "chunked")], b"4\r\nbody\r\n0\r\nX-Sum: 42\r\nx-other: b\r\n\r\n"
        elif verb == "hints":
            handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n")
        elif verb == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            handler.connection.close()
            return None
        elif verb == "hang":
            time.sleep(30)
            return None
        seen = {"server": self.name, "method": request.method, "path": request.path, "version": request.version,
                "headers": {n.lower(): v for n, v in request.headers}, "body": request.body.decode("latin-1"),
                "trailers": dict(request.trailers or ())}
        return 200, [("content-type", "application/json"), ("x-backend", self.name)], json.dumps(seen).encode()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class TcpBackend:
    """A raw server: handler(socket) runs in a thread for each connection."""

    def __init__(self, handler, host="127.0.0.1"):
        self.connections = 0
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                outer.connections += 1
                try:
                    handler(self.request)
                except OSError:
                    pass

        self.server = _Server((host, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


_claims = []  # sockets whose names say what is taken; they live as long as this process


def claim(name):
    """True when no other process of these tests has it, on this machine; it is ours until this process ends."""
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0lateen-scene-{name}")
    except OSError:
        mark.close()
        return False
    _claims.append(mark)
    return True


def free_port():
    """
    A port that is nobody's: below those that the kernel gives to clients, so that none of them takes it before its server is
    there, and claimed, so that no other process of these tests is given it meanwhile.
    """
    while True:
        port = random.randrange(10000, 32000)
        if not claim(f"port-{port}"):
            continue
        with socket.socket() as s:
            try:
                s.bind(("", port))
                return port
            except OSError:
                continue
