"""`autoregistry down`: the containers and their network away; the images' volumes only when asked."""

from __future__ import annotations

import click

from autoregistry.cli import docker
from autoregistry.cli.output import stderr, stdout
from autoregistry.cli.step_progress import shown_steps
from autoregistry.errors import StackRefused
from autoregistry.stack.down import take_down


@click.command()
@click.option("--volumes", is_flag=True, help="Also remove what was pushed; asks first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def down(*, volumes: bool, yes: bool) -> None:
    """Remove the registry and the proxy; what was pushed stays in its volume.

    \b
    Examples:
      autoregistry down
      autoregistry down --volumes --yes
    """
    if volumes and not yes and not _agreed():
        raise StackRefused("nothing was removed", "autoregistry down --volumes --yes")
    daemon = docker.daemon()
    with shown_steps() as emit:
        found, removed = take_down(daemon, emit, volumes=volumes)
    again = f"autoregistry up{found.options.flags}"
    if removed:
        stdout.print(f"removed, with everything that was pushed; `{again}` begins anew")
    elif not found.containers:
        stdout.print("nothing was running")
    else:
        stdout.print(f"removed; what was pushed is kept for the next `{again}`")


def _agreed() -> bool:
    """Whether somebody says yes; nobody does where nobody can be asked."""
    try:
        return click.confirm("Remove every image in the registry, and the journal?", err=True)
    except click.Abort:
        stderr.print()
        return False
