"""Making the stack as the model says: what is as it should be is left alone, the rest is made anew.

Whatever was interrupted, the next run goes on from: a replacement is made whole beside the old container, with
its cluster networks, before the old one goes. Volumes are never touched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from autoregistry.cluster.addresses import ADDRESS_TAKEN, endpoint_config
from autoregistry.engine.build import Supply
from autoregistry.engine.containers import Container, Containers
from autoregistry.engine.daemon import Daemon, DaemonInfo
from autoregistry.engine.networks import Networks, Volumes
from autoregistry.errors import DockerRefused, StackRefused
from autoregistry.stack import ports
from autoregistry.stack.create_request import create_body
from autoregistry.stack.current import CurrentStack, find_stack
from autoregistry.stack.docker_socket import find_host, machine_names, sees
from autoregistry.stack.images import ensure_proxy_image, ensure_registry_image, remove_old_images
from autoregistry.stack.model import (
    BACKEND,
    NETWORK,
    PROXY,
    ROLE,
    SPECIFICATION,
    STOP_SECONDS,
    USER,
    Host,
    Options,
    Service,
    Stack,
    stack,
)
from autoregistry.stack.proxy_image import image_source
from autoregistry.stack.steps import Emit, StepBegun, StepDone

HEALTHY_SECONDS = 90.0
_LOOK_SECONDS = 0.2
_LAST_LINES = 10
NEW = "-new"
_FAILED = ("exited", "dead", "restarting")
# Of a network (moby libnetwork/ipamapi), not of a port, where it begins with a small letter.
# How Docker (moby libnetwork/portallocator, its userland proxy) and Docker Desktop say it.
_PORT_WORDS = ("port is already allocated", "address already in use", "ports are not available")


@dataclass(frozen=True, slots=True)
class Made:
    """The stack as it now runs."""

    options: Options
    daemon: DaemonInfo
    has_changed: bool
    with_old_name: frozenset[str] = frozenset()
    """The networks of clusters that know the proxy by a name that it no longer has."""


class Up:
    """One run of `up`."""

    def __init__(self, daemon: Daemon, emit: Emit, *, is_local: bool) -> None:
        self._daemon = daemon
        self._emit = emit
        self._is_local = is_local
        self._containers = Containers(daemon)
        self._networks = Networks(daemon)
        self._volumes = Volumes(daemon)
        self._supply = Supply(daemon)
        self._changed = False

    def run(self, choices: Mapping[str, object]) -> Made:
        """Bring the stack to what the options now are: those of before, with these choices."""
        info = self._daemon.info()
        at = f"{info.version}, {info.store} store, at {self._daemon.host}"
        self._done("Docker", at, has_changed=False)
        self._settle_leftovers()
        found = find_stack(self._containers)
        found.refuse_foreign()
        found.refuse_compose("up -d", choices)
        options = replace(found.options, **choices)  # type: ignore[arg-type]  # the caller's flags
        self._refuse_taken_port(found, options)
        ensure_registry_image(self._supply, options, self._emit)
        source = image_source(options.base_image)
        ensure_proxy_image(self._supply, source, self._emit)
        host = replace(
            self._host(found, options, source.tag, info),
            names=machine_names(info, is_local=self._is_local),
        )
        self._make(stack(options, host, source.tag), found)
        if self._changed:
            remove_old_images(self._supply, source.tag)
        before = found.proxy.networks if found.proxy and found.options.name != options.name else ()
        return Made(options, info, self._changed, frozenset(before) - {NETWORK})

    def _settle_leftovers(self) -> None:
        """What an interrupted run left: a replacement whose predecessor is gone takes its place."""
        for name in (BACKEND, PROXY):
            left = self._containers.inspect(f"{name}{NEW}")
            if left is None or ROLE not in left.labels:
                continue
            if self._containers.inspect(name) is None:
                self._containers.rename(left.identity, name)
            else:
                self._containers.remove(left.identity)

    def _refuse_taken_port(self, found: CurrentStack, options: Options) -> None:
        proxy = found.proxy
        holds = proxy is not None and proxy.is_running and found.options.port == options.port
        if not holds:
            ports.refuse_taken(options.port, self._containers, is_local=self._is_local)

    def _host(self, found: CurrentStack, options: Options, image: str, info: DaemonInfo) -> Host:
        proxy, known = found.proxy, found.host
        if (
            proxy is not None
            and known is not None
            and proxy.is_running
            and options.docker_socket == found.options.docker_socket
            and sees(self._containers, proxy.name) == info.identity
        ):
            return known
        self._emit(StepBegun("Docker's socket"))
        host = find_host(self._daemon, image, options.docker_socket)
        user = f"user {USER}, group {host.group}" if host.owner is None else f"user {host.owner}"
        self._emit(StepDone("Docker's socket", f"{host.socket}, used as {user}"))
        return host

    def _make(self, model: Stack, found: CurrentStack) -> None:
        is_new_network = self._make_network(model)
        for volume in model.volumes:
            if self._volumes.labels(volume) is None:
                self._volumes.create(volume, model.labels)
                self._done(f"volume {volume}", "created")
        there = {container.name: container for container in found.containers}
        results = {}
        for service in model.services:
            self._emit(StepBegun(service.name))
            current = there.get(service.name)
            results[service.name] = self._ensure(service, current, is_new_network=is_new_network)
        for service in model.services:
            self._wait_healthy(service.name)
            result = results[service.name]
            self._done(service.name, f"{result}, healthy", has_changed=result != "unchanged")

    def _make_network(self, model: Stack) -> bool:
        labels = self._networks.labels(model.network)
        if labels is None:
            self._networks.create(model.network, model.labels)
            self._done(f"network {model.network}", "created")
            return True
        if ROLE not in labels:
            raise StackRefused(
                f"a network named {model.network} is there and is not ours",
                f"docker network rm {model.network}",
            )
        return False

    def _ensure(self, service: Service, current: Container | None, *, is_new_network: bool) -> str:
        """Have this container run; what was done."""
        if current is None:
            self._containers.create(service.name, create_body(service))
            self._start(service)
            return "created"
        if (
            is_new_network
            or current.labels.get(SPECIFICATION) != service.labels[SPECIFICATION]
            or current.image_identity != self._supply.identity(service.image)
            or current.state not in ("running", "exited", "created")
        ):
            self._replace(service, current)
            return "replaced"
        joined = self._containers.connect(NETWORK, service.name)
        if not current.is_running:
            self._start(service)
            return "started"
        if current.health == "unhealthy":
            self._containers.restart(service.name, STOP_SECONDS)
            return "restarted"
        return "joined to its network" if joined else "unchanged"

    def _replace(self, service: Service, current: Container) -> None:
        name = f"{service.name}{NEW}"
        self._containers.create(name, create_body(service))
        for network, endpoint in current.endpoints.items():
            if network != NETWORK and self._networks.labels(network) is not None:
                self._containers.connect(network, name, endpoint)
        self._containers.stop(current.identity, STOP_SECONDS)
        self._containers.remove(current.identity)
        self._containers.rename(name, service.name)
        self._start(service)

    def _start(self, service: Service) -> None:
        try:
            try:
                self._containers.start(service.name)
            except DockerRefused as exc:
                if not exc.message.strip().endswith(ADDRESS_TAKEN):
                    raise
                self._give_addresses_up(service.name)
                self._containers.start(service.name)
        except DockerRefused as exc:
            if service.published and any(words in exc.message for words in _PORT_WORDS):
                published = ports.published_ports(self._containers)
                raise ports.taken(service.published[0][1], published) from exc
            raise StackRefused(
                f"{service.name} cannot be started: {exc.message}",
                f"docker rm --force {service.name}",
            ) from exc

    def _give_addresses_up(self, name: str) -> None:
        """Join cluster networks again with an address that is free: somebody has the one of before."""
        current = self._containers.inspect(name)
        everybody = self._containers.list("app=k3d")
        for network, endpoint in current.endpoints.items() if current else ():
            if endpoint["IPAMConfig"]:
                self._containers.disconnect(network, name)
                place = endpoint_config(self._networks, network, name, everybody)
                self._containers.connect(network, name, {**endpoint, **place})

    def _wait_healthy(self, name: str) -> None:
        """Docker's own word for it, so that no road from here to the container is needed."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        while True:
            seen = self._containers.inspect(name)
            if seen is None:
                raise StackRefused(f"{name} was removed while it started", "autoregistry up")
            if seen.is_running and seen.health in ("healthy", ""):
                return
            has_failed = seen.health == "unhealthy" or seen.state in _FAILED
            if has_failed or time.monotonic() > deadline:
                raise StackRefused(self._illness(seen), f"docker logs {name}")
            time.sleep(_LOOK_SECONDS)

    def _illness(self, seen: Container) -> str:
        logged = self._containers.logs(seen.name, tail=_LAST_LINES)
        said = [
            *seen.health_said.splitlines(),
            *logged,
        ]  # the log knows better, where it has anything
        last = [line.strip() for line in said if line.strip()][-1:]
        return f"{seen.name} does not become healthy ({seen.state}): {''.join(last) or 'no reason given'}"

    def _done(self, name: str, result: str, *, has_changed: bool = True) -> None:
        self._changed |= has_changed
        self._emit(StepDone(name, result, has_changed))
