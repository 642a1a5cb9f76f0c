"""The commands of docs/quick-start.md and examples/k3d/README.md, run as they are written, with real k3d."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import lab, node
from dev.lab import Docker
from tests.helpers.docs import ROOT, blocks
from tests.integration.helpers.command_line import exclusive_stack
from tests.integration.helpers.serving import wait_for

pytestmark = pytest.mark.engine

CLUSTER = "dev"
HERE = "tests/integration/test_docs.py"
IMAGE = "localhost:5000/not/built:dev"
# Run at the end of the quick start.
MORE_PAGES = ("docs/kubectl.md", "docs/skaffold.md", "docs/ci.md")
# Messages that docs/troubleshooting.md quotes: the command that causes it, the command that shows it, the text.
SYMPTOMS = (
    (f"kubectl run missing --image {IMAGE}", "kubectl describe pod missing", f"{IMAGE}: not found"),
    (f"docker pull {IMAGE} || true", f"docker pull {IMAGE}", f"{IMAGE}: not found"),
    (
        f"docker network disconnect k3d-{CLUSTER} autoregistry; kubectl run bare --image {IMAGE}",
        "kubectl describe pod bare",
        "lookup autoregistry on 127.0.0.11:53: no such host",
    ),
    (
        "docker stop --time 1 autoregistry",
        f"docker pull {IMAGE}",
        "dial tcp 127.0.0.1:5000: connect: connection refused",
    ),
)
# Replacements for what a user's machine has: k3d with the lab's nodes, and kubectl without a kubeconfig.
_K3D = """#!/bin/sh
case "$1 $2" in "cluster create") exec {k3d} "$@" {flags} ;; *) exec {k3d} "$@" ;; esac
"""
_KUBECTL = """#!/bin/sh
for last; do :; done
if [ "$1" = apply ]; then set -- apply -f - ; exec < "$last"; fi
exec {docker} exec --interactive k3d-{cluster}-server-0 kubectl "$@"
"""


@pytest.fixture
def machine(engine: Docker, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a machine with everything the pages require; port 5000 must be free."""
    if engine.store == "classic":
        pytest.skip("once is enough: other tests cover the differences between the stores")
    for name in ("registry:2", "python:3.13-slim", "busybox:latest"):
        lab.image(engine, name)
    environment = {**os.environ, **node.environment(engine)}
    docker = shutil.which("docker", path=environment["PATH"])
    flags = " ".join(node.create_arguments(engine))
    scripts = {
        "k3d": _K3D.format(k3d=lab.tool("k3d"), flags=flags),
        "kubectl": _KUBECTL.format(docker=docker, cluster=CLUSTER),
        "autoregistry": f'#!/bin/sh\nexec {sys.executable} -m autoregistry "$@"\n',
    }
    for name, text in scripts.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    environment["PYTHONPATH"] = str(ROOT)
    delete = [str(lab.tool("k3d")), "cluster", "delete", CLUSTER]
    with exclusive_stack(engine):
        subprocess.run(delete, env=environment, check=True, capture_output=True)
        yield environment
        subprocess.run(delete, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("page", ["docs/quick-start.md", "examples/k3d/README.md"])
def test_commands_of_a_page_work(page: str, machine: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "k3d"
    shutil.copytree(ROOT / "examples" / "k3d", folder)

    def run(line: str) -> str:
        argv = ["bash", "-euc", line]
        done = subprocess.run(
            argv, cwd=folder, env=machine, capture_output=True, text=True, check=False, timeout=180
        )
        print(f"$ {line}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, line
        return done.stdout

    version = 0
    for line in _commands(page):
        if page == "docs/quick-start.md" and line.startswith("autoregistry cluster delete"):
            for other in MORE_PAGES:
                for command in _commands(other):
                    run(command)
            for cause, look, symptom in SYMPTOMS:
                run(cause)
                shown = f"{look} 2>&1 || true"
                wait_for(lambda line=shown, text=symptom: text in run(line), symptom, 60)  # type: ignore[misc]
            for command in _commands("docs/troubleshooting.md"):
                run(command)
        if line.startswith("docker build"):
            version += 1
            (folder / "index.html").write_text(f"hello, version {version}\n")
        if line.startswith("kubectl logs"):
            # For a second, kubectl may still pick the pod that was replaced.
            expected = f"hello, version {version}\n"
            wait_for(lambda line=line, text=expected: run(line) == text, expected)  # type: ignore[misc]
        else:
            run(line)
    assert version == 2


def _commands(page: str) -> list[str]:
    return [c for b in blocks(ROOT / page) if b.about == HERE for c in b.commands]


@pytest.mark.parametrize("symptom", sorted({symptom for _, _, symptom in SYMPTOMS}))
def test_messages_are_those_of_the_page(symptom: str) -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert symptom.replace("not/built", "shop/api") in text
