#!/usr/bin/env python3
"""Compares the schemas in src/wire/proto with the descriptors of the Python package xds-protos.

Every field's number, type, label and oneof, and every enum value, must be the same there. What that package does not
know at all must be listed in protos_newer.txt, so that a typing mistake cannot hide as "newer than the package".
Usage: check_protos.py SOURCE_ROOT    (needs protoc on PATH). Exit code 77: xds-protos is not installed.
"""

import importlib
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    from google.protobuf import descriptor_pb2, descriptor_pool
    import envoy.type.v3.percent_pb2  # noqa: F401  (is the package there?)
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

# Not in xds-protos because they are Istio's, gRPC's or OpenTelemetry's newer ones.
FOREIGN = (
    "grpc.health.v1.",
    "istio.",
    "io.istio.",
    "stats.",
    "envoy.tcp.metadataexchange.",
    "opentelemetry.",
)

# Envoy's, newer than the installed package: a list beside this file.
NEWER_FILE = pathlib.Path(__file__).with_name("protos_newer.txt")
NEWER = {line for line in NEWER_FILE.read_text().splitlines() if line and not line.startswith("#")}

# Roots of the package tree that hold what we compare with.
TREES = (
    "envoy/config envoy/type envoy/service envoy/extensions envoy/data udpa/type xds/core xds/type google/rpc "
    "google/protobuf"
).split()

FIELD = descriptor_pb2.FieldDescriptorProto
SCALARS = {number: name for name, number in FIELD.Type.items()}


def theirs():
    """The pool of the installed package."""
    root = pathlib.Path(importlib.import_module("envoy.type.v3.percent_pb2").__file__).parents[3]
    for tree in TREES:
        for file in sorted((root / tree).rglob("*_pb2.py")):
            importlib.import_module(str(file.relative_to(root))[:-3].replace("/", "."))
    return descriptor_pool.Default()


def ours(source):
    """FileDescriptorProtos of the schemas in the tree."""
    files = sorted((source / "src/wire/proto").glob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(
            ["protoc", f"--proto_path={source / 'src'}", "--proto_path=/usr/include", f"--descriptor_set_out={out.name}"]
            + [str(f) for f in files],
            check=True,
        )
        return descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes()).file


def recursive(source):
    """{(c name of message, field number): c name of the message inside} of wire/recursive.def."""
    text = (source / "src/wire/recursive.def").read_text()
    found = re.findall(r"^LT_RECURSIVE\((\w+), (\d+), (\w+)\)", text, re.M)
    return {(message, int(number)): inner for message, number, inner in found}


def c_name(c_package, path):
    """protoc-c's spelling: RBACPerRoute becomes rbacper_route."""
    lower = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", "__".join(path)).lower()
    return c_package.replace(".", "__") + "__" + lower.replace("___", "__")


class Check:
    def __init__(self, source):
        self.pool = theirs()
        self.recursive = recursive(source)
        self.names = {}  # full name -> c name
        self.unmatched = set(self.recursive)
        self.errors = []
        self.compared = 0
        self.newer = set()

    def error(self, where, text):
        self.errors.append(f"{where}: {text}")

    def unknown(self, name):
        self.newer.add(name)
        if not name.startswith(FOREIGN) and name not in NEWER:
            self.error(name, "unknown to xds-protos and not listed as newer")

    def learn_names(self, message, package, c_package, path):
        here = path + [message.name]
        self.names[f"{package}.{'.'.join(here)}"] = c_name(c_package, here)
        for nested in message.nested_type:
            self.learn_names(nested, package, c_package, here)

    def enum(self, enum, name):
        try:
            other = self.pool.FindEnumTypeByName(name)
        except KeyError:
            return self.unknown(name)
        values = {v.name: v.number for v in other.values}
        for value in enum.value:
            self.compared += 1
            if value.name not in values:
                self.unknown(f"{name}.{value.name}")
            elif values[value.name] != value.number:
                self.error(f"{name}.{value.name}", f"is {value.number}, must be {values[value.name]}")

    def message(self, message, name):
        for nested in message.nested_type:
            self.message(nested, f"{name}.{nested.name}")
        for enum in message.enum_type:
            self.enum(enum, f"{name}.{enum.name}")
        try:
            other = self.pool.FindMessageTypeByName(name)
        except KeyError:
            for field in message.field:
                self.inner(field, name, None)
            return self.unknown(name)
        for field in message.field:
            self.field(message, field, name, other)

    def inner(self, field, name, other):
        """A bytes member that stands for a message: must be in recursive.def, with the right type."""
        key = (self.names[name], field.number)
        inner = self.recursive.get(key)
        self.unmatched.discard(key)
        if other is not None and inner is not None and inner != self.names.get(other.message_type.full_name):
            self.error(f"{name}.{field.name}", f"recursive.def says {inner}, must be {other.message_type.full_name}")
        return inner is not None

    def field(self, message, field, name, parent):
        where = f"{name}.{field.name}"
        other = parent.fields_by_name.get(field.name)
        if other is None:
            taken = parent.fields_by_number.get(field.number)
            if taken is not None:
                self.error(where, f"number {field.number} belongs to {taken.name}")
            return self.unknown(where)
        self.compared += 1
        if other.number != field.number:
            self.error(where, f"is {field.number}, must be {other.number}")
        if other.is_repeated != (field.label == FIELD.LABEL_REPEATED):
            self.error(where, "repeated here or there, not both")
        self.oneof(message, field, where, other)
        self.type(field, name, where, other)

    def oneof(self, message, field, where, other):
        mine = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        real = other.containing_oneof
        real = real.name if real is not None and not real.name.startswith("_") else None
        if mine != real:
            self.error(where, f"oneof is {mine}, must be {real}")

    def type(self, field, name, where, other):
        if field.type == FIELD.TYPE_BYTES and other.type == FIELD.TYPE_MESSAGE:
            if not self.inner(field, name, other) and other.message_type.full_name not in NOT_DECODED:
                self.error(where, f"bytes for {other.message_type.full_name}, not in recursive.def")
        elif field.type != other.type:
            self.error(where, f"is {SCALARS[field.type]}, must be {SCALARS[other.type]}")
        elif other.message_type is not None and field.type_name[1:] != other.message_type.full_name:
            self.error(where, f"is {field.type_name[1:]}, must be {other.message_type.full_name}")
        elif other.enum_type is not None and field.type_name[1:] != other.enum_type.full_name:
            self.error(where, f"is {field.type_name[1:]}, must be {other.enum_type.full_name}")


# Schemas that we do not carry; the bytes are looked at for presence only.
NOT_DECODED = {
    "google.api.expr.v1alpha1.Expr",
    "google.api.expr.v1alpha1.CheckedExpr",
    "xds.type.matcher.v3.Matcher",
}


def main():
    source = pathlib.Path(sys.argv[1])
    check = Check(source)
    files = ours(source)
    for file in files:
        text = (source / "src" / file.name).read_text()
        c_package = re.search(r'c_package: "([^"]+)"', text).group(1)
        for message in file.message_type:
            check.learn_names(message, file.package, c_package, [])
    for file in files:
        for message in file.message_type:
            check.message(message, f"{file.package}.{message.name}")
        for enum in file.enum_type:
            check.enum(enum, f"{file.package}.{enum.name}")
    for message, number in sorted(check.unmatched):
        check.error("recursive.def", f"{message} has no bytes field {number}")
    for name in sorted(NEWER - check.newer):
        check.error(name, "listed as newer, but xds-protos knows it now: take it off the list")
    print("\n".join(check.errors))
    print(f"{check.compared} fields and enum values compared, {len(check.newer)} unknown there, {len(check.errors)} wrong")
    sys.exit(1 if check.errors else 0)


if __name__ == "__main__":
    main()
