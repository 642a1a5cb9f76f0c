"""Joining and leaving a cluster's network, and refusing clusters that cannot be attached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from autoregistry.cluster.attach import Attachment
from autoregistry.cluster.mirror_config import Mirror, hosts_path
from autoregistry.engine.containers import Container, Containers, ExecResult
from autoregistry.engine.networks import Networks
from autoregistry.errors import ClusterRefused, DockerRefused
from tests.helpers.containers import container


def node(address: str, chosen: str = "") -> Container:
    labels = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "server"}
    return replace(container("k3d-dev-server-0", address, chosen), labels=labels)


@dataclass
class FakeContainers(Containers):
    """Containers on one network."""

    existing: list[Container]
    has_subnet: bool = True
    """The network has a configured subnet, so an address can be chosen."""
    mirror: str = ""
    """The endpoint that the node pulls from."""
    k3s: str = "v1.34.4+k3s1"
    did: list[str] = field(default_factory=list)

    def list(self, *labels: str) -> list[Container]:
        return self.existing

    def connect(
        self, network: str, container: str, body: Mapping[str, object] | None = None
    ) -> bool:
        if body and not self.has_subnet:
            raise DockerRefused("user specified IP address is supported only when ...")
        config = body["IPAMConfig"] if body else {}
        self.did.append(f"connect {container} {dict(config)}")  # type: ignore[call-overload]  # a mapping
        return True

    def disconnect(self, network: str, container: str) -> bool:
        self.did.append(f"disconnect {container}")
        return True

    def exec(self, container: str, argv: Sequence[str], **_: object) -> ExecResult:
        if argv[0] == "k3s":
            return ExecResult(0, f"k3s version {self.k3s} (abc)", "")
        if self.mirror:
            return ExecResult(0, f'== localhost:5000\nserver = "{self.mirror}"\n', "")
        raise AssertionError

    def put_file(self, *_: object) -> None:
        raise AssertionError

    def get_file(self, *_: object) -> str | None:
        raise AssertionError


class FakeNetworks(Networks):
    """One network, on which the last free address is 10.0.0.252."""

    def __init__(self) -> None: ...

    def subnet(self, network: str) -> str | None:
        return "10.0.0.0/24"

    def addresses(self, network: str) -> frozenset[str]:
        return frozenset({"10.0.0.253"})


def attachment(engine: FakeContainers) -> Attachment:
    mirror = Mirror.of(5000, "autoregistry")
    return Attachment(engine, FakeNetworks(), mirror, ("autoregistry",))


LAST = "{'IPv4Address': '10.0.0.252'}"
SECOND_LAST = "{'IPv4Address': '10.0.0.251'}"


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        pytest.param(
            FakeContainers([node("10.0.0.3")]),
            [f"connect autoregistry {LAST}"],
            id="the last free address",
        ),
        pytest.param(
            FakeContainers([node("10.0.0.3"), container("autoregistry-backend", "", "10.0.0.252")]),
            [f"connect autoregistry {SECOND_LAST}"],
            id="not the address of a stopped container",
        ),
        pytest.param(
            FakeContainers(
                [node("", "10.0.0.3"), container("autoregistry", "10.0.0.3", "10.0.0.3")]
            ),
            ["disconnect autoregistry", f"connect autoregistry {LAST}"],
            id="not the address of a node",
        ),
        pytest.param(
            FakeContainers([node("10.0.0.3")], has_subnet=False),
            ["connect autoregistry {}"],
            id="Docker's choice without a subnet",
        ),
    ],
)
def test_registry_joins_at_the_last_free_address(
    engine: FakeContainers, expected: list[str]
) -> None:
    attachment(engine).join("dev")

    assert engine.did == expected


AWAY = replace(container("autoregistry", ""), networks={}, joined=frozenset())


@pytest.mark.parametrize(
    ("existing", "mirror", "expected"),
    [
        pytest.param([AWAY], "http://autoregistry:5000", ["k3d-dev"], id="pulls from us"),
        pytest.param([AWAY], "http://host.k3d.internal:5000", [], id="by the host's address"),
        pytest.param([AWAY], "http://other:5000", [], id="from elsewhere"),
        pytest.param(
            [container("autoregistry", "10.0.0.9")],
            "http://autoregistry:5000",
            [],
            id="already joined",
        ),
        pytest.param([], "http://autoregistry:5000", [], id="no containers of ours"),
    ],
)
def test_network_is_joined_again_if_its_nodes_pull_from_us(
    existing: list[Container], mirror: str, expected: list[str]
) -> None:
    engine = FakeContainers([node("10.0.0.3"), *existing], mirror=mirror)

    assert attachment(engine).rejoin() == expected
    assert len(engine.did) == len(expected)


@pytest.mark.parametrize(
    ("others", "expected"),
    [([], ["disconnect autoregistry"]), (["prod"], [])],
    ids=["alone", "another cluster"],
)
def test_network_is_left_unless_another_cluster_uses_it(
    others: list[str], expected: list[str]
) -> None:
    shared = {"k3d.cluster.network": "k3d-dev"}
    existing = [
        replace(n, labels={**n.labels, **shared, "k3d.cluster": cluster})
        for n in [node("10.0.0.3")]
        for cluster in ["dev", *others]
    ]
    engine = FakeContainers(existing)

    attachment(engine).leave("dev")

    assert engine.did == expected


def test_k3s_without_hosts_toml_is_refused_before_anything_changes() -> None:
    engine = FakeContainers([node("10.0.0.3")], k3s="v1.26.4+k3s1")

    with pytest.raises(ClusterRefused) as refused:
        attachment(engine).attach("dev")

    message = "k3d-dev-server-0 runs a k3s older than January 2024 (k3s), which is not supported"
    assert refused.value.message == message
    assert refused.value.hint.startswith("autoregistry cluster create NAME -- --image rancher/k3s:")
    assert engine.did == []


def test_users_hosts_toml_that_leads_elsewhere_is_refused_before_anything_changes() -> None:
    """Review E: `attach` wrote over it."""
    engine = FakeContainers([node("10.0.0.3")], mirror="http://other:5000")

    with pytest.raises(ClusterRefused) as refused:
        attachment(engine).attach("dev")

    path = hosts_path("localhost:5000")
    assert refused.value.message == (
        f"{path} in k3d-dev-server-0 leads to another registry, and autoregistry did not write it"
    )
    assert refused.value.hint == f"docker exec k3d-dev-server-0 mv {path} {path}.old"
    assert engine.did == []
