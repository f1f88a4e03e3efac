#!/bin/sh
# Installs what building and testing need and is not there yet: Debian packages, and Python packages in build/venv.
# Asks for root only when a Debian package is missing.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
venv="$top/build/venv"

packages="
build-essential pkgconf meson ninja-build git ca-certificates curl
clang clang-format clang-tidy libclang-rt-14-dev llvm shellcheck
libssl-dev libc-ares-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libprotobuf-dev
libyaml-dev libjansson-dev libre2-dev libmnl-dev libnftnl-dev libnftables-dev libcmocka-dev
nftables iproute2 uidmap util-linux procps openssl
python3 python3-venv
wrk nghttp2-client nghttp2-server haproxy nginx-light nodejs valgrind
"

missing=""
# shellcheck disable=SC2086
present=" $(dpkg-query -W -f='${db:Status-Status}/${Package} ' $packages 2>/dev/null || true)"
for package in $packages; do
    # nginx may be there in another flavour
    if [ "$package" = nginx-light ] && [ -x /usr/sbin/nginx ]; then continue; fi
    case $present in *" installed/$package "*) ;; *) missing="$missing $package" ;; esac
done

if [ -n "$missing" ]; then
    echo "deps: installing:$missing"
    root=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || {
            echo "deps: these Debian packages are missing, and there is no sudo to install them with; as root run:" >&2
            echo "  apt-get install --no-install-recommends$missing" >&2
            exit 1
        }
        root="sudo"
    fi
    # haproxy and nginx are only started by benchmarks: no services of theirs on this machine
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        $root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
        trap '$root rm -f $policy' EXIT
    fi
    $root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # shellcheck disable=SC2086
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

wanted=$(cat "$top/tools/requirements.txt")
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/.requirements" 2>/dev/null)" != "$wanted" ]; then
    echo "deps: Python packages into build/venv"
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        mkdir -p "$top/build"
        rm -rf "$venv"
        python3 -m venv "$venv"
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$top/tools/requirements.txt"
    printf '%s' "$wanted" >"$venv/.requirements"
fi
