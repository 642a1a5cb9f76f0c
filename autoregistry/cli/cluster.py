"""`autoregistry cluster`: k3d clusters that pull through the registry."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from autoregistry.cli import completion
from autoregistry.cli.clusters import Clusters
from autoregistry.cli.k3dflags import own_choices
from autoregistry.cli.output import stderr, stdout, table
from autoregistry.cli.up import bring_up
from autoregistry.cluster import k3d
from autoregistry.cluster.files import registries_yaml
from autoregistry.cluster.nodes import Node
from autoregistry.errors import ClusterRefused, SettingInvalid
from autoregistry.stack.model import PROXY


@click.group()
def cluster() -> None:
    """k3d clusters that pull through the registry.

    \b
    Example:
      autoregistry cluster create dev
    """


@cluster.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.option("--via", type=click.Choice(["container", "host"]), default="container", show_default=True,
              help="The road to the registry: the containers of `up`, or `serve` on the host.")  # fmt: skip
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[-- K3D FLAGS]")
def create(name: str, via: str, flags: tuple[str, ...]) -> None:
    """Create a k3d cluster that sees your images.

    Everything after `--` goes to `k3d cluster create`. A registries file or config of your own is merged.

    \b
    Examples:
      autoregistry cluster create dev
      autoregistry cluster create dev -- --agents 2 --port 8080:80@loadbalancer
    """
    program = k3d.program()
    clusters = Clusters.here()
    by_host = via == "host"
    if any(node.cluster == name for node in clusters.nodes.all()):
        raise ClusterRefused(
            f"a k3d cluster {name} is there already", f"autoregistry cluster attach {name}"
        )
    if not by_host and not clusters.found.is_running:
        bring_up(clusters.daemon, {})
    own = own_choices(flags)
    with tempfile.TemporaryDirectory(prefix="autoregistry-") as folder:
        registries = Path(folder) / "registries.yaml"
        registries.write_text(registries_yaml(clusters.mirror(by_host=by_host), own.registries))
        argv = k3d.create(program, name, registries, own.flags, has_network=own.has_network)
        k3d.run(argv, clusters.k3d_environment)
    attachment = clusters.attachment(by_host=by_host)
    attachment.join(name)
    clusters.nodes.announce(name, clusters.mirror(by_host=by_host))
    _prove(clusters, name)
    _say_next(clusters, name)


@cluster.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.clusters)
@click.option("--all", "everything", is_flag=True, help="Every k3d cluster that runs.")
@click.option("--via", type=click.Choice(["container", "host"]), default="container", show_default=True,
              help="The road to the registry: the containers of `up`, or `serve` on the host.")  # fmt: skip
def attach(names: tuple[str, ...], everything: bool, via: str) -> None:
    """Attach running clusters, without a restart.

    \b
    Example:
      autoregistry cluster attach dev
    """
    clusters = Clusters.here()
    by_host = via == "host"
    running = sorted({node.cluster for node in clusters.nodes.all() if node.is_running})
    if not names and not everything:
        hint = f"autoregistry cluster attach {running[0] if running else 'NAME'}"
        raise SettingInvalid("which cluster? name it, or say --all", hint)
    for name in names:
        clusters.nodes.of(name)
    if not by_host and not clusters.found.is_running:
        bring_up(clusters.daemon, {})
    for name in running if everything else names:
        attached = clusters.attachment(by_host=by_host).attach(name)
        stderr.print(f"{name}  attached: {', '.join(node.name for node in attached)}")
        _prove(clusters, name)


@cluster.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.clusters
)
def detach(names: tuple[str, ...]) -> None:
    """Let go of clusters: they run on, and pull from elsewhere.

    \b
    Example:
      autoregistry cluster detach dev
    """
    clusters = Clusters.here()
    for name in names:
        clusters.attachment().detach(name)
        stderr.print(f"{name}  detached")


@cluster.command()
@click.argument("name", shell_complete=completion.clusters)
def delete(name: str) -> None:
    """Delete a k3d cluster; the registry and its images stay.

    \b
    Example:
      autoregistry cluster delete dev
    """
    clusters = Clusters.here()
    networks = {node.network for node in clusters.nodes.of(name)}
    clusters.attachment().leave(name)
    k3d.run(k3d.delete(k3d.program(), name), clusters.k3d_environment)
    for network in networks:
        clusters.remove_left(network)


@dataclass(frozen=True, slots=True)
class Row:
    """A cluster, and how it pulls."""

    name: str
    nodes: int
    running: int
    attached: int
    """Nodes that pull through us."""
    via: str


def rows(clusters: Clusters) -> list[Row]:
    """Every k3d cluster of this Docker, attached or not."""
    everything = clusters.nodes.all()
    name = clusters.options.name
    networks = clusters.containers.networks_of(PROXY)
    found = []
    for cluster_name in sorted({node.cluster for node in everything}):
        nodes = [node for node in everything if node.cluster == cluster_name]
        running = [node for node in nodes if node.is_running]
        roads = [clusters.nodes.endpoints(node, name) for node in running]
        found.append(
            Row(
                name=cluster_name,
                nodes=len(nodes),
                running=len(running),
                attached=sum(bool(road) for road in roads),
                via=_via(roads, joined=nodes[0].network in networks),
            )
        )
    return found


def _via(roads: Sequence[list[str]], *, joined: bool) -> str:
    if not any(roads):
        return "not attached"
    by_name = any(f"://{PROXY}:" in end for road in roads for end in road)
    return "Docker's network" if by_name and joined else "the host's address"


@cluster.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json: bool) -> None:
    """List k3d clusters, and how they pull.

    \b
    Example:
      autoregistry cluster list
    """
    found = rows(Clusters.here())
    if as_json:
        stdout.print(json.dumps([asdict(row) for row in found], indent=2))
        return
    if not found:
        stderr.print("there is no k3d cluster yet: autoregistry cluster create dev")
        return
    cells = [(r.name, f"{r.running}/{r.nodes}", f"{r.attached}/{r.running}", r.via) for r in found]
    stdout.print(table(("CLUSTER", "NODES", "ATTACHED", "VIA"), cells))


def _prove(clusters: Clusters, name: str) -> None:
    nodes: list[Node] = [node for node in clusters.nodes.of(name) if node.is_running]
    clusters.prove(nodes[0], clusters.options.name)
    stderr.print(f"{name}  checked: {nodes[0].name} pulled an image that was only built")


def _say_next(clusters: Clusters, name: str) -> None:
    image = f"{clusters.options.name}/app:dev"
    stdout.print(
        f"cluster {name} sees your images. Next:\n\n"
        f"  docker build -t {image} .\n"
        f"  kubectl create deployment app --image {image}"
    )
