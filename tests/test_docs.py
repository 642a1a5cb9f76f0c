"""The documentation is up to date: its commands run or parse, and its links and paths exist."""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from autoregistry.cli import program
from autoregistry.cli.commands.serve import serve
from dev import docs
from tests.fakes.engine import FakeEngine
from tests.helpers.docs import (
    PAGES,
    ROOT,
    Block,
    blocks,
    calls,
    links,
    paths,
    repository_paths,
    scripts,
    uncommented,
)

COMMANDS = {context.command_path: command for command, context in docs.every_command()}
BLOCKS = [block for page in PAGES for block in blocks(page)]
# Values for the placeholders in documented commands.
PLACEHOLDERS = {"NAME": "dev", "IMAGE": "shop/api:dev", "$NAME": "dev"}
# Parts of the program's messages that docs/troubleshooting.md quotes.
QUOTED = (
    "could not be pushed",
    "does not answer",
    "Docker is still pushing",
    "is not a name of this registry",
    "cannot be pulled",
    "the proxy's image cannot be built",
    " is in use by ",
    "is not this proxy: Docker would push elsewhere",
    " both want ",
    "keeps its images: docker buildx build --load",
)
VARIABLES: dict[str, tuple[str, Any]] = {
    "listen": ("127.0.0.1:5001 [::1]:5001", ("127.0.0.1:5001", "[::1]:5001")),
    "backend": ("http://registry:5000", "http://registry:5000"),
    "name": ("localhost:5001", "localhost:5001"),
    "patience": ("7.5", 7.5),
    "watch": ("0", False),
    "refresh": ("no", False),
    "restart_workloads": ("1", True),
    "attach_all": ("true", True),
    "skip": ("draft-* tmp", ("draft-*", "tmp")),
    "allow_host": ("registry.internal", ("registry.internal",)),
    "state": ("/var/lib/autoregistry", Path("/var/lib/autoregistry")),
    "limit": ("connections=9 idle-seconds=7.5", ("connections=9", "idle-seconds=7.5")),
    "log_format": ("json", "json"),
}


def test_command_reference_is_up_to_date() -> None:
    assert docs.PAGE.read_text() == docs.page(), "make docs"
    assert set(docs.MARKS) - set(COMMANDS) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    text = inspect.cleandoc(COMMANDS[name].help or "")
    assert "\b\nExample" in text
    assert name in text.partition("\b\nExample")[2] or name == "autoregistry generate"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_its_help(name: str) -> None:
    result = CliRunner().invoke(program, [*name.split()[1:], "--help"], prog_name="autoregistry")
    usage = result.output.splitlines()[0][: len(name) + 7]
    assert (result.exit_code, usage) == (0, f"Usage: {name}")


def test_every_option_has_help() -> None:
    without_help = [
        f"{name} {option.opts[0]}"
        for name, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert without_help == []


@pytest.mark.parametrize("option", [p.name for p in serve.params])
def test_every_setting_of_serve_has_an_environment_variable(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, value = VARIABLES[option]
    monkeypatch.setenv(f"AUTOREGISTRY_{option.upper()}", text)
    root = program.make_context("autoregistry", [], resilient_parsing=True)
    context = serve.make_context("serve", [], parent=root, **serve.context_settings)
    assert context.params[option] == value
    assert f"`AUTOREGISTRY_{option.upper()}`" in docs.PAGE.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_exists(page: Path) -> None:
    dead = [link for link in links(page) if not (page.parent / link.partition("#")[0]).exists()]
    assert dead == []


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"])
def test_every_path_named_by_a_page_about_the_code_exists(page: Path) -> None:
    named = paths(page.read_text())
    dead = [link for link in links(page) if not (page.parent / link.partition("#")[0]).exists()]

    assert len(named) > 10
    assert [path for path in named if path.rstrip("/") not in repository_paths()] + dead == []


def test_paths_in_a_text_are_found() -> None:
    text = "`cli/gone.py` `gone/` `pytest tests/gone -k x` `make` `shop/api` `/v2/` `.venv/bin/pip`"

    assert paths(text) == ["cli/gone.py", "gone/", "tests/gone"]


@pytest.mark.parametrize("message", QUOTED)
def test_messages_quoted_in_troubleshooting_exist(message: str) -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "autoregistry").rglob("*.py")]
    constants = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant)]

    assert message in (ROOT / "docs" / "troubleshooting.md").read_text()
    assert any(message in text for text in constants if isinstance(text, str))


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert [page for page in PAGES if page.parent == ROOT / "docs" and page not in linked] == []


def test_every_example_is_linked_from_a_page() -> None:
    examples = {path for path in (ROOT / "examples").rglob("*") if path.is_file()}
    linked = {
        found
        for page in PAGES
        for link in links(page)
        if (found := (page.parent / link.partition("#")[0]).resolve()) != page
    }
    assert examples - linked == set()


def test_every_shell_block_has_a_mark_with_a_reason() -> None:
    assert [str(block) for block in BLOCKS if not block.mark] == []
    assert [str(b) for b in BLOCKS if b.mark == "not run" and len(b.about.split()) < 2] == []


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.about.startswith("tests/")], ids=str)
def test_marks_name_a_test_that_reads_the_page(block: Block) -> None:
    assert (ROOT / block.about).exists()
    assert block.page.name in (ROOT / block.about).read_text()


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.mark == "run"], ids=str)
def test_blocks_marked_run_succeed_with_a_fake_docker(block: Block, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    executable = tmp_path / "bin" / "autoregistry"
    executable.parent.mkdir()
    executable.write_text(f'#!/bin/sh\nexec {sys.executable} -m autoregistry "$@"\n')
    executable.chmod(0o755)
    with FakeEngine().serving() as engine:
        completed = subprocess.run(
            ["bash", "-euc", "\n".join(block.commands)],
            cwd=tmp_path,
            env={
                "PATH": f"{executable.parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "HOME": str(tmp_path),
                "DOCKER_HOST": engine.host,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert completed.returncode == 0, completed.stderr


SCRIPTS = {
    name: list(scripts(ROOT / "examples" / name))
    for name in ("github-actions/workflow.yaml", "devcontainer/devcontainer.json")
}


def documented_calls() -> list[tuple[str, list[str]]]:
    """The calls of autoregistry in the pages and in the shell commands of the examples."""
    return [
        (f"{block}: {line}", [PLACEHOLDERS.get(word, word) for word in words])
        for block in [*BLOCKS, *chain.from_iterable(SCRIPTS.values())]
        for line in block.commands
        for words in calls(line)
    ]


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        pytest.param("autoregistry up", [["up"]], id="alone"),
        pytest.param("k3d autoregistry up", [["up"]], id="as a plugin"),
        pytest.param("autoregistry doctor || true", [["doctor"]], id="or"),
        pytest.param("pipx install . && autoregistry up; x", [["up"]], id="after another"),
        pytest.param("autoregistry a | k -f - && autoregistry b", [["a"], ["b"]], id="two"),
        pytest.param('eval "$(autoregistry completion zsh)"', [["completion", "zsh"]], id="within"),
        pytest.param("autoregistry push 'a;b' >out", [["push", "a;b"]], id="quoted"),
        pytest.param("pipx install ./autoregistry", [], id="not a call"),
    ],
)
def test_calls_of_autoregistry_are_found(line: str, arguments: list[list[str]]) -> None:
    assert list(calls(line)) == arguments


@pytest.mark.parametrize("name", SCRIPTS)
def test_workflow_and_devcontainer_call_autoregistry(name: str) -> None:
    assert [words for b in SCRIPTS[name] for line in b.commands for words in calls(line)] != []


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=name) for name, words in documented_calls()]
)
def test_every_documented_call_is_valid(words: list[str]) -> None:
    context = program.make_context("autoregistry", list(words))
    command: click.Command = program
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, below, rest = command.resolve_command(context, rest)
        assert below is not None
        command = below
        context = command.make_context(name, rest, parent=context, **command.context_settings)


EXAMPLES = [p for p in sorted((ROOT / "examples").rglob("*")) if p.suffix in {".yaml", ".json"}]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_parses(path: Path) -> None:
    text = path.read_text()
    is_json = path.suffix == ".json"
    assert json.loads(uncommented(text)) if is_json else list(yaml.safe_load_all(text))


def test_k9s_plugin_runs_why_for_each_image_of_the_registry(tmp_path: Path) -> None:
    plugins = yaml.safe_load((ROOT / "examples" / "k9s" / "plugins.yaml").read_text())["plugins"]
    flag, line = plugins["autoregistry-why"]["args"]
    for variable, value in {"$CONTEXT": "k3d-dev", "$NAMESPACE": "shop", "$NAME": "api-1"}.items():
        line = line.replace(variable, value)
    listed = 'jsonpath={range .spec.containers[*]}{.image}{"\\n"}{end}'
    arguments = f"--context k3d-dev --namespace shop get pod api-1 --output {listed}"
    kubectl = f"[ \"$*\" = '{arguments}' ] && printf 'localhost:5000/api:dev\\nredis:7\\n'"
    for name, script in {"kubectl": kubectl, "autoregistry": 'echo "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    completed = subprocess.run(
        ["sh", flag, line],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        input="\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "$" not in line
    assert completed.stdout.splitlines() == ["why localhost:5000/api:dev"]
