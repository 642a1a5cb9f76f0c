"""`autoregistry status`: the containers, the Docker daemon, the clusters, and their health."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click
from rich.text import Text

from autoregistry import __version__, api_paths
from autoregistry.cli.client import Client, serve_options, start_command
from autoregistry.cli.environment import Cluster, Environment
from autoregistry.cli.output import show_json, stdout
from autoregistry.engine.containers import Container, Containers
from autoregistry.errors import DockerRefused, ProxyUnreachable
from autoregistry.image_state import NodeState
from autoregistry.stack.model import BACKEND, PROXY, VERSION
from autoregistry.stack.options import Options

_REGISTRY_DATA = "/var/lib/registry"
_SHOWN_PUSHES = 5
_PARTS = ("docker", "backend", "journal")
_DOCKER = ("identity", "name", "version", "store")
_SERVE = "autoregistry serve"
_MARKS = {True: Text("✓", "green"), False: Text("✗", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(*, as_json: bool) -> None:
    """Show the containers, the Docker daemon, the clusters and the last pushes.

    For a `serve` in the foreground, set AUTOREGISTRY_NAME=localhost:PORT, as for all commands that use the proxy.

    \b
    Examples:
      autoregistry status
      autoregistry status --json
    """
    result, clusters = _read_status(Environment.current())
    if as_json:
        show_json(result)
        return
    for line in _lines(result, clusters):
        stdout.print(line)


def _read_status(environment: Environment) -> tuple[dict[str, Any], list[Cluster]]:
    """Return what `--json` prints, and the clusters. Raises DockerUnreachable."""
    daemon, containers = environment.daemon, environment.containers
    info, current = daemon.info(), environment.stack()
    serve, client = serve_options(), None
    if serve is not None:
        client = Client(None, serve)
    elif current.proxy is not None and current.proxy.is_running:
        client = Client(containers, current.options)
    health, proxy = _read_proxy(client)
    nodes = list(proxy.get("nodes") or [])
    clusters = environment.clusters()
    run_by = "autoregistry" if current.containers else ""
    if serve or current.compose_command:
        run_by = _SERVE if serve else "docker compose"
    result = {
        "name": (serve or current.options).name,
        "published": list(current.proxy.ports.get("5000/tcp", ())) if current.proxy else [],
        "run_by": run_by,
        "start": _serve_command(serve, clusters) if serve else start_command(current),
        "version": __version__,
        "docker": {"host": daemon.host, **{key: getattr(info, key) for key in _DOCKER}},
        "containers": [_container(PROXY, current.proxy), _container(BACKEND, current.backend)],
        "proxy": health,
        "clusters": [cluster.to_json() for cluster in clusters],
        "nodes": [n for n in nodes if n["state"] == NodeState.NO_ANSWER] + stopped_nodes(nodes),
        "disk_bytes": _disk_bytes(containers, current.backend),
        "pushes": list(proxy.get("pushes") or [])[:_SHOWN_PUSHES],
    }
    return result, clusters


def _serve_command(serve: Options, clusters: list[Cluster]) -> str:
    is_host = any(cluster.is_by_host for cluster in clusters)
    address = "0.0.0.0" if is_host else "127.0.0.1"  # noqa: S104 - nodes connect to it
    return f"{_SERVE} --listen {address}:{serve.port}"


def _read_proxy(client: Client | None) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the health of the proxy, None if it does not answer, and its status, empty if that cannot be read."""
    health, payload = None, {}
    if client is not None:
        with client, suppress(ProxyUnreachable):
            health = client.get_json(api_paths.HEALTH)
            payload = client.get_json(api_paths.STATUS)
    return health, payload


def stopped_nodes(nodes: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the stopped nodes of clusters of which another node runs attached."""
    up = {node["cluster"] for node in nodes if node["state"] in (NodeState.OK, NodeState.NO_ANSWER)}
    return [node for node in nodes if node["state"] == NodeState.STOPPED and node["cluster"] in up]


def _container(name: str, container: Container | None) -> dict[str, str]:
    if container is None:
        return {"name": name, "state": "absent", "health": "", "image": "", "version": ""}
    facts = {key: getattr(container, key) for key in ("state", "health", "image")}
    return {"name": name, **facts, "version": container.labels.get(VERSION, "")}


def _disk_bytes(containers: Containers, backend: Container | None) -> int | None:
    """Return the size of the registry's volume, measured inside: Docker takes seconds for it on a full disk."""
    if backend is None or not backend.is_running:
        return None
    try:
        result = containers.exec(backend.name, ["du", "-sk", _REGISTRY_DATA])
    except DockerRefused:
        return None
    size = result.stdout.partition("\t")[0]
    return int(size) * 1024 if result.code == 0 and size.isdecimal() else None


def _lines(status: dict[str, Any], clusters: list[Cluster]) -> list[Text]:
    """Return the status as lines of at most 80 columns, if the names are short enough."""
    daemon, proxy, is_serve = status["docker"], status["proxy"], status["run_by"] == _SERVE
    where = _SERVE if is_serve else f"on {', '.join(status['published']) or 'no port'}"
    rows = [
        _row("registry", f"{status['name']}  {where}"),
        _row("Docker", f"{daemon['version']}, {daemon['store']} store, {daemon['host']}"),
    ]
    is_up = proxy is not None
    for container in () if is_serve else status["containers"]:
        text = ", ".join(filter(None, (container[k] for k in ("state", "health", "image"))))
        is_healthy = container["state"] == "running" and container["health"] in ("healthy", "")
        rows.append(_row(container["name"], text, is_ok=is_healthy))
        is_up = is_up and is_healthy
    health = [(f"proxy's {part}", (proxy or {}).get(part, "ok")) for part in _PARTS]
    for name, error in (proxy or {}).get("background", {}).items():
        health.append(("background", f"{name}: {error}"))
    rows += [_row(part, str(state), is_ok=False) for part, state in health if state != "ok"]
    if status["run_by"] == "docker compose":
        rows.append(_row("run by", status["run_by"]))
    rows += map(_cluster_row, clusters)
    rows += [_row(node["node"], node["state"], is_ok=False) for node in status["nodes"]]
    if status["disk_bytes"] is not None:
        rows.append(_row("disk", f"{status['disk_bytes'] / 1e6:.1f} MB"))
    rows += [_row("pushed", _push(push)) for push in status["pushes"]]
    if not is_up:
        rows.append(Text(f"the registry is not working; run: {status['start']}", "yellow"))
    return rows


def _push(push: dict[str, Any]) -> str:
    """Return a finished push as text, without the fields that an older proxy does not send."""
    size = f"  {push['pushed_bytes'] / 1e6:.1f} MB" if push.get("pushed_bytes") else ""
    return f"{push.get('image', '')}{size}  {str(push.get('digest', ''))[:19]}"


def _cluster_row(cluster: Cluster) -> Text:
    attached, nodes = len(cluster.attached), len(cluster.nodes)
    if not cluster.running:
        text = "stopped"
    elif not attached:
        text = f"not attached; run: autoregistry cluster attach {cluster.name}"
    elif cluster.is_unreachable:
        text = f"not connected; run: autoregistry cluster attach {cluster.name}"
    else:
        text = f"{attached} of {nodes} nodes attached, via {cluster.via}"
    is_ok = attached == nodes > 0 and not cluster.is_unreachable
    return _row(f"cluster {cluster.name}", text, is_ok=is_ok)


def _row(name: str, text: str, *, is_ok: bool | None = None) -> Text:
    mark = Text(" ") if is_ok is None else _MARKS[is_ok]
    return Text.assemble(mark, " ", (f"{name:<21}", "bold"), text)
