"""`autoregistry serve`: the proxy in the foreground."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from autoregistry.cli import docker
from autoregistry.cli.options import combined
from autoregistry.cli.output import event_line, stderr
from autoregistry.errors import SettingInvalid
from autoregistry.event_json import to_json
from autoregistry.events import Event
from autoregistry.names import RegistryNames
from autoregistry.settings import Address, Limits, Settings


def _flag_name(setting: Field[Any]) -> str:
    return setting.name.replace("_", "-")


def _option(setting: Field[Any]) -> Callable[[Any], Any]:
    """Return the option for a field of Settings."""
    flag, default = f"--{_flag_name(setting)}", setting.default
    kind: click.ParamType[Any] | None = None
    match default:
        case bool():
            flag += f"/--no-{_flag_name(setting)}"
        case float():
            kind = click.FloatRange(0.1)
        case Path():
            kind = click.Path(file_okay=False, path_type=Path)
        case tuple():
            default = tuple(map(str, default))
    return click.option(
        flag,
        type=kind,
        default=default,
        show_default=True,
        multiple=isinstance(default, tuple),
        metavar=setting.metadata["placeholder"],
        help=setting.metadata["help"],
    )


@click.command(context_settings={"auto_envvar_prefix": "AUTOREGISTRY"})
@click.option(
    "--name",
    metavar="HOST:PORT",
    help="The name that images are tagged with. [default: localhost:PORT]",
)
@combined(*(_option(field) for field in fields(Settings) if field.metadata))
@click.option(
    "--limit",
    multiple=True,
    metavar="NAME=VALUE",
    help="A limit for clients; repeatable. "
    + "; ".join(f"{_flag_name(f)}={f.default:g}: {f.metadata['help']}" for f in fields(Limits)),
)
@click.option(
    "--log-format",
    type=click.Choice(["lines", "json"]),
    default="lines",
    show_default=True,
    help="Log lines on stderr as text, or as one JSON object per line.",
)
def serve(name: str | None, limit: tuple[str, ...], log_format: str, **options: Any) -> None:  # noqa: ANN401  # the fields of Settings
    """Run the proxy in the foreground.

    Each option can also be set by an environment variable, such as AUTOREGISTRY_LISTEN. For a pair of flags the
    value is 0 or 1.

    \b
    Example, with a registry at 127.0.0.1:4999:
      autoregistry serve --listen 127.0.0.1:5000 --backend http://127.0.0.1:4999
    """
    options["listen"] = tuple(_address(text) for text in options["listen"])
    options["backend"] = _url(options["backend"])
    port = options["listen"][0].port
    settings = Settings(
        **options,
        names=_names(name or RegistryNames.local(port).primary, port),
        container=platform.node() if docker.in_container() else None,
        limits=_limits(limit),
    )
    # Imported here, because no other command needs the proxy, and it is slow to import.
    from autoregistry.proxy import app

    app.run(settings, _show_json if log_format == "json" else _show_line)
    # A push that was cut off leaves a thread that waits for Docker, and a normal exit would wait for it.
    os._exit(0)


def _show_line(event: Event) -> None:
    if (text := event_line(event)) is not None:
        stderr.print(text)


def _show_json(event: Event) -> None:
    if event_line(event) is not None:  # both formats have the same events
        payload = {"at": round(time.time(), 3), **to_json(event)}
        stderr.print(Text(json.dumps(payload)))


def _limits(texts: tuple[str, ...]) -> Limits:
    known = {_flag_name(limit): limit for limit in fields(Limits)}
    chosen: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = int(value) if known[name].type == "int" else float(value)
        except (KeyError, ValueError):
            number = 0
        if not 0 < number < float("inf"):
            form = f"NAME=VALUE, with a name of {', '.join(known)}"
            raise _invalid("limit", text, form, "connections=500")
        chosen[known[name].name] = number
    return replace(Limits(), **chosen)  # type: ignore[arg-type]  # each of its field's own type


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise _invalid("listen", text, "HOST:PORT", "127.0.0.1:5000")
    return Address(host.strip("[]"), int(port))


def _names(name: str, listen_port: int) -> RegistryNames:
    """Return the names of the registry. In a container, the port of `--name` is not the one we listen on."""
    host, _, port = name.rpartition(":")
    if not host or not port.isdecimal():
        raise _invalid("name", name, "HOST:PORT", "localhost:5000")
    local = RegistryNames.local(int(port) if host == "localhost" else listen_port)
    return replace(local, primary=name)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise _invalid("backend", text, "a URL", "http://127.0.0.1:4999")
    return text.rstrip("/")


def _invalid(option: str, text: str, form: str, example: str) -> SettingInvalid:
    hint = f"autoregistry serve --{option} {example}"
    return SettingInvalid(f"--{option} {text} is not {form}", hint)
