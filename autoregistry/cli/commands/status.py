"""`autoregistry status`: what runs, in which Docker, for which clusters, and how it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.text import Text

from autoregistry import __version__, api_paths
from autoregistry.cli import docker
from autoregistry.cli.client import Client, named
from autoregistry.cli.environment import ClusterRow, Environment, cluster_rows
from autoregistry.cli.output import stdout
from autoregistry.cluster.mirror_config import Route
from autoregistry.cluster.nodes import Nodes
from autoregistry.engine.containers import Container, Containers
from autoregistry.engine.daemon import Daemon, DaemonInfo
from autoregistry.errors import DockerRefused, ProxyUnreachable
from autoregistry.image_state import NodeState
from autoregistry.stack.current import CurrentStack, find_stack
from autoregistry.stack.model import BACKEND, PROXY, VERSION, Options

_DATA = "/var/lib/registry"
_SHOWN_PUSHES = 5
_SERVE = "autoregistry serve"
_MARKS = {True: Text("✓", "green"), False: Text("✗", "red")}


@dataclass(frozen=True, slots=True)
class Piece:
    """One of the two containers."""

    name: str
    state: str
    """Docker's word, or `absent`."""
    health: str
    image: str
    version: str

    @property
    def is_well(self) -> bool:
        return self.state == "running" and self.health in ("healthy", "")


@dataclass(frozen=True, slots=True)
class Report:
    """What `status` says; `--json` is this, field by field."""

    name: str
    """What images are tagged with."""
    published: list[str]
    run_by: str
    """`autoregistry`, `docker compose`, `autoregistry serve`, or nothing."""
    start: str
    """The command that brings it up."""
    version: str
    docker: dict[str, str]
    containers: list[Piece]
    proxy: dict[str, Any] | None
    """What the proxy says of itself; None where it cannot be asked."""
    clusters: list[ClusterRow]
    """Every k3d cluster of this Docker, attached or not."""
    nodes: list[dict[str, str]]
    """Those of attached clusters that are down, or do not answer."""
    disk_bytes: int | None
    pushes: list[dict[str, Any]]

    @property
    def is_up(self) -> bool:
        return self.proxy is not None and (
            self.run_by == _SERVE or all(piece.is_well for piece in self.containers)
        )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(*, as_json: bool) -> None:
    """Show what runs, where, and for which clusters.

    To ask a `serve` in the foreground set AUTOREGISTRY_NAME=localhost:PORT; so for all commands that ask the proxy.

    \b
    Examples:
      autoregistry status
      autoregistry status --json
    """
    report = gather(docker.daemon())
    if as_json:
        clusters = [row.to_json() for row in report.clusters]
        stdout.print(json.dumps({**asdict(report), "clusters": clusters}, indent=2))
    else:
        for line in lines(report):
            stdout.print(line)


def gather(daemon: Daemon) -> Report:
    """Ask Docker, and then the proxy. Raises DockerUnreachable."""
    containers = Containers(daemon)
    info, found = daemon.info(), find_stack(containers)
    serve = named()
    client = None
    if serve is not None:
        client = Client(None, serve)
    elif found.proxy is not None and found.proxy.is_running:
        client = Client(containers, found.options)
    said, nodes, pushes = _proxy_says(client)
    clusters = cluster_rows(Environment(daemon, containers, Nodes(containers)))
    return Report(
        name=(serve or found.options).name,
        published=list(found.proxy.ports.get("5000/tcp", ())) if found.proxy else [],
        run_by=_SERVE if serve is not None else _run_by(found),
        start=_start(serve, found, clusters),
        version=__version__,
        docker=_docker(daemon, info),
        containers=[_piece(PROXY, found.proxy), _piece(BACKEND, found.backend)],
        proxy=said,
        clusters=clusters,
        nodes=nodes,
        disk_bytes=_disk(containers, found.backend),
        pushes=pushes,
    )


def _start(serve: Options | None, found: CurrentStack, clusters: list[ClusterRow]) -> str:
    if serve is not None:
        is_host = any(row.route is Route.HOST for row in clusters)
        return f"{_SERVE} --listen {'0.0.0.0' if is_host else '127.0.0.1'}:{serve.port}"  # noqa: S104 - nodes come by it
    return f"{found.compose_command} up -d" if found.compose_command else "autoregistry up"


def _proxy_says(
    client: Client | None,
) -> tuple[dict[str, Any] | None, list[dict[str, str]], list[dict[str, Any]]]:
    """Its health, the nodes that are not well, the last pushes."""
    if client is None:
        return None, [], []
    with client:
        try:
            health = dict(client.get_json(api_paths.HEALTH))
        except ProxyUnreachable:
            return None, [], []
        try:
            said = client.get_json(api_paths.STATUS)
        except ProxyUnreachable:
            said = {}
    nodes = list(said.get("nodes") or [])
    silent = [node for node in nodes if node["state"] == NodeState.NO_ANSWER]
    return health, silent + stopped(nodes), list(said.get("pushes") or [])[:_SHOWN_PUSHES]


def stopped(nodes: list[dict[str, str]]) -> list[dict[str, str]]:
    """The nodes that are down where others of their cluster run attached; a cluster may be stopped as a whole."""
    up = {node["cluster"] for node in nodes if node["state"] in (NodeState.OK, NodeState.NO_ANSWER)}
    return [node for node in nodes if node["state"] == NodeState.STOPPED and node["cluster"] in up]


def _run_by(found: CurrentStack) -> str:
    if not found.containers:
        return ""
    return "docker compose" if found.compose_command else "autoregistry"


def _docker(daemon: Daemon, info: DaemonInfo) -> dict[str, str]:
    return {
        "host": daemon.host,
        "identity": info.identity,
        "name": info.name,
        "version": info.version,
        "store": info.store,
    }


def _piece(name: str, container: Container | None) -> Piece:
    if container is None:
        return Piece(name, "absent", "", "", "")
    version = container.labels.get(VERSION, "")
    return Piece(name, container.state, container.health, container.image, version)


def _disk(containers: Containers, backend: Container | None) -> int | None:
    """What the registry's volume holds, by its own word: Docker's takes seconds on a full disk."""
    if backend is None or not backend.is_running:
        return None
    try:
        ran = containers.exec(backend.name, ["du", "-sk", _DATA])
    except DockerRefused:
        return None
    size = ran.stdout.partition("\t")[0]
    return int(size) * 1024 if ran.code == 0 and size.isdecimal() else None


def lines(report: Report) -> list[Text]:
    """The report for people, at most 80 columns wide where the names allow."""
    docker = report.docker
    where = _SERVE if report.run_by == _SERVE else f"on {', '.join(report.published) or 'no port'}"
    shown = [
        _row("registry", f"{report.name}  {where}"),
        _row("Docker", f"{docker['version']}, {docker['store']} store, {docker['host']}"),
    ]
    for piece in report.containers if report.run_by != _SERVE else ():
        words = ", ".join(w for w in (piece.state, piece.health, piece.image) if w)
        shown.append(_row(piece.name, words, is_well=piece.is_well))
    if report.proxy is not None:
        said = {what: str(report.proxy.get(what, "ok")) for what in ("docker", "backend")}
        shown += [
            _row(f"its {what}", word, is_well=False) for what, word in said.items() if word != "ok"
        ]
    if report.run_by == "docker compose":
        shown.append(_row("run by", report.run_by))
    shown += [
        _row(
            f"cluster {c.name}",
            _cluster(c),
            is_well=c.attached == c.nodes > 0 and not c.is_unreachable,
        )
        for c in report.clusters
    ]
    shown += [_row(node["node"], node["state"], is_well=False) for node in report.nodes]
    if report.disk_bytes is not None:
        shown.append(_row("disk", f"{report.disk_bytes / 1e6:.1f} MB"))
    shown += [_row("pushed", _push(push)) for push in report.pushes]
    if not report.is_up:
        shown.append(Text(f"not up as it should be; try: {report.start}", "yellow"))
    return shown


def _push(said: dict[str, Any]) -> str:
    """A finished push, as the proxy tells it; what an older one leaves out is left out."""
    size = f"  {said['pushed_bytes'] / 1e6:.1f} MB" if said.get("pushed_bytes") else ""
    return f"{said.get('image', '')}{size}  {str(said.get('digest', ''))[:19]}"


def _cluster(row: ClusterRow) -> str:
    if not row.running:
        return "stopped"
    if not row.attached:
        return f"not attached; try: autoregistry cluster attach {row.name}"
    if row.is_unreachable:
        return f"not joined; try: autoregistry cluster attach {row.name}"
    return f"{row.attached} of {row.nodes} nodes attached, by {row.via}"


def _row(name: str, words: str, *, is_well: bool | None = None) -> Text:
    mark = Text(" ") if is_well is None else _MARKS[is_well]
    return Text.assemble(mark, " ", (f"{name:<21}", "bold"), words)
