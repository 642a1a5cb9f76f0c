"""Shell completion with the real scripts, in each shell that is installed, over a Docker Engine in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.engine import FakeEngine
from tests.helpers.commands import Type
from tests.helpers.docs import ROOT, blocks

SHELLS = {
    "bash": "complete -o nosort",
    "zsh": "#compdef autoregistry",
    "fish": "complete --no-files",
}


@pytest.mark.parametrize(("shell", "line"), SHELLS.items())
def test_each_shell_has_its_script(shell: str, line: str, typed: Type) -> None:
    result = typed("completion", shell)
    assert result.exit_code == 0
    assert line in result.stdout


def installed(*shells: str) -> list[Any]:
    """Return a parameter for each shell, skipped if the shell is not installed."""
    return [
        pytest.param(
            shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")
        )
        for shell in shells
    ]


@pytest.mark.parametrize("shell", installed("bash", "zsh", "fish"))
def test_each_shell_accepts_its_script(shell: str, typed: Type, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(typed("completion", shell).stdout)
    assert run(shell, "--no-execute" if shell == "fish" else "-n", str(script)) == ""


@pytest.mark.parametrize("shell", installed("bash", "zsh", "fish"))
def test_line_in_the_help_registers_the_completion(shell: str, tmp_path: Path) -> None:
    """The line is taken from docs/cli.md."""
    lines = [line for block in blocks(ROOT / "docs" / "cli.md") for line in block.commands]
    (line,) = [line for line in lines if f"autoregistry completion {shell}" in line]
    bare, first, look = {
        "bash": ("--norc", "", "complete -p autoregistry"),
        "zsh": ("-f", "autoload -Uz compinit; compinit -D -u", "echo $_comps[autoregistry]"),
        "fish": ("--no-config", "", "complete --command autoregistry"),
    }[shell]
    output = run(shell, bare, "-c", f"{first}\n{line}\n{look}", path=with_program(tmp_path))
    assert "_autoregistry_completion" in output


@pytest.mark.parametrize("shell", installed("fish"))
def test_fish_completes_images(shell: str, engine: FakeEngine, typed: Type, tmp_path: Path) -> None:
    engine.images["localhost:5000/shop/api:dev"] = "sha256:1"
    script = typed("completion", shell).stdout
    ask = f"{script}\ncomplete --do-complete 'autoregistry why shop'"
    output = run(shell, "--no-config", "-c", ask, path=with_program(tmp_path))
    assert output.split() == ["shop/api:dev"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(["wh"], ["why"], id="command"),
        pytest.param(["why", "shop"], ["shop/api:dev", "shop/api:test"], id="images"),
        pytest.param(["push", "shop/api:dev", "we"], ["web:latest"], id="second image"),
        pytest.param(
            ["why", "shop/api", ":"], ["dev", "test"], id="word of bash that ends at a colon"
        ),
        pytest.param(["why", "shop/api", ":", "t"], ["test"], id="word of bash after a colon"),
        pytest.param(["cluster", "attach", ""], ["dev"], id="clusters"),
        pytest.param(["restart", "--cluster", "d"], ["dev"], id="clusters in an option"),
    ],
)
def test_bash_completes_commands_images_and_clusters(
    words: list[str], offered: list[str], engine: FakeEngine, typed: Type, tmp_path: Path
) -> None:
    for name in ("localhost:5000/shop/api:dev", "127.0.0.1:5000/shop/api:test", "redis:7"):
        engine.images[name] = "sha256:1"
    engine.images["localhost:5000/web:latest"] = "sha256:2"
    labels = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "server"}
    body = {"Image": "registry:2", "Labels": labels, "HostConfig": {"NetworkMode": "k3d-dev"}}
    engine._create({"name": "k3d-dev-server-0"}, body)
    assert completed(words, typed, tmp_path) == offered


def test_completion_without_docker_is_empty_and_silent(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert completed(["why", ""], typed, tmp_path) == []


def completed(words: list[str], typed: Type, folder: Path) -> list[str]:
    """Return the completions that bash offers with the printed script."""
    script = typed("completion", "bash").stdout
    quoted = " ".join(f"'{word}'" for word in ["autoregistry", *words])
    script += (
        f"\nCOMP_WORDS=({quoted})\nCOMP_CWORD={len(words)}\n_autoregistry_completion autoregistry\n"
        'for word in "${COMPREPLY[@]}"; do echo "$word"; done\n'
    )
    return run("bash", "-c", script, path=with_program(folder)).splitlines()


def with_program(folder: Path) -> str:
    """Return a PATH on which `autoregistry` is this version."""
    program = folder / "autoregistry"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m autoregistry "$@"\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def run(*argv: str, path: str = os.environ["PATH"]) -> str:
    """Return the output of a shell, which must have no errors."""
    done = subprocess.run(
        argv,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout
