"""`autoregistry generate`: the files that others read, made from the same models as `up` and `cluster` use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from autoregistry.cli import docker
from autoregistry.cli.environment import Environment
from autoregistry.cli.options import given, route_options, stack_options
from autoregistry.cli.output_file import write_out
from autoregistry.cli.step_progress import shown_steps
from autoregistry.cluster.config_map import config_map_yaml
from autoregistry.cluster.mirror_config import Mirror, Route, hosts_toml, registries_yaml
from autoregistry.engine.build import Supply
from autoregistry.engine.containers import Containers
from autoregistry.stack.compose import compose_file
from autoregistry.stack.current import find_stack
from autoregistry.stack.docker_socket import find_host, machine_names
from autoregistry.stack.images import ensure_proxy_image
from autoregistry.stack.model import stack
from autoregistry.stack.proxy_image import image_source

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a file instead of printing.",
)
force_option = click.option(
    "--force", is_flag=True, help="Write over a file that autoregistry did not write."
)


@click.group()
def generate() -> None:
    """Write files that other programs read.

    \b
    Example:
      autoregistry generate compose -o compose.yaml
    """


@generate.command()
@stack_options
@output_option
@force_option
def compose(*, output: Path | None, force: bool, **chosen: object) -> None:
    """The containers of `up` as a compose file.

    The proxy's image is built first where it is missing, and Docker's socket is looked for, as `up` does.

    \b
    Example:
      autoregistry generate compose -o compose.yaml && docker compose up -d
    """
    daemon = docker.daemon()
    options = replace(find_stack(Containers(daemon)).options, **given(chosen))  # type: ignore[arg-type]  # flags
    source = image_source(options.base_image)
    with shown_steps() as emit:
        ensure_proxy_image(Supply(daemon), source, emit)
        host = find_host(daemon, source.tag, options.docker_socket)
        names = machine_names(daemon.info(), is_local=docker.is_local(daemon))
        host = replace(host, names=names)
    text = compose_file(stack(options, host, source.tag))
    write_out(text, f"autoregistry generate compose{options.flags}", output, force=force)


def _mirror(via: str, port: int | None) -> Mirror:
    return Environment.current().mirror(Route(via), port)


def _command(what: str, via: str, port: int | None) -> str:
    """What is typed to make the same file again."""
    road = (" --via host" if via == "host" else "") + (f" --port {port}" if port else "")
    return f"autoregistry generate {what}{road}"


@generate.command()
@route_options
@output_option
@force_option
def registries(*, via: str, port: int | None, output: Path | None, force: bool) -> None:
    """The registries.yaml for `k3d cluster create --registry-config`.

    \b
    Example:
      autoregistry generate registries -o registries.yaml
    """
    text = registries_yaml(_mirror(via, port))
    write_out(text, _command("registries", via, port), output, force=force)


@generate.command()
@route_options
@output_option
@force_option
def hosts(*, via: str, port: int | None, output: Path | None, force: bool) -> None:
    """The hosts.toml that containerd reads at every pull of an image of ours.

    \b
    Example:
      autoregistry generate hosts -o hosts.toml
    """
    mirror = _mirror(via, port)
    text = hosts_toml(mirror, mirror.name)
    write_out(text, _command("hosts", via, port), output, force=force)


@generate.command()
@route_options
@output_option
@force_option
def configmap(*, via: str, port: int | None, output: Path | None, force: bool) -> None:
    """The ConfigMap by which Tilt, skaffold and others find the registry (KEP-1755).

    \b
    Example:
      autoregistry generate configmap | kubectl apply -f -
    """
    text = config_map_yaml(_mirror(via, port))
    write_out(text, _command("configmap", via, port), output, force=force)
