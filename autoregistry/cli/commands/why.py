"""`autoregistry why IMAGE`: which store has what, why, and what the next pull will do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from autoregistry import api_paths
from autoregistry.cli.client import proxy_client
from autoregistry.cli.commands import completion
from autoregistry.cli.commands.images import ago, refuse_silent_backend, short
from autoregistry.cli.commands.status import stopped
from autoregistry.cli.docker import image_facts
from autoregistry.cli.environment import Environment
from autoregistry.cli.output import show_line, stdout
from autoregistry.cluster.pods import ContainerUse
from autoregistry.errors import AutoregistryError, BackendUnreachable, SettingInvalid
from autoregistry.image_state import ImageState, next_pull
from autoregistry.names import Image, RegistryNames

_SHOWN_PULLS = 3


@click.command()
@click.argument("image", shell_complete=completion.images)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def why(image: str, as_json: bool) -> None:
    """Say who has what of an image, why, and what to type.

    \b
    Example:
      autoregistry why shop/api:dev
    """
    client = proxy_client()
    status = client.get_json(api_paths.STATUS)
    refuse_silent_backend(status)
    names = RegistryNames(status["name"], tuple(status["names"][1:]))
    wanted = names.parse_user_input(image)
    if wanted is None:
        raise SettingInvalid(f"{image} is not an image of {names.primary}", "autoregistry images")
    rows = client.get_json(f"{api_paths.STATUS}?image={wanted}")["images"]
    if not rows:
        raise BackendUnreachable("the registry does not answer", "autoregistry status")
    row = rows[0]
    pulls = [said for said in status["pulls"] if said["manifest"] == str(wanted)][:_SHOWN_PULLS]
    uses = _uses(names, wanted)
    sentence, command = _next(row, uses, names.primary)
    if as_json:
        facts = {
            **row,
            "pulls": pulls,
            "pods": [asdict(use) for use in uses],
            "next": sentence,
            "type": command,
        }
        stdout.print(json.dumps(facts, indent=2), soft_wrap=True)
        return
    is_so = f"  {row['state']}: {row['because']}"
    show_line(stdout, Text.assemble((f"{names.primary}/{wanted}", "bold"), is_so))
    mine = image_facts(Environment.current().daemon, names, wanted)
    is_known = status["health"]["docker"] == "ok"
    is_other = mine is not None and is_known and mine.is_another(row["docker"])
    _line("Docker", short(row["docker"]), mine.remark() if mine and not is_other else "")
    if mine is None:
        _line("your Docker", "", "cannot be asked from here: docker info")
    elif is_other:
        _line(
            "your Docker", short(mine.identity), "is not the one that is watched: docker context ls"
        )
    _line("registry", short(row["registry"]), f"pushed {ago(row['pushed_at'])}")
    for held in row["nodes"]:
        _line(held["node"], short(held["digest"]), _of_node(held))
    for node in stopped(status["nodes"]):
        _line(node["node"], "", "stopped; it follows when it comes back")
    for use in uses:
        _line(f"pod {use.pod}", short(use.digest), _of_use(use, row["registry"]))
    for said in pulls:
        _line(
            f"pull {ago(said['at'])}", str(said["status"]), f"{said['client']}: {said['sentence']}"
        )
    for builder in mine.builders if mine and row["state"] == ImageState.NOWHERE else ():
        _line("buildx", "", f"builder {builder} keeps its images: docker buildx build --load ...")
    stdout.print(sentence + (f":\n  {command}" if command else ""))


def _line(about: str, digest: str, more: str) -> None:
    """One fact; in a terminal that is too narrow the last part goes on below itself."""
    if not stdout.is_terminal:
        stdout.print(f"  {about:<26} {digest:<13} {more}")
        return
    row = Table.grid(
        Column(min_width=28, no_wrap=True), Column(min_width=13), Column(), padding=(0, 1, 0, 0)
    )
    row.add_row(Text(f"  {about}", "dim"), Text(digest), Text(more))
    stdout.print(row, soft_wrap=False)


def _of_node(held: dict[str, Any]) -> str:
    if not held["is_known"]:
        return "does not answer"
    return "" if held["is_current"] or not held["digest"] else "an old copy"


def _next(row: dict[str, Any], uses: list[ContainerUse], name: str) -> tuple[str, str]:
    """What the next pull will do, and the command that helps."""
    state = ImageState(row["state"])
    if state is ImageState.IN_STEP and any(use.digest not in ("", row["registry"]) for use in uses):
        return "pods run an older image, and go on doing so", f"autoregistry restart {row['image']}"
    return next_pull(state, row["image"], name)


def _uses(names: RegistryNames, image: Image) -> list[ContainerUse]:
    """The pods of attached clusters that use it."""
    nodes = Environment.current().nodes
    references = names.docker_references(image)
    found = []
    try:
        for cluster in sorted({node.cluster for node in nodes.attached(names.primary)}):
            found += [use for use in nodes.container_uses(cluster) if use.reference in references]
    except AutoregistryError:
        return found  # a cluster that cannot be asked is the doctor's to explain
    return found


def _of_use(use: ContainerUse, current: str) -> str:
    if use.waiting_because:
        return f"{use.workload}, waits: {use.waiting_because}"
    state = "runs it" if use.digest == current else "runs an older image"
    return f"{use.workload}, {state}, {use.pull_policy}"
