"""`autoregistry images`: every image under our name, and which store has what of it."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from autoregistry import api_paths
from autoregistry.cli.client import proxy_client
from autoregistry.cli.output import show_table, stderr, stdout
from autoregistry.errors import BackendUnreachable

_SHORT = 12
_NARROW = 110


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def images(as_json: bool) -> None:
    """List images: what Docker, the registry and the nodes have.

    \b
    Example:
      autoregistry images
    """
    said = proxy_client().get_json(api_paths.STATUS)
    refuse_silent_backend(said)
    if as_json:
        stdout.print(
            json.dumps({"name": said["name"], "images": said["images"]}, indent=2), soft_wrap=True
        )
        return
    if not said["images"]:
        stderr.print(f"no image yet: docker build -t {said['name']}/app:dev .")
        return
    heads: tuple[str, ...] = ("IMAGE", "STATE", "DOCKER", "REGISTRY", "NODES", "PUSHED", "PULLED")
    rows = [_cells(row) for row in said["images"]]
    if stdout.is_terminal and stdout.width < _NARROW:  # rather without dates than without names
        heads, rows = heads[:-2], [cells[:-2] for cells in rows]
    show_table(heads, rows)


def refuse_silent_backend(said: dict[str, Any]) -> None:
    """Raise where the proxy could not ask the registry: that it has nothing to show means nothing then."""
    backend = said["health"]["backend"]
    if backend != "ok":
        raise BackendUnreachable(backend, "autoregistry status")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    nodes = [held for held in row["nodes"] if held["digest"]]
    current = sum(held["is_current"] for held in nodes)
    return (
        row["image"],
        row["state"],
        short(row["docker"]),
        short(row["registry"]),
        f"{current}/{len(nodes)}" if nodes else "-",
        ago(row["pushed_at"]),
        ago(row["pulled_at"]),
    )


def short(digest: str) -> str:
    """Enough of a digest to tell two apart."""
    return digest.removeprefix("sha256:")[:_SHORT] or "-"


def ago(moment: float | None) -> str:
    """How long it is since then, in the largest unit."""
    if moment is None:
        return "-"
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
