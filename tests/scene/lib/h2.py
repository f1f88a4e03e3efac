"""HTTP/2 peers that show what came: a client, and a server that answers as lib.backend's does."""
import json
import socket
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from lib.backend import Request

WINDOW_MAX = 2**31 - 1
PREFACE, GOAWAY = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 7


class Stream:
    """One stream, seen from either side. Fields change under peer.changed; wait() waits for them."""

    def __init__(self, peer, number):
        self.peer, self.id = peer, number
        self.headers, self.interim, self.trailers = None, [], None
        self.body, self.messages, self.arrived = b"", [], 0
        self.ended, self.reset = False, None  # reset: the peer's code

    @property
    def status(self):
        return None if self.headers is None else int(dict(self.headers)[":status"])

    def header(self, name, default=None):
        values = [v for n, v in self.headers or () if n == name]
        return ",".join(values) if values else default

    def trailer(self, name, default=None):
        values = [v for n, v in self.trailers or () if n == name]
        return ",".join(values) if values else default

    def json(self):
        return json.loads(self.body)

    @property
    def is_over(self):
        return self.ended or self.reset is not None or self.peer.is_closed

    def wait(self, condition=None, within=10, what="the stream's end"):
        """Until condition(self), or its end; returns self."""
        self.peer.wait(lambda: self.is_over if condition is None else condition(self), within, what)
        return self

    def send_headers(self, headers, end=False):
        with self.peer.lock:
            self.peer.conn.send_headers(self.id, headers, end_stream=end)
            self.peer.flush()

    def send(self, data=b"", end=False, within=10):
        """Waits for credit; False when the stream ended before all went."""
        data = memoryview(data)
        while True:
            with self.peer.lock:
                if self.reset is not None or self.peer.is_closed:
                    return False
                room = min(self.peer.conn.local_flow_control_window(self.id), self.peer.conn.max_outbound_frame_size)
                part = data[:max(room, 0)]
                if part or not data:
                    data = data[len(part):]
                    self.peer.conn.send_data(self.id, bytes(part), end_stream=end and not data)
                    self.peer.flush()
                    if not data:
                        return True
                    continue
            self.wait(lambda s: s.is_over or self.peer.conn.local_flow_control_window(self.id) > 0, within, "credit")

    def room(self):
        with self.peer.lock:
            try:
                return self.peer.conn.local_flow_control_window(self.id)
            except h2.exceptions.StreamClosedError:
                return 0  # it has ended: nothing more goes

    def cancel(self, code=8):
        with self.peer.lock:
            try:
                self.peer.conn.reset_stream(self.id, code)
            except h2.exceptions.ProtocolError:
                return  # it was over
            self.peer.flush()

    def credit(self, size):
        with self.peer.lock:
            self.peer.conn.acknowledge_received_data(size, self.id)
            self.peer.flush()


class Peer:
    """A connection with a thread that reads. on_request (servers): called in a thread of its own with each new stream."""

    def __init__(self, sock, is_client, settings=None, conn_window=WINDOW_MAX, gives_credit=True, keeps_body=True,
                 on_request=None, starts=True):
        self.socket, self.is_client, self.gives_credit, self.keeps_body = sock, is_client, gives_credit, keeps_body
        self.on_request = on_request
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.streams, self.goaways, self.pings, self.acks = {}, [], 0, 0
        self.is_closed, self.error, self.has_settings = False, None, False
        self.unread, self.has_preface = b"", False
        config = h2.config.H2Configuration(client_side=is_client, header_encoding="latin-1", validate_inbound_headers=False,
                                           validate_outbound_headers=False, normalize_outbound_headers=False)
        self.conn = h2.connection.H2Connection(config)
        if settings:
            self.conn.local_settings = h2.settings.Settings(client=is_client, initial_values={
                **{k: v for k, v in self.conn.local_settings.items()}, **settings})
            # what a peer may open is told at once; h2 keeps the rest for the acknowledgement
        if starts:
            with self.lock:
                self.conn.initiate_connection()
                if conn_window > 65535:
                    self.conn.increment_flow_control_window(conn_window - 65535)
                self.flush()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def flush(self):
        data = self.conn.data_to_send()
        if data:
            try:
                self.socket.sendall(data)
            except OSError:
                pass  # the reader will find the end

    def raw(self, data):
        with self.lock:
            self.socket.sendall(data)

    def wait(self, condition, within=10, what="the condition"):
        with self.changed:
            assert self.changed.wait_for(condition, within), f"{what} did not come within {within} s"

    def _read(self):
        try:
            while True:
                try:
                    data = self.socket.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    break
                with self.changed:
                    for event in self.conn.receive_data(self._without_goaways(data)):
                        self._take(event)
                    self.flush()
                    self.changed.notify_all()
        except (OSError, ValueError) as error:
            self.error = error
        except h2.exceptions.ProtocolError as error:
            self.error = error
            with self.lock:
                self.flush()
        finally:
            with self.changed:
                self.is_closed = True
                self.changed.notify_all()
            if not self.is_client:
                try:
                    self.socket.close()
                except OSError:
                    pass

    def _without_goaways(self, data):
        """h2 takes the first GOAWAY for the end of all; here it is only noted."""
        self.unread += data
        passed = b""
        if not self.is_client and not self.has_preface:
            if len(self.unread) < len(PREFACE):
                return b""
            passed, self.unread, self.has_preface = self.unread[:len(PREFACE)], self.unread[len(PREFACE):], True
        while len(self.unread) >= 9:
            size = 9 + int.from_bytes(self.unread[:3], "big")
            if len(self.unread) < size:
                break
            frame, self.unread = self.unread[:size], self.unread[size:]
            if frame[3] == GOAWAY:
                self.goaways.append((int.from_bytes(frame[9:13], "big") & WINDOW_MAX, int.from_bytes(frame[13:17], "big"), frame[17:]))
            else:
                passed += frame
        return passed

    def _take(self, event):
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.RequestReceived):
            stream = self.streams[number] = Stream(self, number)
            stream.headers = list(event.headers)
            if self.on_request:
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()
            return
        stream = self.streams.get(number)
        if isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.PingAckReceived):
            self.acks += 1
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.has_settings = True
        elif stream is None:
            return
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.interim.append(list(event.headers))
        elif isinstance(event, h2.events.ResponseReceived):
            stream.headers = list(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.arrived += len(event.data)
            if self.keeps_body:
                stream.body += event.data
                stream.messages.append(event.data)
            if self.gives_credit:
                self.conn.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)

    def _serve(self, stream):
        try:
            self.on_request(stream)
        except (OSError, h2.exceptions.ProtocolError):
            pass  # the stream ended under it

    # --- clients ---

    def open(self, method="GET", path="/", headers=(), body=None, end=True, authority="test.local", scheme="http", trailers=None,
             pseudo=None):
        """A request; body None and end: none. pseudo: instead of the usual four."""
        fields = pseudo if pseudo is not None else [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
        fields = [*fields, *(headers.items() if isinstance(headers, dict) else headers)]
        with self.lock:
            number = self.conn.get_next_available_stream_id()
            stream = self.streams[number] = Stream(self, number)
            self.conn.send_headers(number, fields, end_stream=end and body is None and trailers is None)
            self.flush()
        if body is not None:
            stream.send(body, end=end and trailers is None)
        if trailers is not None:
            stream.send_headers(list(trailers), end=True)
        return stream

    def ask(self, *args, within=10, **options):
        return self.open(*args, **options).wait(within=within)

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join(5)
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def connect(port, ssl_context=None, server_name=None, host="127.0.0.1", receive_buffer=None, **options):
    """A client's connection: prior knowledge, or what ALPN chose when ssl_context offers it."""
    sock = socket.socket(socket.AF_INET)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if ssl_context is not None:
        sock = ssl_context.wrap_socket(sock, server_hostname=server_name)
        assert sock.selected_alpn_protocol() == "h2", sock.selected_alpn_protocol()
    return Peer(sock, True, **options)


def ask(port, *args, ssl_context=None, server_name=None, **options):
    with connect(port, ssl_context, server_name) as peer:
        return peer.ask(*args, **options)


class Backend:
    """
    An HTTP/2 server with prior knowledge (or TLS) on a loopback port. Answers like lib.backend.Backend, and /trailers,
    /reset/CODE, /half/CODE (resets inside the body), /hints; behaviour(stream) may answer instead and return True.
    settings, conn_window, ...: of each connection, as Peer takes them.
    """

    def __init__(self, name="h2", behaviour=None, ssl_context=None, on_connection=None, port=0, **options):
        self.name, self.behaviour, self.options, self.on_connection = name, behaviour, options, on_connection
        self.requests, self.streams, self.peers, self.ssl_context = [], [], [], ssl_context
        self.listening = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port = self.listening.getsockname()[1]
        self.is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self):
        return len(self.peers)

    def _accept(self):
        while True:
            try:
                sock, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._start, args=(sock,), daemon=True).start()

    def _start(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.ssl_context is not None:
                sock = self.ssl_context.wrap_socket(sock, server_side=True)
            peer = Peer(sock, False, on_request=self._serve, **self.options)
        except OSError:
            return
        self.peers.append(peer)
        if self.on_connection:
            self.on_connection(peer)

    def _serve(self, stream):
        self.streams.append(stream)
        if self.behaviour is not None and self.behaviour(stream):
            return
        if stream.header(":path") == "/continue" and stream.header("expect") == "100-continue":
            stream.send_headers([(":status", "100")])
        stream.wait(within=60)
        if not stream.ended:
            return
        self.requests.append(as_request(stream))
        self.answer(stream)

    def answer(self, stream):
        parts = stream.header(":path", "/").split("?")[0].strip("/").split("/")
        verb, value = parts[0], parts[1] if len(parts) > 1 else ""
        headers, body, trailers, status = [("x-backend", self.name)], b"", None, "200"
        if verb == "status":
            status, body = value, b"" if value in ("204", "304") else b"status " + value.encode()
        elif verb == "bytes":
            body = b"x" * int(value)
            headers.append(("content-length", value))
        elif verb == "chunked":
            body = b"".join(b"chunk%d" % (i % 10) for i in range(int(value)))
        elif verb == "trailers":
            body, trailers = b"body", [("x-sum", "42"), ("x-other", "b")]
        elif verb == "reset":
            stream.cancel(int(value))
            return
        elif verb == "half":
            stream.send_headers([(":status", "200"), ("content-length", "100")])
            stream.send(b"only this")
            stream.cancel(int(value))
            return
        elif verb == "hints":
            stream.send_headers([(":status", "103"), ("link", "</style.css>")])
        elif verb == "hang":
            return
        else:
            if verb == "delay":
                time.sleep(float(value))
            seen = as_request(stream)
            body = json.dumps({"server": self.name, "method": seen.method, "path": seen.path, "version": seen.version,
                               "headers": dict(seen.headers), "body": seen.body.decode("latin-1"),
                               "trailers": dict(seen.trailers or ())}).encode()
            headers += [("content-type", "application/json"), ("content-length", str(len(body)))]
        is_bare = stream.header(":method") == "HEAD" or not body
        stream.send_headers([(":status", status), *headers], end=is_bare and trailers is None)
        if not is_bare:
            stream.send(body, end=trailers is None)
        if trailers is not None:
            stream.send_headers(trailers, end=True)

    def stop_listening(self):
        self.listening.shutdown(socket.SHUT_RDWR)  # the thread in accept() would keep it
        self.listening.close()

    def close(self):
        self.is_closed = True
        self.stop_listening()
        for peer in list(self.peers):
            peer.close()


def as_request(stream):
    fields = [(n, v) for n, v in stream.headers if not n.startswith(":")]
    fields.append(("host", stream.header(":authority", "")))
    request = Request(stream.header(":method"), stream.header(":path"), "HTTP/2", fields, stream.body)
    request.trailers, request.pseudo = stream.trailers, {n: v for n, v in stream.headers if n.startswith(":")}
    return request


# --- configuration ---

def options(**fields):
    """typed_extension_protocol_options of a cluster."""
    return {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", **fields}}}


def explicit(common=None, **http2):
    fields = {"explicit_http_config": {"http2_protocol_options": http2}}
    if common:
        fields["common_http_protocol_options"] = common
    return options(**fields)
