"""The checks of the two containers of `up`."""

from __future__ import annotations

from collections.abc import Iterator

from autoregistry import __version__
from autoregistry.cli.checks.check import Check, failed, passed
from autoregistry.stack.current import CurrentStack
from autoregistry.stack.model import BACKEND, PROXY, VERSION


def check_stack(stack: CurrentStack) -> Iterator[Check]:
    """Check that both containers exist, are healthy and have this version."""
    for name, container in ((BACKEND, stack.backend), (PROXY, stack.proxy)):
        if container is None:
            yield failed("stack", f"container {name} does not exist", "autoregistry up")
        elif not container.is_running or container.health not in ("healthy", ""):
            state = f"{container.state} {container.health}".strip()
            fix = f"docker logs {name}" if container.is_running else "autoregistry up"
            yield failed("stack", f"container {name} is {state}", fix)
        elif (version := container.labels.get(VERSION, __version__)) != __version__:
            sentence = f"{name} has version {version}, and this command has version {__version__}"
            yield failed("stack", sentence, "autoregistry up")
        else:
            suffix = f", version {__version__}" if name == PROXY else ""
            yield passed("stack", f"{name} is running{suffix}")
