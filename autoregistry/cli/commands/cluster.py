"""`autoregistry cluster`: k3d clusters that pull through the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from autoregistry.cli.commands import completion
from autoregistry.cli.commands.up import bring_up
from autoregistry.cli.environment import Environment
from autoregistry.cli.options import route_options
from autoregistry.cli.output import show_json, show_table, stderr, stdout, table
from autoregistry.cluster import k3d
from autoregistry.cluster.attach import K3S_IMAGE, leave_deleted_clusters, remove_unused
from autoregistry.cluster.mirror_config import Mirror, Route, registries_yaml
from autoregistry.cluster.nodes import CLUSTER_LABEL, ROLE_LABEL
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
    """Create a k3d cluster that pulls your images.

    Everything after `--` is passed to `k3d cluster create`. Your own registries file or k3d config is merged.

    \b
    Examples:
      autoregistry cluster create dev
      autoregistry cluster create dev -- --agents 2 --port 8080:80@loadbalancer
      autoregistry cluster create dev --via host --port 5001
    """
    program = k3d.program()
    environment = Environment.current()
    mirror = environment.mirror(Route(via), port)
    _refuse_existing(environment, name)
    _ensure_stack(environment, mirror)
    # Of a cluster that was just deleted: on an existing network k3d fixes no addresses.
    networks = Networks(environment.daemon)
    leave_deleted_clusters(environment.containers, networks, (PROXY, BACKEND), grace_seconds=0)
    remove_unused(networks, f"k3d-{name}")
    _run_k3d_create(environment, program, name, mirror, flags)
    _attach(environment, name, mirror)
    image = f"{mirror.name}/app:dev"
    stdout.print(
        f"cluster {name} pulls your images. Next:\n\n"
        f"  docker build -t {image} .\n"
        f"  kubectl create deployment app --image {image}"
    )


def _refuse_existing(environment: Environment, name: str) -> None:
    existing = _containers(environment, name)
    if parts := _parts(existing):
        has_server = any(container.labels.get(ROLE_LABEL) == "server" for container in parts)
        is_incomplete = not has_server or any(c.state == "created" for c in parts)
        raise ClusterRefused(
            f"k3d cluster {name} already exists" + (", but is incomplete" if is_incomplete else ""),
            f"autoregistry cluster {'delete' if is_incomplete else 'attach'} {name}",
        )
    if existing:
        registry = existing[0].name
        raise ClusterRefused(
            f"k3d still has the registry {registry} of an earlier cluster {name}",
            f"k3d registry delete {registry}",
        )


def _ensure_stack(environment: Environment, mirror: Mirror) -> None:
    if mirror.route is Route.CONTAINER and not environment.stack().is_running:
        bring_up(environment.daemon, {})


def _run_k3d_create(
    environment: Environment, program: str, name: str, mirror: Mirror, flags: tuple[str, ...]
) -> None:
    registries, others = k3d.split_flags(flags)
    with tempfile.TemporaryDirectory(prefix="autoregistry-") as folder:
        file = Path(folder) / "registries.yaml"
        file.write_text(registries_yaml(mirror, registries))
        argv = [program, "cluster", "create", name, "--registry-config", str(file), *others]
        try:
            k3d.run(argv, environment.daemon.environment)
        except KeyboardInterrupt:  # k3d leaves behind what it has created so far
            stderr.print(f"interrupted; removing what exists of cluster {name}")
            _delete(environment, program, name)
            raise


def _refuse_restart(_: click.Context, __: click.Parameter, is_given: object) -> None:
    if is_given:
        raise SettingInvalid(
            "--restart was removed: k3s older than January 2024 is not supported",
            f"autoregistry cluster create NAME -- --image {K3S_IMAGE}",
        )


@cluster.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.clusters)
@click.option("--all", "is_all", is_flag=True, help="Every running k3d cluster.")
@click.option("--restart", is_flag=True, hidden=True, expose_value=False, callback=_refuse_restart,
              help="Removed: k3s older than January 2024 is not supported.")  # fmt: skip
@route_options
def attach(names: tuple[str, ...], is_all: bool, via: str, port: int | None) -> None:
    """Attach running clusters, without a restart.

    \b
    Example:
      autoregistry cluster attach dev
    """
    environment = Environment.current()
    running = sorted({node.cluster for node in environment.nodes.all() if node.is_running})
    if not names and not is_all:
        hint = f"autoregistry cluster attach {running[0] if running else 'NAME'}"
        raise SettingInvalid("which cluster? Give its name, or --all", hint)
    if is_all and not running:
        raise ClusterRefused("no k3d cluster is running", "autoregistry cluster create dev")
    for name in names:
        environment.nodes.of(name)
    mirror = environment.mirror(Route(via), port)
    _ensure_stack(environment, mirror)
    for name in running if is_all else names:
        _attach(environment, name, mirror)


def _attach(environment: Environment, name: str, mirror: Mirror) -> None:
    for text in environment.attachment(mirror).attach(name):
        stderr.print(f"{name}  {text}")
    node = next(node for node in environment.nodes.of(name) if node.is_running)
    environment.check_pull(node, mirror.name)
    stderr.print(f"{name}  checked: {node.name} pulled a test image that was pushed on demand")


@cluster.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.clusters
)
def detach(names: tuple[str, ...]) -> None:
    """Detach clusters from the registry. They keep running.

    This also removes the registry from the registries.yaml of nodes that `create` made, so that no restart brings it
    back.

    \b
    Example:
      autoregistry cluster detach dev
    """
    environment = Environment.current()
    for name in names:
        remarks = environment.attachment(environment.mirror()).detach(name)
        for text in ("detached", *remarks):
            stderr.print(f"{name}  {text}")


@cluster.command()
@click.argument("name", shell_complete=completion.clusters)
def delete(name: str) -> None:
    """Delete a k3d cluster. The registry and its images stay.

    \b
    Example:
      autoregistry cluster delete dev
    """
    environment = Environment.current()
    if not _containers(environment, name):
        environment.nodes.of(name)
    _delete(environment, k3d.program(), name)


def _containers(environment: Environment, name: str) -> list[Container]:
    """Return all containers that k3d created for a cluster."""
    return environment.containers.list("app=k3d", f"{CLUSTER_LABEL}={name}")


def _parts(containers: list[Container]) -> list[Container]:
    """Return them without a registry created with the cluster, which k3d keeps if other clusters use it."""
    return [container for container in containers if container.labels.get(ROLE_LABEL) != "registry"]


def _delete(environment: Environment, program: str, name: str) -> None:
    """Delete a cluster, also one whose creation was interrupted, of which only the network may exist."""
    nodes = [node for node in environment.nodes.all() if node.cluster == name]
    networks = {node.network for node in nodes} or {f"k3d-{name}"}
    if nodes:
        environment.attachment(environment.mirror()).leave(name)
    k3d.run([program, "cluster", "delete", name], environment.daemon.environment)
    for container in _parts(_containers(environment, name)):
        environment.containers.remove(container.identity)
    for network in networks:
        remove_unused(Networks(environment.daemon), network)


@cluster.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List k3d clusters, and how they pull.

    \b
    Example:
      autoregistry cluster list
    """
    clusters = Environment.current().clusters()
    if as_json:
        show_json([cluster.to_json() for cluster in clusters])
        return
    if not clusters:
        stderr.print("there is no k3d cluster yet: autoregistry cluster create dev")
        return
    rows = [
        (c.name, f"{len(c.running)}/{len(c.nodes)}", f"{len(c.attached)}/{len(c.running)}", c.via)
        for c in clusters
    ]
    show_table(table(("CLUSTER", "NODES", "ATTACHED", "VIA"), rows))
