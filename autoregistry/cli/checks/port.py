"""The check of the registry's port: no other program uses it."""

from __future__ import annotations

from collections.abc import Iterator

from autoregistry.cli import docker
from autoregistry.cli.checks.check import Check, failed, passed
from autoregistry.cli.environment import Environment
from autoregistry.stack import ports
from autoregistry.stack.current import CurrentStack


def check_port(environment: Environment, stack: CurrentStack) -> Iterator[Check]:
    """Check both loopback addresses, because on many machines `localhost` is ::1 first."""
    if not docker.is_local(environment.daemon):
        return
    port, proxy = stack.options.port, stack.proxy
    ours = ports.EVERY_ADDRESS if stack.options.expose else ("127.0.0.1",)
    is_well = True
    for listener in ports.listeners(port):
        is_ours = proxy is not None and proxy.is_running and listener.address in ours
        if not is_ours:
            is_well = False
            process = ports.process_name(listener, port)
            sentence = f"port {port} on {listener.address} is in use by {process}"
            yield failed("port", sentence, another_port(environment))
    if is_well:
        yield passed("port", f"no other program uses port {port} on 127.0.0.1 or ::1")


def another_port(environment: Environment) -> str:
    """Return the command that moves the stack to a free port."""
    published = ports.published_ports(environment.containers)
    free = ports.free_port(environment.options().port + 1, published)
    return f"autoregistry up --port {free}"
