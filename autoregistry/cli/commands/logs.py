"""`autoregistry logs`: the log of the proxy."""

from __future__ import annotations

import click

from autoregistry.cli import docker
from autoregistry.cli.output import stdout
from autoregistry.engine.containers import Containers
from autoregistry.errors import StackRefused
from autoregistry.stack.model import PROXY


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Show new lines until interrupted.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
def logs(*, follow: bool, tail: int | None) -> None:
    """Show the log of the proxy: one line per pull, with its result.

    \b
    Examples:
      autoregistry logs
      autoregistry logs -f --tail 20
    """
    containers = Containers(docker.daemon())
    if containers.inspect(PROXY) is None:
        raise StackRefused(f"{PROXY} is not running, so there is no log", "autoregistry up")
    for line in containers.logs(PROXY, tail=tail, follow=follow):
        stdout.print(line)
