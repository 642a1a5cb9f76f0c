"""Reading the documentation: its pages, their shell blocks, and the mark before each block.

A block is marked by an HTML comment: `run`: tests/test_docs.py runs it; `run in: FILE`: that test does;
`not run: REASON`. Whatever the mark is, tests/test_docs.py parses each call of ours.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
_SHELLS = {"sh", "bash", "shell", "console"}
_WORDS = """
    autoregistry docker kubectl k3d k9s tilt skaffold ctlptl devspace devcontainer
    make pip pipx uvx git curl sudo eval export echo cd
    ko crane buildah podman pack mvn gradle ./gradlew nix skopeo helm
"""
_PROGRAMS = set(_WORDS.split())
_MARK = re.compile(r"<!-- (run|run in|not run)(?:: (.+))? -->")


@dataclass(frozen=True)
class Block:
    """One shell block of a page."""

    page: Path
    line: int
    mark: str
    """`run`, `run in`, `not run`, or empty."""
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


def scripts(example: Path) -> Iterator[Block]:
    """What a workflow's steps, or the hooks of a devcontainer, have a shell run."""
    for text in _hooks(example) if example.suffix == ".json" else _steps(example):
        lines = example.read_text().splitlines()
        line = next(n for n, line in enumerate(lines, 1) if text.splitlines()[0] in line)
        yield Block(example, line, "not run", "an example", text)


def _steps(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def _hooks(devcontainer: Path) -> list[str]:
    said = json.loads(uncommented(devcontainer.read_text()))
    return [text for name, text in said.items() if name.endswith("Command")]


def uncommented(text: str) -> str:
    """JSON without the lines of comment that its readers allow."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))


def calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of ours in a line of shell: behind a pipe and in a substitution, too."""
    for inner in re.findall(r"\$\(([^)]*)\)", line):
        yield from calls(inner)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;><")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set("|&;><"):
            words.append(word)
            continue
        ours = words[1:] if words[:2] == ["k3d", "autoregistry"] else words
        if ours[:1] == ["autoregistry"]:
            yield ours[1:]
        words = []
