"""A client of HTTP/2 that does and sees more than a library lets it."""
import socket

import h2.config
import h2.connection
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame


class H2:
    """A client that notes streams' ends and GOAWAYs, and opens streams whatever it was told."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.conn.initiate_connection()
        self.sock.sendall(self.conn.data_to_send())
        self.answered, self.goaways, self.resets, self.ended, self.buffer, self.next_id = [], [], [], False, b"", 1

    def ask(self, path="/"):
        headers = self.conn.encoder.encode([(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)])
        frame = HeadersFrame(self.next_id, data=headers, flags=["END_HEADERS", "END_STREAM"])
        self.next_id += 2
        self.sock.sendall(frame.serialize())
        return self.next_id - 2

    def read_until(self, is_enough):
        while not is_enough(self):
            data = self.sock.recv(65536)
            if not data:
                self.ended = True
                assert is_enough(self), (self.answered, self.goaways)
                return self
            self.buffer += data
            self.take_frames()
        return self

    def take_frames(self):
        while len(self.buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.buffer)[:9])
            if len(self.buffer) < 9 + length:
                return
            frame.parse_body(memoryview(self.buffer)[9:9 + length])
            self.buffer = self.buffer[9 + length:]
            if isinstance(frame, GoAwayFrame):
                self.goaways.append(frame.last_stream_id)
            elif isinstance(frame, RstStreamFrame):
                self.resets.append(frame.stream_id)
            elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                self.sock.sendall(SettingsFrame(flags=["ACK"]).serialize())
            elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                self.sock.sendall(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]).serialize())
            elif "END_STREAM" in frame.flags and frame.stream_id:
                self.answered.append(frame.stream_id)
