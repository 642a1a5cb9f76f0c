"""Options that several commands share: those of the stack, and those of the route to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from autoregistry.stack.options import Options

_DEFAULT = Options()
_Command = Callable[..., Any]


def _switch(name: str, help_text: str) -> Callable[[_Command], _Command]:
    """Return a pair of flags that is None if neither is given."""
    flag = name.replace("_", "-")
    default = flag if getattr(_DEFAULT, name) else f"no-{flag}"
    return click.option(
        f"--{flag}/--no-{flag}", default=None, help=f"{help_text} [default: {default}]"
    )


_STACK_OPTIONS = (
    click.option(
        "--port",
        type=click.IntRange(1, 65535),
        help=f"The port on this machine. Images are tagged localhost:PORT/... [default: {_DEFAULT.port}]",
    ),
    _switch("expose", "Publish the port on all addresses, not only on 127.0.0.1."),
    click.option(
        "--registry-image",
        metavar="IMAGE",
        help=f"The image of the registry that stores the images. [default: {_DEFAULT.registry_image}]",
    ),
    click.option(
        "--base-image",
        metavar="IMAGE",
        help=f"The base of the proxy's image. [default: {_DEFAULT.base_image}]",
    ),
    _switch("attach_all", "Attach every k3d cluster, including clusters that start later."),
    _switch("restart_workloads", "Restart workloads that run an old copy of a rebuilt image."),
    _switch("watch", "Push as soon as Docker reports a build."),
    _switch("refresh", "Make the nodes pull images that have changed."),
    click.option(
        "--docker-socket",
        metavar="PATH",
        help="Path of the Docker socket on the daemon's host. [default: detected]",
    ),
)


def stack_options(command: _Command) -> _Command:
    """Add an option for each field of `stack.options.Options`; None if it is not given."""
    for option in reversed(_STACK_OPTIONS):
        command = option(command)
    return command


_ROUTE_OPTIONS = (
    click.option(
        "--via",
        type=click.Choice(["container", "host"]),
        default="container",
        show_default=True,
        help="How nodes reach the registry: the containers of `up`, or `serve --listen 0.0.0.0:PORT` on the host.",
    ),
    click.option(
        "--port",
        type=click.IntRange(1, 65535),
        help="With --via host: the port that `serve` listens on."
        f" [default: the port of `up`, or {_DEFAULT.port}]",
    ),
)


def route_options(command: _Command) -> _Command:
    """Add `--via` and `--port`: how nodes reach the registry."""
    for option in reversed(_ROUTE_OPTIONS):
        command = option(command)
    return command


def given_options(options: dict[str, object]) -> dict[str, object]:
    """Return the options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}
