"""Options that several commands share: those of the stack, and those of the route to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from autoregistry.settings import Settings
from autoregistry.stack.options import Options

_DEFAULT_OPTIONS = Options()
_PORT = click.IntRange(1, 65535)
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


def _option(name: str, text: str, placeholder: str | None = None) -> _Decorator:
    """Return the option for a field of Options. Its help ends with the default."""
    flag, default = name.replace("_", "-"), getattr(_DEFAULT_OPTIONS, name)
    declaration, kind = f"--{flag}", None
    match default:
        case bool():
            declaration += f"/--no-{flag}"
            default = flag if default else f"no-{flag}"
        case int():
            kind = _PORT
    text = f"{text} [default: {default or 'detected'}]"
    return click.option(declaration, type=kind, default=None, metavar=placeholder, help=text)


stack_options = combined(
    _option("port", "The port on this machine. Images are tagged localhost:PORT/..."),
    _option("expose", "Publish the port on all addresses, not only on 127.0.0.1."),
    _option("registry_image", "The image of the registry that stores the images.", "IMAGE"),
    _option("base_image", "The base of the proxy's image.", "IMAGE"),
    *(_option(name, text) for name, text in _SWITCHES.items()),
    _option("docker_socket", "Path of the Docker socket on the daemon's host.", "PATH"),
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
        type=_PORT,
        help="With --via host: the port that `serve` listens on."
        f" [default: the port of `up`, or {_DEFAULT_OPTIONS.port}]",
    ),
)
"""`--via` and `--port`: how nodes reach the registry."""


def given_options(options: dict[str, object]) -> dict[str, object]:
    """Return the options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}
