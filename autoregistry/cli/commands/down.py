"""`autoregistry down`: removal of the containers and their network, and of the volumes if requested."""

from __future__ import annotations

import click

from autoregistry.cli import docker
from autoregistry.cli.output import stderr, stdout
from autoregistry.cli.step_progress import show_steps
from autoregistry.errors import StackRefused
from autoregistry.stack.down import take_down


@click.command()
@click.option(
    "--volumes", is_flag=True, help="Also remove all pushed images. Asks for confirmation."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def down(*, volumes: bool, yes: bool) -> None:
    """Remove the registry and the proxy. The pushed images stay in a volume.

    \b
    Examples:
      autoregistry down
      autoregistry down --volumes --yes
    """
    if volumes and not yes and not _confirmed():
        raise StackRefused("nothing was removed", "autoregistry down --volumes --yes")
    with show_steps() as report:
        before, removed_volumes = take_down(docker.daemon(), report, volumes=volumes)
    command = f"autoregistry up{before.options.flags}"
    if removed_volumes:
        stdout.print(f"removed, with all pushed images; `{command}` starts empty")
    elif not before.containers:
        stdout.print("nothing was running")
    else:
        stdout.print(f"removed; the pushed images are kept for the next `{command}`")


def _confirmed() -> bool:
    """Ask the user, and return False if the answer is no or there is no terminal."""
    try:
        return click.confirm("Remove every image in the registry, and the journal?", err=True)
    except click.Abort:
        stderr.print()
        return False
