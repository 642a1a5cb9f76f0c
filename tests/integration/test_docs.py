"""The pages a new user begins with, typed as they stand, with real k3d: docs/quick-start.md, examples/k3d/README.md."""

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
from tests.integration.helpers.serving import wait_for
from tests.integration.stack.test_stack import only_stack

pytestmark = pytest.mark.engine

CLUSTER = "dev"
HERE = "tests/integration/test_docs.py"
IMAGE = "localhost:5000/nobody/has:dev"
# Typed where the quick start has come to its end.
MORE_PAGES = ("docs/kubectl.md", "docs/skaffold.md", "docs/ci.md")
# What docs/troubleshooting.md quotes: how it comes about, where it is read, and the words.
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
# The lab's nodes, and kubectl without a kubeconfig: what a user's machine has, this one gets by these.
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
    """The environment of a machine that has what the pages ask for; port 5000 must be free."""
    if engine.store == "classic":
        pytest.skip("typed once: what differs between the stores has tests of its own")
    for name in ("registry:2", "python:3.13-slim", "busybox:latest"):
        lab.image(engine, name)
    environment = {**os.environ, **node.environment(engine)}
    docker = shutil.which("docker", path=environment["PATH"])
    flags = " ".join(node.create_arguments(engine))
    words = {
        "k3d": _K3D.format(k3d=lab.tool("k3d"), flags=flags),
        "kubectl": _KUBECTL.format(docker=docker, cluster=CLUSTER),
        "autoregistry": f'#!/bin/sh\nexec {sys.executable} -m autoregistry "$@"\n',
    }
    for name, text in words.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    environment["PYTHONPATH"] = str(ROOT)
    delete = [str(lab.tool("k3d")), "cluster", "delete", CLUSTER]
    with only_stack(engine):
        subprocess.run(delete, env=environment, check=True, capture_output=True)
        yield environment
        subprocess.run(delete, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("page", ["docs/quick-start.md", "examples/k3d/README.md"])
def test_a_page_does_what_it_says(page: str, machine: dict[str, str], tmp_path: Path) -> None:
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
    for line in _typed(page):
        if page == "docs/quick-start.md" and line.startswith("autoregistry cluster delete"):
            for other in MORE_PAGES:
                for typed in _typed(other):
                    run(typed)
            for provoke, look, symptom in SYMPTOMS:
                run(provoke)
                told = f"{look} 2>&1 || true"
                wait_for(lambda told=told, text=symptom: text in run(told), symptom, 60)  # type: ignore[misc]
            for typed in _typed("docs/troubleshooting.md"):
                run(typed)
        if line.startswith("docker build"):
            version += 1
            (folder / "index.html").write_text(f"hello, version {version}\n")
        if line.startswith("kubectl logs"):
            # For a second, the pod that was replaced may still be the one that kubectl picks.
            expected = f"hello, version {version}\n"
            wait_for(lambda line=line, text=expected: run(line) == text, expected)  # type: ignore[misc]
        else:
            run(line)
    assert version == 2


def _typed(page: str) -> list[str]:
    return [c for b in blocks(ROOT / page) if b.about == HERE for c in b.commands]


@pytest.mark.parametrize("symptom", sorted({symptom for _, _, symptom in SYMPTOMS}))
def test_the_words_are_those_of_the_page(symptom: str) -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert symptom.replace("nobody/has", "shop/api") in text
