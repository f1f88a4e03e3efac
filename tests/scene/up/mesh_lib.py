"""What scenes of `lateen up` share: a mesh from manifests, really in namespaces of its own, and the manifests."""
import contextlib
import json
import os
import signal
import subprocess
import textwrap
import threading
import time

from lib.backend import free_port  # noqa: F401, scenes import it from here
from lib.proxy import BUILD

LATEEN = str(BUILD / "lateen")


def run(*arguments, timeout=20, check=True):
    """One `lateen` command; its stdout."""
    done = subprocess.run([LATEEN, *arguments], capture_output=True, text=True, timeout=timeout)
    if check:
        assert done.returncode == 0, f"lateen {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_until(condition, seconds=20, what="the condition"):
    """Polls; the condition's value once it is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


class Mesh:
    lateen = LATEEN

    def __init__(self, directory, log):
        self.dir, self.log, self.process = directory, log, None

    def write(self, name, text):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def remove(self, name):
        (self.dir / name).unlink()

    def up(self, wait=True, limits=()):
        """limits: arguments of a shell's ulimit."""
        limited = ["bash", "-c", f'ulimit {" ".join(limits)} && exec "$@"', "bash"] if limits else []
        self.process = subprocess.Popen([*limited, LATEEN, "up", str(self.dir)], stdout=self.log.open("ab"), stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL)
        if wait:
            self.wait()
        return self

    def wait(self, seconds=30):
        """Until all that the manifests want is ready or has ended, and nothing else runs."""
        wait_until(lambda: self.is_there() or self.process.poll() is not None, 10, "start")
        assert self.process.poll() is None, self.output()
        done = subprocess.run([LATEEN, "workloads", "--wait", "--timeout", str(seconds), "-m", str(self.dir)],
                              capture_output=True, text=True, timeout=seconds + 10)
        if done.returncode != 0:
            table = subprocess.run([LATEEN, "workloads", "-m", str(self.dir)], capture_output=True, text=True, timeout=10).stdout
            raise AssertionError(f"{done.stderr}\n{table}\n{self.output()}")

    def is_there(self):
        """It answers the other commands."""
        return subprocess.run([LATEEN, "workloads", "-m", str(self.dir)], capture_output=True, timeout=10).returncode == 0

    @property
    def state(self):
        """Its state directory, or None."""
        base = "/run/lateen" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", f"/tmp/lateen-{os.geteuid()}") + "/lateen"
        for name in os.listdir(base) if os.path.isdir(base) else []:
            mark = os.path.join(base, name, "dir")
            if os.path.isfile(mark) and open(mark).read() == str(self.dir):
                return os.path.join(base, name)
        return None

    def output(self):
        return self.log.read_text(errors="replace")

    def workloads(self):
        """By workload name: a list of Pods, without lateend's own."""
        answer = json.loads(run("workloads", "--json", "-m", str(self.dir)))
        found = {}
        for pod in answer["workloads"]:
            if not pod["isControl"]:
                found.setdefault(pod["workload"], []).append(pod)
        return found

    def table(self):
        """What a person sees."""
        return run("workloads", "-m", str(self.dir))

    def host_pid(self, pod, container):
        """The process of a container's program, as the host sees it."""
        inside = next(c["pid"] for c in pod["containers"] if c["name"] == container)
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                status = open(f"/proc/{entry}/status").read()
                mounts = open(f"/proc/{entry}/mountinfo").read()
            except OSError:
                continue
            ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid"))
            if str(inside) in ids[1:-1] and os.path.basename(self.state) in mounts:
                return int(entry)
        raise AssertionError(f"no process {inside} of {pod['name']}")

    def exec(self, workload, *command, container=None, check=True, timeout=20):
        chosen = ["-c", container] if container else []
        return run("exec", "-m", str(self.dir), *chosen, workload, "--", *command, check=check, timeout=timeout)

    def exec_code(self, workload, *command):
        return subprocess.run([LATEEN, "exec", "-m", str(self.dir), workload, "--", *command], capture_output=True, timeout=20).returncode

    def run(self, command, *arguments):
        return run(command, "-m", str(self.dir), *arguments)

    def curl(self, workload, url, *options, check=True):
        return run("curl", "-m", str(self.dir), workload, url, *options, check=check)

    def get(self, workload, url, *options):
        """The stand-in's JSON."""
        return json.loads(self.curl(workload, url, *options))

    def logs(self, workload, container=None):
        chosen = ["-c", container] if container else []
        return run("logs", "-m", str(self.dir), *chosen, workload)

    def end(self):
        """Ctrl-C."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the mesh did not end within 15 s of SIGINT") from None


@contextlib.contextmanager
def without_control(mesh):
    """lateend is killed, and again whenever it is started anew."""
    over = threading.Event()

    def kill():
        pod = next(p for p in json.loads(mesh.run("workloads", "--json"))["workloads"] if p["isControl"])
        container = pod["containers"][0]
        if container["pid"]:
            os.kill(mesh.host_pid(pod, container["name"]), signal.SIGKILL)
        return container["pid"]

    def keep_dead():
        while not over.wait(0.1):
            with contextlib.suppress(AssertionError, OSError):
                kill()

    wait_until(kill, 10, "lateend has a process")
    thread = threading.Thread(target=keep_dead)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def deployment(name, command=None, app=None, version="v1", replicas=1, port=8080, ns="default", labels="", annotations="", env=""):
    """A Deployment's YAML: the stand-in, or a command (a list)."""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {ns}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {app or name}}}}}
  template:
    metadata:
      labels: {{app: {app or name}, version: {version}{", " + labels if labels else ""}}}
      annotations: {{{annotations}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: main
        image: registry.example/{name}:1
        {"command: " + json.dumps(command) if command else ""}
        env: [{env}]
        {f"ports: [{{name: http, containerPort: {port}}}]" if port else ""}
---
"""


def service(name, port=80, target="http", ns="default", app=None, extra=""):
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {ns}}}
spec:
  selector: {{app: {app or name}}}
  {extra}
  ports: [{{name: http, port: {port}, targetPort: {target}}}]
---
"""


def gateway(node_port, replicas=1, annotations="", hosts="'*'", name="ingress"):
    """An ingress gateway: Deployment, Service on that port of the host, Gateway, and a VirtualService that sends all to web:80."""
    more = f", {annotations}" if annotations else ""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  template:
    metadata:
      labels: {{istio: ingressgateway, sidecar.istio.io/inject: "true"}}
      annotations: {{inject.istio.io/templates: gateway{more}}}
    spec:
      containers: [{{name: istio-proxy, image: auto}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  selector: {{istio: ingressgateway}}
  ports: [{{name: http2, port: 80, targetPort: 8080, nodePort: {node_port}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{hosts}]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{hosts}]
  gateways: [{name}]
  http:
  - route: [{{destination: {{host: web, port: {{number: 80}}}}}}]
---
"""


ACCESS_LOG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "accessLogFile: /dev/stdout"}
---
"""
