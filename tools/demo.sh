#!/bin/sh
# Brings up examples/bookshop and shows what a mesh does: who runs, where requests go, who is let in, what is counted.
# KEEP=1 leaves it up until Ctrl-C.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
lateen="$top/build/lateen"
shop="$top/examples/bookshop"
url=http://localhost:30080
log=$(mktemp)
mesh_pid=""

finish() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$mesh_pid" ] && kill -0 "$mesh_pid" 2>/dev/null; then
        kill -INT "$mesh_pid"
        wait "$mesh_pid" 2>/dev/null || true
    fi
    [ "$status" -eq 0 ] || { echo; echo "demo: failed; what the mesh said last:"; tail -20 "$log"; }
    rm -f "$log"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

title() {
    printf '\n\033[1m%s\033[0m\n' "$1"
}

fail() {
    echo "demo: $1" >&2
    exit 1
}

title "lateen up examples/bookshop"
"$lateen" up "$shop" >"$log" 2>&1 &
mesh_pid=$!
for _ in $(seq 100); do
    kill -0 "$mesh_pid" 2>/dev/null || fail "the mesh ended: $(tail -1 "$log")"
    "$lateen" workloads -m "$shop" >/dev/null 2>&1 && break
    sleep 0.1
done
"$lateen" workloads --wait --timeout 60 -m "$shop" >/dev/null || fail "not all workloads are ready"
for _ in $(seq 100); do
    curl -fso /dev/null -H 'Host: www.bookshop.example' "$url/" && break
    sleep 0.1
done
"$lateen" workloads -m "$shop"

title "1000 requests to catalog.bookshop.example, through the gateway: 90 % are for v1, 10 % for v2"
curl -fsS -H 'Host: catalog.bookshop.example' "$url/books?[1-1000]" | grep -o '"version":"v[0-9]"' | sort | uniq -c |
    awk '{ gsub(/[":]|version/, "", $2); total += $1; printf "  %-4s %5d\n", $2, $1 } END { if (total != 1000) exit 1 }' ||
    fail "not all of 1000 requests were answered"

title "with x-canary: true, 20 requests: v2 alone"
canary=$(curl -fsS -H 'Host: catalog.bookshop.example' -H 'x-canary: true' "$url/books?[1-20]" | grep -o '"version":"v2"' | wc -l)
printf '  v2   %5d\n' "$canary"
[ "$canary" -eq 20 ] || fail "the header did not choose the canary"

title "who may call: mTLS is STRICT"
said=$("$lateen" curl -m "$shop" storefront http://catalog:8080/ | grep -o '"peer":"[^"]*"')
echo "  storefront, in the mesh:       answered; catalog saw $said"
if refused=$("$lateen" curl -m "$shop" legacy http://catalog:8080/ 2>&1); then
    fail "a plaintext caller was answered: $refused"
fi
echo "  legacy, outside, in plaintext: $refused"

title "what catalog's sidecar counted"
"$lateen" exec -m "$shop" catalog-v1 -- curl -fsS http://127.0.0.1:15090/stats/prometheus |
    grep '^istio_requests_total{reporter="destination",source_workload="storefront"' | head -1 | fold -w 120 | sed 's/^/  /'

if [ "${KEEP:-}" = 1 ]; then
    title "it stays up until Ctrl-C; try: curl -H 'Host: www.bookshop.example' $url/"
    wait "$mesh_pid"
else
    title "done; make demo KEEP=1 leaves it up"
fi
