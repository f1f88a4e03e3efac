#!/bin/sh
# Runs every libFuzzer target for a while (default 60 s each), on the corpus in the tree; new finds go to build/fuzz.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
dir=build/fuzz
if [ ! -f "$dir/build.ninja" ]; then
    mkdir -p build
    CC=clang CXX=clang++ meson setup "$dir" -Dfuzz=true -Dtests=true -Db_lundef=false \
        -Db_sanitize=address,undefined -Dbuildtype=debugoptimized >build/fuzz.log 2>&1 || {
        cat build/fuzz.log
        exit 1
    }
fi
ninja -C "$dir" --quiet fuzzers
# a finding of UBSan ends the run as one of ASan does
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export ASAN_OPTIONS=detect_stack_use_after_return=1
found=0
for target in "$dir"/tests/fuzz/fuzz_*; do
    if [ ! -f "$target" ]; then continue; fi
    name=$(basename "$target" | sed 's/^fuzz_//')
    mkdir -p "$dir/corpus/$name"
    log="$dir/$name.log"
    "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 -print_funcs=0 \
        -artifact_prefix="$dir/$name-" "$dir/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1 || {
        cat "$log"
        echo "fuzz: $name failed; its input is $dir/$name-*"
        exit 1
    }
    echo "fuzz: $name, $seconds s: $(sed -n 's/^stat::number_of_executed_units: //p' "$log") inputs, clean"
    found=$((found + 1))
done
echo "fuzz: $found targets clean"
[ "$found" -gt 0 ]
