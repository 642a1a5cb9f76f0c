"""`make demo`: the whole story on real engines, each step with what really happened.

From nothing: the registry and its proxy, a cluster, an image that is only built, a pod that runs it, a rebuild and
one command, the new version in the pod. Whatever is made here is taken away again at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dev import lab, node
from dev.lab import Docker, LabError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "k3d"
CLUSTER = "autoregistry-demo"
SERVER = f"k3d-{CLUSTER}-server-0"
IMAGE = "localhost:5000/hello:dev"
_BOLD, _DIM, _PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class Story:
    """Runs commands as a person would, and shows them."""

    def __init__(self, docker: Docker) -> None:
        self.environment = {**os.environ, **node.environment(docker)}
        path = self.environment["PATH"]
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{path}"

    def tell(self, sentence: str) -> None:
        print(f"\n{_BOLD}{sentence}{_PLAIN}", flush=True)

    def run(self, *words: str | Path, cwd: Path | None = None, show: str = "") -> None:
        """Run and show it; `show` is what to print of the command line where it is long."""
        print(f"{_DIM}$ {show or ' '.join(map(str, words))}{_PLAIN}", flush=True)
        subprocess.run(words, env=self.environment, cwd=cwd, check=True)

    def ask(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    def has(self, container: str) -> bool:
        found = self.ask("docker", "ps", "--all", "--quiet", "--filter", f"name=^{container}$")
        return bool(found.strip())


def main() -> None:
    """Tell it; the exit code is 1 where something did not happen."""
    began = time.monotonic()
    docker = lab.docker("containerd")
    for reference in ("registry:2", "python:3.13-slim", "busybox:latest"):
        lab.image(docker, reference)
    flags = node.create_arguments(docker)
    story = Story(docker)
    was_up = story.has("autoregistry")
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "hello"
        shutil.copytree(EXAMPLE, app)
        try:
            _tell(story, app, flags)
        finally:
            story.tell("Everything that this made is taken away again.")
            if story.has(SERVER):
                story.run("autoregistry", "cluster", "delete", CLUSTER)
            if not was_up:
                story.run("autoregistry", "down")
    print(f"\nThat took {time.monotonic() - began:.0f} s. `make test` shows the rest.")


def _tell(story: Story, app: Path, flags: list[str]) -> None:
    kubectl = ("docker", "exec", SERVER, "kubectl")
    story.tell("1. A stock registry:2, and in front of it, at localhost:5000, the proxy.")
    story.run("autoregistry", "up")

    story.tell("2. A k3d cluster that pulls through it.")
    words = ("autoregistry", "cluster", "create", CLUSTER, "--", *flags)
    story.run(*words, show=f"autoregistry cluster create {CLUSTER}")

    story.tell("3. An image is built. Nobody pushes it.")
    story.run("docker", "build", "--quiet", "--tag", IMAGE, ".", cwd=app)

    story.tell("4. It is deployed, under the same name.")
    manifest = (app / "deployment.yaml").read_text()
    apply = ["docker", "exec", "--interactive", SERVER, "kubectl", "apply", "-f", "-"]
    print(f"{_DIM}$ kubectl apply -f deployment.yaml{_PLAIN}", flush=True)
    subprocess.run(apply, input=manifest, text=True, env=story.environment, check=True)
    _rolled_out(story)
    story.run(*kubectl, "get", "pods", show="kubectl get pods")
    _expect(story, "hello, version 1")

    story.tell("What really happened, in the words of the registry's own log:")
    for line in story.ask("docker", "logs", "autoregistry-backend").splitlines():
        if '"PUT /v2/hello/manifests/' in line:
            print("   " + line.partition('"')[2].replace('"', "")[:100])

    story.tell("5. The code changes, and the same tag is built again.")
    (app / "index.html").write_text("hello, version 2\n")
    story.run("docker", "build", "--quiet", "--tag", IMAGE, ".", cwd=app)

    story.tell(
        "6. One command, and the pod runs it. (`IfNotPresent`: the node would have kept its old copy.)"
    )
    story.run("autoregistry", "restart", "hello:dev")
    _rolled_out(story)
    _expect(story, "hello, version 2")

    story.tell("The proxy's own account, one line a pull:")
    story.run("autoregistry", "logs", "--tail", "12")


def _rolled_out(story: Story) -> None:
    words = ("docker", "exec", SERVER, "kubectl", "rollout", "status", "deployment/hello")
    story.run(*words, "--timeout=90s", show="kubectl rollout status deployment/hello")


def _expect(story: Story, line: str) -> None:
    """The newest pod's log has this line; the demo fails where it has not."""
    print(f"{_DIM}$ kubectl logs deployment/hello{_PLAIN}", flush=True)
    newest = story.ask(
        *("docker", "exec", SERVER, "kubectl", "get", "pods", "--selector=app=hello"),
        *("--sort-by=.metadata.creationTimestamp", "--output=name"),
    ).split()[-1]
    said = story.ask("docker", "exec", SERVER, "kubectl", "logs", newest)
    print(f"{_BOLD}{said.strip()}{_PLAIN}", flush=True)
    if line not in said:
        raise LabError(f"the pod says {said.strip()!r}, and not {line!r}")


if __name__ == "__main__":
    try:
        main()
    except LabError as exc:
        sys.exit(f"error: {exc}")
    except subprocess.CalledProcessError as exc:
        sys.exit(f"error: {' '.join(map(str, exc.cmd))[:200]} ended with {exc.returncode}")
