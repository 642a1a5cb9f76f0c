"""Networks and volumes of one daemon: making them, what is on them, and removing them."""

from __future__ import annotations

from collections.abc import Mapping

from autoregistry.engine.daemon import Daemon, said
from autoregistry.errors import DockerRefused

CHANGE_SECONDS = 60.0


class Networks:
    """The networks of one daemon. Joining a container is `Containers.connect`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def identity(self, network: str) -> str | None:
        """Its Id, which goes with it, as its name does not; None where there is no such network."""
        answer = self._daemon.request("GET", f"/networks/{network}")
        return None if answer.status_code == 404 else str(answer.json()["Id"])

    def labels(self, network: str) -> Mapping[str, str] | None:
        """Its labels; None where there is no such network."""
        answer = self._daemon.request("GET", f"/networks/{network}")
        return None if answer.status_code == 404 else dict(answer.json().get("Labels") or {})

    def members(self, network: str) -> tuple[str, ...]:
        """The names of the running containers on it."""
        answer = self._daemon.request("GET", f"/networks/{network}")
        if answer.status_code == 404:
            return ()
        return tuple(sorted(c["Name"] for c in (answer.json().get("Containers") or {}).values()))

    def subnet(self, network: str) -> str | None:
        """Its first IPv4 subnet, `172.28.0.0/16`; None where there is none."""
        answer = self._daemon.request("GET", f"/networks/{network}")
        config = [] if answer.status_code == 404 else answer.json()["IPAM"].get("Config") or []
        return next((str(c["Subnet"]) for c in config if ":" not in c.get("Subnet", ":")), None)

    def addresses(self, network: str) -> frozenset[str]:
        """The IPv4 addresses of the running containers on it."""
        answer = self._daemon.request("GET", f"/networks/{network}")
        found = {} if answer.status_code == 404 else answer.json().get("Containers") or {}
        return frozenset(c["IPv4Address"].partition("/")[0] for c in found.values())

    def create(self, network: str, labels: Mapping[str, str]) -> None:
        body = {"Name": network, "Labels": dict(labels), "CheckDuplicate": True}
        self._daemon.request("POST", "/networks/create", json=body, timeout=CHANGE_SECONDS)

    def remove(self, network: str) -> None:
        """Remove it; one that is gone is no error."""
        self._daemon.request("DELETE", f"/networks/{network}", timeout=CHANGE_SECONDS)


class Volumes:
    """The named volumes of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def labels(self, volume: str) -> Mapping[str, str] | None:
        """Its labels; None where there is no such volume."""
        answer = self._daemon.request("GET", f"/volumes/{volume}")
        return None if answer.status_code == 404 else dict(answer.json().get("Labels") or {})

    def create(self, volume: str, labels: Mapping[str, str]) -> None:
        """Create it; one that is there is left as it is."""
        body = {"Name": volume, "Labels": dict(labels)}
        answer = self._daemon.request("POST", "/volumes/create", json=body, timeout=CHANGE_SECONDS)
        if answer.status_code == 404:
            raise DockerRefused(said(answer))

    def remove(self, volume: str) -> None:
        """Remove it and what is in it; one that is gone is no error."""
        self._daemon.request("DELETE", f"/volumes/{volume}", timeout=CHANGE_SECONDS)
