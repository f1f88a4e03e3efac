"""A client that shows the bytes: http.client hides too much, curl can't pipeline."""
import socket
import time

from lib.backend import read_chunks


class Response:
    def __init__(self, status, headers, body, version, reason):
        self.status, self.headers, self.body, self.version, self.reason = status, headers, body, version, reason
        self.trailers = None

    def header(self, name, default=None):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return ",".join(values) if values else default

    def json(self):
        import json
        return json.loads(self.body)


class Connection:
    """One connection to 127.0.0.1:port; deadline in seconds for every read."""

    def __init__(self, port, deadline=10, ssl_context=None, host="127.0.0.1", server_name=None):
        self.socket = socket.create_connection((host, port), timeout=deadline)
        if ssl_context is not None:
            self.socket = ssl_context.wrap_socket(self.socket, server_hostname=server_name)
        self.stream = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def request(self, method="GET", path="/", headers=(), body=b"", host="test.local", version="HTTP/1.1"):
        lines = [f"{method} {path} {version}"] + ([f"Host: {host}"] if host is not None else [])
        lines += [f"{n}: {v}" for n, v in (headers.items() if isinstance(headers, dict) else headers)]
        if body and not any("length" in line.lower() or "transfer" in line.lower() for line in lines[1:]):
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def response(self, method="GET"):
        """The next response, interim ones included; None when the connection ended before one began."""
        line = self.stream.readline()
        if not line:
            return None
        version, status, *reason = line.decode("latin-1").strip().split(" ", 2)
        headers = []
        while True:
            line = self.stream.readline()
            if line in (b"\r\n", b"\n", b""):
                break
            name, value = line.decode("latin-1").split(":", 1)
            headers.append((name, value.strip()))
        response = Response(int(status), headers, b"", version, reason[0] if reason else "")
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            return response
        if (response.header("transfer-encoding") or "").lower() == "chunked":
            response.trailers = []
            response.body = read_chunks(self.stream, response.trailers)
        elif response.header("content-length") is not None:
            response.body = self.stream.read(int(response.header("content-length")))
        else:
            response.body = self.stream.read()
        return response

    def is_closed(self, within=5):
        """True when the peer ends the connection within that many seconds without sending anything more."""
        self.socket.settimeout(within)
        try:
            return self.stream.read(1) == b""
        except (TimeoutError, socket.timeout):
            return False
        except OSError:
            return True

    def close(self):
        self.stream.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def get(port, path="/", method="GET", **options):
    """One request on a connection of its own."""
    tls = {k: options.pop(k) for k in ("ssl_context", "server_name", "deadline") if k in options}
    with Connection(port, **tls) as connection:
        connection.request(method, path, **options)
        return connection.response(method)


def wait_until(condition, within=10, what="the condition", every=0.02):
    """Calls condition() until it says something true; returns that. A scene never sleeps for a fixed time."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come true within {within} s"
        time.sleep(every)
