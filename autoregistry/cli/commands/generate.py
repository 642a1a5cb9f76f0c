"""`autoregistry generate`: files for other programs, from the models that `up` and `cluster` use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from autoregistry.cli import docker
from autoregistry.cli.environment import Environment
from autoregistry.cli.options import combined, given_options, route_options, stack_options
from autoregistry.cli.output_file import write_generated
from autoregistry.cli.step_progress import show_steps
from autoregistry.cluster.config_map import config_map_yaml
from autoregistry.cluster.mirror_config import Mirror, Route, hosts_toml, registries_yaml
from autoregistry.engine.containers import Containers
from autoregistry.stack.compose import compose_file
from autoregistry.stack.current import find_stack
from autoregistry.stack.docker_socket import find_host, machine_names
from autoregistry.stack.images import ensure_proxy_image, image_source
from autoregistry.stack.lock import stack_lock
from autoregistry.stack.model import stack_for

_output_options = combined(
    click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write to this file instead of stdout.",
    ),
    click.option("--force", is_flag=True, help="Overwrite a file that autoregistry did not write."),
)


@click.group()
def generate() -> None:
    """Generate files for other programs.

    \b
    Example:
      autoregistry generate compose -o compose.yaml
    """


@generate.command()
@stack_options
@_output_options
def compose(*, output: Path | None, force: bool, **options: object) -> None:
    """Generate a compose file with the containers of `up`.

    Like `up`, this builds the proxy's image if it is missing, and detects Docker's socket.

    \b
    Example:
      autoregistry generate compose -o compose.yaml && docker compose up -d
    """
    daemon = docker.daemon()
    current = find_stack(Containers(daemon)).options
    chosen = replace(current, **given_options(options))  # type: ignore[arg-type]  # flags
    source = image_source(chosen.base_image)
    info = daemon.info()
    with show_steps() as report, stack_lock(info.identity, report):
        ensure_proxy_image(daemon, source, report)
        host = find_host(daemon, source.tag, chosen.docker_socket)
    names = machine_names(info, is_local=docker.is_local(daemon))
    services = stack_for(chosen, replace(host, names=names), source.tag)
    text = compose_file(chosen.name, services)
    write_generated(text, f"autoregistry generate compose{chosen.flags}", output, force=force)


def _add_command(kind: str, text: str, example: str, render: Callable[[Mirror], str]) -> None:
    """Add the command for a file that describes the route to the registry."""

    @generate.command(kind, help=f"{text}\n\n\b\nExample:\n  autoregistry generate {example}")
    @route_options
    @_output_options
    def command(*, via: str, port: int | None, output: Path | None, force: bool) -> None:
        flags = (" --via host" if via == "host" else "") + (f" --port {port}" if port else "")
        rendered = render(Environment.current().mirror(Route(via), port))
        write_generated(rendered, f"autoregistry generate {kind}{flags}", output, force=force)


_add_command(
    "registries",
    "Generate a registries.yaml for `k3d cluster create --registry-config`.",
    "registries -o registries.yaml",
    registries_yaml,
)
_add_command(
    "hosts",
    "Generate the hosts.toml that containerd reads when it pulls from the registry.",
    "hosts -o hosts.toml",
    lambda mirror: hosts_toml(mirror, mirror.name),
)
_add_command(
    "configmap",
    "Generate the ConfigMap by which Tilt, skaffold and other tools find the registry (KEP-1755).",
    "configmap | kubectl apply -f -",
    config_map_yaml,
)
