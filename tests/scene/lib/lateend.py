"""Starts lateend by itself, on free ports, with a state directory of its own."""
import os
import subprocess
import time

import grpc

from lib import client
from lib.backend import free_port
from lib.proxy import BUILD


class Lateend:
    def __init__(self, workdir, name="lateend", **env):
        self.config, self.state = workdir / f"{name}-config", workdir / f"{name}-state"
        self.config.mkdir(exist_ok=True)
        self.plain, self.secure, self.http, self.monitoring = (free_port() for _ in range(4))
        self.log = workdir / f"{name}.log"
        self.env = {"PATH": os.environ["PATH"], "LATEEN_STATE_DIR": str(self.state), "ROOT_CA_DIR": str(workdir / "none"), **env}
        self.process = None
        self.arguments = {}  # other ones than these

    def start(self):
        arguments = {"--configDir": str(self.config), "--grpcAddr": f"127.0.0.1:{self.plain}", "--secureGRPCAddr": f"127.0.0.1:{self.secure}",
                     "--httpAddr": f"127.0.0.1:{self.http}", "--monitoringAddr": f"127.0.0.1:{self.monitoring}", **self.arguments}
        command = [str(BUILD / "lateend"), "discovery", *[word for pair in arguments.items() for word in pair]]
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=self.env)
        end = time.monotonic() + 20
        while not self.is_ready():
            assert self.process.poll() is None and time.monotonic() < end, self.output()
            time.sleep(0.02)
        return self

    def is_ready(self):
        try:
            return client.get(self.http, "/ready").status == 200
        except OSError:
            return False

    def output(self):
        return self.log.read_text(errors="replace")

    def lines(self, *words):
        """Of its log, those that hold all the words."""
        return [line for line in self.output().splitlines() if all(word in line for word in words)]

    def root(self):
        return client.get(self.http, "/debug/root-cert.pem").body.decode()

    def metric(self, name):
        """The sum over its series."""
        lines = client.get(self.monitoring, "/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def channel(self, key_pem=None, chain_pem=None, root=None):
        """Over TLS, as sidecars come."""
        credentials = grpc.ssl_channel_credentials((root or self.root()).encode(), key_pem and key_pem.encode(),
                                                   chain_pem and chain_pem.encode())
        return grpc.secure_channel(f"127.0.0.1:{self.secure}", credentials,
                                   options=[("grpc.ssl_target_name_override", "istiod.istio-system.svc"),
                                            ("grpc.use_local_subchannel_pool", 1)])

    def plain_channel(self):
        return grpc.insecure_channel(f"127.0.0.1:{self.plain}", options=[("grpc.use_local_subchannel_pool", 1)])

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("lateend did not end within 15 s of SIGTERM") from None
