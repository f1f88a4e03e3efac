#!/bin/sh
# Brings up examples/bookshop and shows what a mesh does: who runs, where requests go, who is let in, what is counted.
# KEEP=1 leaves it up until Ctrl-C. SHOP and PORT: a copy of the example elsewhere.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
lateen="$top/build/lateen"
shop="${SHOP:-$top/examples/bookshop}"
url="http://localhost:${PORT:-30080}"
log=$(mktemp)
answers=$(mktemp)
mesh_pid=""

finish() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$mesh_pid" ] && kill -0 "$mesh_pid" 2>/dev/null; then
        kill -INT "$mesh_pid"
        wait "$mesh_pid" 2>/dev/null || true
    fi
    [ "$status" -eq 0 ] || [ "$status" -eq 130 ] || { printf '\nwhat the mesh said last:\n'; tail -20 "$log"; }
    rm -f "$log" "$answers"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

title() {
    if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$1"; else printf '\n%s\n' "$1"; fi
}

fail() {
    echo "demo: $1" >&2
    exit 1
}

# Tries a command for ten seconds.
try() {
    for _ in $(seq 100); do
        "$@" && return 0
        kill -0 "$mesh_pid" 2>/dev/null || fail "the mesh ended: $(tail -1 "$log")"
        sleep 0.1
    done
    return 1
}

# A stand-in's answer is JSON: the first value of a key.
value_of() {
    sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' | head -1
}

is_there() {
    "$lateen" workloads -m "$shop" >/dev/null 2>&1
}

serves() {
    curl -fso /dev/null -H "Host: $1" "$url/"
}

# How many of $answers came from each version, with a bar; fails when it isn't $1 of them.
show_versions() {
    grep -o '"version":"v[0-9]"' "$answers" | cut -d'"' -f4 | sort | uniq -c | awk -v wanted="$1" '
        { bar = sprintf("%*s", $1 * 50 / wanted + 0.5, ""); gsub(/ /, "#", bar); total += $1
          printf "  catalog %-3s %5d  %s\n", $2, $1, bar }
        END { exit total != wanted }' || fail "not all of $1 requests were answered"
}

# --- the mesh ---

title "A small shop, in ordinary Kubernetes and Istio YAML: lateen up examples/bookshop"
"$lateen" up "$shop" >"$log" 2>&1 &
mesh_pid=$!
try is_there || fail "the mesh does not answer"
"$lateen" workloads --wait --timeout 60 -m "$shop" >/dev/null || fail "not all workloads are ready"
grep -o 'the mesh is up.*s;' "$log" | sed 's/;$/. Each workload has a network, a sidecar and a certificate of its own:/; s/^/  /' || true
try serves www.bookshop.example || fail "the gateway does not lead to the shop"
try serves catalog.bookshop.example || fail "the gateway does not lead to the catalog"
echo
"$lateen" workloads -m "$shop" | sed 's/^/  /'
echo "  None of the images is needed: where a container's program is not on this machine, a stand-in answers."

# --- routing ---

title "1000 requests to catalog.bookshop.example, through the gateway. The VirtualService says 90 % for v1, 10 % for v2"
curl -fsS -H 'Host: catalog.bookshop.example' "$url/books?[1-1000]" >"$answers" || fail "a request failed"
show_versions 1000

title "20 more with the header x-canary: true, which the VirtualService sends to v2"
curl -fsS -H 'Host: catalog.bookshop.example' -H 'x-canary: true' "$url/books?[1-20]" >"$answers" || fail "a request failed"
show_versions 20
[ "$(grep -c '"version":"v2"' "$answers")" -eq 20 ] || fail "the header did not choose the canary"

# --- identity ---

title "Who may call catalog? The PeerAuthentication says: whoever has a certificate of this mesh (mTLS is STRICT)"
"$lateen" curl -m "$shop" storefront http://catalog:8080/ >"$answers" || fail "storefront got no answer"
peer=$(value_of peer <"$answers")
server=$(value_of pod <"$answers")
[ -n "$peer" ] || fail "storefront was answered, but proved no identity: $(cat "$answers")"
echo "  storefront, with a sidecar:        answered; catalog saw $peer"
if refused=$("$lateen" curl -m "$shop" legacy http://catalog:8080/ 2>&1); then
    fail "legacy has no sidecar and was answered: $refused"
fi
echo "  legacy, without one, in plaintext: refused (${refused#lateen curl: })"

# --- telemetry ---

title "What the sidecars of catalog counted"
"$lateen" exec -m "$shop" -c istio-proxy "$server" -- curl -fsS http://127.0.0.1:15090/stats/prometheus >"$answers" ||
    fail "the sidecar of $server has no metrics"
line=$(grep '^istio_requests_total{.*reporter="destination".*source_workload="storefront"' "$answers" | head -1)
[ -n "$line" ] || fail "the sidecar of $server did not count storefront's request: no istio_requests_total"
echo "  $server: istio_requests_total ${line##*\} }, with these labels among others:"
for label in reporter source_workload source_principal destination_service destination_version request_protocol response_code \
    connection_security_policy; do
    value=$(printf '%s\n' "$line" | sed -n 's/.*[{,]'"$label"'="\([^"]*\)".*/\1/p')
    [ -n "$value" ] || fail "istio_requests_total has no $label: $line"
    printf '      %-28s %s\n' "$label" "$value"
done
refusals=0
pods=$("$lateen" workloads --json -m "$shop" | sed -n 's/.*"name": *"\(catalog-[^"]*\)".*/\1/p')
for pod in $pods; do
    count=$("$lateen" exec -m "$shop" -c istio-proxy "$pod" -- curl -fsS http://127.0.0.1:15000/stats |
        sed -n 's/^listener\.0\.0\.0\.0_15006\.no_filter_chain_match: //p')
    [ "${count:-0}" -eq 0 ] || echo "  $pod: listener.0.0.0.0_15006.no_filter_chain_match $count: no way in without TLS"
    refusals=$((refusals + ${count:-0}))
done
[ "$refusals" -gt 0 ] || fail "no sidecar of catalog counted legacy's attempt"

if [ "${KEEP:-}" = 1 ]; then
    title "It stays up until Ctrl-C. In another terminal:"
    cat <<END
  curl -H 'Host: www.bookshop.example' $url/
  build/lateen workloads
  build/lateen exec storefront -- curl -s http://catalog:8080/
  build/lateen logs -f -c istio-proxy catalog-v1
  \$EDITOR examples/bookshop/catalog.yaml      # change the weights: the mesh follows
END
    trap 'exit 0' INT TERM
    wait "$mesh_pid"
else
    title "All as it should be. The mesh ends now; make demo KEEP=1 leaves it up, build/lateen up DIR runs your own"
fi
