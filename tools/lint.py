#!/usr/bin/env python3
"""Lint: who may include whom, file and function sizes, clang-format, clang-tidy."""
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ["base", "net", "http", "wire", "model"]  # each may use those before it, and itself
PROGRAMS = ["proxy", "control", "ctl"]            # each may use all rooms, never another program
FILE_LINES_MAX = 1500
FUNCTION_LINES_MAX = 100


def sources():
    for path in sorted((TOP / "src").rglob("*")):
        if path.suffix in (".c", ".h", ".cc", ".def"):
            yield path


def may_use(user, used):
    if user == used:
        return True
    if used in PROGRAMS:
        return False
    return user in PROGRAMS or ROOMS.index(used) < ROOMS.index(user)


def check_includes(path):
    room = path.relative_to(TOP / "src").parts[0]
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        used = target.split("/")[0]
        where = f"{path.relative_to(TOP)}:{number}"
        if "/" not in target or used not in ROOMS + PROGRAMS:
            yield f'{where}: "{target}" does not spell its room'
        elif not may_use(room, used):
            yield f"{where}: {room} must not include {used}"
        elif target.endswith("_priv.h") and used != room:
            yield f"{where}: {target} is private to {used}"


def check_sizes(path):
    lines = path.read_text().splitlines()
    name = path.relative_to(TOP)
    if len(lines) > FILE_LINES_MAX:
        yield f"{name}: {len(lines)} lines, more than {FILE_LINES_MAX}"
    if not lines or not lines[0].startswith("/*"):
        yield f"{name}: does not open with what the file is for"
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            if number - start > FUNCTION_LINES_MAX:
                yield f"{name}:{start}: a function of {number - start} lines, more than {FUNCTION_LINES_MAX}"
            start = None


def check_format(paths):
    code = [str(p) for p in paths if p.suffix in (".c", ".h", ".cc")]
    result = subprocess.run(["clang-format", "--dry-run", "-Werror", *code], cwd=TOP, capture_output=True, text=True)
    files = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", result.stderr, re.M)))
    for name in files:
        yield f"{pathlib.Path(name).relative_to(TOP)}: not as clang-format would have it (make fmt)"


def check_tidy(paths):
    build = TOP / "build/ninja"
    if not (build / "compile_commands.json").exists():
        return
    code = [str(p) for p in paths if p.suffix == ".c"]
    result = subprocess.run(["clang-tidy", "-p", str(build), "--quiet", *code], cwd=TOP, capture_output=True, text=True)
    for line in result.stdout.splitlines():
        if re.search(r": (warning|error): ", line):
            yield line.replace(str(TOP) + "/", "")


def main():
    paths = list(sources())
    problems = []
    for path in paths:
        problems += check_includes(path)
        problems += check_sizes(path)
    problems += check_format(paths)
    if "--no-tidy" not in sys.argv:
        problems += check_tidy(paths)
    print("\n".join(problems) if problems else f"lint: {len(paths)} files, nothing to say")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
