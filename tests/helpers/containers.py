"""Containers as Docker describes them, for tests of addresses and networks."""

from __future__ import annotations

from collections.abc import Mapping

from autoregistry.engine.containers import Container, parse_container

NETWORK = "k3d-dev"


def container(name: str, address: str, chosen: str = "", error: str = "") -> Container:
    """Return a container on one network; it does not run if it has no address."""
    on: Mapping[str, object] = {
        "IPAddress": address,
        "EndpointID": "x",
        "IPAMConfig": {"IPv4Address": chosen} if chosen else None,
    }
    state = {"Status": "running" if address else "exited", "Error": error}
    return parse_container(
        {
            "Id": name,
            "Name": f"/{name}",
            "Image": "",
            "Config": {"Image": "k3s"},
            "HostConfig": {},
            "State": state,
            "NetworkSettings": {"Networks": {NETWORK: on}},
        }
    )
