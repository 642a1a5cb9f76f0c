"""`autoregistry completion SHELL`, and the completion of images and clusters.

A completion asks Docker while the user waits at a prompt, so it never fails and never prints a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import BashComplete, get_completion_class

from autoregistry.cli import docker
from autoregistry.cluster.nodes import Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.images import Images
from autoregistry.errors import AutoregistryError
from autoregistry.stack.current import find_stack

_PROGRAM = "autoregistry"
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that makes a shell complete commands, images and clusters.

    \b
    Examples, for the shell's startup file:
      eval "$(autoregistry completion bash)"
      eval "$(autoregistry completion zsh)"
      autoregistry completion fish | source
    """
    completion_class = get_completion_class(shell) or BashComplete  # click has all three
    script = completion_class(
        context.find_root().command, {}, _PROGRAM, f"_{_PROGRAM.upper()}_COMPLETE"
    )
    click.echo(script.source())  # without rich, which would wrap the lines of the script


def _completes(words: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """Return the function that click calls for the words that begin with what the user has typed."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
        try:
            return sorted({word for word in words() if word.startswith(incomplete)})
        except AutoregistryError:
            return []

    return complete


@_completes
def images() -> Iterable[str]:
    """Return the images that Docker has under our name, without that name."""
    daemon = docker.daemon()
    names = find_stack(Containers(daemon)).options.names
    references = Images(daemon).sizes(names.all)
    return (str(image) for reference in references if (image := names.parse(reference)))


images_argument = click.argument(
    "images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=images
)


@_completes
def clusters() -> Iterable[str]:
    """Return the names of k3d clusters."""
    return (node.cluster for node in Nodes(Containers(docker.daemon())).all())
