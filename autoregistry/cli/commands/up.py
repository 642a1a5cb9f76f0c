"""`autoregistry up`: the proxy and its registry as two containers of Docker."""

from __future__ import annotations

from collections.abc import Mapping

import click

from autoregistry.cli import docker
from autoregistry.cli.options import given, stack_options
from autoregistry.cli.output import stderr, stdout
from autoregistry.cli.step_progress import shown_steps
from autoregistry.cluster.nodes import Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.stack.up import Made, Up

_EXPOSED = (
    "warning: with --expose the registry is open to everybody who can reach this machine: they can read and"
    " replace what your clusters run"
)


@click.command()
@stack_options
def up(**chosen: object) -> None:
    """Start the registry and the proxy in front of it, in Docker.

    Run again, it changes only what has to change: a new version, port or image. What is chosen here is remembered
    for as long as the containers are there; the volumes stay in any case.

    \b
    Examples:
      autoregistry up
      autoregistry up --port 5001
      autoregistry up --registry-image registry:3
    """
    made = bring_up(docker.daemon(), given(chosen))
    name = made.options.name
    if not made.has_changed:
        stdout.print(f"{name} is up, nothing had to change")
        return
    stdout.print(
        f"{name} is up. Next:\n\n"
        "  autoregistry cluster create dev\n"
        f"  docker build -t {name}/app:dev .\n"
        f"  kubectl create deployment app --image {name}/app:dev"
    )


def bring_up(daemon: Daemon, choices: Mapping[str, object]) -> Made:
    """Make the stack, its steps shown on stderr; for `up` and for every command that needs one."""
    if choices.get("expose"):
        stderr.print(_EXPOSED, style="yellow")
    try:
        with shown_steps() as emit:
            made = Up(daemon, emit, is_local=docker.is_local(daemon)).run(choices)
    except KeyboardInterrupt:
        stderr.print("interrupted; `autoregistry up` goes on from here")
        raise
    everybody = Nodes(Containers(daemon)).all() if made.with_old_name else []
    if names := sorted(
        {
            node.cluster
            for node in everybody
            if node.is_running and node.network in made.with_old_name
        }
    ):
        command = f"autoregistry cluster attach {' '.join(names)}"
        stderr.print(f"the clusters' nodes still know the old name; `{command}` tells them")
    return made
