"""`lateen-proxy run -- COMMAND`: a job beside a sidecar. The sidecar's two ports are real servers of this scene."""
import os
import signal
import subprocess
import time

import pytest

from lib.backend import Backend, free_port
from lib.proxy import BUILD

pytestmark = pytest.mark.quick


class Sidecar:
    """Ready when it is told so; notes that it was told to quit."""

    def __init__(self, is_ready=True):
        self.is_ready, self.quits = is_ready, 0
        self.health, self.status = Backend("health", self.ready), Backend("status", self.quit)

    def ready(self, _request, _connection):
        return (200, [], b"") if self.is_ready else (503, [], b"no certificate yet")

    def quit(self, request, _connection):
        assert (request.method, request.path) == ("POST", "/quitquitquit")
        self.quits += 1
        return 200, [], b"OK"

    def flags(self):
        return ["--url", f"http://localhost:{self.health.port}/healthz/ready", "--status-port", str(self.status.port),
                "--periodMillis", "20"]


@pytest.fixture
def sidecar():
    made = Sidecar()
    yield made
    made.health.close()
    made.status.close()


def run(*arguments, **options):
    return subprocess.Popen([BUILD / "lateen-proxy", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def end(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_the_jobs_code_is_the_exit_code(sidecar, script, code):
    assert end(run("run", *sidecar.flags(), "--", "sh", "-c", f"echo done; {script}")) == (code, "done\n", "")
    assert sidecar.quits == 1


def test_it_waits_until_the_sidecar_is_ready(sidecar, tmp_path):
    sidecar.is_ready = False
    mark = tmp_path / "mark"
    process = run("run", *sidecar.flags(), "--", "touch", str(mark))
    while len(sidecar.health.requests) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    assert not mark.exists() and sidecar.quits == 0
    sidecar.is_ready = True
    assert end(process)[0] == 0 and mark.exists() and sidecar.quits == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_go_on_to_the_job(sidecar, tmp_path, number):
    mark = tmp_path / "mark"
    process = run("run", *sidecar.flags(), "--", "sh", "-c", f"trap 'echo told; exit 5' {int(number)}; touch {mark}; while :; do sleep 0.05; done")
    while not mark.exists():
        time.sleep(0.01)
    process.send_signal(number)
    assert end(process) == (5, "told\n", "") and sidecar.quits == 1


def test_a_signal_before_the_start_ends_it(sidecar, tmp_path):
    sidecar.is_ready = False
    process = run("run", *sidecar.flags(), "--", "touch", str(tmp_path / "mark"))
    while not sidecar.health.requests:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143 and not (tmp_path / "mark").exists()


def test_what_is_wrong_is_said(sidecar, tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}/healthz/ready"
    code, _, err = end(run("run", "--url", nobody, "--timeoutSeconds", "1", "--", "true"))
    assert code == 125 and "no sidecar answers on 127.0.0.1:" in err and "is this Pod injected" in err
    sidecar.is_ready = False
    code, _, err = end(run("run", *sidecar.flags(), "--timeoutSeconds", "1", "--", "true"))
    assert code == 125 and "the sidecar is not ready" in err and "503 no certificate yet" in err
    sidecar.is_ready = True
    code, _, err = end(run("run", *sidecar.flags(), "--", str(tmp_path / "nothing")))
    assert code == 127 and "No such file" in err and sidecar.quits == 1
    (tmp_path / "text").write_text("x")
    assert end(run("run", *sidecar.flags(), "--", str(tmp_path / "text")))[0] == 126
    for wrong in (["run"], ["run", "--"], ["run", "--url", "https://x/", "--", "true"], ["run", "--periodMillis", "0", "--", "true"],
                  ["wait", "--", "true"], ["run", "--no-such-flag", "--", "true"]):
        assert end(run(*wrong))[0] == 125, wrong


def test_the_sidecar_may_stay_and_may_be_gone(sidecar):
    assert end(run("run", *sidecar.flags(), "--keep-sidecar", "--", "true"))[0] == 0 and sidecar.quits == 0
    sidecar.status.close()
    code, _, err = end(run("run", *sidecar.flags(), "--", "sh", "-c", "exit 3"))
    assert code == 3 and "was not told to quit" in err


def test_wait_is_pilot_agents(sidecar):
    link = "pilot-agent"
    process = subprocess.run([link, "wait", *sidecar.flags()[:2]], executable=BUILD / "lateen-proxy", capture_output=True, timeout=30)
    assert process.returncode == 0 and sidecar.quits == 0
    sidecar.is_ready = False
    code, _, err = end(run("wait", *sidecar.flags()[:2], "--timeoutSeconds", "1"))
    assert code == 1 and "is not ready" in err


def test_orphans_of_the_job_are_reaped(sidecar):
    """As the first process of a container it has children that it never started."""
    inside = "(sleep 0.1 &) ; sleep 0.4; for p in /proc/[0-9]*; do grep -s '^State:.*Z' $p/status; done; true"
    made = subprocess.run(["unshare", "-Urpf", "--mount-proc", BUILD / "lateen-proxy", "run", *sidecar.flags(), "--", "sh", "-c", inside],
                          capture_output=True, text=True, timeout=30, env=dict(os.environ))
    assert made.returncode == 0 and "Z (zombie)" not in made.stdout, made
