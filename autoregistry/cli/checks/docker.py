"""Checks of Docker: it answers, and its `localhost:PORT` is this registry."""

from __future__ import annotations

from autoregistry.cli.checks.check import Check, failed, passed
from autoregistry.cli.checks.port import another_port
from autoregistry.cli.environment import Environment
from autoregistry.engine.images import Images
from autoregistry.errors import AutoregistryError


def check_docker(environment: Environment) -> Check:
    """Check that the daemon answers."""
    try:
        info = environment.daemon.info()
    except AutoregistryError as exc:
        return failed("docker", exc.message, exc.hint)
    store = f"{info.store} image store"
    host = environment.daemon.host
    return passed("docker", f"Docker {info.version} ({info.name}), {store}, at {host}")


def check_loopback(environment: Environment, name: str) -> Check:
    """Check that Docker reaches us: it asks us for an image that was not pushed, and we push it."""
    # A `serve` has to move to where Docker is: into a container.
    fix = another_port(environment) if environment.stack().containers else "autoregistry up"
    try:
        with environment.unpushed_image(name) as reference:
            digest = Images(environment.daemon).digest_in_registry(reference)
    except AutoregistryError as exc:
        return failed("loop", f"Docker cannot reach {name}: {exc.message}", fix)
    if digest is None:
        return failed("loop", f"Docker reaches another registry at {name}", fix)
    return passed("loop", f"an image was pushed automatically when Docker asked {name} for it")
