"""A DNS server on a loopback port whose answers can be changed while a scene runs."""
import socket
import struct
import threading

A, AAAA = 1, 28


class DnsServer:
    """
    names: name -> list of addresses, or None for silence; a name that is not there does not exist. ttl: of all answers.
    asked: (name, type) of each question that came.
    """

    def __init__(self):
        self.names, self.ttl, self.asked, self.rcode = {}, 30, [], None
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                data, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            reply = self._reply(data)
            if reply is not None:
                self.socket.sendto(reply, peer)

    def _reply(self, data):
        at, labels = 12, []
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode().lower())
            at += data[at] + 1
        name, (kind,) = ".".join(labels), struct.unpack(">H", data[at + 1:at + 3])
        self.asked.append((name, kind))
        question, addresses = data[12:at + 5], self.names.get(name, ())
        if addresses is None:
            return None
        records = [socket.inet_pton(socket.AF_INET6 if kind == AAAA else socket.AF_INET, a)
                   for a in addresses if (":" in a) == (kind == AAAA)]
        code = self.rcode if self.rcode is not None else 0 if name in self.names else 3
        if code:
            records = []
        head = data[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        body = b"".join(struct.pack(">HHHIH", 0xc00c, kind, 1, self.ttl, len(r)) + r for r in records)
        return head + question + body

    def resolver(self, **fields):
        """A typed_dns_resolver_config that asks this server alone."""
        return {"name": "envoy.network.dns_resolver.cares", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": self.port}}],
            "dns_resolver_options": {"no_default_search_domain": True}, "query_timeout_seconds": 1, "query_tries": 1, **fields}}

    def close(self):
        self.socket.close()
