"""Commands run and printed as in a terminal, for the demo and the pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dev import node
from dev.lab import Docker

BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class Shell:
    """Runs commands in the environment of one daemon, and prints them."""

    def __init__(self, docker: Docker) -> None:
        self.environment = {**os.environ, **node.environment(docker)}
        path = self.environment["PATH"]
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{path}"

    def heading(self, sentence: str) -> None:
        print(f"\n{BOLD}{sentence}{PLAIN}", flush=True)

    def run(self, *argv: str | Path, cwd: Path | None = None, show: str = "") -> None:
        """Print and run a command; `show` is a shorter text to print."""
        print(f"{DIM}$ {show or ' '.join(map(str, argv))}{PLAIN}", flush=True)
        subprocess.run(argv, env=self.environment, cwd=cwd, check=True)

    def output(self, *argv: str) -> str:
        """Return the output of a command without printing it."""
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    def has_container(self, name: str) -> bool:
        ids = self.output("docker", "ps", "--all", "--quiet", "--filter", f"name=^{name}$")
        return bool(ids.strip())
