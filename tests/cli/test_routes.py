"""The route to the registry that flags choose: the containers of `up`, or the host's address at any port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from autoregistry.cli.client import Client
from autoregistry.engine.containers import Containers
from autoregistry.stack.options import Options
from tests.fakes.engine import IDENTITY, FakeEngine
from tests.helpers.commands import Type
from tests.helpers.k3d_cluster import add_cluster


def test_generated_file_has_the_port_of_serve(typed: Type) -> None:
    written = typed("generate", "registries", "--via", "host", "--port", "5007").stdout

    assert yaml.safe_load(written)["mirrors"] == {
        name: {"endpoint": ["http://host.k3d.internal:5007"]}
        for name in ("localhost:5007", "127.0.0.1:5007")
    }


@pytest.mark.parametrize(
    "words",
    [("generate", "hosts"), ("generate", "configmap"), ("generate", "registries")],
    ids=" ".join,
)
def test_port_without_via_host_is_refused(typed: Type, words: tuple[str, ...]) -> None:
    refused = typed(*words, "--port", "5007")

    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: --port is for --via host\nhint: autoregistry up --port 5007\n",
    )


def test_generated_file_names_its_command(typed: Type, tmp_path: Path) -> None:
    file = tmp_path / "registries.yaml"
    route = ("--via", "host", "--port", "5007")
    typed("generate", "registries", *route, "-o", str(file))
    first = file.read_text().splitlines()[0]
    file.write_text("mine\n")
    refused = typed("generate", "registries", *route, "-o", str(file))

    command = "autoregistry generate registries --via host --port 5007"
    assert first.endswith(f": {command}")
    assert f"hint: {command} --output {file} --force" in refused.stderr.replace("\n", " ").replace(
        "  ", " "
    )


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("restart", "app:dev"), "autoregistry cluster attach --all --via host --port 5007"),
        (
            ("refresh", "app:dev", "--cluster", "dev"),
            "autoregistry cluster attach dev --via host --port 5007",
        ),
    ],
    ids=" ".join,
)
def test_hint_attaches_to_the_serve_that_the_variable_names(
    engine: FakeEngine,
    typed: Type,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    hint: str,
) -> None:
    add_cluster(engine)
    monkeypatch.setenv("AUTOREGISTRY_NAME", "localhost:5007")

    assert typed(*words).stderr.endswith(f"attached\nhint: {hint}\n")


@pytest.mark.parametrize(
    ("daemon", "has_port"),
    [(IDENTITY, True), ("another", False), ("", True)],
    ids=["ours", "another Docker's", "an older proxy without an identity"],
)
def test_proxy_of_another_docker_is_not_used(
    engine: FakeEngine, daemon: str, *, has_port: bool
) -> None:
    """It still runs after the Docker context has changed."""
    engine.served = {"version": "0.1.0", "daemon": daemon}
    port = int(engine.host.rpartition(":")[2])

    with Client(Containers(engine.daemon), Options(port=port)) as client:
        assert client.check_port() is has_port


@pytest.mark.parametrize("payload", [[], "yes", None])
def test_another_program_on_the_port_is_not_used(engine: FakeEngine, payload: Any) -> None:
    with Client(Containers(engine.daemon), Options()) as client:
        assert not client._is_ours(payload)
