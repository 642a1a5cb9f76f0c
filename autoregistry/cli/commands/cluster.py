"""`autoregistry cluster`: k3d clusters that pull through the registry."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click

from autoregistry.cli.commands import completion
from autoregistry.cli.commands.up import bring_up
from autoregistry.cli.environment import Environment, rows
from autoregistry.cli.k3d_flags import own_choices
from autoregistry.cli.options import route_options
from autoregistry.cli.output import show_table, stderr, stdout
from autoregistry.cluster import k3d
from autoregistry.cluster.config_map import announce
from autoregistry.cluster.mirror_config import Mirror, registries_yaml
from autoregistry.cluster.network_cleanup import leave, remove_left
from autoregistry.cluster.nodes import CLUSTER_LABEL, ROLE_LABEL, Node
from autoregistry.engine.containers import Container
from autoregistry.engine.networks import Networks
from autoregistry.errors import ClusterRefused, SettingInvalid
from autoregistry.stack.model import BACKEND, PROXY


@click.group()
def cluster() -> None:
    """k3d clusters that pull through the registry.

    \b
    Example:
      autoregistry cluster create dev
    """


@cluster.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@route_options
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[-- K3D FLAGS]")
def create(name: str, via: str, port: int | None, flags: tuple[str, ...]) -> None:
    """Create a k3d cluster that sees your images.

    Everything after `--` goes to `k3d cluster create`. A registries file or config of your own is merged.

    \b
    Examples:
      autoregistry cluster create dev
      autoregistry cluster create dev -- --agents 2 --port 8080:80@loadbalancer
      autoregistry cluster create dev --via host --port 5001
    """
    program = k3d.program()
    clusters = Environment.here()
    mirror = clusters.mirror(via, port)
    made = _made(clusters, name)
    if there := _parts(made):
        has_server = any(container.labels.get(ROLE_LABEL) == "server" for container in there)
        has_begun_only = not has_server or any(c.state == "created" for c in there)
        raise ClusterRefused(
            f"a k3d cluster {name} is there already" + (", half made" if has_begun_only else ""),
            f"autoregistry cluster {'delete' if has_begun_only else 'attach'} {name}",
        )
    if made:
        raise ClusterRefused(
            f"k3d keeps the registry {made[0].name}, made with a cluster {name}, and makes no other of that name",
            f"k3d registry delete {made[0].name}",
        )
    if via == "container" and not clusters.found.is_running:
        bring_up(clusters.daemon, {})
    # Of one that was deleted a moment ago: on a network that k3d finds it fixes no addresses.
    leave(clusters.containers, Networks(clusters.daemon), f"k3d-{name}", (PROXY, BACKEND))
    own = own_choices(flags)
    with tempfile.TemporaryDirectory(prefix="autoregistry-") as folder:
        registries = Path(folder) / "registries.yaml"
        registries.write_text(registries_yaml(mirror, own.registries))
        argv = k3d.create(program, name, registries, own.flags, has_network=own.has_network)
        try:
            k3d.run(argv, clusters.k3d_environment)
        except KeyboardInterrupt:  # k3d does not undo what it has done by then
            stderr.print(f"interrupted; what there is of cluster {name} is removed")
            _delete(clusters, program, name)
            raise
    clusters.attachment(via, port).join(name)
    _say_replaced(name, announce(clusters.nodes, name, mirror))
    _prove(clusters, name, mirror)
    _say_next(name, mirror)


@cluster.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.clusters)
@click.option("--all", "everything", is_flag=True, help="Every k3d cluster that runs.")
@click.option("--restart", "may_restart", is_flag=True,
              help="Restart a cluster whose k3s is too old to be told while it runs.")  # fmt: skip
@route_options
def attach(
    names: tuple[str, ...], everything: bool, may_restart: bool, via: str, port: int | None
) -> None:
    """Attach running clusters, without a restart.

    \b
    Example:
      autoregistry cluster attach dev
    """
    clusters = Environment.here()
    running = sorted({node.cluster for node in clusters.nodes.all() if node.is_running})
    if not names and not everything:
        hint = f"autoregistry cluster attach {running[0] if running else 'NAME'}"
        raise SettingInvalid("which cluster? name it, or say --all", hint)
    if everything and not running:
        raise ClusterRefused("no k3d cluster runs", "autoregistry cluster create dev")
    for name in names:
        clusters.nodes.of(name)
    mirror = clusters.mirror(via, port)
    if via == "container" and not clusters.found.is_running:
        bring_up(clusters.daemon, {})
    attachment = clusters.attachment(via, port)
    for name in running if everything else names:
        attached = attachment.attach_at_next_start(name) if may_restart else None
        if attached is None:
            attached = attachment.attach(name)
        else:
            for argv in k3d.restart(k3d.program(), name):
                k3d.run(argv, clusters.k3d_environment)
            attached = replace(attached, replaced=announce(clusters.nodes, name, mirror))
        stderr.print(f"{name}  attached: {', '.join(node.name for node in attached.nodes)}")
        _say_replaced(name, attached.replaced)
        for node in attached.for_now:
            stderr.print(
                f"{name}  {node.name}: its registries.yaml has another road and is mounted, so that it cannot be"
                " changed: k3s goes back to that road when it starts"
            )
        _prove(clusters, name, mirror)


@cluster.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.clusters
)
def detach(names: tuple[str, ...]) -> None:
    """Let go of clusters: they run on, and know our registry no longer.

    Of a cluster that `create` made, too: it is taken out of the nodes' registries.yaml, and no restart brings it back.

    \b
    Example:
      autoregistry cluster detach dev
    """
    clusters = Environment.here()
    for name in names:
        at_next_start = clusters.attachment().detach(name)
        stderr.print(f"{name}  detached")
        for node in at_next_start:
            stderr.print(
                f"{name}  {node.name}: what its registries.yaml says of these names counts when it starts again"
            )


@cluster.command()
@click.argument("name", shell_complete=completion.clusters)
def delete(name: str) -> None:
    """Delete a k3d cluster; the registry and its images stay.

    \b
    Example:
      autoregistry cluster delete dev
    """
    clusters = Environment.here()
    if not _made(clusters, name):
        clusters.nodes.of(name)
    _delete(clusters, k3d.program(), name)


def _made(clusters: Environment, name: str) -> list[Container]:
    """All containers that k3d has made for a cluster of that name."""
    return clusters.containers.list("app=k3d", f"{CLUSTER_LABEL}={name}")


def _parts(made: list[Container]) -> list[Container]:
    """What k3d makes a cluster of. Not a registry made with it, which k3d keeps where others use it, too."""
    return [container for container in made if container.labels.get(ROLE_LABEL) != "registry"]


def _delete(clusters: Environment, program: str, name: str) -> None:
    """Also what there is of one that was interrupted while it was made: as little as its network."""
    nodes = [node for node in clusters.nodes.all() if node.cluster == name]
    networks = {node.network for node in nodes} or {f"k3d-{name}"}
    if nodes:
        clusters.attachment().leave(name)
    k3d.run(k3d.delete(program, name), clusters.k3d_environment)
    for left in _parts(_made(clusters, name)):
        clusters.containers.remove(left.identity)
    for network in networks:
        remove_left(Networks(clusters.daemon), network)


@cluster.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json: bool) -> None:
    """List k3d clusters, and how they pull.

    \b
    Example:
      autoregistry cluster list
    """
    found = rows(Environment.here())
    if as_json:
        stdout.print(json.dumps([asdict(row) for row in found], indent=2))
        return
    if not found:
        stderr.print("there is no k3d cluster yet: autoregistry cluster create dev")
        return
    cells = [(r.name, f"{r.running}/{r.nodes}", f"{r.attached}/{r.running}", r.via) for r in found]
    show_table(("CLUSTER", "NODES", "ATTACHED", "VIA"), cells)


def _prove(clusters: Environment, name: str, mirror: Mirror) -> None:
    nodes: list[Node] = [node for node in clusters.nodes.of(name) if node.is_running]
    clusters.prove(nodes[0], mirror.names[0])
    stderr.print(f"{name}  checked: {nodes[0].name} pulled an image that was only built")


def _say_replaced(name: str, registry: str) -> None:
    if registry:
        stderr.print(f"{name}  Tilt and skaffold were told of {registry}; `detach` puts that back")


def _say_next(name: str, mirror: Mirror) -> None:
    image = f"{mirror.names[0]}/app:dev"
    stdout.print(
        f"cluster {name} sees your images. Next:\n\n"
        f"  docker build -t {image} .\n"
        f"  kubectl create deployment app --image {image}"
    )
