"""Plain English and short functions: docstrings begin with a verb or a noun, and texts name roles instead of people."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.docs import ROOT

SOURCES = sorted((ROOT / "autoregistry").rglob("*.py"))
TEXTS = sorted(
    path
    for pattern in (
        "*.md",
        "Tiltfile",
        "docs/*.md",
        "examples/**/*",
        "templates/*",
        "autoregistry/**/*.html",
    )
    for path in ROOT.glob(pattern)
    if path.is_file()
)
FIRST_WORDS = {"what", "whether", "who", "how", "where", "refuses"}
PRONOUNS = re.compile(r"\b(somebody|nobody|whoever|everybody)\b", re.IGNORECASE)
MAX_FUNCTION_LINES = 60


def _nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def _docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of modules, classes, functions and attributes: every string that is a statement."""
    for node in _nodes(path):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    docstrings = [(path, text) for path in SOURCES for text in _docstrings(path)]
    subordinate = [
        f"{path.relative_to(ROOT)}: {text.splitlines()[0]}"
        for path, text in docstrings
        if re.split(r"\W", text.strip(), maxsplit=1)[0].lower() in FIRST_WORDS
    ]

    assert len(subordinate) < 0.02 * len(docstrings), "\n".join(subordinate)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_strings_name_roles(path: Path) -> None:
    strings = [
        node.value
        for node in _nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]

    assert [text for text in strings if PRONOUNS.search(text)] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_and_templates_name_roles(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if PRONOUNS.search(line)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path: Path) -> None:
    lengths = {
        node.name: node.end_lineno - node.lineno + 1
        for node in _nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }

    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}
