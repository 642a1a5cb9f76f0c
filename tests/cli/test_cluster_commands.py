"""`autoregistry cluster`: clusters that cannot be created, attached, detached or deleted as asked."""

from __future__ import annotations

import pytest

from autoregistry.cluster import k3d
from tests.fakes.engine import FakeEngine
from tests.helpers.commands import Type
from tests.helpers.k3d_cluster import add_cluster


def test_incomplete_cluster_has_to_be_deleted(
    engine: FakeEngine, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k3d starts the load balancer last, so an interrupted `k3d cluster create` leaves it in state `created`."""
    monkeypatch.setattr(k3d, "program", lambda: "k3d")
    add_cluster(engine)
    complete = typed("cluster", "create", "dev")
    labels = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "loadbalancer"}
    balancer = {**engine.containers["k3d-dev-server-0"], "Id": "lb", "Name": "/k3d-dev-serverlb"}
    balancer |= {"Config": {"Image": "k3d-proxy", "Labels": labels}, "State": {"Status": "created"}}
    engine.containers["k3d-dev-serverlb"] = balancer
    incomplete = typed("cluster", "create", "dev")

    assert complete.stderr.endswith(
        "k3d cluster dev already exists\nhint: autoregistry cluster attach dev\n"
    )
    assert incomplete.stderr.endswith(
        ", but is incomplete\nhint: autoregistry cluster delete dev\n"
    )


def test_k3d_gets_our_registries_and_the_users_flags(
    engine: FakeEngine, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(k3d, "program", lambda: "k3d")
    monkeypatch.setattr(k3d, "run", lambda argv, _: commands.append(argv))
    typed("cluster", "create", "dev", "--", "--agents", "2")

    [[*command, file, subnet, auto, agents, number]] = commands
    assert command == ["k3d", "cluster", "create", "dev", "--registry-config"]
    assert file.endswith("/registries.yaml")
    assert [subnet, auto, agents, number] == ["--subnet", "auto", "--agents", "2"]


def _add_registry(engine: FakeEngine, cluster: str) -> str:
    """Add a registry of k3d that was created with a cluster, and that another cluster may use."""
    labels = {"app": "k3d", "k3d.cluster": cluster, "k3d.role": "registry"}
    registry = {**engine.containers["k3d-dev-server-0"], "Id": "reg", "Name": "/k3d-reg"}
    engine.containers["k3d-reg"] = {**registry, "Config": {"Image": "registry:2", "Labels": labels}}
    return "k3d-reg"


def test_registry_created_with_a_cluster_is_left_to_k3d(
    engine: FakeEngine, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k3d keeps it if another cluster uses it, and its images would be lost with it."""
    monkeypatch.setattr(k3d, "program", lambda: "k3d")
    monkeypatch.setattr(k3d, "run", lambda *_: None)
    add_cluster(engine)
    registry = _add_registry(engine, "dev")

    assert typed("cluster", "delete", "dev").exit_code == 0
    assert list(engine.containers) == [registry]

    refused = typed("cluster", "create", "dev")
    assert refused.stderr.splitlines()[-1] == "hint: k3d registry delete k3d-reg"


def test_node_that_does_not_answer_does_not_hide_the_others(
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


def test_stopped_cluster_cannot_be_detached(engine: FakeEngine, typed: Type) -> None:
    add_cluster(engine)
    engine.containers["k3d-dev-server-0"]["State"] = {"Status": "exited"}

    refused = typed("cluster", "detach", "dev")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "error: cluster dev is not running\nhint: k3d cluster start dev\n",
    )


@pytest.mark.parametrize(
    ("state", "away", "fix"),
    [
        ("exited", "it is not running", "k3d cluster start dev"),
        ("paused", "it is paused", "docker unpause k3d-dev-agent-0"),
    ],
)
def test_cluster_is_detached_as_a_whole_or_not_at_all(
    engine: FakeEngine, typed: Type, state: str, away: str, fix: str
) -> None:
    add_cluster(engine)
    agent = {**engine.containers["k3d-dev-server-0"], "Id": "a", "Name": "/k3d-dev-agent-0"}
    agent["Config"] = {
        "Image": "k3s",
        "Labels": {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "agent"},
    }
    engine.containers["k3d-dev-agent-0"] = {**agent, "State": {"Status": state}}

    assert typed("cluster", "detach", "dev").stderr == (
        f"error: k3d-dev-agent-0 cannot be detached: {away}\nhint: {fix}\n"
    )


def test_attach_all_without_a_running_cluster_is_an_error(typed: Type) -> None:
    refused = typed("cluster", "attach", "--all")

    assert refused.exit_code == 1
    assert (
        refused.stderr
        == "error: no k3d cluster is running\nhint: autoregistry cluster create dev\n"
    )


def test_removed_restart_option_says_what_to_do_instead(typed: Type) -> None:
    refused = typed("cluster", "attach", "dev", "--restart")

    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: --restart was removed: k3s older than January 2024 is not supported\n"
        "hint: autoregistry cluster create NAME -- --image rancher/k3s:v1.31.5-k3s1\n",
    )
    assert "--restart" not in typed("cluster", "attach", "--help").stdout
