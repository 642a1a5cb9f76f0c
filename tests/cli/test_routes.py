"""The road to the registry, as flags choose it: by the containers of `up`, or by the host's address at any port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from autoregistry.cli.client import Client
from autoregistry.cluster import k3d
from autoregistry.engine.containers import Containers
from autoregistry.stack.model import Options
from tests.fakes.engine import IDENTITY, FakeEngine
from tests.helpers.commands import Type
from tests.helpers.k3d_cluster import add_cluster


def test_generate_for_a_serve_at_another_port(typed: Type) -> None:
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
def test_the_containers_port_is_for_up_to_choose(typed: Type, words: tuple[str, ...]) -> None:
    refused = typed(*words, "--port", "5007")

    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: --port is for --via host\nhint: autoregistry up --port 5007\n",
    )


def test_a_file_names_the_command_that_makes_it_again(typed: Type, tmp_path: Path) -> None:
    file = tmp_path / "registries.yaml"
    road = ("--via", "host", "--port", "5007")
    typed("generate", "registries", *road, "-o", str(file))
    first = file.read_text().splitlines()[0]
    file.write_text("mine\n")
    refused = typed("generate", "registries", *road, "-o", str(file))

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
def test_the_serve_that_is_named_is_the_one_nodes_are_attached_to(
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
    ("daemon", "is_near"),
    [(IDENTITY, True), ("another", False), ("", True)],
    ids=["ours", "another Docker's", "an older proxy, which does not say"],
)
def test_what_answers_here_may_be_the_proxy_of_another_docker(
    engine: FakeEngine, daemon: str, *, is_near: bool
) -> None:
    """Whose context was chosen before."""
    engine.served = {"version": "0.1.0", "daemon": daemon}
    port = int(engine.host.rpartition(":")[2])

    with Client(Containers(engine.daemon), Options(port=port)) as client:
        assert client.is_near is is_near


@pytest.mark.parametrize("said", [[], "yes", None])
def test_what_answers_here_may_be_something_else(engine: FakeEngine, said: Any) -> None:
    with Client(Containers(engine.daemon), Options()) as client:
        assert not client._is_ours(said)


def test_a_cluster_that_stopped_half_made_is_to_be_deleted(
    engine: FakeEngine, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load balancer is started last: an interrupted `k3d cluster create` leaves it created only."""
    monkeypatch.setattr(k3d, "program", lambda: "k3d")
    add_cluster(engine)
    complete = typed("cluster", "create", "dev")
    labels = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "loadbalancer"}
    balancer = {**engine.containers["k3d-dev-server-0"], "Id": "lb", "Name": "/k3d-dev-serverlb"}
    balancer |= {"Config": {"Image": "k3d-proxy", "Labels": labels}, "State": {"Status": "created"}}
    engine.containers["k3d-dev-serverlb"] = balancer
    half = typed("cluster", "create", "dev")

    assert complete.stderr.endswith("is there already\nhint: autoregistry cluster attach dev\n")
    assert half.stderr.endswith(", half made\nhint: autoregistry cluster delete dev\n")


def _registry_of(engine: FakeEngine, cluster: str) -> str:
    """A registry of k3d's that was made with a cluster, and that another one may use."""
    labels = {"app": "k3d", "k3d.cluster": cluster, "k3d.role": "registry"}
    made = {**engine.containers["k3d-dev-server-0"], "Id": "reg", "Name": "/k3d-reg"}
    engine.containers["k3d-reg"] = {**made, "Config": {"Image": "registry:2", "Labels": labels}}
    return "k3d-reg"


def test_a_registry_made_with_a_cluster_is_k3ds_to_delete(
    engine: FakeEngine, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k3d keeps it where another cluster uses it; its images would go with it."""
    monkeypatch.setattr(k3d, "program", lambda: "k3d")
    monkeypatch.setattr(k3d, "run", lambda *_: None)
    add_cluster(engine)
    registry = _registry_of(engine, "dev")

    assert typed("cluster", "delete", "dev").exit_code == 0
    assert list(engine.containers) == [registry]

    refused = typed("cluster", "create", "dev")
    assert refused.stderr.splitlines()[-1] == "hint: k3d registry delete k3d-reg"


def test_a_node_that_cannot_be_asked_does_not_hide_the_others(
    engine: FakeEngine, typed: Type
) -> None:
    node = add_cluster(engine)
    agent = {**engine.containers["k3d-dev-server-0"], "Id": "a", "Name": "/k3d-dev-agent-0"}
    engine.containers["k3d-dev-agent-0"] = agent
    engine.stopping = {"k3d-dev-agent-0"}
    node.mirror = None

    assert typed("cluster", "list").stdout.splitlines()[1].split() == [
        *("dev", "2/2", "0/2", "not", "attached"),
    ]


def test_a_cluster_that_is_stopped_cannot_be_let_go(engine: FakeEngine, typed: Type) -> None:
    add_cluster(engine)
    engine.containers["k3d-dev-server-0"]["State"] = {"Status": "exited"}

    refused = typed("cluster", "detach", "dev")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "error: cluster dev does not run\nhint: k3d cluster start dev\n",
    )


@pytest.mark.parametrize(
    ("state", "away", "mend"),
    [
        ("exited", "it does not run", "k3d cluster start dev"),
        ("paused", "it is paused", "docker unpause k3d-dev-agent-0"),
    ],
)
def test_a_cluster_is_let_go_as_a_whole_or_not_at_all(
    engine: FakeEngine, typed: Type, state: str, away: str, mend: str
) -> None:
    add_cluster(engine)
    agent = {**engine.containers["k3d-dev-server-0"], "Id": "a", "Name": "/k3d-dev-agent-0"}
    agent["Config"] = {
        "Image": "k3s",
        "Labels": {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "agent"},
    }
    engine.containers["k3d-dev-agent-0"] = {**agent, "State": {"Status": state}}

    assert typed("cluster", "detach", "dev").stderr == (
        f"error: k3d-dev-agent-0: {away}, and keeps what it was told\nhint: {mend}\n"
    )


def test_all_of_no_clusters_is_an_error(typed: Type) -> None:
    told = typed("cluster", "attach", "--all")

    assert told.exit_code == 1
    assert told.stderr == "error: no k3d cluster runs\nhint: autoregistry cluster create dev\n"
