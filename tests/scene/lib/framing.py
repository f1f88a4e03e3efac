"""What readers of HTTP/1 make of the same bytes: proxies with a backend that keeps what reaches it, and Node's parser."""
import concurrent.futures
import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import threading
import time

from lib import proxy as proxy_lib
from lib.backend import free_port
from lib.proxy import bootstrap, cluster, hcm, listener, route

TOKEN = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
QUIET_S, LONG_QUIET_S = 0.2, 4  # nothing more comes after that; the latter for what was not as expected


class NotPlain(Exception):
    """The bytes are not what the strictest reader takes."""


class Seen:
    def __init__(self, method, target, headers, body, trailers):
        self.method, self.target, self.headers, self.body, self.trailers = method, target, headers, body, trailers

    def values(self, name):
        return [v for n, v in self.headers if n.lower() == name]

    def __str__(self):
        host = ",".join(self.values("host"))
        text = f"{self.method} {self.target}" + (f" @{host}" if host != "x" else "")
        text += f" {self.body.decode('latin-1')!r}" if self.body else ""
        for name in ("a", "connection", "upgrade", "te", "expect"):
            text += "".join(f" {name}={value}" for value in self.values(name))
        return text + "".join(f" +{n}={v}" for n, v in self.trailers)


def take_line(data, at):
    end = data.find(b"\n", at)
    if end < 0:
        raise EOFError
    line = data[at:end + 1]
    if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
        raise NotPlain(f"line end or control: {line!r}")
    return line[:-2], end + 1


def take_fields(data, at):
    fields = []
    while True:
        line, at = take_line(data, at)
        if not line:
            return fields, at
        name, colon, value = line.partition(b":")
        if not colon or not name or not set(name) <= TOKEN:
            raise NotPlain(f"field: {line!r}")
        value = value.strip(b" \t")
        if any(c < 32 and c != 9 or c == 127 for c in value):
            raise NotPlain(f"control in a value: {line!r}")
        fields.append((name.decode(), value.decode("latin-1")))


def take_chunks(data, at):
    body = b""
    while True:
        line, at = take_line(data, at)
        if not line or not set(line.lower()) <= set(b"0123456789abcdef") or len(line) > 16:
            raise NotPlain(f"chunk size: {line!r}")
        size = int(line, 16)
        if size == 0:
            trailers, at = take_fields(data, at)
            return body, trailers, at
        if len(data) < at + size + 2:
            raise EOFError
        body += data[at:at + size]
        if data[at + size:at + size + 2] != b"\r\n":
            raise NotPlain("chunk without its end")
        at += size + 2


def take_request(data, at):
    """One request as the strictest of all readers takes it; EOFError: incomplete."""
    line, at = take_line(data, at)
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[0] or not set(parts[0]) <= TOKEN or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise NotPlain(f"request line: {line!r}")
    if not parts[1] or any(c <= 32 or c >= 127 for c in parts[1]):
        raise NotPlain(f"target: {line!r}")
    headers, at = take_fields(data, at)
    named = [n.lower() for n, _ in headers]
    lengths = [v for n, v in headers if n.lower() == "content-length"]
    codings = [v for n, v in headers if n.lower() == "transfer-encoding"]
    if named.count("host") != 1 or len(lengths) + len(codings) > 1:
        raise NotPlain(f"more than one reading: {headers}")
    body, trailers = b"", []
    if codings:
        if codings[0].lower() != "chunked":
            raise NotPlain(f"coding: {codings}")
        body, trailers, at = take_chunks(data, at)
    elif lengths:
        if not lengths[0].isascii() or not lengths[0].isdigit():
            raise NotPlain(f"length: {lengths}")
        size = int(lengths[0])
        if len(data) < at + size:
            raise EOFError
        body, at = data[at:at + size], at + size
    return Seen(parts[0].decode(), parts[1].decode(), headers, body, trailers), at


def take_all(data):
    requests, at = [], 0
    while at < len(data):
        request, at = take_request(data, at)
        requests.append(request)
    return requests


class Recorder:
    """Answers each plain request with 200; on what is not plain it stops. `connections`: requests, their bytes, the complaint."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.server.getsockname()[1]
        self.connections, self.lock = [], threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        data, at, entry = b"", 0, {"requests": [], "bytes": b"", "complaint": None}
        with self.lock:
            self.connections.append(entry)
        with connection:
            while True:
                try:
                    part = connection.recv(65536)
                    if not part:
                        return
                    data += part
                    while at < len(data):
                        request, at = take_request(data, at)
                        entry["requests"].append(request)
                        entry["bytes"] = data[:at]
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                except EOFError:
                    pass
                except NotPlain as complaint:
                    entry["complaint"] = str(complaint)
                    return
                except OSError:
                    return

    def close(self):
        self.server.close()


def exchange(port, data, quiet):
    """Sends all, and returns the statuses of what is answered until it is quiet, and whether the connection ended."""
    answer, ended = b"", False
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(quiet)
            while part := connection.recv(65536):
                answer += part
            ended = True
        except TimeoutError:
            pass
        except OSError:
            ended = True
    statuses, at = [], 0
    while (at := answer.find(b"HTTP/1.", at)) >= 0:
        statuses.append(int(answer[at + 9:at + 12]))
        at += 9
    return statuses, ended


def plainly(seen):
    """What all readers agree about: no fields of one connection, no trailers."""
    return [(r.method, path_of(r.target), r.body) for r in seen]


def path_of(target):
    scheme, separator, rest = target.partition("://")
    if not separator or not scheme.isalpha():
        return target
    path = rest[min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest)):]
    return path if path.startswith("/") else "/" + path


class Outcome:
    """Requests that got through, statuses of all answers, what a strict reader complains of, the bytes of each connection."""

    def __init__(self, requests, statuses, complaints=(), raw=()):
        self.requests, self.statuses, self.complaints, self.raw = requests, statuses, complaints, raw

    def __str__(self):
        is_refused = any(status >= 300 for status in self.statuses)
        parts = [str(request) for request in self.requests]
        if is_refused:
            parts.append("refused")
        if self.complaints:
            parts.append("NOT PLAIN")
        return " | ".join(parts) or "dropped"


def run_all(ports, recorders, cases, quiet):
    def one(item):
        (name, data), port, recorder = item
        statuses, _ = exchange(port, data, quiet)
        with recorder.lock:
            entries = list(recorder.connections)
        return name, Outcome([r for e in entries for r in e["requests"]], statuses,
                             [e["complaint"] for e in entries if e["complaint"]], [e["bytes"] for e in entries])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(pool.map(one, zip(cases.items(), ports, recorders)))


@contextlib.contextmanager
def recorders(count):
    made = [Recorder() for _ in range(count)]
    try:
        yield made
    finally:
        for recorder in made:
            recorder.close()


def through_proxy(kind, cases, workdir, quiet=QUIET_S, **fields):
    with recorders(len(cases)) as made:
        listeners = [listener(hcm([route("/", f"c{i}")], **fields), name=f"l{i}") for i in range(len(cases))]
        clusters = [cluster(f"c{i}", recorder.port) for i, recorder in enumerate(made)]
        proxy = proxy_lib.start(kind, bootstrap(listeners, clusters), workdir)
        try:
            found = run_all(proxy.ports, made, cases, quiet)
            assert proxy.process.poll() is None, proxy.output()
            return found
        finally:
            proxy.stop()


def through_haproxy(cases, workdir, quiet=QUIET_S):
    with recorders(len(cases)) as made:
        ports = [free_port() for _ in made]
        text = "defaults\n  mode http\n  timeout client 20s\n  timeout server 20s\n  timeout connect 5s\n"
        for i, (port, recorder) in enumerate(zip(ports, made)):
            text += f"listen l{i}\n  bind 127.0.0.1:{port}\n  server s 127.0.0.1:{recorder.port}\n"
        path = pathlib.Path(workdir) / "haproxy.cfg"
        path.write_text(text)
        process = subprocess.Popen([shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", path],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(ports[-1])
            return run_all(ports, made, cases, quiet)
        finally:
            process.kill()
            process.wait()


NODE = """
const http = require('http'), seen = {};
const log = (socket, text) => (seen[socket.remotePort] ||= []).push(text);
const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', part => parts.push(part));
  request.on('end', () => {
    if (request.url === '/seen') { response.end(JSON.stringify(seen)); return; }
    const raw = request.rawHeaders, fields = [];
    for (let i = 0; i < raw.length; i += 2) fields.push([raw[i], raw[i + 1]]);
    log(request.socket, {method: request.method, target: request.url, headers: fields,
                         body: Buffer.concat(parts).toString('latin1'), trailers: request.rawTrailers});
    response.end('ok');
  });
});
const tunnel = (request, socket) => { log(socket, {tunnel: true}); socket.end('HTTP/1.1 200 OK\\r\\n\\r\\n'); };
server.on('connect', tunnel);
server.on('checkExpectation', (request, response) => server.emit('request', request, response));
server.on('clientError', (error, socket) => { if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\\r\\n\\r\\n'); });
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
"""


def through_node(cases, quiet=QUIET_S):
    process = subprocess.Popen([shutil.which("node"), "-e", NODE], stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())

        def one(item):
            name, data = item
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                own, answer = connection.getsockname()[1], b""
                try:
                    connection.sendall(data)
                    connection.settimeout(quiet)
                    while part := connection.recv(65536):
                        answer += part
                except OSError:
                    pass
            return name, own, [400] if b" 400 " in answer else []

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            done = list(pool.map(one, cases.items()))
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /seen HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = connection.makefile("rb").read()
        log = json.loads(answer[answer.index(b"{"):answer.rindex(b"}") + 1])

        def seen(own):
            return [Seen(e["method"], e["target"], e["headers"], e["body"].encode("latin-1"),
                         list(zip(e["trailers"][::2], e["trailers"][1::2]))) for e in log.get(str(own), []) if "method" in e]

        return {name: Outcome(seen(own), statuses) for name, own, statuses in done}
    finally:
        process.kill()
        process.wait()


def settled(run, cases, is_right):
    """run(cases, quiet), and again with more patience for what is not right: a busy machine is no difference."""
    found = run(cases, QUIET_S)
    late = {name: data for name, data in cases.items() if not is_right(name, found[name])}
    return {**found, **run(late, LONG_QUIET_S)} if late else found


def wait_for(port, within=10):
    end = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.02)
