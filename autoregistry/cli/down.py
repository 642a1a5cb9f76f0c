"""`autoregistry down`: the containers and their network away; the images' volumes only when asked."""

from __future__ import annotations

import click

from autoregistry.cli import daemons
from autoregistry.cli.options import flags
from autoregistry.cli.output import stdout
from autoregistry.cli.steps import shown_steps
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
    if volumes and not yes:
        click.confirm("Remove every image in the registry, and the journal?", abort=True, err=True)
    daemon = daemons.daemon()
    with shown_steps() as emit:
        found = take_down(daemon, emit, volumes=volumes)
    if not found.containers:
        stdout.print("nothing was running")
    elif volumes:
        stdout.print("removed, with everything that was pushed")
    else:
        again = f"autoregistry up{flags(found.options)}"
        stdout.print(f"removed; what was pushed is kept for the next `{again}`")
