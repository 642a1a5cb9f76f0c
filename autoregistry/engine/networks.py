"""The networks and volumes of one daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoregistry.engine.daemon import CHANGE_SECONDS, Daemon, error_message
from autoregistry.errors import DockerRefused


def _labels(facts: dict[str, Any]) -> dict[str, str]:
    return dict(facts.get("Labels") or {})


def _endpoints(facts: dict[str, Any]) -> list[dict[str, str]]:
    return list((facts.get("Containers") or {}).values())


def _subnet(facts: dict[str, Any]) -> str | None:
    configs = facts["IPAM"].get("Config") or []
    return next((str(c["Subnet"]) for c in configs if ":" not in c.get("Subnet", ":")), None)


class Networks:
    """The networks of one daemon. `Containers.connect` joins a container to one."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def identity(self, network: str) -> str | None:
        """Return its Id, or None if there is no such network. A network of the same name later has another Id."""
        return self._daemon.get(f"/networks/{network}", lambda facts: str(facts["Id"]))

    def labels(self, network: str) -> Mapping[str, str] | None:
        """Return its labels, or None if there is no such network."""
        return self._daemon.get(f"/networks/{network}", _labels)

    def members(self, network: str) -> tuple[str, ...]:
        """Return the names of the running containers on it."""
        names = self._daemon.get(
            f"/networks/{network}", lambda facts: sorted(e["Name"] for e in _endpoints(facts))
        )
        return tuple(names or ())

    def subnet(self, network: str) -> str | None:
        """Return its first IPv4 subnet, such as `172.28.0.0/16`, or None if it has none."""
        return self._daemon.get(f"/networks/{network}", _subnet)

    def addresses(self, network: str) -> frozenset[str]:
        """Return the IPv4 addresses of the running containers on it."""
        addresses = self._daemon.get(
            f"/networks/{network}",
            lambda facts: [e["IPv4Address"].partition("/")[0] for e in _endpoints(facts)],
        )
        return frozenset(addresses or ())

    def create(self, network: str, labels: Mapping[str, str]) -> None:
        body = {"Name": network, "Labels": dict(labels), "CheckDuplicate": True}
        self._daemon.request("POST", "/networks/create", json=body, timeout=CHANGE_SECONDS)

    def remove(self, network: str) -> None:
        """Remove it. A network that does not exist is not an error."""
        self._daemon.request("DELETE", f"/networks/{network}", timeout=CHANGE_SECONDS)


class Volumes:
    """The named volumes of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def labels(self, volume: str) -> Mapping[str, str] | None:
        """Return its labels, or None if there is no such volume."""
        return self._daemon.get(f"/volumes/{volume}", _labels)

    def create(self, volume: str, labels: Mapping[str, str]) -> None:
        """Create it. An existing volume is left as it is."""
        body = {"Name": volume, "Labels": dict(labels)}
        response = self._daemon.request(
            "POST", "/volumes/create", json=body, timeout=CHANGE_SECONDS
        )
        if response.status_code == 404:
            raise DockerRefused(error_message(response))

    def remove(self, volume: str) -> None:
        """Remove it and its content. A volume that does not exist is not an error."""
        self._daemon.request("DELETE", f"/volumes/{volume}", timeout=CHANGE_SECONDS)
