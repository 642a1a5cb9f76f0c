"""Reading the documentation: its pages, their shell blocks, and the mark before each block.

A block is marked by an HTML comment: `run`: tests/test_docs.py runs it; `run in: FILE`: that test does;
`parsed in: FILE`: it is only parsed there; `not run: REASON`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
_SHELLS = {"sh", "bash", "shell", "console"}
_WORDS = """
    autoregistry docker kubectl k3d k9s tilt skaffold ctlptl devspace devcontainer
    make pip pipx uvx git curl sudo eval export echo cd
    ko crane buildah podman pack mvn gradle ./gradlew nix skopeo helm
"""
_PROGRAMS = set(_WORDS.split())
_MARK = re.compile(r"<!-- (run|run in|parsed in|not run)(?:: (.+))? -->")


@dataclass(frozen=True)
class Block:
    """One shell block of a page."""

    page: Path
    line: int
    mark: str
    """`run`, `run in`, `parsed in`, `not run`, or empty."""
    about: str
    """The reason, or the test."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines that are typed, without prompts, comments and answers."""
        lines = [line.strip() for line in self.text.replace("\\\n", " ").splitlines()]
        has_prompts = any(line.startswith("$ ") for line in lines)
        typed = [
            line.removeprefix("$ ") for line in lines if line.startswith("$ ") or not has_prompts
        ]
        bare = [re.sub(r"\s+#\s.*$", "", line) for line in typed]
        return [line for line in bare if line and not line.startswith("#")]


def blocks(page: Path) -> Iterator[Block]:
    """Every shell block of a page: fenced with a shell's name, or indented and beginning with a program's."""
    lines, at, before = page.read_text().splitlines(), 0, ""
    while at < len(lines):
        start, line = at, lines[at]
        at += 1
        body: list[str] = []
        is_shell = False
        if line.lstrip().startswith("```"):
            while at < len(lines) and not lines[at].lstrip().startswith("```"):
                body.append(lines[at])
                at += 1
            at += 1
            is_shell = line.strip().strip("`") in _SHELLS
        elif line.startswith("    ") and not before.lstrip().startswith(("- ", "* ")):
            body.append(line)
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                body.append(lines[at])
                at += 1
            first = line.strip().removeprefix("$ ").split()[0]
            is_shell = first in _PROGRAMS and "──►" not in line
        if is_shell:
            found = _MARK.fullmatch(before.strip())
            mark, about = (found[1], found[2] or "") if found else ("", "")
            yield Block(page, start + 1, mark, about, "\n".join(body) + "\n")
        if line.strip():
            before = line


def links(page: Path) -> list[str]:
    """The relative links of a page."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [link for link in found if not re.match(r"[a-z]+:|#", link)]
