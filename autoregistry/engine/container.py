"""A container as a value, read from Docker's own description of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Container:
    """A container as Docker has it now."""

    name: str
    identity: str
    image: str
    """The name it was created from."""
    image_identity: str
    labels: Mapping[str, str]
    state: str
    """`created`, `running`, `restarting`, `exited`, ..."""
    health: str
    """`healthy`, `unhealthy`, `starting`, or empty where there is no check."""
    health_said: str
    """The last output of the health check."""
    networks: Mapping[str, str]
    """Network name to address on it."""
    joined: frozenset[str]
    """Those of its networks it really is on: a `connect` that Docker refused leaves one without an endpoint."""
    endpoints: Mapping[str, Mapping[str, object]]
    """For each network what `connect` needs to join it again in the same way."""
    ports: Mapping[str, tuple[str, ...]]
    """`5000/tcp` to `127.0.0.1:5000`; without an address before the colon it is on all of them."""
    exit_code: int
    error: str = ""
    """Why Docker could not start it, the last time it tried."""

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    def chosen_address(self, network: str) -> str:
        """The address on a network that it was given for good; empty where Docker chooses at each start."""
        wanted = self.endpoints.get(network, {}).get("IPAMConfig")
        return str(wanted.get("IPv4Address") or "") if isinstance(wanted, Mapping) else ""


def container_of(facts: dict[str, Any]) -> Container:
    """An answer of `GET /containers/{id}/json` as a value."""
    state = facts["State"]
    health = state.get("Health") or {}
    attached = facts["NetworkSettings"].get("Networks") or {}
    bound = facts["HostConfig"].get("PortBindings") or {}
    return Container(
        name=str(facts["Name"]).removeprefix("/"),
        identity=str(facts["Id"]),
        image=str(facts["Config"]["Image"]),
        image_identity=str(facts["Image"]),
        labels=dict(facts["Config"].get("Labels") or {}),
        state=str(state["Status"]),
        health="" if (word := str(health.get("Status", ""))) == "none" else word,
        health_said=str((health.get("Log") or [{}])[-1].get("Output", "")).strip(),
        networks={name: str(on.get("IPAddress") or "") for name, on in attached.items()},
        joined=frozenset(name for name, on in attached.items() if on.get("EndpointID")),
        endpoints={name: _endpoint(on, str(facts["Id"])) for name, on in attached.items()},
        ports={
            inside: tuple(f"{b.get('HostIp', '')}:{b['HostPort']}" for b in outside or ())
            for inside, outside in bound.items()
        },
        exit_code=int(state.get("ExitCode") or 0),
        error=str(state.get("Error") or ""),
    )


def _endpoint(on: dict[str, Any], identity: str) -> dict[str, object]:
    """Docker adds the short Id to the aliases by itself."""
    aliases = [alias for alias in on.get("Aliases") or [] if not identity.startswith(alias)]
    return {"IPAMConfig": on.get("IPAMConfig"), "Aliases": aliases, "Links": on.get("Links")}
