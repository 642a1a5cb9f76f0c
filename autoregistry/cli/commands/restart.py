"""`autoregistry refresh` and `autoregistry restart`. The proxy refreshes the nodes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import click

from autoregistry import api_paths
from autoregistry.cli.client import Client, proxy_client, serve_options
from autoregistry.cli.commands import completion
from autoregistry.cli.environment import Environment
from autoregistry.cli.output import stderr, stdout
from autoregistry.cluster.nodes import Node
from autoregistry.cluster.pods import Workload
from autoregistry.cluster.workloads import by_cluster, outdated
from autoregistry.cluster.workloads import restart as restart_workloads
from autoregistry.errors import ClusterRefused, ProxyRefused, SettingInvalid
from autoregistry.image_state import RefreshState
from autoregistry.names import Image, RegistryNames

cluster_option = click.option(
    "--cluster",
    metavar="NAME",
    help="Only this k3d cluster. [default: all attached]",
    shell_complete=completion.clusters,
)


@click.command()
@completion.images_argument
@cluster_option
def refresh(images: tuple[str, ...], cluster: str | None) -> None:
    """Make the nodes pull an image if their copy is outdated. Running pods are not touched.

    Usually not needed: the proxy does this as soon as an image has changed.

    \b
    Example:
      autoregistry refresh shop/api:dev
    """
    _, parsed, _ = _prepare(Environment.current(), images, cluster)
    client = proxy_client()
    if failed := [str(image) for image in parsed if not _refresh(client, image, cluster)]:
        raise ClusterRefused(f"not every node has {', '.join(failed)}", "autoregistry doctor")


@click.command()
@completion.images_argument
@cluster_option
@click.option("--namespace", default="", metavar="NAME", help="Only this namespace. [default: all]")
@click.option("--dry-run", is_flag=True, help="Print what would be restarted, and change nothing.")
def restart(images: tuple[str, ...], cluster: str | None, namespace: str, dry_run: bool) -> None:
    """Restart the workloads that run an old copy of an image.

    Refreshes the nodes first, then runs `kubectl rollout restart` for exactly the Deployments, StatefulSets and
    DaemonSets whose pods run that tag with another digest. kubectl runs in the clusters' own nodes.

    \b
    Examples:
      autoregistry restart shop/api:dev
      autoregistry restart shop/api:dev --namespace shop --dry-run
    """
    environment = Environment.current()
    names, parsed, nodes = _prepare(environment, images, cluster)
    client = proxy_client()
    for image in parsed:
        digest = _expected_digest(client, image) if dry_run else ""
        if not dry_run and not _refresh(client, image, cluster):
            raise ClusterRefused(f"not every node could pull {image}", "autoregistry doctor")
        references = frozenset(names.docker_references(image))
        find = partial(outdated, environment.nodes, namespace=namespace, digest=digest)
        old = {
            name: find(name, members, references=references, with_unknown=True)
            for name, members in by_cluster(nodes).items()
        }
        for name, workloads in old.items():
            _restart(environment, name, workloads, dry_run=dry_run)
        if not any(workload.is_restartable for workloads in old.values() for workload in workloads):
            stderr.print(f"{image}  nothing runs an old copy of it")


def _prepare(
    environment: Environment, texts: Iterable[str], cluster: str | None
) -> tuple[RegistryNames, list[Image], list[Node]]:
    """Return the names of the `serve` in AUTOREGISTRY_NAME or of the stack, the images, and the attached nodes.

    Only the nodes of this cluster if one is given. Raises SettingInvalid, and ClusterRefused if there are none.
    """
    serve, images = serve_options(), []
    names = RegistryNames.local((serve or environment.stack().options).port)
    for text in texts:
        if (image := names.parse_user_input(text)) is None:
            message = f"{text} is not an image of {names.primary}"
            raise SettingInvalid(message, "autoregistry images")
        images.append(image)
    if cluster is not None:
        environment.nodes.of(cluster)
    nodes = environment.nodes.attached(names.primary)
    if matching := [node for node in nodes if cluster in (None, node.cluster)]:
        return names, images, matching
    route = f" --via host --port {serve.port}" if serve else ""
    raise ClusterRefused(
        f"{cluster} is not attached" if cluster else "no k3d cluster is attached",
        f"autoregistry cluster attach {cluster or '--all'}{route}",
    )


def _refresh(client: Client, image: Image, cluster: str | None) -> bool:
    """Make the proxy refresh the nodes, and print the results. Return False if a node failed.

    The proxy responds after half a minute, even if a node is still pulling, and is then asked again.
    """
    causes: dict[str, str] = {}
    states = {RefreshState.PENDING}
    while RefreshState.PENDING in states:
        try:
            body = {"image": str(image), "cluster": cluster or ""}
            results = client.post(api_paths.REFRESH, body)["nodes"]
        except ProxyRefused as exc:
            stderr.print(f"{image}  {exc.message}", style="red")
            return False
        states = {result["state"] for result in results}
        # A node that is missing in a later response has the image.
        current = dict.fromkeys(causes, "") | {r["node"]: r["cause"] for r in results}
        for node, cause in current.items():
            if causes.get(node) != cause:
                text = f": {cause}" if cause else " has it now"
                stderr.print(f"{image}  {node}{text}", style="yellow" if cause else None)
        causes = current
    if not causes:
        stderr.print(f"{image}  no node has an old copy")
    return RefreshState.FAILED not in states


def _expected_digest(client: Client, image: Image) -> str:
    """Return the digest that the nodes have after a refresh. Raises ClusterRefused, ProxyRefused."""
    body = {"image": str(image), "dry_run": True}
    if digest := client.post(api_paths.REFRESH, body)["digest"]:
        return str(digest)
    raise ClusterRefused(f"no node can pull {image} at present", f"autoregistry why {image}")


def _restart(
    environment: Environment, cluster: str, workloads: list[Workload], *, dry_run: bool
) -> None:
    """Restart the workloads, and print what was done and what the user has to do. Raises ClusterRefused."""
    restartable = [workload for workload in workloads if workload.is_restartable]
    failed = {} if dry_run else restart_workloads(environment.nodes, cluster, restartable)
    for workload in workloads:
        if cause := failed.get(workload):
            stderr.print(f"{cluster}  {workload} was not restarted: {cause}", style="red")
        elif workload.is_restartable:
            stdout.print(f"{cluster}  {'would restart' if dry_run else 'restarted'} {workload}")
        elif workload.runs_again:
            stderr.print(f"{cluster}  {workload}: at its next run")
        elif workload.kind == "Pod":
            delete = f"kubectl delete pod --namespace {workload.namespace} {workload.name}"
            stderr.print(f"{cluster}  {workload} has no owner: {delete}, and create it again")
        else:
            remark = "cannot be restarted by kubectl: delete its pods, and it creates new ones"
            stderr.print(f"{cluster}  {workload} {remark}")
    if failed:
        names = ", ".join(map(str, failed))
        raise ClusterRefused(f"could not be restarted: {names}", "autoregistry doctor")
