"""Putting the registry on a cluster's network: at which address, and what is mended on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from autoregistry.cluster.attach import Attachment
from autoregistry.cluster.mirror_config import Mirror
from autoregistry.cluster.node_files import MirrorFiles
from autoregistry.cluster.nodes import Nodes
from autoregistry.engine.containers import Container, ExecResult
from autoregistry.errors import DockerRefused
from tests.helpers.containers import container


def node(address: str, chosen: str = "") -> Container:
    labels = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "server"}
    return replace(container("k3d-dev-server-0", address, chosen), labels=labels)


@dataclass
class Engine:
    """Containers and one network. `can_choose`: whether it has a subnet of its own."""

    there: list[Container]
    can_choose: bool = True
    mirror: str = ""
    """Where the node pulls from."""
    did: list[str] = field(default_factory=list)

    def list(self, *labels: str) -> list[Container]:
        return self.there

    def connect(
        self, network: str, container: str, body: Mapping[str, object] | None = None
    ) -> bool:
        if body and not self.can_choose:
            raise DockerRefused("user specified IP address is supported only when ...")
        place = body["IPAMConfig"] if body else {}
        self.did.append(f"connect {container} {dict(place)}")  # type: ignore[call-overload]  # a mapping
        return True

    def disconnect(self, network: str, container: str) -> bool:
        self.did.append(f"disconnect {container}")
        return True

    def subnet(self, network: str) -> str | None:
        return "10.0.0.0/24"

    def addresses(self, network: str) -> frozenset[str]:
        return frozenset({"10.0.0.253"})

    def exec(self, *_: object, **__: object) -> ExecResult:
        if self.mirror:
            return ExecResult(0, f'== localhost:5000\nserver = "{self.mirror}"\n', "")
        raise AssertionError

    def put_file(self, *_: object) -> None:
        raise AssertionError

    def get_file(self, *_: object) -> str | None:
        raise AssertionError


def join(engine: Engine) -> list[str]:
    mirror = Mirror.of(5000, "autoregistry")
    nodes, files = Nodes(engine), MirrorFiles(engine)
    Attachment(engine, engine, nodes, files, mirror, ("autoregistry",)).join("dev")
    return engine.did


FAR = "{'IPv4Address': '10.0.0.252'}"
FARTHER = "{'IPv4Address': '10.0.0.251'}"


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        pytest.param(
            Engine([node("10.0.0.3")]), [f"connect autoregistry {FAR}"], id="the last free"
        ),
        pytest.param(
            Engine([node("10.0.0.3"), container("autoregistry-backend", "", "10.0.0.252")]),
            [f"connect autoregistry {FARTHER}"],
            id="not that of one who is stopped",
        ),
        pytest.param(
            Engine([node("", "10.0.0.3"), container("autoregistry", "10.0.0.3", "10.0.0.3")]),
            ["disconnect autoregistry", f"connect autoregistry {FAR}"],
            id="away from a node's",
        ),
        pytest.param(
            Engine([node("10.0.0.3")], can_choose=False),
            ["connect autoregistry {}"],
            id="Docker's choice where it lets nobody choose",
        ),
    ],
)
def test_where_the_registry_goes(engine: Engine, expected: list[str]) -> None:
    assert join(engine) == expected


AWAY = replace(container("autoregistry", ""), networks={}, joined=frozenset())


@pytest.mark.parametrize(
    ("there", "mirror", "expected"),
    [
        pytest.param([AWAY], "http://autoregistry:5000", ["k3d-dev"], id="it pulls from us"),
        pytest.param([AWAY], "http://host.k3d.internal:5000", [], id="by the host's address"),
        pytest.param([AWAY], "http://other:5000", [], id="from elsewhere"),
        pytest.param(
            [container("autoregistry", "10.0.0.9")],
            "http://autoregistry:5000",
            [],
            id="we are there",
        ),
        pytest.param([], "http://autoregistry:5000", [], id="there are no containers of ours"),
    ],
)
def test_a_network_is_joined_again_where_nodes_pull_from_us(
    there: list[Container], mirror: str, expected: list[str]
) -> None:
    engine = Engine([node("10.0.0.3"), *there], mirror=mirror)
    nodes, files = Nodes(engine), MirrorFiles(engine)
    ours = Mirror.of(5000, "autoregistry")
    attachment = Attachment(engine, engine, nodes, files, ours, ("autoregistry",))

    assert attachment.rejoin() == expected
    assert len(engine.did) == len(expected)


@pytest.mark.parametrize(
    ("others", "expected"),
    [([], ["disconnect autoregistry"]), (["prod"], [])],
    ids=["alone on it", "another cluster is on it"],
)
def test_a_network_is_left_only_where_no_other_cluster_is_on_it(
    others: list[str], expected: list[str]
) -> None:
    shared = {"k3d.cluster.network": "k3d-dev"}
    there = [
        replace(n, labels={**n.labels, **shared, "k3d.cluster": cluster})
        for n in [node("10.0.0.3")]
        for cluster in ["dev", *others]
    ]
    engine = Engine(there)
    nodes, files = Nodes(engine), MirrorFiles(engine)
    ours = Mirror.of(5000, "autoregistry")

    Attachment(engine, engine, nodes, files, ours, ("autoregistry",)).leave("dev")

    assert engine.did == expected
