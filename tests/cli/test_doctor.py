"""`doctor`: each problem with the command that fixes it; `--json` is pinned."""

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


def problems(typed: Type) -> list[tuple[str, str]]:
    result = typed("doctor", "--json")
    checks = json.loads(result.stdout)
    failed = [(check["sentence"], check["hint"]) for check in checks if not check["is_well"]]
    assert result.exit_code == (1 if failed else 0)
    return failed


def test_every_line_without_problems(
    node: Node, engine: FakeEngine, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "is_local", lambda daemon: True)
    monkeypatch.setattr(ports, "listeners", lambda port: [Listener("127.0.0.1")])
    sentences = [
        ("docker", f"Docker 28.5.2 (machine), containerd image store, at {engine.host}"),
        ("port", f"no other program uses port {PORT} on 127.0.0.1 or ::1"),
        ("stack", "autoregistry-backend is running"),
        ("stack", f"autoregistry is running, version {__version__}"),
        ("docker", "the proxy reaches Docker"),
        ("backend", "the proxy reaches the backend"),
        ("disk", "the proxy has enough disk space"),
        ("journal", "the proxy can write its journal"),
        ("background", "the proxy does its background work"),
        (
            "loop",
            f"Docker reaches this registry at localhost:{PORT}: a test image was pushed on demand",
        ),
        (
            "dev",
            f"every node pulls localhost:{PORT} from http://autoregistry:5000, "
            f"then http://host.k3d.internal:{PORT}",
        ),
        ("dev", "the registry is on network k3d-dev"),
        ("dev", "k3d-dev-server-0 reaches http://autoregistry:5000"),
        ("dev", f"ConfigMap local-registry-hosting names localhost:{PORT}"),
        ("dev", "k3d-dev-server-0 pulled a test image that was pushed on demand"),
    ]

    assert json.loads(typed("doctor", "--json").stdout) == [
        {"about": about, "is_well": True, "sentence": sentence, "hint": ""}
        for about, sentence in sentences
    ]
    assert typed("doctor").stdout.startswith("✓ docker  Docker 28.5.2")


def test_all_addresses_are_ours_if_the_port_is_exposed(
    node: Node, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners = [Listener(address) for address in ("127.0.0.1", "127.0.0.1 and ::1")]
    monkeypatch.setattr(docker, "is_local", lambda daemon: True)
    monkeypatch.setattr(ports, "listeners", lambda port: listeners if port == int(PORT) else [])
    (sentence, _), *others = problems(typed)
    assert typed("up", "--expose").exit_code == 0

    assert sentence.startswith(f"port {PORT} on 127.0.0.1 and ::1 is in use by ")
    assert (others, problems(typed)) == ([], [])


LOG = "autoregistry logs --tail 20"


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        pytest.param(
            {"docker": "does not answer"},
            [("the proxy cannot reach Docker: does not answer", "docker restart autoregistry")],
            id="the socket is dead",
        ),
        pytest.param(
            {"disk": "only 0.1 GB free", "loop": "Docker's localhost:5149 is not this proxy"},
            [
                ("the proxy has too little disk space: only 0.1 GB free", "docker system df"),
                ("Docker's localhost:5149 is not this proxy", LOG),
            ],
            id="the disk is full",
        ),
        pytest.param(
            {"journal": "database is locked", "background": {"node starts": "KeyError: 'Id'"}},
            [
                ("the proxy cannot write its journal: database is locked", LOG),
                ("the proxy fails in its background work: node starts: KeyError: 'Id'", LOG),
            ],
            id="journal and background work",
        ),
        pytest.param(
            {"backend": "http://autoregistry-backend:5000 does not answer"},
            [
                (
                    "the proxy cannot reach the backend: http://autoregistry-backend:5000 does not answer",
                    "docker logs autoregistry-backend",
                )
            ],
            id="the backend is away",
        ),
    ],
)
def test_health_of_the_proxy_is_read_first_and_names_the_true_cause(
    node: Node,
    engine: FakeEngine,
    typed: Type,
    health: dict[str, object],
    expected: list[tuple[str, str]],
) -> None:
    """Review 9: `doctor` proposed another port, which renames every image."""
    node.health |= health
    engine.in_registry = None  # what Docker gets from a proxy that cannot push

    assert problems(typed) == expected


def test_another_port_is_proposed_if_only_the_loop_is_broken(node: Node, typed: Type) -> None:
    node.health["loop"] = "Docker's localhost:5149 is not this proxy"

    [(sentence, hint)] = problems(typed)
    assert sentence == "Docker's localhost:5149 is not this proxy"
    assert hint.startswith("autoregistry up --port ")


def test_health_is_read_even_if_the_containers_have_a_problem(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    engine.containers["autoregistry-backend"]["State"] = {"Status": "exited"}
    node.health |= {"backend": "does not answer", "loop": "Docker would push elsewhere"}

    assert problems(typed)[:3] == [
        ("container autoregistry-backend is exited", "autoregistry up"),
        (
            "the proxy cannot reach the backend: does not answer",
            "docker logs autoregistry-backend",
        ),
        ("Docker would push elsewhere", LOG),
    ]


def test_older_proxy_without_some_fields_is_no_problem(node: Node, typed: Type) -> None:
    del node.health["journal"], node.health["background"]
    node.health["disk"] = "unknown"

    subjects = [check["about"] for check in json.loads(typed("doctor", "--json").stdout)]
    assert problems(typed) == []
    assert not {"journal", "background", "disk"} & set(subjects)


def test_stopped_container_is_started_by_up(node: Node, engine: FakeEngine, typed: Type) -> None:
    engine.containers["autoregistry-backend"]["State"] = {"Status": "exited"}

    assert ("container autoregistry-backend is exited", "autoregistry up") in problems(typed)


def test_proxy_of_another_version_is_named(node: Node, engine: FakeEngine, typed: Type) -> None:
    engine.containers["autoregistry"]["Config"]["Labels"][VERSION] = "0.0.9"

    sentence = f"autoregistry runs version 0.0.9, but this command is version {__version__}"
    assert problems(typed) == [(sentence, "autoregistry up")]


def test_node_that_pulls_from_elsewhere_is_named(node: Node, typed: Type) -> None:
    """Its file has our endpoint, but not first."""
    node.mirror = Mirror(OURS.names, ("http://other:5000", OURS.endpoints[0]))

    assert problems(typed) == [
        (
            f"{SERVER} pulls {name} from http://other:5000, then http://autoregistry:5000;"
            f" expected http://autoregistry:5000, then http://host.k3d.internal:{PORT}",
            ATTACH,
        )
        for name in OURS.names.all
    ]


def test_cluster_that_uses_the_old_name_is_named(node: Node, typed: Type) -> None:
    node.mirror = Mirror.of(5000, "autoregistry")

    assert problems(typed) == [
        (
            f"its nodes use the registry's old name localhost:5000; it is now localhost:{PORT}",
            ATTACH,
        )
    ]


def test_registry_that_a_node_cannot_reach_is_reported_with_the_cause(
    node: Node, typed: Type
) -> None:
    node.cannot_reach = True

    (sentence, hint), *others = problems(typed)
    assert sentence.startswith(f"{SERVER} cannot reach the registry: ")
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
def test_node_that_sends_our_names_to_its_http_proxy_is_named(
    node: Node, typed: Type, exempt: str, missing: str
) -> None:
    node.proxies = f"http://me:secret@proxy:3128\n{exempt}\n"

    if not missing:
        assert problems(typed) == []
        return
    [(sentence, hint)] = problems(typed)
    assert sentence == f"{SERVER} sends requests for {missing} to its HTTP_PROXY"
    assert hint.startswith("autoregistry cluster create dev -- --env 'NO_PROXY=")
    assert "autoregistry-backend@all'" in hint
    assert "secret" not in sentence + hint


@pytest.mark.parametrize(
    "exempt", [".internal", "internal", "*.internal", "host.k3d.internal:5149"]
)
def test_name_in_no_proxy_covers_its_subdomains(node: Node, typed: Type, exempt: str) -> None:
    node.mirror = node.announced = Mirror.of(5007, None)
    node.proxies = f"http://proxy:3128\n{exempt}\n"

    assert not [sentence for sentence, _ in problems(typed) if "HTTP_PROXY" in sentence]


def test_route_of_up_is_proposed_if_it_has_the_same_name(node: Node, typed: Type) -> None:
    """The file names `serve` on the host, but the port is that of `up`, which is published on loopback only."""
    node.mirror = Mirror.of(int(PORT), None)
    node.cannot_reach = True

    (_, hint), *_ = problems(typed)
    assert hint == ATTACH


@pytest.mark.parametrize(
    ("announced", "sentence"),
    [
        (
            None,
            "there is no ConfigMap local-registry-hosting, so Tilt and skaffold cannot find the registry",
        ),
        (
            Mirror.of(5000, "autoregistry"),
            f"ConfigMap local-registry-hosting says host: localhost:5000; expected localhost:{PORT}",
        ),
        (
            Mirror(OURS.names, ("http://gone:5000",)),
            "ConfigMap local-registry-hosting says hostFromClusterNetwork: gone:5000;"
            " expected autoregistry:5000",
        ),
    ],
)
def test_config_map_is_compared_with_the_registry(
    node: Node, typed: Type, announced: Mirror | None, sentence: str
) -> None:
    node.announced = announced

    assert problems(typed) == [(sentence, ATTACH)]


def test_failed_pull_leads_to_the_log(node: Node, typed: Type) -> None:
    node.cannot_pull = True

    (_, hint), *others = problems(typed)
    assert (hint, others) == ("autoregistry logs --tail 20", [])


def test_two_containers_with_one_address_are_named_and_attach_moves_ours(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    engine.containers["autoregistry"]["NetworkSettings"]["Networks"][NETWORK] = on_network(
        "10.9.0.3"
    )

    assert (
        "autoregistry and k3d-dev-server-0 both want 10.9.0.3 on network k3d-dev",
        ATTACH,
    ) in problems(typed)


def test_container_without_an_address_on_the_network_is_named(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    half = {**on_network(""), "EndpointID": ""}
    engine.containers["autoregistry"]["NetworkSettings"]["Networks"][NETWORK] = half

    assert problems(typed) == [
        ("autoregistry is listed on network k3d-dev, but has no address there", ATTACH)
    ]


def test_server_whose_address_another_node_has_is_named(
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

    fix = "k3d cluster stop dev && k3d cluster start dev"
    assert problems(typed)[:2] == [
        (f"{SERVER} and k3d-dev-agent-0 both want 10.9.0.3 on network k3d-dev", fix),
        (f"{SERVER} is not running: Address already in use", fix),
    ]


def test_node_that_stops_during_the_checks_is_named(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    engine.stopping = {SERVER}

    cause = f"{SERVER} does not answer: Container {SERVER} is not running"
    assert (cause, "k3d cluster start dev") in problems(typed)


def test_cluster_that_is_not_attached_is_no_problem(node: Node, typed: Type) -> None:
    node.mirror = None
    checks = json.loads(typed("doctor", "--json").stdout)

    assert problems(typed) == []
    assert checks[-1]["sentence"] == "not attached: its nodes do not pull from this registry"
    assert checks[-1]["hint"] == ATTACH


def test_docker_that_reaches_another_registry_at_our_name_is_reported(
    node: Node, engine: FakeEngine, typed: Type
) -> None:
    engine.in_registry = None

    [(sentence, hint)] = problems(typed)
    assert sentence == f"Docker reaches another registry at localhost:{PORT}"
    assert int(hint.removeprefix("autoregistry up --port ")) > int(PORT)


def test_serve_on_the_host_needs_no_containers(engine: FakeEngine, typed: Type) -> None:
    """The nodes' files name its port, and an autoregistry has to answer there."""
    port = int(engine.host.rpartition(":")[2])
    by_host = Mirror.of(port, None)
    node = add_cluster(engine)
    node.mirror = node.announced = by_host
    engine.served = {"version": "0.1.0"}

    assert problems(typed) == []
    sentences = [check["sentence"] for check in json.loads(typed("doctor", "--json").stdout)]
    assert f"`autoregistry serve` serves localhost:{port} on this machine" in sentences
    assert f"{SERVER} reaches http://host.k3d.internal:{port}" in sentences


def test_missing_containers_and_serve_lead_to_up(engine: FakeEngine, typed: Type) -> None:
    port = int(engine.host.rpartition(":")[2])
    add_cluster(engine).mirror = Mirror.of(port, None)

    assert ("container autoregistry does not exist", "autoregistry up") in problems(typed)


def test_each_check_has_an_image_of_its_own(node: Node, engine: FakeEngine, typed: Type) -> None:
    """Review E: `attach`, `doctor` and Tilt at the same time took each other's image away."""
    assert problems(typed) == []

    removed = [path for path in engine.asked if path.startswith("DELETE /images/")]
    images = [path.rpartition("/")[2] for path in removed]
    assert len(removed) == len(set(removed)) == 2  # the loop, and the only node
    assert all(image.startswith("check:") for image in images)
