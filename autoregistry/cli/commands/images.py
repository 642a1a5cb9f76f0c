"""`autoregistry images`: every image under the registry's name, in Docker, in the registry and on the nodes."""

from __future__ import annotations

import time
from typing import Any

import click

from autoregistry import api_paths
from autoregistry.cli.client import proxy_client
from autoregistry.cli.output import show_json, show_table, stderr, stdout, table
from autoregistry.errors import BackendUnreachable

_SHORT_DIGEST = 12
_WIDTH_WITH_DATES = 110


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def images(as_json: bool) -> None:
    """List images, and compare Docker, the registry and the nodes.

    \b
    Example:
      autoregistry images
    """
    status = proxy_client().get_json(api_paths.STATUS)
    require_backend(status)
    if as_json:
        show_json({"name": status["name"], "images": status["images"]})
        return
    if not status["images"]:
        stderr.print(f"no images yet; run: docker build -t {status['name']}/app:dev .")
        return
    heads: tuple[str, ...] = ("IMAGE", "STATE", "DOCKER", "REGISTRY", "NODES", "PUSHED", "PULLED")
    rows = [_cells(row) for row in status["images"]]
    if stdout.is_terminal and stdout.width < _WIDTH_WITH_DATES:
        heads, rows = heads[:-2], [cells[:-2] for cells in rows]
    show_table(table(heads, rows))


def require_backend(status: dict[str, Any]) -> None:
    """Raise BackendUnreachable if the proxy could not read the registry, so that its lists mean nothing."""
    backend = status["health"]["backend"]
    if backend != "ok":
        raise BackendUnreachable(backend, "autoregistry status")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    copies = [copy for copy in row["nodes"] if copy["digest"]]
    current = sum(copy["is_current"] for copy in copies)
    return (
        row["image"],
        row["state"],
        short_digest(row["docker"]),
        short_digest(row["registry"]),
        f"{current}/{len(copies)}" if copies else "-",
        ago(row["pushed_at"]),
        ago(row["pulled_at"]),
    )


def short_digest(digest: str) -> str:
    """Return the first characters of a digest, or `-` if there is none."""
    return digest.removeprefix("sha256:")[:_SHORT_DIGEST] or "-"


def ago(moment: float | None) -> str:
    """Return the time since a moment in the largest unit, or `-` if there is none."""
    if moment is None:
        return "-"
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
