"""Taking the stack away again: containers and network; the volumes only where that was said."""

from __future__ import annotations

from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.networks import Networks, Volumes
from autoregistry.errors import DockerRefused, StackRefused
from autoregistry.stack.current import CurrentStack, find_stack
from autoregistry.stack.docker_socket import PROBE
from autoregistry.stack.model import BACKEND, DATA, NETWORK, PROXY, ROLE, STATE, STOP_SECONDS
from autoregistry.stack.steps import Emit, StepBegun, StepDone
from autoregistry.stack.up import NEW


def take_down(daemon: Daemon, emit: Emit, *, volumes: bool) -> tuple[CurrentStack, list[str]]:
    """Remove what is ours; what there was, and which volumes went.

    Raises StackRefused where a name of ours is not ours.
    """
    containers, networks, named = Containers(daemon), Networks(daemon), Volumes(daemon)
    found = find_stack(containers)
    found.refuse_foreign()
    found.refuse_compose("down --volumes" if volumes else "down")
    for name in (PROXY, BACKEND, f"{PROXY}{NEW}", f"{BACKEND}{NEW}", PROBE):
        there = containers.inspect(name)
        if there is None or ROLE not in there.labels:
            continue
        emit(StepBegun(name))
        if there.is_running:
            containers.stop(there.identity, STOP_SECONDS)
        containers.remove(there.identity)
        emit(StepDone(name, "removed"))
    if ROLE in (networks.labels(NETWORK) or {}):
        _remove_network(networks)
        emit(StepDone(f"network {NETWORK}", "removed"))
    gone = [v for v in (DATA, STATE) if volumes and named.labels(v) is not None]
    for volume in gone:
        named.remove(volume)
        emit(StepDone(f"volume {volume}", "removed"))
    return found, gone


def _remove_network(networks: Networks) -> None:
    try:
        networks.remove(NETWORK)
    except DockerRefused as exc:
        others = networks.members(NETWORK)
        raise StackRefused(
            f"network {NETWORK} cannot be removed: {', '.join(others) or exc.message} still on it",
            f"docker network disconnect --force {NETWORK} {others[0]}" if others else "docker ps",
        ) from exc
