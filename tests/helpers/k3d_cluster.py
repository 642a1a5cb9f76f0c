"""A k3d cluster of one node in a fake Docker Engine, and what commands in that node find."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from autoregistry import api_paths
from autoregistry.cluster.config_map import config_map_yaml
from autoregistry.cluster.mirror_config import Mirror, hosts_toml
from tests.fakes.engine import FakeEngine
from tests.helpers.commands import PORT

HEALTH = ("docker", "backend", "loop", "disk", "journal", "background")
SERVER, NETWORK, SUBNET = "k3d-dev-server-0", "k3d-dev", "10.9.0.0/24"
OURS = Mirror.of(int(PORT), "autoregistry")


@dataclass
class Node:
    """The only node: what commands in it print."""

    mirror: Mirror | None = OURS
    """The source of its mirror files."""
    announced: Mirror | None = OURS
    """The source of the cluster's ConfigMap."""
    cannot_reach: bool = False
    cannot_pull: bool = False
    proxies: str = "\n\n"
    health: dict[str, object] = field(
        default_factory=lambda: dict.fromkeys(HEALTH, "ok") | {"background": {}}
    )
    """The health that the proxy in its container reports."""

    def run(self, argv: list[str]) -> tuple[int, str]:
        match argv:
            case ["python", *_, "GET", api_paths.HEALTH, _]:
                return 0, f"200\n{json.dumps(self.health)}"
            case ["sh", "-c", script, *_] if "hosts.toml" in script:
                names = self.mirror.names.all if self.mirror else ()
                return 0, "".join(f"== {n}\n{hosts_toml(self.mirror, n)}\n" for n in names)  # type: ignore[arg-type]  # not None: it has names
            case ["sh", "-c", script] if "HTTP_PROXY" in script:
                return 0, self.proxies
            case ["sh", "-c", _, _, url]:
                return int(self.cannot_reach), "" if not self.cannot_reach else f"bad address {url}"
            case ["kubectl", "get", "configmap", *_]:
                # A ConfigMap in YAML is read like the JSON that kubectl prints.
                return 0, config_map_yaml(self.announced) if self.announced else ""
            case ["crictl", "pull", _]:
                return int(self.cannot_pull), ""
        return 0, ""


def add_cluster(engine: FakeEngine) -> Node:
    """Add a cluster of one node to the engine."""
    node = Node()
    engine.run = node.run
    engine.networks[NETWORK] = {
        "Name": NETWORK,
        "IPAM": {"Config": [{"Subnet": SUBNET}]},
        "Containers": {},
    }
    engine.containers[SERVER] = {
        "Id": SERVER,
        "Name": f"/{SERVER}",
        "Image": "sha256:k3s",
        "Config": {
            "Image": "rancher/k3s",
            "Labels": {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "server"},
        },
        "HostConfig": {},
        "State": {"Status": "running"},
        "NetworkSettings": {"Networks": {NETWORK: on_network("10.9.0.3")}},
    }
    return node


def on_network(address: str) -> dict[str, Any]:
    """Return what Docker reports for a container with a fixed address on a network."""
    return {
        "IPAddress": address,
        "EndpointID": "x",
        "IPAMConfig": {"IPv4Address": address},
    }
