"""`make demo`: autoregistry on real engines, from an empty machine to a rebuilt image in a running pod.

The demo starts the registry and the proxy, creates a cluster, builds and deploys an image without a push, rebuilds it
and restarts the pod. It removes everything that it created.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dev import lab, node
from dev.lab import LabError
from dev.lab.cache import CACHE
from dev.shell import BOLD, DIM, PLAIN, Shell

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "k3d"
CLUSTER = "autoregistry-demo"
SERVER = f"k3d-{CLUSTER}-server-0"
IMAGE = "localhost:5000/hello:dev"


def main() -> None:
    """Run the demo; the exit code is 1 if a step fails."""
    if not CACHE.exists():
        print(
            "The demo installs Docker, k3d and a node image for its own use, because this is its first run here.\n"
            f"That takes about ten minutes; everything is kept in {CACHE} for later runs.",
            flush=True,
        )
    began = time.monotonic()
    docker = lab.docker("containerd")
    for reference in ("registry:2", "python:3.13-slim", "busybox:latest"):
        lab.image(docker, reference)
    flags = node.create_arguments(docker)
    shell = Shell(docker)
    was_up = shell.has_container("autoregistry")
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "hello"
        shutil.copytree(EXAMPLE, app)
        try:
            _run_steps(shell, app, flags)
        finally:
            shell.heading("Cleaning up: the demo removes what it created.")
            if shell.has_container(SERVER):
                shell.run("autoregistry", "cluster", "delete", CLUSTER)
            if not was_up:
                shell.run("autoregistry", "down")
    print(f"\nThe demo took {time.monotonic() - began:.0f} s. `make test` runs all tests.")


def _run_steps(shell: Shell, app: Path, flags: list[str]) -> None:
    kubectl = ("docker", "exec", SERVER, "kubectl")
    shell.heading("1. Start a stock registry:2, and the proxy at localhost:5000 in front of it.")
    shell.run("autoregistry", "up")

    shell.heading("2. Create a k3d cluster that pulls through the proxy.")
    create = ("autoregistry", "cluster", "create", CLUSTER)
    shell.run(*create, "--", *flags, show=" ".join(create))

    shell.heading("3. Build an image. There is no `docker push`.")
    shell.run("docker", "build", "--quiet", "--tag", IMAGE, ".", cwd=app)

    shell.heading("4. Deploy the image under the same name.")
    manifest = (app / "deployment.yaml").read_text()
    apply = ["docker", "exec", "--interactive", SERVER, "kubectl", "apply", "-f", "-"]
    print(f"{DIM}$ kubectl apply -f deployment.yaml{PLAIN}", flush=True)
    subprocess.run(apply, input=manifest, text=True, env=shell.environment, check=True)
    _wait_for_rollout(shell)
    shell.run(*kubectl, "get", "pods", show="kubectl get pods")
    _expect(shell, "hello, version 1")

    shell.heading("The registry's own log shows the push that Docker made:")
    for line in shell.output("docker", "logs", "autoregistry-backend").splitlines():
        if '"PUT /v2/hello/manifests/' in line:
            print("   " + line.partition('"')[2].replace('"', "")[:100])

    shell.heading("5. Change the code and build the same tag again.")
    (app / "index.html").write_text("hello, version 2\n")
    shell.run("docker", "build", "--quiet", "--tag", IMAGE, ".", cwd=app)

    shell.heading(
        "6. Restart the pod with one command. (With `IfNotPresent` the node would keep its old copy.)"
    )
    shell.run("autoregistry", "restart", "hello:dev")
    _wait_for_rollout(shell)
    _expect(shell, "hello, version 2")

    shell.heading("The proxy's log, with one line per pull:")
    shell.run("autoregistry", "logs", "--tail", "12")


def _wait_for_rollout(shell: Shell) -> None:
    rollout = ("docker", "exec", SERVER, "kubectl", "rollout", "status", "deployment/hello")
    shell.run(*rollout, "--timeout=90s", show="kubectl rollout status deployment/hello")


def _expect(shell: Shell, line: str) -> None:
    """Print the log of the newest pod. Raises LabError if it does not contain the line."""
    print(f"{DIM}$ kubectl logs deployment/hello{PLAIN}", flush=True)
    newest = shell.output(
        *("docker", "exec", SERVER, "kubectl", "get", "pods", "--selector=app=hello"),
        *("--sort-by=.metadata.creationTimestamp", "--output=name"),
    ).split()[-1]
    log = shell.output("docker", "exec", SERVER, "kubectl", "logs", newest).strip()
    print(f"{BOLD}{log}{PLAIN}", flush=True)
    if line not in log:
        raise LabError(f"the log of the pod is {log!r}, expected {line!r}")


if __name__ == "__main__":
    try:
        main()
    except LabError as exc:
        sys.exit(f"error: {exc}")
    except subprocess.CalledProcessError as exc:
        sys.exit(f"error: {' '.join(map(str, exc.cmd))[:200]} exited with {exc.returncode}")
