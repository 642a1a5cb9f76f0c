"""A stack with k3d clusters in one Docker daemon."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import lab, node
from dev.lab import Docker
from tests.integration.helpers.command_line import CommandLine, exclusive_stack

EXAMPLE = Path(__file__).parents[3] / "examples" / "k3d"
MAIN, OTHER = "ar-main", "ar-other"
ONE_STORE = pytest.mark.parametrize("engine", ["classic"], indirect=True)
"""For tests where the image store makes no difference."""
OTHER_STORE = pytest.mark.parametrize("engine", ["containerd"], indirect=True)
"""The same, on the daemon that has less to do."""


class Clusters(CommandLine):
    """Runs `autoregistry`, `k3d` and `kubectl` in the environment of one daemon."""

    def __init__(self, engine: Docker) -> None:
        super().__init__(engine)
        self._environment = {**os.environ, **node.environment(engine)}
        self.flags = node.create_arguments(engine)

    def k3d(self, *arguments: str) -> str:
        done = subprocess.run(
            ["k3d", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def cluster_rows(self) -> dict[str, Any]:
        """Return the rows of `cluster list` by cluster name."""
        rows = json.loads(self.ok("cluster", "list", "--json"))
        return {row["name"]: row for row in rows}

    def kubectl(
        self, *arguments: str, cluster: str = MAIN, stdin: str = "", check: bool = True
    ) -> str:
        argv = ["exec", "--interactive", f"k3d-{cluster}-server-0", "kubectl", *arguments]
        return self.engine.cli(*argv, input=stdin, check=check).stdout

    def build(self, name: str, content: str) -> None:
        """Build the example under another name and with other content."""
        page = EXAMPLE / "index.html"
        context = self.folder / "context"
        context.mkdir(parents=True, exist_ok=True)
        (context / "Dockerfile").write_text((EXAMPLE / "Dockerfile").read_text())
        (context / page.name).write_text(f"{content}\n")  # a log holds whole lines
        env = {"DOCKER_BUILDKIT": "0"} if self.engine.store == "classic" else {}
        self.engine.cli("build", "--quiet", "--tag", f"{self.name}/{name}:dev", context, env=env)

    def deploy(self, name: str, replicas: int = 1, tag: str = "dev") -> None:
        """Apply the example's deployment under another name."""
        manifest = (EXAMPLE / "deployment.yaml").read_text()
        manifest = manifest.replace("localhost:5000/hello", f"{self.name}/{name}")
        manifest = (
            manifest.replace(":dev", f":{tag}")
            .replace("hello", name)
            .replace("replicas: 1", f"replicas: {replicas}")
        )
        self.kubectl("apply", "-f", "-", stdin=manifest)

    def pods(self, name: str, path: str) -> str:
        """Return a field of a deployment's pods, by JSONPath."""
        output = f"--output=jsonpath={{.items[*].{path}}}"
        return self.kubectl("get", "pods", f"--selector=app={name}", output)

    def status(self) -> dict[str, Any]:
        """Return the proxy's status."""
        url = f"http://127.0.0.1:{self.port}/_autoregistry/status"
        response = httpx.get(url, headers={"Host": self.name}, trust_env=False, timeout=30)
        return dict(response.json())

    def pod_logs(self, name: str) -> list[str]:
        """Return the log of each running pod of a deployment."""
        pods = self.kubectl("get", "pods", "--selector", f"app={name}", "--output=json")
        return [
            self.kubectl("logs", pod["metadata"]["name"], check=False).strip()
            for pod in json.loads(pods)["items"]
            if "deletionTimestamp" not in pod["metadata"]
        ]

    folder: Path


def create_clusters(engine: Docker, folder: Path, stack: ExitStack) -> Clusters:
    """Create the stack and a cluster of three nodes; `stack` deletes them."""
    for name in ("registry:2", "python:3.13-slim", "busybox:latest"):
        lab.image(engine, name)
    clusters = Clusters(engine)
    clusters.folder = folder

    def delete() -> None:
        for cluster in (MAIN, OTHER):
            clusters.k3d("cluster", "delete", cluster)

    stack.enter_context(exclusive_stack(engine))  # before anything of that name is deleted
    delete()
    stack.callback(delete)
    stack.callback(clusters.run, "logs", "--tail", "30")
    clusters.ok("up", "--port", str(clusters.port))
    clusters.ok("cluster", "create", MAIN, "--", *clusters.flags, "--agents", "2")
    return clusters
