#!/usr/bin/env python3
"""Lint: who may include whom, file and function sizes, clang-format, shellcheck, clang-tidy (--no-tidy: without it).

Banned calls need no check here: src/base/banned.h fails the compile.
"""
import concurrent.futures
import hashlib
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
BUILD = TOP / "build/ninja"
ROOMS = ["base", "net", "http", "wire", "model"]  # each may use those before it, and itself
PROGRAMS = ["proxy", "control", "ctl"]            # each may use all rooms, never another program
# Inside lateen-proxy the same: each may use those before it. The data path is one level, whose rooms know each other.
PROXY_LEVELS = [["conf"], ["lb"], ["run", "http", "filter", "told"], ["compile"], ["table"], ["xds"], ["health"], ["start"],
                ["agent"], ["admin"], ["process"]]
FILE_LINES_MAX = 1500
COLUMNS_MAX = 100
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


def proxy_level(room):
    return next((at for at, rooms in enumerate(PROXY_LEVELS) if room in rooms), None)


def check_proxy_include(user, target):
    """Both are paths below src, of lateen-proxy."""
    rooms = [pathlib.PurePath(path).parts[1] for path in (user, target)]
    levels = [proxy_level(room) for room in rooms]
    for room, level in zip(rooms, levels):
        if level is None:
            return f"proxy/{room} is no room of lateen-proxy"
    if levels[0] < levels[1]:
        return f"proxy/{rooms[0]} must not include proxy/{rooms[1]}"
    if target.endswith("_priv.h") and rooms[0] != rooms[1]:
        return f"{target} is private to proxy/{rooms[1]}"
    return None


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
        elif used == room == "proxy":
            wrong = check_proxy_include(path.relative_to(TOP / "src"), target)
            if wrong:
                yield f"{where}: {wrong}"


def check_sizes(path):
    lines = path.read_text().splitlines()
    name = path.relative_to(TOP)
    if len(lines) > FILE_LINES_MAX:
        yield f"{name}: {len(lines)} lines, more than {FILE_LINES_MAX}"
    if not lines or not lines[0].startswith("/*"):
        yield f"{name}: does not open with what the file is for"
    start = None
    for number, line in enumerate(lines, 1):
        # a long string, a long name and a row of a table may stay whole
        if len(line) > COLUMNS_MAX and '"' not in line and len(line.split()) > 2 and path.suffix != ".def":
            yield f"{name}:{number}: {len(line)} columns, more than {COLUMNS_MAX}"
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


def with_headers(path, seen):
    """The file and every header of ours that it includes, at any depth."""
    if path in seen or not path.exists():
        return seen
    seen.add(path)
    for target in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
        with_headers(TOP / "src" / target, seen)
    return seen


def tidy_one(path):
    """clang-tidy takes seconds a file: what it said is kept until the file, its headers or the settings change."""
    digest = hashlib.sha256((TOP / ".clang-tidy").read_bytes())
    for used in sorted(with_headers(path, set())):
        digest.update(used.read_bytes())
    kept = TOP / "build/lint" / f"{path.relative_to(TOP)}".replace("/", "-")
    if kept.exists():
        key, _, said = kept.read_text().partition("\n")
        if key == digest.hexdigest():
            return said.splitlines()
    result = subprocess.run(["clang-tidy", "-p", str(BUILD), "--quiet", str(path)], cwd=TOP, capture_output=True, text=True)
    said = [re.sub(r"^\S*?/(?=src/)", "", line) for line in result.stdout.splitlines()
            if re.search(r": (warning|error): ", line)]
    if result.returncode == 0 or said:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text("\n".join([digest.hexdigest(), *said]))
    else:
        said = [f"{path.relative_to(TOP)}: clang-tidy failed: {result.stderr.strip()[-300:]}"]
    return said


def check_tidy(paths):
    if not (BUILD / "compile_commands.json").exists():
        yield "clang-tidy has no compile_commands.json: run make first"
        return
    built = (BUILD / "compile_commands.json").read_text()
    code = [path for path in paths if path.suffix == ".c" and f"{path.relative_to(TOP)}" in built]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from sorted({line for said in pool.map(tidy_one, code) for line in said})


def check_scripts():
    scripts = [path for folder in ("tools", "examples", "tests", ".ci") for path in sorted((TOP / folder).rglob("*"))
               if path.is_file() and re.match(rb"#!/(usr/)?bin/(env )?(ba)?sh", path.read_bytes()[:20])]
    result = subprocess.run(["shellcheck", "--format=gcc", *map(str, scripts)], cwd=TOP, capture_output=True, text=True)
    for line in result.stdout.splitlines():
        yield line.replace(str(TOP) + "/", "")


def main():
    paths = list(sources())
    problems = []
    for path in paths:
        problems += check_includes(path)
        problems += check_sizes(path)
    problems += check_format(paths)
    problems += check_scripts()
    if "--no-tidy" not in sys.argv:
        problems += check_tidy(paths)
    print("\n".join(problems) if problems else f"lint: {len(paths)} files, nothing to say")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
