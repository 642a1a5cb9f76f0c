"""Creation and update of the stack: what differs from the model is created or replaced, the rest is left alone.

An interrupted run is continued by the next one: a replacement is complete, and joined to its cluster networks,
before the old container is removed. Volumes are never changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from autoregistry.cluster.addresses import ADDRESS_TAKEN, endpoint_config
from autoregistry.engine.containers import Container, Containers
from autoregistry.engine.daemon import Daemon, DaemonInfo
from autoregistry.engine.images import Images
from autoregistry.engine.networks import Networks, Volumes
from autoregistry.errors import DockerRefused, StackRefused
from autoregistry.stack import model, ports
from autoregistry.stack.current import CurrentStack, find_stack, require_names
from autoregistry.stack.docker_socket import daemon_in, find_host, machine_names
from autoregistry.stack.images import (
    ensure_image,
    ensure_proxy_image,
    image_source,
    remove_old_images,
)
from autoregistry.stack.lock import stack_lock
from autoregistry.stack.options import Host, Options
from autoregistry.stack.steps import Report, StepDone, StepStarted

HEALTHY_SECONDS = 90.0
_POLL_SECONDS = 0.2
_LOG_LINES = 10
NEW = "-new"
_FAILED = ("exited", "dead", "restarting")
# The texts of Docker (moby libnetwork/portallocator, its userland proxy) and Docker Desktop.
_PORT_TAKEN = ("port is already allocated", "address already in use", "ports are not available")


@dataclass(frozen=True, slots=True)
class UpResult:
    """The stack as it runs after `up`."""

    options: Options
    has_changed: bool
    networks_with_old_name: frozenset[str] = frozenset()
    """The networks of clusters that still use the registry's previous name."""


class Up:
    """One run of `up`."""

    def __init__(self, daemon: Daemon, report: Report, *, is_local: bool) -> None:
        self._daemon = daemon
        self._report = report
        self._is_local = is_local
        self._containers = Containers(daemon)
        self._networks = Networks(daemon)
        self._volumes = Volumes(daemon)
        self._changed = False
        self._port = 0
        self._has_dead_socket = False
        """The running proxy does not reach Docker at its socket. If the same path works, it needs a new mount."""

    def run(self, choices: Mapping[str, object]) -> UpResult:
        """Bring the stack to its previous options, with these choices."""
        info = self._daemon.info()
        facts = f"{info.version}, {info.store} store, at {self._daemon.host}"
        self._done("Docker", facts, has_changed=False)
        with stack_lock(info.identity, self._report):
            return self._run(choices, info)

    def _run(self, choices: Mapping[str, object], info: DaemonInfo) -> UpResult:
        self._settle_leftovers()
        current = find_stack(self._containers)
        current.require_ours()
        current.require_no_compose("up -d", choices)
        require_names(self._networks, model.NETWORK)
        require_names(self._volumes, *model.VOLUMES)
        options = replace(current.options, **choices)  # type: ignore[arg-type]  # the caller's flags
        self._port = options.port
        is_running = current.proxy is not None and current.proxy.is_running
        if not is_running or options.port != current.options.port:
            ports.require_free(options.port, self._containers, is_local=self._is_local)
        ensure_image(self._daemon, options.registry_image, "--registry-image", self._report)
        source = image_source(options.base_image)
        ensure_proxy_image(self._daemon, source, self._report)
        host = replace(
            self._host(current, options, source.tag, info),
            names=machine_names(info, is_local=self._is_local),
        )
        self._ensure_stack(model.stack_for(options, host, source.tag), current)
        if self._changed:
            remove_old_images(self._daemon, source.tag)
        is_renamed = current.options.name != options.name
        old = current.proxy.networks if current.proxy and is_renamed else ()
        return UpResult(options, self._changed, frozenset(old) - {model.NETWORK})

    def _settle_leftovers(self) -> None:
        """Finish an interrupted replacement, or remove it if the old container still exists."""
        for name in (model.BACKEND, model.PROXY):
            leftover = self._containers.inspect(f"{name}{NEW}")
            if leftover is None or model.ROLE not in leftover.labels:
                continue
            if self._containers.inspect(name) is None:
                self._containers.rename(leftover.identity, name)
            else:
                self._containers.remove(leftover.identity)

    def _host(self, current: CurrentStack, options: Options, image: str, info: DaemonInfo) -> Host:
        proxy, known = current.proxy, current.host
        if proxy is not None and proxy.is_running:
            self._has_dead_socket = daemon_in(self._containers, proxy.name) != info.identity
            is_same_choice = options.docker_socket == current.options.docker_socket
            if known is not None and is_same_choice and not self._has_dead_socket:
                return known
        self._report(StepStarted("Docker's socket"))
        host = find_host(self._daemon, image, options.docker_socket)
        text = f"{host.socket}, used as user {host.user}, group {host.group}"
        self._report(StepDone("Docker's socket", text))
        return host

    def _ensure_stack(self, services: Mapping[str, model.Request], current: CurrentStack) -> None:
        is_new_network = self._ensure(self._networks, model.NETWORK)
        for volume in model.VOLUMES:
            self._ensure(self._volumes, volume)
        existing = {container.name: container for container in current.containers}
        results = {}
        for name, request in services.items():
            self._report(StepStarted(name))
            results[name] = self._ensure_container(
                name, request, existing.get(name), is_new_network=is_new_network
            )
        for name, result in results.items():
            self._wait_healthy(name)
            self._done(name, f"{result}, healthy", has_changed=result != "unchanged")

    def _ensure(self, kind: Networks | Volumes, name: str) -> bool:
        """Create the network or volume if it does not exist, and return True if it was created."""
        if kind.labels(name) is not None:
            return False
        kind.create(name, model.LABELS)
        self._done(f"{kind.kind} {name}", "created")
        return True

    def _ensure_container(
        self, name: str, request: model.Request, current: Container | None, *, is_new_network: bool
    ) -> str:
        """Make this container run as the model says, and return what was done."""
        if current is None:
            self._containers.create(name, request)
            self._start(name)
            return "created"
        image = Images(self._daemon).inspect(request["Image"])
        specification = request["Labels"][model.SPECIFICATION]
        if (
            is_new_network
            or current.labels.get(model.SPECIFICATION) != specification
            or image is None
            or current.image_identity != image.identity
            or current.state not in ("running", "exited", "created")
        ):
            self._replace(current, request)
            return "replaced"
        joined = self._containers.connect(model.NETWORK, name)
        if not current.is_running:
            self._start(name)
            return "started"
        if current.health == "unhealthy" or (name == model.PROXY and self._has_dead_socket):
            self._containers.restart(name, model.GRACE_SECONDS)
            return "restarted"
        return "joined to its network" if joined else "unchanged"

    def _replace(self, current: Container, request: model.Request) -> None:
        name = f"{current.name}{NEW}"
        self._containers.create(name, request)
        for network, endpoint in current.endpoints.items():
            if network != model.NETWORK and self._networks.labels(network) is not None:
                self._containers.connect(network, name, endpoint)
        self._containers.stop(current.identity, model.GRACE_SECONDS)
        self._containers.remove(current.identity)
        self._containers.rename(name, current.name)
        self._start(current.name)

    def _start(self, name: str) -> None:
        try:
            try:
                self._containers.start(name)
            except DockerRefused as exc:
                if not exc.message.strip().endswith(ADDRESS_TAKEN):
                    raise
                self._choose_new_addresses(name)
                self._containers.start(name)
        except DockerRefused as exc:
            if name == model.PROXY and any(text in exc.message for text in _PORT_TAKEN):
                published = ports.published_ports(self._containers)
                raise ports.port_taken(self._port, published) from exc
            raise StackRefused(
                f"{name} cannot be started: {exc.message}", f"docker rm --force {name}"
            ) from exc

    def _choose_new_addresses(self, name: str) -> None:
        """Join the cluster networks again with free addresses, because another container has a previous one."""
        current = self._containers.inspect(name)
        members = self._containers.list("app=k3d")
        for network, endpoint in current.endpoints.items() if current else ():
            if endpoint["IPAMConfig"]:
                self._containers.disconnect(network, name)
                place = endpoint_config(self._networks, network, name, members)
                self._containers.connect(network, name, {**endpoint, **place})

    def _wait_healthy(self, name: str) -> None:
        """Wait for Docker's own health check, which needs no route from here to the container."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        while True:
            current = self._containers.inspect(name)
            if current is None:
                raise StackRefused(f"{name} was removed while it started", "autoregistry up")
            if current.is_running and current.health in ("healthy", ""):
                return
            has_failed = current.health == "unhealthy" or current.state in _FAILED
            if has_failed or time.monotonic() > deadline:
                raise StackRefused(self._failure(current), f"docker logs {name}")
            time.sleep(_POLL_SECONDS)

    def _failure(self, container: Container) -> str:
        # The last line of the log is the better reason, if there is one.
        log = self._containers.logs(container.name, tail=_LOG_LINES)
        lines = [*container.health_output.splitlines(), *log]
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
        return f"{container.name} does not become healthy ({container.state}): {last}"

    def _done(self, name: str, result: str, *, has_changed: bool = True) -> None:
        self._changed |= has_changed
        self._report(StepDone(name, result, has_changed))
