"""`autoregistry up`: the proxy and its registry as two containers."""

from __future__ import annotations

from collections.abc import Mapping

import click

from autoregistry.cli import docker
from autoregistry.cli.options import given_options, stack_options
from autoregistry.cli.output import stderr, stdout
from autoregistry.cli.step_progress import show_steps
from autoregistry.cluster.nodes import Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.stack.up import Up, UpResult

_EXPOSED = (
    "warning: with --expose, any client that can reach this machine can read and replace the images that your"
    " clusters run"
)


@click.command()
@stack_options
def up(**options: object) -> None:
    """Start the registry and its proxy as Docker containers.

    A second run changes only what differs: a new version, port or image. The options are remembered as long as the
    containers exist; the volumes are always kept.

    \b
    Examples:
      autoregistry up
      autoregistry up --port 5001
      autoregistry up --registry-image registry:3
    """
    result = bring_up(docker.daemon(), given_options(options))
    name = result.options.name
    if not result.has_changed:
        stdout.print(f"{name} is up, nothing had to change")
        return
    stdout.print(
        f"{name} is up. Next:\n\n"
        "  autoregistry cluster create dev\n"
        f"  docker build -t {name}/app:dev .\n"
        f"  kubectl create deployment app --image {name}/app:dev"
    )


def bring_up(daemon: Daemon, choices: Mapping[str, object]) -> UpResult:
    """Create or update the stack and show the steps on stderr. For `up`, and for commands that need the stack."""
    if choices.get("expose"):
        stderr.print(_EXPOSED, style="yellow")
    try:
        with show_steps() as report:
            result = Up(daemon, report, is_local=docker.is_local(daemon)).run(choices)
    except KeyboardInterrupt:
        stderr.print("interrupted; run `autoregistry up` to continue")
        raise
    if result.networks_with_old_name:
        _remind_to_attach(daemon, result)
    return result


def _remind_to_attach(daemon: Daemon, result: UpResult) -> None:
    """Print the command that gives the new name to clusters that use the old one."""
    clusters = {
        node.cluster
        for node in Nodes(Containers(daemon)).all()
        if node.is_running and node.network in result.networks_with_old_name
    }
    if clusters:
        command = f"autoregistry cluster attach {' '.join(sorted(clusters))}"
        stderr.print(f"the nodes of these clusters still use the old name; run `{command}`")
