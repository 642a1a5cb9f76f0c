"""`autoregistry why IMAGE`: the copies of an image, the reason for its state, and what the next pull does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from autoregistry import api_paths
from autoregistry.cli.client import proxy_client
from autoregistry.cli.commands import completion
from autoregistry.cli.commands.images import ago, require_backend, short_digest
from autoregistry.cli.commands.status import stopped_nodes
from autoregistry.cli.docker import ImageFacts, image_facts
from autoregistry.cli.environment import Environment
from autoregistry.cli.output import show_json, show_line, show_table, stdout
from autoregistry.cluster.pods import UNKNOWN, ContainerUse
from autoregistry.errors import AutoregistryError, BackendUnreachable, SettingInvalid
from autoregistry.image_state import ImageState, next_pull
from autoregistry.names import Image, RegistryNames

_MAX_PULLS = 3


@click.command()
@click.argument("image", shell_complete=completion.images)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(image: str, as_json: bool) -> None:
    """Show where an image is, why it is in its state, and the next command.

    \b
    Example:
      autoregistry why shop/api:dev
    """
    client = proxy_client()
    status = client.get_json(api_paths.STATUS)
    require_backend(status)
    names = RegistryNames(status["name"], tuple(status["names"][1:]))
    wanted = names.parse_user_input(image)
    if wanted is None:
        raise SettingInvalid(
            f"{image} is not a valid image name for {names.primary}", "autoregistry images"
        )
    rows = client.get_json(f"{api_paths.STATUS}?image={wanted}")["images"]
    if not rows:
        raise BackendUnreachable("the registry does not answer", "autoregistry status")
    row = rows[0]
    pulls = [pull for pull in status["pulls"] if pull["manifest"] == str(wanted)][:_MAX_PULLS]
    uses = _uses(names, wanted)
    sentence, command = _next(row, uses, names.primary)
    if as_json:
        pods = [asdict(use) for use in uses]
        show_json({**row, "pulls": pulls, "pods": pods, "next": sentence, "type": command})
        return
    state = f"  {row['state']}: {row['because']}"
    show_line(stdout, Text.assemble((f"{names.primary}/{wanted}", "bold"), state))
    local = image_facts(Environment.current().daemon, names, wanted)
    facts = Table.grid(
        Column(min_width=28, no_wrap=True), Column(min_width=13), Column(), padding=(0, 1, 0, 0)
    )
    for name, value, remark in _facts(status, row, local, uses, pulls):
        facts.add_row(Text(f"  {name}", "dim"), Text(value), Text(remark))
    show_table(facts)
    stdout.print(sentence + (f"; run:\n  {command}" if command else ""))


def _facts(
    status: dict[str, Any],
    row: dict[str, Any],
    local: ImageFacts | None,
    uses: list[ContainerUse],
    pulls: list[dict[str, Any]],
) -> Iterator[tuple[str, str, str]]:
    """Yield the name, digest or number, and remark of each store, node, pod and pull.

    `local` is the image in the Docker of this command.
    """
    has_docker = status["health"]["docker"] == "ok"
    is_other = local is not None and has_docker and local.identity != row["docker"]
    yield "Docker", short_digest(row["docker"]), local.remark() if local and not is_other else ""
    if local is None:
        yield "your Docker", "", "does not answer; run: docker info"
    elif is_other:
        remark = "is not the Docker that the registry uses; run: docker context ls"
        yield "your Docker", short_digest(local.identity), remark
    pushed = f"pushed {ago(row['pushed_at'])}" if row["pushed_at"] else ""
    yield "registry", short_digest(row["registry"]), pushed
    for copy in row["nodes"]:
        yield copy["node"], short_digest(copy["digest"]), _copy_remark(copy)
    for node in stopped_nodes(status["nodes"]):
        yield node["node"], "", "stopped; it is updated when it starts again"
    for use in uses:
        yield f"pod {use.pod}", short_digest(use.digest), _use_remark(use, row["registry"])
    for pull in pulls:
        remark = f"{pull['client']}: {pull['sentence']}"
        yield f"pull {ago(pull['at'])}", str(pull["status"]), remark
    if local and row["state"] == ImageState.NOWHERE:
        for builder in local.builders:
            remark = f"builder {builder} keeps its images: docker buildx build --load ..."
            yield "buildx", "", remark


def _copy_remark(copy: dict[str, Any]) -> str:
    if not copy["is_known"]:
        return "does not answer"
    return "" if copy["is_current"] or not copy["digest"] else "an old copy"


def _use_remark(use: ContainerUse, current: str) -> str:
    if use.waiting_because:
        return f"{use.workload}, waits: {use.waiting_because}"
    if use.digest == UNKNOWN:
        return f"{use.workload}, mounts it, and Kubernetes does not report its digest"
    state = "runs it" if use.digest == current else "runs an older image"
    return f"{use.workload}, {state}, {use.pull_policy}"


def _next(row: dict[str, Any], uses: list[ContainerUse], registry: str) -> tuple[str, str]:
    """Return what the next pull does, and the command that helps."""
    state = ImageState(row["state"])
    if state is ImageState.IN_STEP and any(
        use.digest not in ("", UNKNOWN, row["registry"]) for use in uses
    ):
        command = f"autoregistry restart {row['image']}"
        return "pods run an older image until they are restarted", command
    return next_pull(state, row["image"], registry)


def _uses(names: RegistryNames, image: Image) -> list[ContainerUse]:
    """Return the pods of attached clusters that use the image."""
    nodes = Environment.current().nodes
    references = names.docker_references(image)
    uses: list[ContainerUse] = []
    try:
        for cluster in sorted({node.cluster for node in nodes.attached(names.primary)}):
            uses += [use for use in nodes.container_uses(cluster) if use.reference in references]
    except AutoregistryError:
        return uses  # `doctor` explains why a cluster does not answer
    return uses
