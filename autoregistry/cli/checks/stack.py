"""What `doctor` looks at, one function for each thing that can explain a failing first pull.

Each yields lines that are right or wrong, and for a wrong one the command that mends it. Nothing is changed: what
is made for the last check is taken away again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator

from autoregistry import __version__
from autoregistry.cli import docker
from autoregistry.cli.checks.cluster import Check, cluster_checks, looks_at, well, wrong
from autoregistry.cli.client import Client
from autoregistry.cli.environment import Environment, Route
from autoregistry.engine.images import Images
from autoregistry.errors import AutoregistryError
from autoregistry.settings import CHECK
from autoregistry.stack import ports
from autoregistry.stack.model import BACKEND, PROXY, VERSION, Options


def every_check(clusters: Environment) -> Iterator[Check]:
    """All of them, in the order in which one depends on the other; ends where the next makes no sense."""
    docker = _docker(clusters)
    yield docker
    if not docker.is_well:
        return
    looks = looks_at(clusters)
    served = None if clusters.found.containers else _served(look.road for look in looks)
    if served is None:
        stack = [*_ports(clusters), *_stack(clusters)]
    else:
        stack = [well("stack", f"`autoregistry serve` runs on this machine, as {served}")]
    yield from stack
    if all(check.is_well for check in stack):
        yield _loop(clusters, served or clusters.options.name)
    if not looks:
        yield well("clusters", "no k3d cluster runs")
    for look in looks:
        try:
            yield from cluster_checks(clusters, look)
        except AutoregistryError as exc:  # a node or the proxy that stops while it is looked at
            yield wrong(look.cluster, exc.message, exc.hint or "autoregistry doctor")


def _served(roads: Iterable[Route | None]) -> str | None:
    """What images are named for the `serve` of this machine; None where there is none to be found."""
    ports = {int(road.name.rpartition(":")[2]) for road in roads if road and road.is_by_host}
    for port in sorted(ports or {Options().port}):
        with Client(None, Options(port=port)) as client:
            if client.is_near:
                return Options(port=port).name
    return None


def _docker(clusters: Environment) -> Check:
    try:
        info = clusters.daemon.info()
    except AutoregistryError as exc:
        return wrong("docker", exc.message, exc.hint)
    where = (
        f"Docker {info.version} ({info.name}), {info.store} image store, at {clusters.daemon.host}"
    )
    return well("docker", where)


def _ports(clusters: Environment) -> Iterator[Check]:
    """`localhost` is ::1 first on many machines: whoever listens there is asked before us."""
    if not docker.is_local(clusters.daemon):
        return
    port, proxy = clusters.options.port, clusters.found.proxy
    mine = ports.EVERY_ADDRESS if clusters.options.expose else ("127.0.0.1",)
    is_well = True
    for listener in ports.listeners(port):
        who = ports.process_name(listener, port)
        is_ours = proxy is not None and proxy.is_running and listener.address in mine
        if not is_ours:
            where = f"{listener.address} port {port} belongs to {who}"
            is_well = False
            yield wrong("port", where, _another_port(clusters))
    if is_well:
        yield well("port", f"nobody else has port {port}, on 127.0.0.1 or on ::1")


def _another_port(clusters: Environment) -> str:
    taken = ports.published_ports(clusters.containers)
    return f"autoregistry up --port {ports.free_port(clusters.options.port + 1, taken)}"


def _stack(clusters: Environment) -> Iterator[Check]:
    found = clusters.found
    for name, container in ((BACKEND, found.backend), (PROXY, found.proxy)):
        if container is None:
            yield wrong("stack", f"there is no container {name}", "autoregistry up")
        elif not container.is_running or container.health not in ("healthy", ""):
            state = f"{container.state} {container.health}".strip()
            mend = f"docker logs {name}" if container.is_running else "autoregistry up"
            yield wrong("stack", f"{name} is {state}", mend)
        elif container.labels.get(VERSION, __version__) != __version__:
            yield wrong(
                "stack",
                f"{name} is of version {container.labels[VERSION]}",
                "autoregistry up",
            )
        else:
            version = f", version {__version__}" if name == PROXY else ""
            yield well("stack", f"{name} runs{version}")


def _loop(clusters: Environment, name: str) -> Check:
    """Docker asks for an image that was only built, by our name: it must reach us, and we must push it."""
    images = Images(clusters.daemon)
    reference = f"{name}/{CHECK}"
    # A `serve` is moved to where Docker is: into a container.
    mend = _another_port(clusters) if clusters.found.containers else "autoregistry up"
    images.import_file(reference, "nonce", secrets.token_hex(16))
    try:
        digest = images.digest_in_registry(reference)
    except AutoregistryError as exc:
        return wrong("loop", f"Docker cannot ask {name}: {exc.message}", mend)
    finally:
        images.remove(reference)
    if digest is None:
        return wrong("loop", f"Docker's {name} is another registry", mend)
    return well("loop", f"an image that was only built was pushed when Docker asked {name} for it")
