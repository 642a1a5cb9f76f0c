"""`autoregistry completion SHELL`, and the completion of images and clusters.

A completion asks Docker while the user waits at a prompt, so it never fails and never prints a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)

from autoregistry.cli import docker
from autoregistry.cluster.nodes import Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.images import Images
from autoregistry.errors import AutoregistryError
from autoregistry.stack.current import find_stack

_PROGRAM = "autoregistry"
_SHELLS = ("bash", "zsh", "fish")


@add_completion_class
class _Bash(BashComplete):
    """Completion for bash, which splits `shop/api:dev` into three words and replaces only the last."""

    name = "bash"
    _known = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        if incomplete == ":":
            args, incomplete = [*args, ":"], ""
        if len(args) >= 2 and args[-1] == ":":
            self._known = f"{args[-2]}:"
            args = args[:-2]
        return args, self._known + incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{str(item.value).removeprefix(self._known)}"


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
    completion_class = get_completion_class(shell)
    if completion_class is None:  # click has all three; a Choice accepts no other
        raise click.BadParameter(shell)
    root = context.find_root().command
    # Without rich, which would wrap the lines of the script.
    click.echo(completion_class(root, {}, _PROGRAM, f"_{_PROGRAM.upper()}_COMPLETE").source())


def images(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete the images that Docker has under our name, without that name."""
    return _matching(_images, incomplete)


def clusters(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of k3d clusters."""
    return _matching(_clusters, incomplete)


def _matching(words: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    try:
        return sorted({word for word in words() if word.startswith(incomplete)})
    except AutoregistryError:
        return []


def _images() -> Iterable[str]:
    daemon = docker.daemon()
    names = find_stack(Containers(daemon)).options.names
    references = Images(daemon).sizes(names.all)
    return [str(image) for reference in references if (image := names.parse(reference))]


def _clusters() -> Iterable[str]:
    return (node.cluster for node in Nodes(Containers(docker.daemon())).all())
