"""
A small xDS control plane for scenes: ADS (delta and state of the world), the services of single types, and load reports,
over TCP, TLS or a Unix socket. It holds resources, answers what is asked, pushes what changes, and keeps what it heard.

    server = AdsServer()
    server.set(cluster_dict, listener_dict)          # dicts in proto field names, with "@type"
    server.withhold(EDS)                             # no answer of that type until release(EDS)
    server.streams[0].requests                       # all of one stream, in order
"""
import collections
import importlib
import pathlib
import pkgutil
import queue
import subprocess
import tempfile
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, json_format, message_factory, struct_pb2, symbol_database, wrappers_pb2  # noqa: F401

from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from lib.client import wait_until
from lib.proxy import hcm

PREFIX = "type.googleapis.com/"
CDS = PREFIX + "envoy.config.cluster.v3.Cluster"
EDS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = PREFIX + "envoy.config.listener.v3.Listener"
RDS = PREFIX + "envoy.config.route.v3.RouteConfiguration"
VHDS = PREFIX + "envoy.config.route.v3.VirtualHost"
SDS = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
ECDS = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
NDS = PREFIX + "istio.networking.nds.v1.NameTable"
PCDS = PREFIX + "istio.mesh.v1alpha1.ProxyConfig"
WILDCARDS = {CDS, LDS, NDS, PCDS}
SHORT = {CDS: "CDS", EDS: "EDS", LDS: "LDS", RDS: "RDS", VHDS: "VHDS", SDS: "SDS", ECDS: "ECDS", NDS: "NDS", PCDS: "PCDS"}

# path of a service without aggregation -> is it the delta form
SERVICES = {
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources": True,
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources": False,
}
for _service, _what in (("cluster.v3.ClusterDiscoveryService", "Clusters"), ("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
                        ("listener.v3.ListenerDiscoveryService", "Listeners"), ("route.v3.RouteDiscoveryService", "Routes"),
                        ("secret.v3.SecretDiscoveryService", "Secrets"),
                        ("extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs")):
    SERVICES[f"/envoy.service.{_service}/Delta{_what}"] = True
    SERVICES[f"/envoy.service.{_service}/Stream{_what}"] = False
SERVICES["/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts"] = True
LRS_PATH = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"


# --- messages from dicts ---

def _import_types(value):
    """The modules of every "@type" in a dict: json_format finds types only once they are imported."""
    if isinstance(value, dict):
        if "@type" in value:
            message_class(value["@type"])
        for item in value.values():
            _import_types(item)
    elif isinstance(value, list):
        for item in value:
            _import_types(item)


def learn(path):
    """Types of one of our own .proto files: those that no installed package has."""
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", f"-I{path.parents[2]}", "-I/usr/include", f"--descriptor_set_out={out.name}", str(path)], check=True)
        described = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    for file in described.file:  # without what is for the C generator; Google's types are installed
        del file.dependency[:]
        file.dependency.extend(f"google/protobuf/{name}.proto" for name in ("any", "duration", "struct", "wrappers"))
        file.ClearField("options")
        symbol_database.Default().pool.Add(file)
        for message in file.message_type:
            found = symbol_database.Default().pool.FindMessageTypeByName(f"{file.package}.{message.name}")
            symbol_database.Default().RegisterMessage(message_factory.GetMessageClass(found))


def message_class(type_url):
    name = type_url.rsplit("/", 1)[-1]
    database = symbol_database.Default()
    try:
        return database.GetSymbol(name)
    except KeyError:
        pass
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            package = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for folder in getattr(package, "__path__", []):
            for module in pkgutil.iter_modules([folder]):
                if module.name.endswith("_pb2"):
                    importlib.import_module(f"{package.__name__}.{module.name}")
        break
    return database.GetSymbol(name)


def to_any(resource):
    """An Any of a dict with "@type", of a message, or what it is."""
    if isinstance(resource, any_pb2.Any):
        return resource
    result = any_pb2.Any()
    if isinstance(resource, dict):
        _import_types(resource)
        fields = {key: value for key, value in resource.items() if key != "@type"}
        resource = json_format.ParseDict(fields, message_class(resource["@type"])())
    result.Pack(resource)
    return result


def name_of(resource):
    """What a resource is called: its first field, whatever the type."""
    if resource.type_url in (NDS, PCDS):
        return ""
    message = message_class(resource.type_url)()
    resource.Unpack(message)
    return getattr(message, "cluster_name", None) or message.name


# --- one stream ---

class Stream:
    """What one client said on one stream, and what it has."""

    def __init__(self, server, path, metadata):
        self.server, self.path, self.metadata = server, path, metadata
        self.is_delta = SERVICES.get(path, False)
        self.requests, self.out, self.is_open = [], queue.Queue(), True
        self.types = {}  # type -> Subscription

    def of(self, type_url):
        """The requests of one type."""
        return [r for r in self.requests if r.type_url == type_url]

    def acks(self, type_url):
        return [r for r in self.of(type_url) if r.response_nonce and not r.error_detail.message]

    def nacks(self, type_url):
        return [r for r in self.of(type_url) if r.error_detail.message]

    def names(self, type_url):
        """What is subscribed by name now."""
        return self.types[type_url].names if type_url in self.types else set()

    def story(self):
        """Short lines, for assertions about the order: "CDS", "CDS ack", "EDS +a,b" ..."""
        return [describe(r) for r in self.requests]

    def end(self):
        self.out.put(None)


class Subscription:
    def __init__(self):
        self.names, self.is_wildcard, self.sent, self.is_first = set(), False, {}, True


def describe(request):
    text = SHORT.get(request.type_url, request.type_url)
    if request.error_detail.message:
        return text + " nack"
    if isinstance(request, discovery_pb2.DeltaDiscoveryRequest):
        if request.response_nonce:
            text += " ack"
        if request.resource_names_subscribe:
            text += " +" + ",".join(sorted(request.resource_names_subscribe))
        if request.resource_names_unsubscribe:
            text += " -" + ",".join(sorted(request.resource_names_unsubscribe))
        return text
    return text + (" ack" if request.response_nonce else "") + (" " + ",".join(sorted(request.resource_names)) if request.resource_names else "")


# --- the server ---

class AdsServer:
    def __init__(self, address="127.0.0.1:0", credentials=None, subsets=False, missing="remove"):
        """
        subsets: a push in state-of-the-world form has only what changed (EDS, RDS, SDS), as istiod does.
        missing: what is asked for by name and not there is "remove"d (delta), or not answered ("silent").
        """
        self.subsets, self.missing = subsets, missing
        self.lock = threading.RLock()
        self.resources = collections.defaultdict(dict)  # type -> name -> (version, Any)
        self.held_back = collections.defaultdict(set)   # type -> names, or {"*"}
        self.aliases = {}                               # (type, name) -> list
        self.streams, self.loads, self.counter = [], [], 0
        self.load_answer = None
        self.address = address
        self.credentials = credentials
        self.start()

    def start(self):
        self.grpc = grpc.server(futures.ThreadPoolExecutor(max_workers=200), handlers=(_Handlers(self),),
                                options=[("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", -1),
                                         ("grpc.so_reuseport", 0)])
        if self.credentials is not None:
            self.port = self.grpc.add_secure_port(self.address, self.credentials)
        else:
            self.port = self.grpc.add_insecure_port(self.address)
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rsplit(':', 1)[0]}:{self.port}"
        self.grpc.start()

    def stop(self):
        """Ends the streams and closes the socket; start() opens the same address again."""
        for stream in list(self.streams):
            stream.end()
        self.grpc.stop(0).wait()

    def cut(self):
        """Ends every stream; clients come back."""
        for stream in list(self.streams):
            if stream.is_open:
                stream.end()

    def open_streams(self):
        return [s for s in self.streams if s.is_open]

    def stream(self, within=10, number=0, having=None):
        """The number-th stream (of those that asked for type `having`), once it is there."""
        def find():
            found = [s for s in self.streams if having is None or s.of(having)]
            return found[number] if len(found) > number else None
        return wait_until(find, within, f"stream {number}")

    # --- resources ---

    def set(self, *resources, push=True, version=None, aliases=()):
        changed = collections.defaultdict(set)
        with self.lock:
            for resource in resources:
                packed = to_any(resource)
                name = name_of(packed)
                self.counter += 1
                self.resources[packed.type_url][name] = (version or str(self.counter), packed)
                if aliases:
                    self.aliases[packed.type_url, name] = list(aliases)
                changed[packed.type_url].add(name)
            if push:
                for type_url, names in changed.items():
                    self.push(type_url, names)

    def remove(self, type_url, *names, push=True):
        with self.lock:
            for name in names:
                self.resources[type_url].pop(name, None)
            if push:
                self.push(type_url, (), names)

    def withhold(self, type_url, *names):
        with self.lock:
            self.held_back[type_url] |= set(names) or {"*"}

    def release(self, type_url, *names):
        with self.lock:
            freed = set(names) or set(self.resources[type_url])
            self.held_back[type_url] -= set(names) or self.held_back[type_url].copy()
            self.push(type_url, freed)

    def _is_held_back(self, type_url, name):
        return bool(self.held_back[type_url] & {"*", name})

    def _present(self, type_url, names):
        """Those of the names that are there and may be told."""
        table = self.resources[type_url]
        return {n: table[n] for n in names if n in table and not self._is_held_back(type_url, n)}

    # --- answers ---

    def push(self, type_url, names=(), removed=()):
        """To every stream that wants them. Without names: everything it wants."""
        with self.lock:
            for stream in self.streams:
                sub = stream.types.get(type_url)
                if stream.is_open and sub is not None:
                    self._push_to(stream, sub, type_url, names, removed)

    def _wanted(self, sub, type_url, names):
        if sub.is_wildcard:
            return set(names)
        by_alias = {n for n in names if sub.names & set(self.aliases.get((type_url, n), ()))}
        return (set(names) & sub.names) | by_alias

    def _push_to(self, stream, sub, type_url, names, removed):
        if stream.is_delta:
            wanted = self._present(type_url, self._wanted(sub, type_url, names))
            gone = sorted(self._wanted(sub, type_url, removed))
            if wanted or gone:
                self._send_delta(stream, sub, type_url, wanted, gone)
        else:
            everything = self.resources[type_url] if sub.is_wildcard else sub.names
            chosen = set(everything) & set(names) if self.subsets and type_url not in WILDCARDS else everything
            if self.held_back[type_url] & {"*"}:
                return
            self._send_sotw(stream, sub, type_url, self._present(type_url, chosen))

    def _send_delta(self, stream, sub, type_url, wanted, removed, empty=()):
        self.counter += 1
        response = discovery_pb2.DeltaDiscoveryResponse(type_url=type_url, nonce=f"n{self.counter}", system_version_info=str(self.counter),
                                                        removed_resources=removed)
        for name, (version, packed) in wanted.items():
            response.resources.add(name=name, version=version, resource=packed, aliases=self.aliases.get((type_url, name), ()))
            sub.sent[name] = version
        for name in empty:
            response.resources.add(name=name, version="0", aliases=[name])
        stream.out.put(response)

    def _send_sotw(self, stream, sub, type_url, wanted):
        self.counter += 1
        stream.out.put(discovery_pb2.DiscoveryResponse(
            type_url=type_url, nonce=f"n{self.counter}", version_info=f"v{self.counter}", resources=[packed for _, packed in wanted.values()]))

    def send(self, message, stream=None):
        """A response of one's own making."""
        (stream or self.open_streams()[0]).out.put(message)

    def _take(self, stream, request):
        with self.lock:
            stream.requests.append(request)
            sub = stream.types.setdefault(request.type_url, Subscription())
            if stream.is_delta:
                self._take_delta(stream, sub, request)
            else:
                self._take_sotw(stream, sub, request)
            sub.is_first = False

    def _take_delta(self, stream, sub, request):
        type_url, asked = request.type_url, list(request.resource_names_subscribe)
        if sub.is_first and type_url in WILDCARDS and not asked:
            sub.is_wildcard = True
        if "*" in asked:
            sub.is_wildcard = True
            asked.remove("*")
        if sub.is_first:
            sub.sent.update(request.initial_resource_versions)
        sub.names |= set(asked)
        sub.names -= set(request.resource_names_unsubscribe)
        if not sub.is_first and not asked:
            return
        names = set(asked) | (set(self.resources[type_url]) if sub.is_wildcard and sub.is_first else set())
        by_alias = {name for (kind, name), aliases in self.aliases.items() if kind == type_url and set(asked) & set(aliases)}
        wanted = self._present(type_url, names | by_alias)
        known = set(wanted) | {alias for name in wanted for alias in self.aliases.get((type_url, name), ())}
        unchanged = {n for n in wanted if sub.is_first and sub.sent.get(n) == wanted[n][0]}
        missing = [n for n in names if n not in known and n not in self.resources[type_url] and not self._is_held_back(type_url, n)]
        if sub.is_first and sub.is_wildcard:
            missing += [n for n in request.initial_resource_versions if n not in self.resources[type_url]]
        wanted = {n: v for n, v in wanted.items() if n not in unchanged}
        removed = missing if self.missing == "remove" else []
        empty = missing if self.missing == "empty" else []
        is_whole = sub.is_wildcard or (type_url == VHDS and not asked)  # what there is before any host is asked for
        is_awaited = sub.is_first and is_whole and not self.held_back[type_url] & {"*"}
        if wanted or removed or empty or is_awaited:
            self._send_delta(stream, sub, type_url, wanted, removed, empty)

    def _take_sotw(self, stream, sub, request):
        type_url, asked = request.type_url, set(request.resource_names)
        is_new = sub.is_first or asked - {"*"} != sub.names
        added = asked - {"*"} - sub.names
        sub.is_wildcard = "*" in asked or (type_url in WILDCARDS and not asked)
        sub.names = asked - {"*"}
        if not is_new or self.held_back[type_url] & {"*"} or (not sub.is_wildcard and not added):
            return
        wanted = self._present(type_url, self.resources[type_url] if sub.is_wildcard else added if self.subsets else sub.names)
        if wanted or sub.is_wildcard:
            self._send_sotw(stream, sub, type_url, wanted)

    def _take_load(self, stream, request):
        with self.lock:
            stream.requests.append(request)
            self.loads.append(request)
            if len(stream.requests) == 1 and self.load_answer is not None:
                stream.out.put(self.load_answer)

    # --- the wire ---

    def _serve(self, path, requests, context):
        stream = Stream(self, path, dict(context.invocation_metadata()))
        take = self._take_load if path == LRS_PATH else self._take
        with self.lock:
            self.streams.append(stream)

        def read():
            try:
                for request in requests:
                    take(stream, request)
            except grpc.RpcError:
                pass
            except Exception as error:  # a mistake of the scene: seen, not swallowed
                stream.error = error
                raise
            finally:
                stream.is_open = False
                stream.out.put(None)

        threading.Thread(target=read, daemon=True).start()
        while True:
            message = stream.out.get()
            if message is None:
                stream.is_open = False
                return
            yield message


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server):
        self.server = server

    def service(self, call):
        path = call.method
        if path == LRS_PATH:
            reads, writes = lrs_pb2.LoadStatsRequest, lrs_pb2.LoadStatsResponse
        elif path in SERVICES:
            reads = discovery_pb2.DeltaDiscoveryRequest if SERVICES[path] else discovery_pb2.DiscoveryRequest
            writes = discovery_pb2.DeltaDiscoveryResponse if SERVICES[path] else discovery_pb2.DiscoveryResponse
        else:
            return None
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: self.server._serve(path, requests, context),
                                                     request_deserializer=reads.FromString,
                                                     response_serializer=writes.SerializeToString)


# --- pieces of configuration ---

def ads_source(**fields):
    return {"ads": {}, "resource_api_version": "V3", **fields}


def grpc_source(cluster_name, api_type="GRPC", node_once=True, **fields):
    return {"api_config_source": api_source(cluster_name, api_type, node_once), "resource_api_version": "V3", **fields}


def api_source(cluster_name="control", api_type="DELTA_GRPC", node_once=True):
    return {"api_type": api_type, "transport_api_version": "V3", "set_node_on_first_message_only": node_once,
            "grpc_services": [{"envoy_grpc": {"cluster_name": cluster_name}}]}


def control_cluster(address, name="control", **fields):
    """The bootstrap's cluster of a control plane: "host:port" or "unix:/path"."""
    if address.startswith("unix:"):
        where = {"pipe": {"path": address[5:]}}
    else:
        host, port = address.rsplit(":", 1)
        where = {"socket_address": {"address": host, "port_value": int(port)}}
    http2 = {"@type": PREFIX + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
             "explicit_http_config": {"http2_protocol_options": {}}}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": where}}]}]}, **fields}


def dynamic_bootstrap(server, api_type="DELTA_GRPC", node_once=True, clusters=(), listeners=(), timeout="0s", cluster_fields=None,
                      **fields):
    """A bootstrap that gets clusters and listeners from the server by ADS."""
    source = ads_source(initial_fetch_timeout=timeout)
    return {"static_resources": {"clusters": [control_cluster(server.address, **(cluster_fields or {})), *clusters],
                                 "listeners": list(listeners)},
            "dynamic_resources": {"lds_config": source, "cds_config": source,
                                  "ads_config": api_source(api_type=api_type, node_once=node_once)}, **fields}


def eds_cluster(name, source=None, service_name=None, **fields):
    config = {"eds_config": source or ads_source(initial_fetch_timeout="0s")}
    if service_name:
        config["service_name"] = service_name
    return {"@type": CDS, "name": name, "type": "EDS", "connect_timeout": "2s", "eds_cluster_config": config, **fields}


def cluster_of_static(name, *ports):
    """A cluster by CDS that has its endpoints with it."""
    load = assignment(name, *ports)
    load.pop("@type")
    return {"@type": CDS, "name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": load}


def assignment(name, *ports, host="127.0.0.1"):
    endpoints = [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for port in ports]
    return {"@type": EDS, "cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}] if endpoints else []}


def rds_hcm(name, source=None, **fields):
    """A connection manager whose routes come from elsewhere."""
    entry = hcm(**fields)
    entry["typed_config"].pop("route_config")
    entry["typed_config"]["rds"] = {"route_config_name": name, "config_source": source or ads_source(initial_fetch_timeout="0s")}
    return entry


def routes(name, *entries, vhosts=None, **fields):
    vhosts = vhosts if vhosts is not None else [{"name": "all", "domains": ["*"], "routes": list(entries)}]
    return {"@type": RDS, "name": name, "virtual_hosts": vhosts, **fields}


def with_type(type_url, resource):
    return {"@type": type_url, **resource}


def resource_file(path, *resources, version="1"):
    """A file for path_config_source: written beside, then moved over it, as such files are to be replaced."""
    import json
    path = pathlib.Path(path)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"version_info": version, "resources": list(resources)}))
    beside.rename(path)
    return path


def pause():
    """For scenes that show that something does NOT come: the time that a machine under load needs to send it anyway."""
    time.sleep(0.5)
