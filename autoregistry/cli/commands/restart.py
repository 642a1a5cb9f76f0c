"""`autoregistry refresh` and `restart`: the nodes, and what runs on them, brought to what Docker has."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import click

from autoregistry.cli.client import serve_options
from autoregistry.cli.commands import completion
from autoregistry.cli.environment import Environment
from autoregistry.cli.output import stderr, stdout
from autoregistry.cluster.nodes import Node
from autoregistry.cluster.pods import RestartPlan, Workload
from autoregistry.cluster.workloads import outdated
from autoregistry.cluster.workloads import restart as rollout_restart
from autoregistry.errors import AutoregistryError, ClusterRefused, SettingInvalid
from autoregistry.names import Image, RegistryNames

_THREADS = 8
cluster_option = click.option(
    "--cluster",
    metavar="NAME",
    help="Only this k3d cluster. [default: all attached]",
    shell_complete=completion.clusters,
)


@click.command()
@click.argument(
    "images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=completion.images
)
@cluster_option
def refresh(images: tuple[str, ...], cluster: str | None) -> None:
    """Make the nodes pull an image anew. Running pods are not touched.

    Mostly this happens by itself, as soon as the image has changed.

    \b
    Example:
      autoregistry refresh shop/api:dev
    """
    clusters = Environment.current()
    nodes = _attached(clusters, cluster)
    failed = [image for image in _images(clusters, images) if not _refresh(clusters, nodes, image)]
    if failed:
        raise ClusterRefused(
            f"not every node has {', '.join(map(str, failed))}", "autoregistry doctor"
        )


@click.command()
@click.argument(
    "images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=completion.images
)
@cluster_option
@click.option("--namespace", default="", metavar="NAME", help="Only this namespace. [default: all]")
@click.option("--dry-run", is_flag=True, help="Say what would be restarted, and do nothing.")
def restart(images: tuple[str, ...], cluster: str | None, namespace: str, dry_run: bool) -> None:
    """Restart what runs an old copy of an image, so that it runs the new one.

    Refreshes the nodes first, then does `kubectl rollout restart` of exactly the Deployments, StatefulSets and
    DaemonSets whose pods run that tag with another digest. It reaches attached clusters through their own nodes.

    \b
    Examples:
      autoregistry restart shop/api:dev
      autoregistry restart shop/api:dev --namespace shop --dry-run
    """
    clusters = Environment.current()
    nodes = _attached(clusters, cluster)
    for image in _images(clusters, images):
        if not dry_run and not _refresh(clusters, nodes, image):
            raise ClusterRefused(f"not every node could pull {image}", "autoregistry doctor")
        references = frozenset(_references(clusters, image))
        found = {}
        for name in sorted({node.cluster for node in nodes}):
            members = [node for node in nodes if node.cluster == name]
            found[name] = outdated(clusters.nodes, name, members, references, namespace=namespace)
        for name, concerned in found.items():
            _restart(clusters, name, concerned, dry_run=dry_run)
        if not any(concerned.restart for concerned in found.values()):
            stderr.print(f"{image}  nothing runs an old copy of it")


def _images(clusters: Environment, texts: Iterable[str]) -> list[Image]:
    primary, *aliases = _names(clusters)
    names = RegistryNames(primary, tuple(aliases))
    found = []
    for text in texts:
        image = names.parse_user_input(text)
        if image is None:
            raise SettingInvalid(
                f"{text} is not an image of {names.primary}", "autoregistry images"
            )
        found.append(image)
    return found


def _attached(clusters: Environment, only: str | None) -> list[Node]:
    if only is not None:
        clusters.nodes.of(only)
    nodes = clusters.nodes.attached(_names(clusters)[0])
    if found := [node for node in nodes if only in (None, node.cluster)]:
        names = {node.cluster for node in found}
        for node in clusters.nodes.all():
            if node.unavailable_because and node.cluster in names:
                stderr.print(
                    f"{node.name}: {node.unavailable_because}; it follows when it comes back"
                )
        return found
    serve = serve_options()
    road = f" --via host --port {serve.port}" if serve else ""
    raise ClusterRefused(
        f"{only or 'no k3d cluster'} is not attached" if only else "no k3d cluster is attached",
        f"autoregistry cluster attach {only or '--all'}{road}",
    )


def _names(clusters: Environment) -> tuple[str, ...]:
    """What images are tagged with: for the `serve` that AUTOREGISTRY_NAME names, or for `up`."""
    return RegistryNames.local((serve_options() or clusters.options()).port).all


def _references(clusters: Environment, image: Image) -> list[str]:
    return [f"{name}/{image}" for name in _names(clusters)]


def _refresh(clusters: Environment, nodes: list[Node], image: Image) -> bool:
    """Have each node pull that holds the image or has a pod for it; whether all of them could."""
    references = _references(clusters, image)
    wanted = {
        (use.node, use.reference)
        for name in {node.cluster for node in nodes}
        for use in clusters.nodes.container_uses(name)
        if use.reference in references
    }

    def pull(node: Node) -> bool:
        try:
            held = clusters.nodes.images_on(node)
            mine = [r for r in references if r in held or (node.name, r) in wanted]
            for reference in mine:
                clusters.nodes.pull(node, reference)
        except AutoregistryError as exc:
            stderr.print(f"{image}  {exc.message}", style="red")
            return False
        if mine:
            stderr.print(f"{image}  {node.name} has it now")
        return True

    with ThreadPoolExecutor(_THREADS) as threads:
        return all(list(threads.map(pull, nodes)))


def _restart(clusters: Environment, name: str, found: RestartPlan, *, dry_run: bool) -> None:
    failed = {} if dry_run else rollout_restart(clusters.nodes, name, found.restart)
    for workload, cause in failed.items():
        raise ClusterRefused(f"{workload} was not restarted: {cause}", "autoregistry doctor")
    for workload in found.restart:
        stdout.print(f"{name}  {'would restart' if dry_run else 'restarted'} {workload}")
    for workload in found.next_run:
        stderr.print(f"{name}  {workload}: at its next run")
    for workload in found.not_restartable:
        stderr.print(f"{name}  {workload} {_by_hand(workload)}")


def _by_hand(workload: Workload) -> str:
    if workload.kind == "Pod":
        delete = f"kubectl delete pod --namespace {workload.namespace} {workload.name}"
        return f"belongs to nothing: {delete}, and create it anew"
    return "cannot be restarted by kubectl: delete its pods, it makes new ones"
