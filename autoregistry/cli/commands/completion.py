"""`autoregistry completion SHELL`, and the words that a shell is offered for images and clusters.

What is offered is asked of Docker while somebody waits at a prompt: it never fails, and never prints.
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
from autoregistry.names import RegistryNames
from autoregistry.stack.current import find_stack

_PROGRAM = "autoregistry"
_SHELLS = ("bash", "zsh", "fish")


@add_completion_class
class _Bash(BashComplete):
    """bash takes `shop/api:dev` for three words, and replaces the last of them only."""

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
    """Print what makes a shell complete commands, images and clusters.

    \b
    Examples, for the file that the shell reads at its start:
      eval "$(autoregistry completion bash)"
      eval "$(autoregistry completion zsh)"
      autoregistry completion fish | source
    """
    made = get_completion_class(shell)
    if made is None:  # click's own three are there; a Choice lets nothing else in
        raise click.BadParameter(shell)
    root = context.find_root().command
    # Outside rich: the script is for a shell, and no width may break its lines.
    click.echo(made(root, {}, _PROGRAM, f"_{_PROGRAM.upper()}_COMPLETE").source())


def images(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Images that Docker has under our name, without it."""
    return _offered(_images, incomplete)


def clusters(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """k3d clusters."""
    return _offered(_clusters, incomplete)


def _offered(words: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    try:
        return sorted({word for word in words() if word.startswith(incomplete)})
    except AutoregistryError:
        return []


def _images() -> Iterable[str]:
    daemon = docker.daemon()
    name = find_stack(Containers(daemon)).options.name
    ours = RegistryNames(name, (f"127.0.0.1:{name.rpartition(':')[2]}",))
    return [str(i) for said in Images(daemon).sizes(ours.all) if (i := ours.parse(said))]


def _clusters() -> Iterable[str]:
    return (node.cluster for node in Nodes(Containers(docker.daemon())).all())
