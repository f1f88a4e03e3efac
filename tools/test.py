#!/usr/bin/env python3
"""Runs the tests and ends with one line: "N passed, N failed".

Unit tests and fuzz corpora run under `meson test` (a cmocka case counts as one), scenes under pytest. What lint says
without clang-tidy takes two seconds and counts as one test.
With CI=true a skipped test is a failure.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

LOG_CHARS_MAX = 4000  # of a failed test, of each stream
SCENE_SECONDS_MAX = 600  # one that hangs fails, and the others still run
# Tests wait for sockets and timers more than they compute: one process more than cores keeps the machine busy.
PROCESSES = str(min((os.cpu_count() or 1) + 1, 8))
TOP = pathlib.Path(__file__).resolve().parent.parent


def run_meson(build, suites):
    """Returns (passed, failed, skipped) counted by TAP line where a test prints TAP, else by executable."""
    listed = subprocess.run(["meson", "test", "-C", build, "--list"], capture_output=True, text=True, cwd=TOP).stdout
    if not any(suite in listed for suite in suites):
        return 0, 0, 0
    command = ["meson", "test", "-C", build, "--no-rebuild", "--num-processes", PROCESSES, "--print-errorlogs"]
    for suite in suites:
        command += ["--suite", suite]
    status = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    passed = failed = skipped = 0
    for line in (TOP / build / "meson-logs/testlog.json").read_text().splitlines():
        test = json.loads(line)
        tap = re.findall(r"^(ok|not ok)\b[^\n#]*(# SKIP.*)?", test.get("stdout", ""), re.M)
        good = test["result"] in ("OK", "EXPECTEDFAIL")
        if test["result"] == "SKIP":
            skipped += 1
            print(f"SKIPPED {test['name']}: {test.get('stdout', '').partition('# SKIP')[2].strip()}")
        elif not tap:
            passed, failed = passed + good, failed + (not good)
        else:
            # cmocka writes "not ok 3 # SKIP name" for a case that was skipped
            bad = sum(1 for word, skip in tap if word == "not ok" and not skip)
            over = sum(1 for _, skip in tap if skip)
            for _, skip in tap:
                if skip:
                    print(f"SKIPPED {test['name']}: {skip.removeprefix('# SKIP').strip()}")
            if not good and bad == 0 and test.get("returncode") != 0:
                bad = 1
            failed, skipped = failed + bad, skipped + over
            passed += sum(1 for word, skip in tap if word == "ok" and not skip)
        if not good and test["result"] != "SKIP" and test.get("returncode") != 0:
            print(f"FAILED {test['name']}: {test['result']}, {' '.join(test['command'])}")
            print("\n".join(test.get(stream, "")[-LOG_CHARS_MAX:] for stream in ("stdout", "stderr")))
    if status.returncode != 0 and failed + skipped == 0:  # meson itself went wrong
        print(status.stdout[-LOG_CHARS_MAX:])
        failed = 1
    return passed, failed, skipped


def run_scenes(build, marks, programs="build", more_env=None):
    scenes = TOP / "tests/scene"
    report = TOP / build / "scenes.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", str(scenes), "-q", "-rsfE", "-p", "no:cacheprovider", f"--junitxml={report}",
               f"--timeout={SCENE_SECONDS_MAX}", "-n", PROCESSES]
    if marks:
        command += ["-m", marks]
    env = dict(os.environ, LATEEN_BUILD=str(TOP / programs), LATEEN_SOURCE_ROOT=str(TOP), **(more_env or {}))
    status = subprocess.run(command, cwd=TOP, env=env).returncode
    if status == 5:  # nothing was selected
        return 0, 0, 0
    if not report.exists():
        return 0, 1, 0
    suites = ET.parse(report).getroot().iter("testsuite")
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests"))
        failed += int(suite.get("failures")) + int(suite.get("errors"))
        skipped += int(suite.get("skipped"))
    if status not in (0, 1):
        failed = max(failed, 1)
    return total - failed - skipped, failed, skipped


def run_sanitized(name, sanitizers):
    """All scenes but those that measure, on programs built with these sanitizers; what one of them says fails its scene."""
    build, reports = TOP / "build" / name, TOP / "build" / name / "reports"
    if not (build / "build.ninja").exists():
        subprocess.run(["meson", "setup", str(build), f"-Db_sanitize={sanitizers}", "-Db_lundef=false", "-Dtests=false",
                        "-Dbuildtype=debugoptimized"], cwd=TOP, check=True, stdout=subprocess.DEVNULL)
    programs = ["src/ctl/lateen", "src/control/lateend", "src/proxy/lateen-proxy"]
    subprocess.run(["ninja", "-C", str(build), "--quiet", *programs], check=True)
    (build / "programs").mkdir(exist_ok=True)
    for program in programs:
        link = build / "programs" / pathlib.Path(program).name
        link.unlink(missing_ok=True)
        link.symlink_to(build / program)
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(mode=0o777)
    reports.chmod(0o777)  # programs of other users write theirs as well
    said = f"log_path={reports}/report:print_stacktrace=1:halt_on_error=1:exitcode=66"
    options = {f"{which}_OPTIONS": said for which in ("ASAN", "UBSAN", "TSAN")}
    print(f"scenes with {sanitizers}:", flush=True)
    return run_scenes(f"build/{name}", "not long", f"build/{name}/programs", dict(options, LATEEN_SANITIZER_REPORTS=str(reports)))


def run_lint():
    """Returns what is wrong with layering, sizes, format and scripts; clang-tidy, which takes minutes, is `make lint`'s."""
    result = subprocess.run([sys.executable, str(TOP / "tools/lint.py"), "--no-tidy"], cwd=TOP, capture_output=True, text=True)
    return "" if result.returncode == 0 else result.stdout + result.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/ninja")
    parser.add_argument("--quick", action="store_true", help="unit tests and scenes marked quick")
    parser.add_argument("--long", action="store_true", help="scenes marked long, too, and all others under sanitizers")
    args = parser.parse_args()
    marks = "quick and not slow" if args.quick else "" if args.long else "not long"
    started = time.monotonic()
    counts = [run_meson(args.build, ["unit", "corpus"]), run_scenes(args.build, marks)]
    if args.long:
        counts += [run_sanitized("scenes-asan", "address,undefined"), run_sanitized("scenes-tsan", "thread")]
    lint = run_lint()
    counts.append((not lint, bool(lint), 0))
    passed, failed, skipped = (sum(column) for column in zip(*counts))
    if lint:  # last, where it is seen
        print(f"FAILED lint\n{lint}", end="")
    if os.environ.get("CI") == "true" and skipped:
        print(f"CI: {skipped} skipped tests count as failures")
        failed, skipped = failed + skipped, 0
    print(f"(in {time.monotonic() - started:.0f} s" + (f"; {skipped} skipped)" if skipped else ")"))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
