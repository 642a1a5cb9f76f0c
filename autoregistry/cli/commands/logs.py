"""`autoregistry logs`: what the proxy says."""

from __future__ import annotations

import click

from autoregistry.cli import docker
from autoregistry.cli.output import stdout
from autoregistry.engine.containers import Containers
from autoregistry.errors import StackRefused
from autoregistry.stack.model import PROXY


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
def logs(*, follow: bool, tail: int | None) -> None:
    """Show what the proxy says: one line per pull, with its verdict.

    \b
    Examples:
      autoregistry logs
      autoregistry logs -f --tail 20
    """
    containers = Containers(docker.daemon())
    if containers.inspect(PROXY) is None:
        raise StackRefused("the proxy is not there, so it has no log", "autoregistry up")
    for line in containers.logs(PROXY, tail=tail, follow=follow):
        stdout.print(line)
