#!/usr/bin/env python3
"""Is the table of fields (src/proxy/compile/fields_*.def) true?

- Every message that can be reached from a resource is in it once, with every field once; nothing else is.
- What it calls honoured is read somewhere in the proxy, what it calls ignored is not: all of the proxy is compiled (without
  code) with each member of each message marked, so that the compiler tells each use, by the member's own type.
- Each of its messages has in our schemas every field that Envoy's API has, where that is installed (xds-protos).
- docs/compatibility.md holds what tools/fields.py makes of it.
- With the contract beside the tree: each field that a mesh's control plane is known to send is in the schemas and in the table, or
  its message is another program's.
Usage: check_fields.py SOURCE_ROOT BUILD_ROOT
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2

ROOT, BUILD = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
sys.path.insert(0, str(ROOT / "tools"))
import fields  # noqa: E402

FIELD = descriptor_pb2.FieldDescriptorProto

# Looked through before anybody sees them, or of calls: in any.def, and in no resource.
NO_RESOURCE = {"udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct", "google.rpc.Status"}

# Rooms whose code reads resources; the agent writes some for others.
READERS = ("admin", "compile", "conf", "filter", "health", "http", "lb", "run", "start", "table", "told", "xds")

# Messages of wire-fields.md that are no configuration of a proxy: who speaks them tests them.
OTHERS = {
    "envoy.service.discovery.v3.": "ADS: wire/ads.h",
    "envoy.service.load_stats.v3.": "load reports: xds/load.h",
    "envoy.config.endpoint.v3.ClusterStats": "likewise",
    "envoy.config.endpoint.v3.Upstream": "likewise",
    "envoy.config.endpoint.v3.EndpointLoadMetricStats": "likewise",
    "envoy.service.secret.v3.": "SDS",
    "envoy.service.auth.v3.": "the calls of ext_authz: filter/authz_call.c",
    "envoy.service.accesslog.v3.": "logs over gRPC (step 2b)",
    "envoy.data.accesslog.v3.": "logs over gRPC (step 2b)",
    "envoy.type.v3.HttpStatus": "in an answer of ext_authz; status_on_error of the filter is read",
    "google.rpc.": "errors of ADS",
    "google.protobuf.": "well-known",
    "grpc.health.v1.": "health checks: health/check_h2.c",
    "istio.v1.auth.": "CSR: agent/identity.c",
    "istio.networking.nds.v1.": "the agent's DNS",
    "istio.mesh.v1alpha1.": "PCDS",
    "opentelemetry.proto.": "OTLP (step 2b)",
    "udpa.type.v1.TypedStruct": "looked through",
    "xds.type.v3.TypedStruct": "looked through",
    "xds.core.v3.": "xdstp names, and matching trees, which are refused whole",
    "xds.type.matcher.v3.": "matching trees, which are refused whole",
}

# Read below a field whose fate its own row tells ("-x", or refused by its name), or of calls.
ASIDE = (
    "envoy.config.core.v3.Node",
    "envoy.config.core.v3.Extension",
    "envoy.config.core.v3.HeaderMap",
    "envoy.config.core.v3.QueryParameter",
    "envoy.config.trace.v3.Tracing.Http",
    "envoy.extensions.filters.http.wasm.v3.Wasm",
    "envoy.extensions.transport_sockets.tls.v3.PrivateKeyProvider",
    "envoy.extensions.wasm.v3.PluginConfig",
)

errors = []


def error(text):
    errors.append(text)


# --- schemas ---


def schemas():
    """{full name: DescriptorProto} of all messages of the tree."""
    files = sorted((ROOT / "src/wire/proto").glob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(
            ["protoc", f"--proto_path={ROOT / 'src'}", "--proto_path=/usr/include", f"--descriptor_set_out={out.name}"]
            + [str(file) for file in files],
            check=True,
        )
        found = {}
        for file in descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes()).file:
            for message in file.message_type:
                add(found, f"{file.package}.{message.name}", message)
        return found


def add(found, name, message):
    found[name] = message
    for nested in message.nested_type:
        add(found, f"{name}.{nested.name}", nested)


def c_names():
    """({full name: C struct}, {name of the descriptor: full name}) from what protoc-c made."""
    structs, descriptors = {}, {}
    pattern = re.compile(
        r"ProtobufCMessageDescriptor (\w+)__descriptor =\s*\{\s*PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,"
        r'\s*"([^"]+)",\s*"[^"]+",\s*"(\w+)"'
    )
    for file in (BUILD / "src/wire/proto").glob("*.pb-c.c"):
        for descriptor, full, struct in pattern.findall(file.read_text()):
            structs[full], descriptors[descriptor] = struct, full
    return structs, descriptors


MESSAGES = schemas()
STRUCTS, DESCRIPTORS = c_names()


def names_in(file, pattern):
    return re.findall(pattern, (ROOT / "src/wire" / file).read_text(), re.M)


INSIDE = {(DESCRIPTORS[a], int(n)): DESCRIPTORS[b] for a, n, b in names_in("recursive.def", r"^LT_RECURSIVE\((\w+), (\d+), (\w+)\)")}
IN_ANYS = [DESCRIPTORS[name] for name in names_in("any.def", r"^LT_ANY\((\w+)\)")]


def inner_of(name, field):
    if field.type == FIELD.TYPE_MESSAGE:
        return field.type_name[1:]
    return INSIDE.get((name, field.number))


def is_value(name):
    return name.startswith("google.protobuf.")


# --- the table against the schemas ---


def check_table(table):
    """Walks from what can be in an Any, all resources among it; returns the names seen."""
    groups, places = {}, {}
    for message in table:
        if message.places is None and message.name in groups:
            error(f"{message.name}: twice in the table")
        if message.places is None:
            groups[message.name] = message
        for place in message.places or ():
            places[place] = message
    seen, rest = set(), [name for name in IN_ANYS if not is_value(name) and name not in NO_RESOURCE]
    while rest:
        name = rest.pop()
        if name in seen or is_value(name):
            continue
        seen.add(name)
        rest += reached_from(name, groups.get(name))
    for name in set(groups) - seen:
        error(f"{name}: in the table, and no resource holds it")
    for place, message in places.items():
        holder, _, field = place.rpartition(".")
        if holder not in seen or message.name not in [inner_of(holder, f) for f in MESSAGES[holder].field if f.name == field]:
            error(f"{place}: no place of a {message.name}")
        check_fields(message)
    return seen


def reached_from(name, group):
    """The types of the fields that are looked into."""
    if MESSAGES[name].options.map_entry:
        return [inner for inner in [inner_of(name, MESSAGES[name].field[1])] if inner]
    if group is None:
        error(f"{name}: not in the table")
        return []
    if group.whole is not None:
        if group.rows:
            error(f"{name}: rows behind a message that is spoken of as a whole")
        return []
    check_fields(group)
    verdicts = {field: (verdict, sign) for field, verdict, sign in group.verdicts()}
    found = []
    for field in MESSAGES[name].field:
        verdict, sign = verdicts.get(field.name, (None, ""))
        inner = inner_of(name, field)
        if inner and verdict in ("HONOURED", "CHECKED") and sign != "-":
            found.append(inner)
    return found


def check_fields(group):
    said = [field for field, _, _ in group.verdicts()]
    known = [field.name for field in MESSAGES[group.name].field]
    for field in known:
        if said.count(field) != 1:
            error(f"{group.name}.{field}: {said.count(field)} times in the table")
    for field in set(said) - set(known):
        error(f"{group.name}.{field}: no such field")
    for field, types in group.takes.items():
        for name in types:
            if field not in known or name not in IN_ANYS:
                error(f"{group.name}.{field}: takes {name}, which no Any can hold")


# --- the table against the code ---


def mark_struct(match):
    """Each member tells when it is used."""
    name, body = match.groups()

    def mark(member):
        return f'{member.group(1)}{member.group(2)} __attribute__((deprecated("USE {name}.{member.group(2)}")));'

    return f"struct  {name}\n{{" + re.sub(r"(?m)^(\s+[\w \*]*?[\*\s])(\w+);", mark, body) + "\n};"


def mark_cases(match):
    return re.sub(r"(?m)^  ([A-Z]\w+) = ", r'  \1 __attribute__((deprecated("USE CASE.\1"))) = ', match.group(0))


def mark_headers(directory):
    target = directory / "wire/proto"
    target.mkdir(parents=True)
    for header in (BUILD / "src/wire/proto").glob("*.pb-c.h"):
        text = re.sub(r"struct  (\w+)\n\{(.*?)\n\};", mark_struct, header.read_text(), flags=re.S)
        text = text.replace("ProtobufCMessage base __attribute__", "ProtobufCMessage base; //")
        text = re.sub(r"(#define \w+__INIT) (?:.*\\\n)+.*", r"\1 {{0}}", text)  # which uses all, and means none
        text = re.sub(r"typedef enum \{\n.*?\} \w+Case;", mark_cases, text, flags=re.S)
        (target / header.name).write_text(text)


def uses_in(file, directory, compiler):
    run = subprocess.run(
        [compiler, "-std=gnu17", "-D_GNU_SOURCE", "-fsyntax-only", "-include", "stdio.h", "-Wdeprecated-declarations", "-I", directory, "-I", ROOT / "src", file],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    if run.returncode != 0:
        error(f"{file}: {run.stderr[-500:]}")
    return set(re.findall(r"USE (\w+\.\w+)", run.stderr))


def sees_messages(path, known):
    """It includes a header of messages, by whatever way."""
    if path not in known:
        known[path] = False  # until it is known; nobody includes itself
        text = (ROOT / "src" / path).read_text()
        included = re.findall(r'^#include "([^"]+)"', text, re.M)
        known[path] = any(name.endswith(".pb-c.h") or sees_messages(name, known) for name in included if not name.endswith(".def"))
    return known[path]


def uses():
    """{"Xds__Cluster.name", "CASE.XDS__..."} of all code that reads resources."""
    compiler = next(name for name in ("clang", "gcc", "cc") if shutil.which(name))
    known = {}
    sources = [file for room in READERS for file in sorted((ROOT / "src/proxy" / room).glob("*.c"))]
    sources = [file for file in sources if sees_messages(str(file.relative_to(ROOT / "src")), known)]
    with tempfile.TemporaryDirectory() as directory, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        mark_headers(pathlib.Path(directory))
        return set().union(*pool.map(lambda file: uses_in(file, directory, compiler), sources))


def upper(name):
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).upper()


def case_of(name, field):
    """The enumerator that says that this member of a oneof is set."""
    oneof = MESSAGES[name].oneof_decl[field.oneof_index].name
    return "CASE." + "__".join(upper(part) for part in STRUCTS[name].split("__")) + f"__{upper(oneof)}_{upper(field.name)}"


def check_rest(table, used):
    """Whose fields are read must be in the table, with rows of its own."""
    tabled = {message.name for message in table if message.whole is None}
    for name, message in MESSAGES.items():
        if name in tabled or name in NO_RESOURCE or message.options.map_entry or name.startswith(tuple(OTHERS)) or name in ASIDE or name not in STRUCTS:
            continue
        for field in message.field:
            if name.startswith(("envoy.", "stats.", "io.istio.")) and f"{STRUCTS[name]}.{field.name}" in used:
                error(f"{name}.{field.name}: somebody reads it, and the table does not speak of it")


def check_truth(table, used):
    elsewhere = {(m.name, field) for m in table if m.places for field, v, _ in m.verdicts() if v in ("HONOURED", "CHECKED")}
    for message in table:
        for field in MESSAGES[message.name].field:
            verdict, sign = next(((v, s) for f, v, s in message.verdicts() if f == field.name), (None, ""))
            is_one_of = field.HasField("oneof_index")
            is_touched = any(f"{STRUCTS[message.name]}.{prefix}{field.name}" in used for prefix in ("", "n_", "has_"))
            is_read = f"{STRUCTS[message.name]}.{field.name}" in used or (is_one_of and case_of(message.name, field) in used)
            where = f"{message.name}.{field.name}"
            if verdict == "HONOURED" and sign != "-" and not is_read:
                error(f"{where}: honoured, and nobody reads it")
            if verdict == "CHECKED" and not (is_read or is_touched or is_one_of):
                error(f"{where}: honoured in part, and nobody reads it")
            if field.name == "name":  # errors tell it
                continue
            if verdict in ("IGNORED", "NO_EFFECT") and is_touched and not message.places and (message.name, field.name) not in elsewhere:
                error(f"{where}: {verdict}, and somebody reads it")


# --- the schemas against Envoy's ---

# Of certificate providers, as they were once said: what is not known of them refuses the resource.
LEFT_OUT = re.compile("(validation_context|tls_certificate)_certificate_provider")


def check_upstream(table):
    """With Envoy's own descriptors at hand: a field that our schema lacks could only be listed by its number."""
    sys.path.insert(0, str(ROOT / "tests/unit/wire"))
    try:
        import check_protos  # noqa: PLC0415
    except SystemExit:  # xds-protos is not installed
        return
    pool = check_protos.theirs()
    for message in table:
        try:
            theirs = pool.FindMessageTypeByName(message.name)
        except KeyError:
            continue
        ours = {field.number for field in MESSAGES[message.name].field}
        for field in theirs.fields:
            if message.whole is None and field.number not in ours and not LEFT_OUT.match(field.name):
                error(f"{message.name}.{field.name}: Envoy has it, our schema has not")


# --- the table against the contract ---


def contract():
    """{full name: [fields]} of wire-fields.md, or None."""
    path = pathlib.Path(os.environ.get("LATEEN_CONTRACT", ROOT / "../shared/contract")) / "wire-fields.md"
    if not path.exists():
        return None
    text = path.read_text().partition("\n## Enums")[0]
    prefixes = dict(re.findall(r"\| (\w+\.) \| ([\w.]+\.) \|", text)) | dict(re.findall(r"\| [\w.]+ \| [\w.]+ \| (\w+\.) \| ([\w.]+\.) \|", text))
    found = {}
    entry = re.compile(r"^\*\*([\w.]+)\*\*: (.*(?:\n  .*)*)", re.M)
    for name, body in entry.findall(text):
        head = name.partition(".")[0] + "."
        full = name if name.startswith(("envoy.", "istio.", "io.", "xds.", "udpa.", "stats.", "grpc.", "google.")) else prefixes.get(head, head) + name[len(head) :]
        full = full.replace("x.filters", "envoy.extensions.filters")
        found[full] = re.findall(r"(?:^|;)\s*!?(\w+)=\d+ ", body)
    return found


def check_contract(table, seen, known):
    tabled = {message.name for message in table}
    for name, said in known.items():
        if name.startswith(tuple(OTHERS)):
            continue
        if name not in MESSAGES:
            error(f"{name}: in wire-fields.md, and in no schema")
            continue
        ours = {field.name for field in MESSAGES[name].field}
        for field in said:
            if field not in ours:
                error(f"{name}.{field}: in wire-fields.md, and in no schema")
        if name not in tabled and not is_covered(name, table, seen):
            error(f"{name}: in wire-fields.md, and not in the table")


def is_covered(name, table, seen):
    """It stands only in what is listed, refused or without effect as a whole."""
    holders = [(holder, field) for holder, message in MESSAGES.items() for field in message.field if inner_of(holder, field) == name]
    return bool(holders) and name not in seen


def main():
    table = fields.read(ROOT)
    seen = check_table(table)
    if not errors:
        used = uses()
        check_truth(table, used)
        check_rest(table, used)
        check_upstream(table)
    known = contract()
    if known is not None and not errors:
        check_contract(table, seen, known)
    before, after = fields.split(fields.PAGE.read_text())
    if before is None or before + fields.page(table) + after != fields.PAGE.read_text():
        error("docs/compatibility.md is not what tools/fields.py makes of the table: make docs")
    for line in errors[:50]:
        print(line)
    counts = {verdict: sum(len([v for _, v, _ in m.verdicts() if v == verdict]) for m in table) for verdict in fields.VERDICTS}
    print(f"{len(table)} messages, {counts}; the contract was {'compared' if known else 'not there'}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
