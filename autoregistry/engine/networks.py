"""The networks and volumes of one daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoregistry.engine.daemon import Daemon


def _subnet(facts: dict[str, Any]) -> str | None:
    configs = facts["IPAM"].get("Config") or []
    return next((str(c["Subnet"]) for c in configs if ":" not in c.get("Subnet", ":")), None)


class _Labelled:
    """The operations that networks and volumes share: names, labels, creation and removal."""

    kind: str

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def labels(self, name: str) -> Mapping[str, str] | None:
        """Return its labels, or None if it does not exist."""
        path = f"/{self.kind}s/{name}"
        return self._daemon.get(path, lambda facts: dict(facts.get("Labels") or {}))

    def create(self, name: str, labels: Mapping[str, str]) -> None:
        """Create it. An existing volume is left as it is; an existing network is an error."""
        body = {"Name": name, "Labels": dict(labels), "CheckDuplicate": True}  # a network's
        self._daemon.post(f"/{self.kind}s/create", body)

    def remove(self, name: str) -> None:
        """Remove it, a volume with its content. If it does not exist, this is not an error."""
        self._daemon.delete(f"/{self.kind}s/{name}")


class Networks(_Labelled):
    """The networks of one daemon. `Containers.connect` joins a container to one."""

    kind = "network"

    def identity(self, network: str) -> str | None:
        """Return its Id, or None if there is no such network. A network of the same name later has another Id."""
        return self._daemon.get(f"/networks/{network}", lambda facts: str(facts["Id"]))

    def members(self, network: str) -> tuple[str, ...]:
        """Return the names of the running containers on it."""
        return tuple(sorted(end["Name"] for end in self._endpoints(network)))

    def subnet(self, network: str) -> str | None:
        """Return its first IPv4 subnet, such as `172.28.0.0/16`, or None if it has none."""
        return self._daemon.get(f"/networks/{network}", _subnet)

    def addresses(self, network: str) -> frozenset[str]:
        """Return the IPv4 addresses of the running containers on it."""
        return frozenset(e["IPv4Address"].partition("/")[0] for e in self._endpoints(network))

    def _endpoints(self, network: str) -> list[dict[str, str]]:
        return (
            self._daemon.get(
                f"/networks/{network}", lambda facts: list((facts.get("Containers") or {}).values())
            )
            or []
        )


class Volumes(_Labelled):
    """The named volumes of one daemon."""

    kind = "volume"
