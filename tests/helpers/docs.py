"""Parse the documentation: its pages, their shell blocks, and the mark before each block.

A mark is an HTML comment. `run`: tests/test_docs.py runs the block. `run in: FILE`: the test in FILE runs it.
`not run: REASON`: no test runs it. tests/test_docs.py parses the calls of autoregistry in every block.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
_FOLDERS = ("autoregistry", "benchmarks", "dev", "docs", "examples", "templates", "tests")
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
    """A shell block of a page."""

    page: Path
    line: int
    mark: str
    """`run`, `run in`, `not run`, or empty."""
    about: str
    """The reason, or the path of the test."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands, without prompts, comments and output."""
        lines = [line.strip() for line in self.text.replace("\\\n", " ").splitlines()]
        has_prompts = any(line.startswith("$ ") for line in lines)
        typed = [
            line.removeprefix("$ ") for line in lines if line.startswith("$ ") or not has_prompts
        ]
        bare = [re.sub(r"\s+#\s.*$", "", line) for line in typed]
        return [line for line in bare if line and not line.startswith("#")]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the shell blocks of a page: fenced with a shell's name, or indented and starting with a program's name."""
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
            match = _MARK.fullmatch(before.strip())
            mark, about = (match[1], match[2] or "") if match else ("", "")
            yield Block(page, start + 1, mark, about, "\n".join(body) + "\n")
        if line.strip():
            before = line


def links(page: Path) -> list[str]:
    """Return the relative links of a page."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [target for target in targets if not re.match(r"[a-z]+:|#", target)]


def paths(text: str) -> list[str]:
    """Return the paths of this repository that a text names in backticks."""
    spans = re.findall(r"`([^`\n]+)`", text)
    return [word for span in spans for word in span.split() if _is_path(word)]


def _is_path(word: str) -> bool:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", word):
        return False
    is_in_folder = "/" in word and word.partition("/")[0] in repository_paths()
    return is_in_folder or word.endswith((".py", ".html", "/"))


@cache
def repository_paths() -> frozenset[str]:
    """Return the files and folders of this repository, each also without its leading folders."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in _FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*.*") if "__pycache__" not in path.parts]
    return frozenset(
        "/".join(path.parts[n:])
        for file in files
        for path in (file.relative_to(ROOT), *file.relative_to(ROOT).parents)
        for n in range(len(path.parts))
    )


def scripts(example: Path) -> Iterator[Block]:
    """Yield the shell commands in the steps of a workflow or in the hooks of a devcontainer."""
    for text in _hooks(example) if example.suffix == ".json" else _steps(example):
        lines = example.read_text().splitlines()
        line = next(n for n, line in enumerate(lines, 1) if text.splitlines()[0] in line)
        yield Block(example, line, "not run", "an example", text)


def _steps(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def _hooks(devcontainer: Path) -> list[str]:
    settings = json.loads(uncommented(devcontainer.read_text()))
    return [text for name, text in settings.items() if name.endswith("Command")]


def uncommented(text: str) -> str:
    """Return JSON without comment lines."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))


def calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of autoregistry in a line of shell, including pipes and substitutions."""
    for inner in re.findall(r"\$\(([^)]*)\)", line):
        yield from calls(inner)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;><")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set("|&;><"):
            words.append(word)
            continue
        call = words[1:] if words[:2] == ["k3d", "autoregistry"] else words
        if call[:1] == ["autoregistry"]:
            yield call[1:]
        words = []
