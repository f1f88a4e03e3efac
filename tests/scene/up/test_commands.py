"""exec, curl, logs: what a person does with a running mesh, and what the containers of one can do to the machine."""
import os
import pwd
import pty
import subprocess

import pytest

from mesh_lib import deployment, service, wait_until

pytestmark = pytest.mark.quick

SLEEP = ["sleep", "1000"]


def test_exec_is_inside(mesh):
    mesh.write("a.yaml", deployment("app", SLEEP, port=0, env="{name: COLOUR, value: blue}, {name: TWICE, value: $(COLOUR)-$(COLOUR)}, "
                                    "{name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.name}}}"))
    mesh.up()
    pod = mesh.workloads()["app"][0]
    out = mesh.exec("app", "sh", "-c", "hostname; echo $TWICE; echo $WHO; id -u; ps -e | wc -l; cat /etc/hosts").split("\n")
    assert out[:4] == [pod["name"], "blue-blue", pod["name"], "10001"]
    assert int(out[4]) < 10  # it sees its own container only
    assert f"{pod['address']}\t{pod['name']}" in out
    assert mesh.exec_code("app", "sh", "-c", "exit 9") == 9
    assert mesh.exec_code("app", "sh", "-c", "kill -9 $$") == 137
    assert mesh.exec_code("app", "nonsense") == 127
    as_kubectl_has_it = [mesh.lateen, "exec", "-m", str(mesh.dir), "-it", "app", "--", "sh"]
    assert subprocess.run(as_kubectl_has_it, input="exit 9\n", text=True, timeout=20).returncode == 9


def test_logs_have_what_is_written_by_name(mesh):
    """Many programs open /dev/stdout for their logs; a container does not run as who made the pipe behind it."""
    mesh.write("a.yaml", deployment("app", ["sh", "-c", "echo one >/dev/stdout; echo two >>/dev/stderr; exec sleep 1000"], port=0))
    mesh.up()
    wait_until(lambda: mesh.logs("app").split() == ["one", "two"], 10, "both lines")


def test_exec_has_the_terminal(mesh):
    mesh.write("a.yaml", deployment("app", SLEEP, port=0))
    mesh.up()
    master, slave = pty.openpty()
    process = subprocess.Popen([mesh.lateen, "exec", "-m", str(mesh.dir), "app", "--", "sh", "-c", "test -t 0 && echo yes-a-terminal"],
                               stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    assert process.wait(10) == 0
    assert b"yes-a-terminal" in os.read(master, 4096)
    os.close(master)


def test_containers_cannot_harm_the_machine(mesh, tmp_path):
    mesh.write("a.yaml", deployment("app", SLEEP, port=0) + deployment("other", SLEEP, port=0))
    mesh.up()
    victim = tmp_path / "victim"
    victim.write_text("x")
    victim.chmod(0o666)
    for attempt in (f"echo y > {victim}", "touch /usr/bin/x", "touch /etc/x", "mount -t tmpfs t /mnt", "ip link add x type dummy",
                    "chroot /", "unshare -U true", "nft list ruleset", "ls /run/lateen/ | grep -v bin",
                    "cat /proc/1/environ", "cat /etc/shadow"):
        assert mesh.exec_code("app", "sh", "-c", attempt) != 0, attempt
    assert victim.read_text() == "x"
    status = mesh.exec("app", "grep", "-E", "Cap|NoNewPrivs", "/proc/self/status").split()
    assert status[1::2] == ["0000000000000000"] * 5 + ["1"]
    # its user owns nothing on the machine
    outside = [(int(inside), int(first), int(count)) for inside, first, count in
               (line.split() for line in mesh.exec("app", "cat", "/proc/self/uid_map").splitlines())]
    mapped = next(first + 10001 - inside for inside, first, count in outside if inside <= 10001 < inside + count)
    assert mapped >= 100000 and mapped not in {entry.pw_uid for entry in pwd.getpwall()}
    # /tmp is the container's alone
    assert mesh.exec("app", "ls", "-A", "/tmp") == "" and os.listdir("/tmp") != []
    assert mesh.exec_code("app", "touch", "/tmp/mine") == 0
    mesh.exec_code("app", "sh", "-c", "kill -9 -1")  # all that it may signal: itself
    wait_until(lambda: mesh.workloads()["app"][0]["containers"][0]["restarts"] == 1, 10, "its restart")
    assert mesh.workloads()["other"][0]["containers"][0]["restarts"] == 0


def test_curl(mesh):
    mesh.write("a.yaml", deployment("app", SLEEP, port=0) + deployment("web") + service("web"))
    mesh.up()
    answer = mesh.get("app", "http://web/a/b?c=d", "-X", "PUT", "-H", "X-Colour: blue", "-d", "12345")
    assert (answer["method"], answer["path"], answer["query"], answer["bodyBytes"]) == ("PUT", "/a/b", "c=d", 5)
    assert answer["headers"]["X-Colour"] == "blue" and answer["host"] == "web"
    assert mesh.curl("app", "http://web/status/418", "-i").startswith("HTTP/1.1 418")

    def code(*arguments):
        return subprocess.run([mesh.lateen, "curl", "-m", str(mesh.dir), *arguments], capture_output=True, timeout=20).returncode

    assert code("app", "-f", "http://web/status/503") == 22
    assert code("app", "http://nowhere/") == 6
    assert code("app", "http://web:81/") == 7
    assert code("app", "https://web/") == 2
    assert code("nobody", "http://web/") == 1
    assert code("app", "--frobnicate", "http://web/") == 2
    assert code("app", "--max-time", "soon", "http://web/") == 2


def test_who_is_not_there_is_told_from_who_is(mesh):
    mesh.write("a.yaml", deployment("web-v1", SLEEP, port=0) + deployment("web-v2", SLEEP, port=0) + deployment("other", SLEEP, port=0))
    mesh.up()

    def mistake(*arguments):
        done = subprocess.run([mesh.lateen, *arguments], capture_output=True, text=True, timeout=10)
        assert done.returncode == 1
        return done.stderr

    where = ["-m", str(mesh.dir)]
    answers = {mistake("logs", *where, "web") for _ in range(3)}
    assert answers == {'lateen: no workload "web"; did you mean default/web-v1 or default/web-v2?\n'}
    assert mistake("logs", *where, "shop/oth") == 'lateen: no workload "shop/oth"; did you mean default/other?\n'
    assert "`lateen workloads` lists them" in mistake("logs", *where, "nobody")
    assert mistake("logs", *where, "-c", "none", "other").endswith('has no container "none"; it has main\n')


def test_logs_follow(mesh):
    mesh.write("a.yaml", deployment("app", ["sh", "-c", "i=0; while sleep 0.2; do i=$((i+1)); echo line $i; done"], port=0))
    mesh.up()
    process = subprocess.Popen([mesh.lateen, "logs", "-f", "-m", str(mesh.dir), "app"], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(6)]
    assert lines == [f"line {i}\n" for i in range(1, 7)]
    mesh.end()
    assert process.wait(5) == 0


def test_help_and_mistakes(mesh):
    def ask(*arguments):
        done = subprocess.run([mesh.lateen, *arguments], capture_output=True, text=True, timeout=10)
        return done.returncode, done.stdout + done.stderr

    code, text = ask("--help")
    assert code == 0 and all(word in text for word in ("up", "down", "workloads", "exec", "logs", "curl"))
    assert "standin" not in text
    for command in ("up", "down", "workloads", "exec", "logs", "curl"):
        code, text = ask(command, "--help")
        assert code == 0 and text.startswith(f"usage: lateen {command}")
        assert ask("help", command) == (code, text)
    assert ask("frobnicate")[0] == 2
    assert ask("--version") == ask("version") and ask("version")[1].startswith("lateen 0.")
    code, text = ask("exec", "-xq", "app", "--", "ls")
    assert code == 2 and "unknown option -x\n" in text
    code, text = ask("up")
    assert code == 2 and "which directory?" in text
    code, text = ask("logs", "--tail", "5", "x")
    assert code == 2 and "unknown option --tail" in text and "--follow" in text
    code, text = ask("up", "/no/such/directory")
    assert code == 1 and "/no/such/directory: No such file" in text
