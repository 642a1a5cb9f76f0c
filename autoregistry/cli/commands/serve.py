"""`autoregistry serve`: the proxy in the foreground."""

from __future__ import annotations

import json
import os
import time
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from autoregistry.cli import docker
from autoregistry.cli.options import serve_switches
from autoregistry.cli.output import event_line, stderr
from autoregistry.errors import SettingInvalid
from autoregistry.event_json import to_json
from autoregistry.events import Event
from autoregistry.names import RegistryNames
from autoregistry.settings import Address, Limits, Settings

_DEFAULT = Settings()


def _flag_name(limit: Field[Any]) -> str:
    return limit.name.replace("_", "-")


@click.command(context_settings={"auto_envvar_prefix": "AUTOREGISTRY"})
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    help=f"Address to listen on; repeatable. [default: {_DEFAULT.listen[0]}]",
)
@click.option(
    "--backend",
    default=_DEFAULT.backend,
    show_default=True,
    metavar="URL",
    help="The registry that stores the images.",
)
@click.option(
    "--name",
    metavar="HOST:PORT",
    help="The name that images are tagged with. [default: localhost:PORT]",
)
@click.option(
    "--patience",
    default=_DEFAULT.patience,
    show_default=True,
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="How long to hold a pull for a push, if the client has a time limit of its own.",
)
@serve_switches
@click.option(
    "--skip",
    multiple=True,
    metavar="PATTERN",
    help="Tags that are pushed only when a client pulls them; repeatable."
    f" [default: {', '.join(_DEFAULT.skip)}]",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Another host name to accept in requests; repeatable.",
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DEFAULT.state,
    show_default=True,
    metavar="DIR",
    help="The folder of the journals. Each registry name has a folder in it, which one `serve` at a time uses.",
)
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
def serve(
    listen: tuple[str, ...],
    backend: str,
    name: str | None,
    patience: float,
    watch: bool,
    refresh: bool,
    restart_workloads: bool,
    attach_all: bool,
    skip: tuple[str, ...],
    allow_host: tuple[str, ...],
    state: Path,
    limit: tuple[str, ...],
    log_format: str,
) -> None:
    """Run the proxy in the foreground.

    Each option can also be set by an environment variable, such as AUTOREGISTRY_LISTEN. For a pair of flags the
    value is 0 or 1.

    \b
    Example, with a registry at 127.0.0.1:4999:
      autoregistry serve --listen 127.0.0.1:5000 --backend http://127.0.0.1:4999
    """
    addresses = tuple(_address(text) for text in listen) or _DEFAULT.listen
    port = addresses[0].port
    settings = Settings(
        listen=addresses,
        backend=_url(backend),
        names=_names(name or RegistryNames.local(port).primary, port),
        patience=patience,
        watch=watch,
        refresh=refresh,
        restart_workloads=restart_workloads,
        attach_all=attach_all,
        state=state,
        skip=skip or _DEFAULT.skip,
        allow_hosts=allow_host,
        container=docker.container_name(),
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
            raise SettingInvalid(
                f"--limit {text} is not NAME=VALUE, with a name of {', '.join(known)}",
                "autoregistry serve --limit connections=500",
            )
        chosen[known[name].name] = number
    return replace(Limits(), **chosen)  # type: ignore[arg-type]  # each of its field's own type


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingInvalid(
            f"--listen {text} is not HOST:PORT", "autoregistry serve --listen 127.0.0.1:5000"
        )
    return Address(host.strip("[]"), int(port))


def _names(name: str, listen_port: int) -> RegistryNames:
    """Return the names of the registry. In a container, the port of `--name` is not the one we listen on."""
    host, _, port = name.rpartition(":")
    if not host or not port.isdecimal():
        raise SettingInvalid(
            f"--name {name} is not HOST:PORT", "autoregistry serve --name localhost:5000"
        )
    local = RegistryNames.local(int(port) if host == "localhost" else listen_port)
    return replace(local, primary=name)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise SettingInvalid(
            f"--backend {text} is not a URL", "autoregistry serve --backend http://127.0.0.1:4999"
        )
    return text.rstrip("/")
