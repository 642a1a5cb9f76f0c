"""The import order of packages and of the subpackages of `proxy/` (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "autoregistry"
PURE = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
PACKAGES = [PURE, {"engine"}, {"cluster"}, {"stack"}, {"proxy"}, {"cli"}]
PROXY = [
    {"retry", "background", "compat"},
    {"backend"},
    {"pull"},
    {"watch", "http"},
    {"api"},
    {"app"},
]
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
ONLY_IN = {"docker": {"engine"}, "rich": {"cli"}, "httpx": {"proxy", "cli"}, "aiohttp": {"proxy"}}
MAX_MODULES = 15


def _imports(path: Path) -> set[str]:
    """The modules that a file imports; `from a import b` counts as `a.b`."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _allowed(order: list[set[str]], place: str) -> set[str]:
    """`place` itself and everything to its left."""
    position = next(n for n, names in enumerate(order) if place in names)
    return set().union(*order[:position], {place} if position else order[0])


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_file_imports_only_packages_to_its_left(path: Path) -> None:
    place = path.parts[0].removesuffix(".py")
    if place.startswith("__"):
        return
    for module in _imports(path):
        top, *rest = module.split(".")
        if top == "autoregistry" and rest and rest[0] != "__version__":
            assert rest[0] in _allowed(PACKAGES, place), module
        elif top != "autoregistry" and place in PURE:
            assert top in sys.stdlib_module_names, module
        elif top in ONLY_IN:
            assert place in ONLY_IN[top], module


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "proxy"], ids=str)
def test_each_file_of_the_proxy_imports_only_subpackages_to_its_left(path: Path) -> None:
    place = path.parts[1].removesuffix(".py")
    if place.startswith("__"):
        return
    for module in _imports(path):
        if module.startswith("autoregistry.proxy."):
            assert module.split(".")[2] in _allowed(PROXY, place), module


def test_the_cli_imports_the_proxy_only_to_serve() -> None:
    importing = {
        str(path)
        for path in FILES
        if path.parts[0] == "cli"
        and any(module.startswith("autoregistry.proxy") for module in _imports(path))
    }

    assert importing == {"cli/commands/serve.py"}


@pytest.mark.parametrize("folder", sorted({p.parent for p in FILES}), ids=str)
def test_no_package_has_many_modules_side_by_side(folder: Path) -> None:
    modules = [p for p in FILES if p.parent == folder and not p.stem.startswith("__")]

    assert len(modules) <= MAX_MODULES


def test_tests_share_code_only_through_helper_modules() -> None:
    shared = {
        f"{path.relative_to(TESTS)}: {module}"
        for path in TESTS.rglob("*.py")
        for module in _imports(path)
        if re.match(r"tests\..*\b(conftest|test_\w+)\b", module)
    }

    assert shared == set()


def test_commands_start_without_the_proxy() -> None:
    """Importing the proxy doubles the start-up time of a command; only `serve` needs it."""
    script = (
        "import sys; from autoregistry.cli import program;"
        "[program.get_command(None, name) for name in program.list_commands(None)];"
        "print(sorted({'aiohttp', 'asyncio'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def test_no_two_modules_define_a_constant_of_the_same_name() -> None:
    """A leading underscore makes no difference. Type variables (one letter) mean the same everywhere."""
    modules = defaultdict(set)
    for path in FILES:
        for node in ast.parse((PACKAGE / path).read_text()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for name in (target.id for target in targets if isinstance(target, ast.Name)):
                    if re.fullmatch(r"_?[A-Z][A-Z0-9_]+", name):
                        modules[name.lstrip("_")].add(str(path))

    assert {name: paths for name, paths in modules.items() if len(paths) > 1} == {}
