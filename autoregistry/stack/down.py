"""Removal of the stack: its containers and network, and its volumes if requested."""

from __future__ import annotations

from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.networks import Networks, Volumes
from autoregistry.errors import DockerRefused, StackRefused
from autoregistry.stack.current import CurrentStack, find_stack
from autoregistry.stack.docker_socket import PROBE
from autoregistry.stack.lock import stack_lock
from autoregistry.stack.model import BACKEND, GRACE_SECONDS, NETWORK, PROXY, ROLE, VOLUMES
from autoregistry.stack.steps import Report, StepDone, StepStarted
from autoregistry.stack.up import NEW


def take_down(daemon: Daemon, report: Report, *, volumes: bool) -> tuple[CurrentStack, list[str]]:
    """Remove what is ours. Return the stack as it was, and the names of the removed volumes.

    Raises StackRefused if another program's container has one of our names.
    """
    containers, networks = Containers(daemon), Networks(daemon)
    with stack_lock(daemon.info().identity, report):
        before = find_stack(containers)
        before.require_ours()
        before.require_no_compose("down --volumes" if volumes else "down")
        for name in (PROXY, BACKEND, f"{PROXY}{NEW}", f"{BACKEND}{NEW}", PROBE):
            container = containers.inspect(name)
            if container is None or ROLE not in container.labels:
                continue
            report(StepStarted(name))
            if container.is_running:
                containers.stop(container.identity, GRACE_SECONDS)
            containers.remove(container.identity)
            report(StepDone(name, "removed"))
        if ROLE in (networks.labels(NETWORK) or {}):
            _remove_network(networks)
            report(StepDone(f"network {NETWORK}", "removed"))
        return before, _remove_volumes(Volumes(daemon), report) if volumes else []


def _remove_volumes(volumes: Volumes, report: Report) -> list[str]:
    """Remove the volumes that `up` created, and return their names."""
    removed = []
    for name in VOLUMES:
        labels = volumes.labels(name)
        if labels is not None and ROLE in labels:
            volumes.remove(name)
            removed.append(name)
        result = "removed" if name in removed else "kept: another program created it"
        if labels is not None:
            report(StepDone(f"volume {name}", result, has_changed=name in removed))
    return removed


def _remove_network(networks: Networks) -> None:
    try:
        networks.remove(NETWORK)
    except DockerRefused as exc:
        others = networks.members(NETWORK)
        cause = f"{', '.join(others)} still on it" if others else exc.message
        raise StackRefused(
            f"network {NETWORK} cannot be removed: {cause}",
            f"docker network disconnect --force {NETWORK} {others[0]}" if others else "docker ps",
        ) from exc
