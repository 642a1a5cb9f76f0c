"""Options that several commands share: those of the stack, and those of the route to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from autoregistry.settings import Settings
from autoregistry.stack.options import Options

_DEFAULT_OPTIONS = Options()
_Command = Callable[..., Any]
_Decorator = Callable[[_Command], _Command]
_SWITCHES = {
    field.name: field.metadata["help"] for field in fields(Settings) if field.type == "bool"
}


def combined(*options: _Decorator) -> _Decorator:
    """Return one decorator for several options, which `--help` lists in this order."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _switch(name: str, text: str) -> _Decorator:
    flag = name.replace("_", "-")
    shown = flag if getattr(_DEFAULT_OPTIONS, name) else f"no-{flag}"
    text = f"{text} [default: {shown}]"
    return click.option(f"--{flag}/--no-{flag}", default=None, help=text)


stack_options = combined(
    click.option(
        "--port",
        type=click.IntRange(1, 65535),
        help=f"The port on this machine. Images are tagged localhost:PORT/... [default: {_DEFAULT_OPTIONS.port}]",
    ),
    _switch("expose", "Publish the port on all addresses, not only on 127.0.0.1."),
    click.option(
        "--registry-image",
        metavar="IMAGE",
        help=f"The image of the registry that stores the images. [default: {_DEFAULT_OPTIONS.registry_image}]",
    ),
    click.option(
        "--base-image",
        metavar="IMAGE",
        help=f"The base of the proxy's image. [default: {_DEFAULT_OPTIONS.base_image}]",
    ),
    *(_switch(name, text) for name, text in _SWITCHES.items()),
    click.option(
        "--docker-socket",
        metavar="PATH",
        help="Path of the Docker socket on the daemon's host. [default: detected]",
    ),
)
"""An option for each field of `stack.options.Options`; None if it is not given."""
route_options = combined(
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
        f" [default: the port of `up`, or {_DEFAULT_OPTIONS.port}]",
    ),
)
"""`--via` and `--port`: how nodes reach the registry."""


def given_options(options: dict[str, object]) -> dict[str, object]:
    """Return the options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}
