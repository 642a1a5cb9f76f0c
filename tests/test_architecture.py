"""Packages form a line: each may import what stands to its left, nothing else (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "autoregistry"
FIRST = {"names", "decision", "events", "errors", "settings"}
LINE = [FIRST, {"engine"}, {"cluster"}, {"proxy"}, {"stack"}, {"cli"}]
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
ONLY_IN = {"docker": {"engine"}, "rich": {"cli"}, "httpx": {"proxy", "cli"}, "aiohttp": {"proxy"}}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_file_imports_only_what_stands_to_its_left(path: Path) -> None:
    place = path.parts[0].removesuffix(".py")
    if place.startswith("__"):
        return
    position = next(n for n, names in enumerate(LINE) if place in names)
    allowed = set().union(*LINE[: position + 1])
    for module in _imports(path):
        top, _, rest = module.partition(".")
        if top == "autoregistry":
            assert not rest or rest.split(".")[0] in allowed, module
        elif position == 0:
            assert top in sys.stdlib_module_names, module
        elif top in ONLY_IN:
            assert place in ONLY_IN[top], module


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_is_long(path: Path) -> None:
    assert len((PACKAGE / path).read_text().splitlines()) <= 250


def test_commands_start_without_the_proxy() -> None:
    """It doubles what a command takes before it does anything; only `serve` needs it."""
    shown = (
        "import sys, autoregistry.cli; print(sorted({'aiohttp', 'asyncio'} & sys.modules.keys()))"
    )
    said = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"
