"""`autoregistry refresh` and `autoregistry restart`. The proxy refreshes the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from autoregistry import api_paths
from autoregistry.cli.client import Client, proxy_client, serve_options
from autoregistry.cli.commands import completion
from autoregistry.cli.environment import Environment
from autoregistry.cli.output import stderr, stdout
from autoregistry.cluster.nodes import Node
from autoregistry.cluster.pods import RestartPlan, Workload
from autoregistry.cluster.workloads import by_cluster, outdated
from autoregistry.cluster.workloads import restart as restart_workloads
from autoregistry.errors import ClusterRefused, ProxyRefused, SettingInvalid
from autoregistry.image_state import RefreshState
from autoregistry.names import Image, RegistryNames

images_argument = click.argument(
    "images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=completion.images
)
cluster_option = click.option(
    "--cluster",
    metavar="NAME",
    help="Only this k3d cluster. [default: all attached]",
    shell_complete=completion.clusters,
)


@click.command()
@images_argument
@cluster_option
def refresh(images: tuple[str, ...], cluster: str | None) -> None:
    """Make the nodes pull an image if their copy is outdated. Running pods are not touched.

    Usually not needed: the proxy does this as soon as an image has changed.

    \b
    Example:
      autoregistry refresh shop/api:dev
    """
    environment = Environment.current()
    names = _registry_names(environment)
    parsed = _parse(images, names)
    _attached_nodes(environment, names, cluster)
    client = proxy_client()
    failed = [image for image in parsed if not _refresh(client, image, cluster)]
    if failed:
        raise ClusterRefused(
            f"not every node has {', '.join(map(str, failed))}", "autoregistry doctor"
        )


@click.command()
@images_argument
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
    names = _registry_names(environment)
    parsed = _parse(images, names)
    nodes = _attached_nodes(environment, names, cluster)
    client = proxy_client()
    for image in parsed:
        digest = _expected_digest(client, image) if dry_run else ""
        if not dry_run and not _refresh(client, image, cluster):
            raise ClusterRefused(f"not every node could pull {image}", "autoregistry doctor")
        references = frozenset(names.docker_references(image))
        plans = {
            name: outdated(
                environment.nodes, name, members, references, namespace=namespace, digest=digest
            )
            for name, members in by_cluster(nodes).items()
        }
        for name, plan in plans.items():
            _restart(environment, name, plan, dry_run=dry_run)
        if not any(plan.restart for plan in plans.values()):
            stderr.print(f"{image}  nothing runs an old copy of it")


def _registry_names(environment: Environment) -> RegistryNames:
    """Return the names of the `serve` in AUTOREGISTRY_NAME, or of the stack."""
    return RegistryNames.local((serve_options() or environment.options()).port)


def _parse(texts: Iterable[str], names: RegistryNames) -> list[Image]:
    images = []
    for text in texts:
        image = names.parse_user_input(text)
        if image is None:
            raise SettingInvalid(
                f"{text} is not an image of {names.primary}", "autoregistry images"
            )
        images.append(image)
    return images


def _attached_nodes(
    environment: Environment, names: RegistryNames, cluster: str | None
) -> list[Node]:
    """Return the attached nodes, of this cluster only if one is given. Raises ClusterRefused if there are none."""
    if cluster is not None:
        environment.nodes.of(cluster)
    nodes = environment.nodes.attached(names.primary)
    if matching := [node for node in nodes if cluster in (None, node.cluster)]:
        return matching
    serve = serve_options()
    route = f" --via host --port {serve.port}" if serve else ""
    raise ClusterRefused(
        f"{cluster} is not attached" if cluster else "no k3d cluster is attached",
        f"autoregistry cluster attach {cluster or '--all'}{route}",
    )


def _refresh(client: Client, image: Image, cluster: str | None) -> bool:
    """Make the proxy refresh the nodes, and print the results. Return False if a node failed."""
    states: dict[str, str] = {}
    try:
        for results in _refresh_results(client, image, cluster):
            # A node that is not in the response does not need a refresh any more.
            reported = dict.fromkeys(states, RefreshState.CURRENT) | {
                result["node"]: result["state"] for result in results
            }
            causes = {result["node"]: result["cause"] for result in results}
            for node, state in sorted(reported.items()):
                if states.get(node) != state:
                    _print_state(image, node, state, causes.get(node, ""))
            states = reported
    except ProxyRefused as exc:
        stderr.print(f"{image}  {exc.message}", style="red")
        return False
    if not states:
        stderr.print(f"{image}  no node has an old copy")
    return RefreshState.FAILED not in states.values()


def _refresh_results(
    client: Client, image: Image, cluster: str | None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the results of the refresh, again and again until no node is pending.

    The proxy returns what it has after half a minute; a large image takes longer.
    """
    body = {"image": str(image), "cluster": cluster or ""}
    while True:
        results = client.post(api_paths.REFRESH, body)["nodes"]
        yield results
        if all(result["state"] != RefreshState.PENDING for result in results):
            return


def _print_state(image: Image, node: str, state: str, cause: str) -> None:
    match state:
        case RefreshState.CURRENT:
            stderr.print(f"{image}  {node} has it now")
        case RefreshState.PENDING:
            stderr.print(f"{image}  {node} is still pulling it")
        case RefreshState.UNAVAILABLE:
            stderr.print(f"{image}  {node}: {cause}; it is refreshed when it starts")
        case _:
            stderr.print(f"{image}  {node} could not pull it: {cause}", style="red")


def _expected_digest(client: Client, image: Image) -> str:
    """Return the digest that the nodes have after a refresh. Raises ClusterRefused, ProxyRefused."""
    body = {"image": str(image), "dry_run": True}
    if digest := client.post(api_paths.REFRESH, body)["digest"]:
        return str(digest)
    raise ClusterRefused(f"no node can pull {image} at present", f"autoregistry why {image}")


def _restart(environment: Environment, cluster: str, plan: RestartPlan, *, dry_run: bool) -> None:
    """Restart the workloads, and print what was done and what the user has to do. Raises ClusterRefused."""
    failed = {} if dry_run else restart_workloads(environment.nodes, cluster, plan.restart)
    for workload in plan.restart:
        if workload not in failed:
            verb = "would restart" if dry_run else "restarted"
            stdout.print(f"{cluster}  {verb} {workload}")
    for workload, cause in failed.items():
        stderr.print(f"{cluster}  {workload} was not restarted: {cause}", style="red")
    for workload in plan.next_run:
        stderr.print(f"{cluster}  {workload}: at its next run")
    for workload in plan.not_restartable:
        stderr.print(f"{cluster}  {workload} {_instruction(workload)}")
    if failed:
        names = ", ".join(map(str, failed))
        raise ClusterRefused(f"could not be restarted: {names}", "autoregistry doctor")


def _instruction(workload: Workload) -> str:
    if workload.kind == "Pod":
        delete = f"kubectl delete pod --namespace {workload.namespace} {workload.name}"
        return f"has no owner: {delete}, and create it again"
    return "cannot be restarted by kubectl: delete its pods, and it creates new ones"
