"""What `doctor` says of a cluster, and the command that mends it; `--json` is pinned."""

from __future__ import annotations

import json

import pytest

from autoregistry import __version__
from autoregistry.cli import docker
from autoregistry.cluster.mirror_config import Mirror
from autoregistry.stack import ports
from autoregistry.stack.model import VERSION
from autoregistry.stack.ports import Listener
from tests.fakes.engine import FakeEngine
from tests.helpers.commands import PORT, Type
from tests.helpers.k3d_cluster import NETWORK, OURS, SERVER, Node, add_cluster, on_network

ATTACH = "autoregistry cluster attach dev"


@pytest.fixture
def node(engine: FakeEngine, typed: Type) -> Node:
    """The stack, and a cluster of one node that is attached to it."""
    assert typed("up", "--port", PORT).exit_code == 0
    node = add_cluster(engine)
    for name, last in (("autoregistry", 252), ("autoregistry-backend", 253)):
        engine.containers[name]["NetworkSettings"]["Networks"][NETWORK] = on_network(
            f"10.9.0.{last}"
        )
    return node


def ill(typed: Type) -> list[tuple[str, str]]:
    told = typed("doctor", "--json")
    checks = json.loads(told.stdout)
    wrong = [(check["sentence"], check["hint"]) for check in checks if not check["is_well"]]
    assert told.exit_code == (1 if wrong else 0)
    return wrong


def test_a_machine_that_is_well_word_for_word(
    node: Node, engine: FakeEngine, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "is_local", lambda daemon: True)
    monkeypatch.setattr(ports, "listeners", lambda port: [Listener("127.0.0.1")])
    sentences = [
        ("docker", f"Docker 28.5.2 (machine), containerd image store, at {engine.host}"),
        ("port", f"nobody else has port {PORT}, on 127.0.0.1 or on ::1"),
        ("stack", "autoregistry-backend runs"),
        ("stack", f"autoregistry runs, version {__version__}"),
        (
            "loop",
            f"an image that was only built was pushed when Docker asked localhost:{PORT} for it",
        ),
        (
            "dev",
            f"every node pulls localhost:{PORT} from http://autoregistry:5000, "
            f"then http://host.k3d.internal:{PORT}",
        ),
        ("dev", "the registry is on network k3d-dev"),
        ("dev", "k3d-dev-server-0 reaches http://autoregistry:5000"),
        ("dev", f"ConfigMap local-registry-hosting names localhost:{PORT}"),
        ("dev", "k3d-dev-server-0 pulled an image that was only built"),
    ]

    assert json.loads(typed("doctor", "--json").stdout) == [
        {"about": about, "is_well": True, "sentence": sentence, "hint": ""}
        for about, sentence in sentences
    ]
    assert typed("doctor").stdout.startswith("✓ docker  Docker 28.5.2")


def test_all_addresses_are_ours_where_the_port_is_exposed(
    node: Node, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = [Listener(address) for address in ("127.0.0.1", "127.0.0.1 and ::1")]
    monkeypatch.setattr(docker, "is_local", lambda daemon: True)
    monkeypatch.setattr(ports, "listeners", lambda port: heard if port == int(PORT) else [])
    (sentence, _), *others = ill(typed)
    assert typed("up", "--expose").exit_code == 0

    assert sentence.startswith(f"127.0.0.1 and ::1 port {PORT} belongs to ")
    assert (others, ill(typed)) == ([], [])


def test_a_container_that_was_stopped_is_started_by_up(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    engine.containers["autoregistry-backend"]["State"] = {"Status": "exited"}

    assert ("autoregistry-backend is exited", "autoregistry up") in ill(typed)


def test_a_proxy_of_another_version_is_named(node: Node, engine: FakeEngine, typed: Type) -> None:
    engine.containers["autoregistry"]["Config"]["Labels"][VERSION] = "0.0.9"

    assert ill(typed) == [("autoregistry is of version 0.0.9", "autoregistry up")]


def test_a_node_that_pulls_from_elsewhere_is_named(node: Node, typed: Type) -> None:
    """The file is there and names us, but not first."""
    node.mirror = Mirror(OURS.names, ("http://other:5000", OURS.endpoints[0]), "")

    assert ill(typed) == [
        (
            f"{SERVER} pulls {name} from http://other:5000, then http://autoregistry:5000,"
            f" not http://autoregistry:5000, then http://host.k3d.internal:{PORT}",
            ATTACH,
        )
        for name in OURS.names
    ]


def test_a_cluster_that_knows_the_name_of_before_is_told(node: Node, typed: Type) -> None:
    node.mirror = Mirror.of(5000, "autoregistry")

    assert ill(typed) == [
        (f"it knows the registry as localhost:5000, and that is localhost:{PORT} now", ATTACH)
    ]


def test_no_answer_inside_a_node_comes_with_the_cause(node: Node, typed: Type) -> None:
    node.cannot_reach = True

    (sentence, hint), *others = ill(typed)
    assert sentence.startswith(f"{SERVER} does not reach the registry: ")
    assert (hint, others) == (ATTACH, [])


@pytest.mark.parametrize(
    ("exempt", "missing"),
    [
        ("", "autoregistry and autoregistry-backend"),
        ("10.0.0.0/8, AUTOREGISTRY:5000", "autoregistry-backend"),
        ("registry,backend", "autoregistry and autoregistry-backend"),
        ("autoregistry,autoregistry-backend", ""),
        ("*", ""),
    ],
)
def test_a_node_whose_own_proxy_is_asked_for_us_is_named(
    node: Node, typed: Type, exempt: str, missing: str
) -> None:
    node.proxies = f"http://me:secret@proxy:3128\n{exempt}\n"

    if not missing:
        assert ill(typed) == []
        return
    [(sentence, hint)] = ill(typed)
    assert sentence == f"{SERVER} asks its HTTP_PROXY for {missing}"
    assert hint.startswith("autoregistry cluster create dev -- --env 'NO_PROXY=")
    assert "autoregistry-backend@all'" in hint
    assert "secret" not in sentence + hint


@pytest.mark.parametrize(
    "exempt", [".internal", "internal", "*.internal", "host.k3d.internal:5149"]
)
def test_a_name_in_no_proxy_means_all_that_ends_in_it(node: Node, typed: Type, exempt: str) -> None:
    node.mirror = node.announced = Mirror.of(5007, None)
    node.proxies = f"http://proxy:3128\n{exempt}\n"

    assert not [sentence for sentence, _ in ill(typed) if "HTTP_PROXY" in sentence]


def test_where_up_has_the_name_its_road_is_proposed(node: Node, typed: Type) -> None:
    """The file of `serve` on the host, and no `serve`: the port is published on loopback only."""
    node.mirror = Mirror.of(int(PORT), None)
    node.cannot_reach = True

    (_, hint), *_ = ill(typed)
    assert hint == ATTACH


@pytest.mark.parametrize(
    ("announced", "sentence"),
    [
        (None, "no ConfigMap local-registry-hosting: Tilt and skaffold find no registry"),
        (
            Mirror.of(5000, "autoregistry"),
            f"ConfigMap local-registry-hosting says host: localhost:5000, not localhost:{PORT}",
        ),
        (
            Mirror(OURS.names, OURS.endpoints, "gone:5000"),
            "ConfigMap local-registry-hosting says hostFromClusterNetwork: gone:5000,"
            " not autoregistry:5000",
        ),
    ],
)
def test_what_tilt_reads_is_compared(
    node: Node, typed: Type, announced: Mirror | None, sentence: str
) -> None:
    node.announced = announced

    assert ill(typed) == [(sentence, ATTACH)]


def test_a_pull_that_fails_leads_to_the_log(node: Node, typed: Type) -> None:
    node.cannot_pull = True

    (_, hint), *others = ill(typed)
    assert (hint, others) == ("autoregistry logs --tail 20", [])


def test_two_containers_made_with_one_address_are_named_and_attach_moves_ours(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    engine.containers["autoregistry"]["NetworkSettings"]["Networks"][NETWORK] = on_network(
        "10.9.0.3"
    )

    assert (
        "autoregistry and k3d-dev-server-0 both want 10.9.0.3 on network k3d-dev",
        ATTACH,
    ) in ill(typed)


def test_a_container_that_docker_says_is_joined_and_has_no_address_is_named(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    half = {**on_network(""), "EndpointID": ""}
    engine.containers["autoregistry"]["NetworkSettings"]["Networks"][NETWORK] = half

    assert ill(typed) == [
        ("autoregistry has no address on network k3d-dev, though Docker says it is on it", ATTACH)
    ]


def test_a_server_whose_address_another_node_took_is_named(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    server = engine.containers[SERVER]
    agent = {**server, "Id": "a", "Name": "/k3d-dev-agent-0"}
    agent["NetworkSettings"] = {
        "Networks": {NETWORK: {**on_network("10.9.0.3"), "IPAMConfig": None}}
    }
    agent["Config"] = {
        "Image": "k3s",
        "Labels": {**server["Config"]["Labels"], "k3d.role": "agent"},
    }
    engine.containers["k3d-dev-agent-0"] = agent
    server["State"] = {"Status": "exited", "Error": "Address already in use"}
    server["NetworkSettings"]["Networks"][NETWORK]["IPAddress"] = ""

    mend = "k3d cluster stop dev && k3d cluster start dev"
    assert ill(typed)[:2] == [
        (f"{SERVER} and k3d-dev-agent-0 both want 10.9.0.3 on network k3d-dev", mend),
        (f"{SERVER} does not run: Address already in use", mend),
    ]


def test_a_node_that_stops_while_it_is_looked_at_is_named(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    engine.stopping = {SERVER}

    cause = f"{SERVER} cannot be asked: Container {SERVER} is not running"
    assert (cause, "k3d cluster start dev") in ill(typed)


def test_not_attached_is_no_illness(node: Node, typed: Type) -> None:
    node.mirror = None
    told = json.loads(typed("doctor", "--json").stdout)

    assert ill(typed) == []
    assert told[-1]["sentence"] == "not attached: it pulls from elsewhere"
    assert told[-1]["hint"] == ATTACH


def test_docker_reaching_another_registry_by_our_name_is_named(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    engine.in_registry = None

    [(sentence, hint)] = ill(typed)
    assert sentence == f"Docker's localhost:{PORT} is another registry"
    assert int(hint.removeprefix("autoregistry up --port ")) > int(PORT)


def test_serve_on_the_host_needs_no_containers(engine: FakeEngine, typed: Type) -> None:
    """The nodes say at which port it is; whoever answers there has to be one of us."""
    port = int(engine.host.rpartition(":")[2])
    by_host = Mirror.of(port, None)
    node = add_cluster(engine)
    node.mirror = node.announced = by_host
    engine.served = {"version": "0.1.0"}

    assert ill(typed) == []
    sentences = [check["sentence"] for check in json.loads(typed("doctor", "--json").stdout)]
    assert f"`autoregistry serve` runs on this machine, as localhost:{port}" in sentences
    assert f"{SERVER} reaches http://host.k3d.internal:{port}" in sentences


def test_neither_containers_nor_serve_leads_to_up(engine: FakeEngine, typed: Type) -> None:
    port = int(engine.host.rpartition(":")[2])
    add_cluster(engine).mirror = Mirror.of(port, None)

    assert ("there is no container autoregistry", "autoregistry up") in ill(typed)
