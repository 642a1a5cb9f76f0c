"""The options of the stack, and those of the road to it, once: several commands take the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from autoregistry.stack.model import Options

_DEFAULT = Options()
_Command = Callable[..., Any]
_OPTIONS = (
    click.option(
        "--port",
        type=click.IntRange(1, 65535),
        help=f"The port on this machine; images are tagged localhost:PORT/... [default: {_DEFAULT.port}]",
    ),
    click.option(
        "--expose/--no-expose",
        default=None,
        help="Publish the port on all addresses, not on 127.0.0.1 only.",
    ),
    click.option(
        "--registry-image",
        metavar="IMAGE",
        help=f"The registry behind. [default: {_DEFAULT.registry_image}]",
    ),
    click.option(
        "--base-image",
        metavar="IMAGE",
        help=f"What the proxy's image is built on. [default: {_DEFAULT.base_image}]",
    ),
    click.option(
        "--attach-all/--no-attach-all",
        default=None,
        help="Have the proxy attach every k3d cluster, running now or started later.",
    ),
    click.option(
        "--restart-workloads/--no-restart-workloads",
        default=None,
        help="Have the proxy restart what runs an old copy of a rebuilt image.",
    ),
    click.option(
        "--watch/--no-watch",
        default=None,
        help="Push as soon as Docker reports a build. [default: watch]",
    ),
    click.option(
        "--refresh/--no-refresh",
        default=None,
        help="Make the nodes pull what has changed. [default: refresh]",
    ),
    click.option(
        "--docker-socket",
        metavar="PATH",
        help="Docker's socket as the daemon's machine has it. [default: found by trying]",
    ),
)


def stack_options(command: _Command) -> _Command:
    """Options of `stack.model.Options`, handed over by their names; None where not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_ROAD = (
    click.option(
        "--via",
        type=click.Choice(["container", "host"]),
        default="container",
        show_default=True,
        help="The road to the registry: the containers of `up`, or `serve --listen 0.0.0.0:PORT` on the host.",
    ),
    click.option(
        "--port",
        type=click.IntRange(1, 65535),
        help="With --via host: the port that `serve` listens on. [default: that of `up`, or 5000]",
    ),
)


def route_options(command: _Command) -> _Command:
    """How nodes reach the registry: `via` and `port`."""
    for option in reversed(_ROAD):
        command = option(command)
    return command


def given(chosen: dict[str, object]) -> dict[str, object]:
    """Those that were given."""
    return {name: value for name, value in chosen.items() if value is not None}
