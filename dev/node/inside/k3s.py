"""`k3s server` and `k3s agent`: start the parts in order, print the lines that k3d waits for, and keep running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

from dev.node.inside import files, mirrors
from dev.node.inside.waiting import get, succeeds, until

_LOCAL_API = "https://127.0.0.1:6443"
# The API server would wait for its watchers; Docker allows 10 s, and k3d's entry point drains the node first.
_SECONDS_TO_STOP = 2.0


def main() -> None:
    arguments = sys.argv[1:]
    match arguments[:1]:
        case ["kubectl" | "crictl" | "ctr" as client]:
            os.execv(files.PROGRAMS / client, arguments)  # noqa: S606 - as `k3s kubectl` does
        case ["--version" | "-v"]:
            print("k3s version v1.34.4+stand-in")
        case ["server" | "agent" as role]:
            node = Node(os.environ.get("K3S_TOKEN") or "token")
            signal.signal(signal.SIGTERM, lambda *_: node.stop())
            node.containerd()
            if role == "server":
                node.server()
            else:
                node.agent(os.environ["K3S_URL"])
            node.wait()
        case _:
            sys.exit("k3s of the stand-in node: server, agent, kubectl, crictl, ctr")


class Node:
    """The running parts of one node."""

    def __init__(self, token: str) -> None:
        self.name = socket.gethostname()
        self.address = socket.gethostbyname(self.name)
        self.token = token
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        files.LOGS.mkdir(parents=True, exist_ok=True)

    def containerd(self) -> None:
        """Start containerd with its mirrors and the pause image. Reads registries.yaml, only here."""
        registries = yaml.safe_load(_text(files.REGISTRIES)) or {}
        mirrors.write_hosts(files.CERTS, mirrors.hosts_files(registries))
        _write(Path("/etc/cni/net.d/10-node.conflist"), files.network(self.address))
        config = _write(Path("/etc/containerd.toml"), files.CONTAINERD)
        files.SOCKET.parent.mkdir(parents=True, exist_ok=True)
        self._start("containerd", f"--config={config}")
        until("containerd answers", lambda: succeeds("ctr", "version"))
        if not succeeds("ctr", "images", "list", "-q", f"name=={files.PAUSE}", wanted=files.PAUSE):
            archive = files.PROGRAMS / "pause.tar"
            until(
                "the pause image is imported", lambda: succeeds("ctr", "images", "import", archive)
            )
        _report("Containerd is now running")

    def server(self) -> None:
        """Start etcd, the API server and its clients; the server is also a node."""
        store = "http://127.0.0.1:2379"
        self._start(
            "etcd",
            f"--data-dir={files.HOME}/server/db/etcd",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        key = files.TLS / "service.key"
        tokens = _write(files.TLS / "tokens.csv", f'{self.token},admin,admin,"system:masters"\n')
        if not key.exists():
            subprocess.run(
                ["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True
            )
        self._start(
            "kube-apiserver",
            f"--etcd-servers={store}",
            "--secure-port=6443",
            f"--cert-dir={files.TLS}",
            f"--advertise-address={self.address}",
            "--service-cluster-ip-range=10.43.0.0/16",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={tokens}",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--profiling=false",
        )
        _report("Running kube-apiserver")
        config = _write(files.KUBECONFIG, files.kubeconfig(_LOCAL_API, self.token))
        if output := os.environ.get("K3S_KUBECONFIG_OUTPUT"):
            _write(Path(output), config.read_text())
        until("the API server is ready", lambda: bool(get(f"{_LOCAL_API}/readyz", self.token)))
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={config}",
            f"--root-ca-file={files.TLS}/apiserver.crt",
            f"--service-account-private-key-file={key}",
            "--leader-elect=false",
        )
        self._start("kube-scheduler", f"--kubeconfig={config}", "--leader-elect=false")
        dns = files.MANIFESTS / "coredns.yaml"
        if not dns.exists():
            _write(dns, files.COREDNS)
        _report("Cluster dns configmap has been set successfully")
        self._kubelet(_LOCAL_API)
        _report("k3s is up and running")

    def agent(self, server: str) -> None:
        """Start a node of another server."""
        until(f"{server} is ready", lambda: bool(get(f"{server}/readyz", self.token)))
        self._kubelet(server)
        _report(f"Successfully registered node {self.name}")

    def wait(self) -> None:
        """Wait until one of the parts ends, and then stop: such a node must not look healthy."""
        while True:
            ended, status = os.wait()
            for name, process in self.running.items():
                if process.pid == ended:
                    _report(f"{name} exited with {os.waitstatus_to_exitcode(status)}")
                    self.stop()

    def stop(self) -> None:
        for process in self.running.values():
            process.terminate()
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for process in self.running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        os._exit(0)

    def _kubelet(self, server: str) -> None:
        config = _write(Path("/etc/kubelet.yaml"), files.KUBELET)
        credentials = _write(
            files.HOME / "agent/kubelet.kubeconfig", files.kubeconfig(server, self.token)
        )
        self._start(
            "kubelet",
            f"--config={config}",
            f"--kubeconfig={credentials}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
        )
        url = f"{server}/api/v1/nodes/{self.name}"
        ready = b'"type":"Ready","status":"True"'
        until(
            f"node {self.name} is Ready",
            lambda: ready in get(url, self.token).replace(b" ", b"").replace(b"\n", b""),
        )

    def _start(self, name: str, *arguments: str) -> None:
        with (files.LOGS / f"{name}.log").open("ab") as log:
            argv = [str(files.PROGRAMS / name), *arguments]
            env = {**os.environ, "GOGC": "300"}  # CPU is scarcer than memory
            self.running[name] = subprocess.Popen(argv, stdout=log, stderr=log, env=env)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _report(line: str) -> None:
    """Print a line to the container's log, which k3d reads."""
    print(line, flush=True)


__all__ = ["main"]
