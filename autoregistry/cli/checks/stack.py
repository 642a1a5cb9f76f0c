"""The checks of Docker, of the registry's port, of the two containers of `up`, and of the proxy's own health."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from autoregistry import __version__, api_paths
from autoregistry.cli import docker
from autoregistry.cli.checks import SHOW_LOG, Check, failed
from autoregistry.cli.client import Client
from autoregistry.cli.environment import Environment
from autoregistry.engine.images import Images
from autoregistry.errors import AutoregistryError
from autoregistry.stack import ports
from autoregistry.stack.current import CurrentStack
from autoregistry.stack.model import BACKEND, PROXY, VERSION
from autoregistry.stack.options import Options

# For each field of the proxy's health: what the proxy does if it is well, what it does if not, and the fix. A socket
# that Docker has created anew is mounted when the container starts.
_HEALTH_FIELDS = {
    "docker": ("reaches Docker", "cannot reach Docker", f"docker restart {PROXY}"),
    "backend": ("reaches the backend", "cannot reach the backend", f"docker logs {BACKEND}"),
    "disk": ("has enough disk space", "has too little disk space", "docker system df"),
    "journal": ("can write its journal", "cannot write its journal", SHOW_LOG),
    "background": ("does its background work", "fails in its background work", SHOW_LOG),
}
_SERVE_FIX = "autoregistry serve  (stop the running one and read its output)"


def check_docker(environment: Environment) -> Check:
    """Check that the daemon answers."""
    try:
        info = environment.daemon.info()
    except AutoregistryError as exc:
        return failed("docker", exc.message, exc.hint)
    where = f"{info.store} image store, at {environment.daemon.host}"
    return Check("docker", f"Docker {info.version} ({info.name}), {where}")


def check_port(environment: Environment, stack: CurrentStack) -> Iterator[Check]:
    """Check both loopback addresses, because on many machines `localhost` is ::1 first."""
    if not docker.is_local(environment.daemon):
        return
    port, proxy = stack.options.port, stack.proxy
    ours = ports.EVERY_ADDRESS if stack.options.expose else ("127.0.0.1",)
    is_running = proxy is not None and proxy.is_running
    others = [at for at in ports.listeners(port) if not (is_running and at.address in ours)]
    for other in others:
        sentence = f"port {port} on {other.address} is in use by {ports.process_name(other, port)}"
        yield failed("port", sentence, _another_port(environment))
    if not others:
        yield Check("port", f"no other program uses port {port} on 127.0.0.1 or ::1")


def check_containers(stack: CurrentStack) -> Iterator[Check]:
    """Check that both containers exist, are healthy and have this version."""
    for name, container in ((BACKEND, stack.backend), (PROXY, stack.proxy)):
        if container is None:
            yield failed("stack", f"container {name} does not exist", "autoregistry up")
        elif not container.is_running or container.health not in ("healthy", ""):
            state = ", but ".join(filter(None, (container.state, container.health)))
            fix = f"docker logs {name}" if container.is_running else "autoregistry up"
            yield failed("stack", f"container {name} is {state}", fix)
        elif (version := container.labels.get(VERSION, __version__)) != __version__:
            sentence = f"{name} runs version {version}, but this command is version {__version__}"
            yield failed("stack", sentence, "autoregistry up")
        else:
            suffix = f", version {__version__}" if name == PROXY else ""
            yield Check("stack", f"{name} is running{suffix}")


def check_health(
    environment: Environment, stack: CurrentStack, serve: Options | None, *, is_well: bool
) -> Iterator[Check]:
    """Check what the proxy of the stack or of `serve` reports about itself, and the loop if all `is_well` so far.

    An older proxy does not report every field.
    """
    options = serve or stack.options
    try:
        with Client(None if serve else environment.containers, options) as client:
            health = client.get_json(api_paths.HEALTH)
    except AutoregistryError as exc:
        yield failed("stack", exc.message, exc.hint)
        return
    checks = [
        failed(field, f"the proxy {problem}: {cause}", _SERVE_FIX if serve else fix)
        if (cause := _cause(health[field]))
        else Check(field, f"the proxy {well}")
        for field, (well, problem, fix) in _HEALTH_FIELDS.items()
        if health.get(field, "unknown") != "unknown"
    ]
    yield from checks
    is_well &= all(check.is_well for check in checks)
    # Another port helps only if nothing else is wrong. A `serve` has to move to where Docker is: into a container.
    other_port = "autoregistry up" if serve else _another_port(environment)
    if cause := _cause(health.get("loop")):
        yield failed("loop", cause, other_port if is_well else SHOW_LOG)
    elif is_well:
        yield _check_loop(environment, options.name, other_port)


def _cause(value: object) -> str:
    """Return a field of the health if it names a problem; empty if it is well."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {cause}" for name, cause in value.items())
    return "" if value in (None, "", "ok") else str(value)


def _check_loop(environment: Environment, name: str, fix: str) -> Check:
    """Check that Docker reaches us: it asks us for an image that was not pushed, and we push it."""
    try:
        with environment.unpushed_image(name) as reference:
            digest = Images(environment.daemon).digest_in_registry(reference)
    except AutoregistryError as exc:
        return failed("loop", f"Docker cannot reach {name}: {exc.message}", fix)
    if digest is None:
        return failed("loop", f"Docker reaches another registry at {name}", fix)
    sentence = f"Docker reaches this registry at {name}: a test image was pushed on demand"
    return Check("loop", sentence)


def _another_port(environment: Environment) -> str:
    """Return the command that moves the stack to a free port."""
    published = ports.published_ports(environment.containers)
    free = ports.free_port(environment.stack().options.port + 1, published)
    return f"autoregistry up --port {free}"
