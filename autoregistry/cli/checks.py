"""What `doctor` looks at, one function for each thing that can explain a failing first pull.

Each yields lines that are right or wrong, and for a wrong one the command that mends it. Nothing is changed: what
is made for the last check is taken away again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from autoregistry import __version__
from autoregistry.cli.clusters import CHECK, Clusters
from autoregistry.cluster.files import CONFIG_MAP, CONFIG_MAP_NAMESPACE
from autoregistry.cluster.nodes import Node
from autoregistry.engine.images import Images
from autoregistry.errors import AutoregistryError
from autoregistry.stack import ports
from autoregistry.stack.model import BACKEND, PROXY, VERSION

# k3s brings busybox, whose wget this is; other nodes may have curl.
_FETCH = 'wget -q -T 5 -O - "$1" 2>/dev/null || curl -fsS -m 5 "$1"'


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's."""

    about: str
    """What was looked at: `docker`, `port`, `stack`, `loop`, or a cluster's name."""
    is_well: bool
    sentence: str
    hint: str = ""
    """The command that mends it."""


def _well(about: str, sentence: str, hint: str = "") -> Check:
    return Check(about, is_well=True, sentence=sentence, hint=hint)


def _wrong(about: str, sentence: str, hint: str) -> Check:
    return Check(about, is_well=False, sentence=sentence, hint=hint)


def every_check(clusters: Clusters) -> Iterator[Check]:
    """All of them, in the order in which one depends on the other; ends where the next makes no sense."""
    docker = _docker(clusters)
    yield docker
    if not docker.is_well:
        return
    stack = [*_ports(clusters), *_stack(clusters)]
    yield from stack
    if all(check.is_well for check in stack):
        yield _loop(clusters)
    names = sorted({node.cluster for node in clusters.nodes.all() if node.is_running})
    if not names:
        yield _well("clusters", "no k3d cluster runs")
    for name in names:
        yield from _cluster(clusters, name)


def _docker(clusters: Clusters) -> Check:
    try:
        info = clusters.daemon.info()
    except AutoregistryError as exc:
        return _wrong("docker", exc.message, exc.hint)
    where = (
        f"Docker {info.version} ({info.name}), {info.store} image store, at {clusters.daemon.host}"
    )
    return _well("docker", where)


def _ports(clusters: Clusters) -> Iterator[Check]:
    """`localhost` is ::1 first on many machines: whoever listens there is asked before us."""
    port = clusters.options.port
    proxy = clusters.found.proxy
    for listener in ports.listeners(port):
        who = ports.process(listener, port)
        is_ours = proxy is not None and proxy.is_running and listener.address == "127.0.0.1"
        if not is_ours:
            where = f"{listener.address} port {port} belongs to {who}"
            yield _wrong("port", where, f"autoregistry up --port {port + 1}")


def _stack(clusters: Clusters) -> Iterator[Check]:
    found = clusters.found
    for name, container in ((BACKEND, found.backend), (PROXY, found.proxy)):
        if container is None:
            yield _wrong("stack", f"there is no container {name}", "autoregistry up")
        elif not container.is_running or container.health not in ("healthy", ""):
            state = f"{container.state} {container.health}".strip()
            yield _wrong("stack", f"{name} is {state}", f"docker logs {name}")
        elif container.labels.get(VERSION, __version__) != __version__:
            yield _wrong(
                "stack",
                f"{name} is of version {container.labels[VERSION]}",
                "autoregistry up",
            )
        else:
            yield _well("stack", f"{name} runs")


def _loop(clusters: Clusters) -> Check:
    """Docker asks for an image that was only built, by our name: it must reach us, and we must push it."""
    images = Images(clusters.daemon)
    name = clusters.options.name
    reference = f"{name}/{CHECK}"
    images.import_file(reference, "nonce", secrets.token_hex(16))
    try:
        digest = images.digest_in_registry(reference)
    except AutoregistryError as exc:
        sentence = f"Docker cannot ask {name}: {exc.message}"
        return _wrong("loop", sentence, "autoregistry up --port 5001")
    finally:
        images.remove(reference)
    if digest is None:
        return _wrong("loop", f"Docker's {name} is another registry", "autoregistry up --port 5001")
    return _well("loop", f"an image that was only built was pushed when Docker asked {name} for it")


def _cluster(clusters: Clusters, name: str) -> Iterator[Check]:
    attach = f"autoregistry cluster attach {name}"
    nodes = [node for node in clusters.nodes.of(name) if node.is_running]
    registry = clusters.options.name
    bare = [node.name for node in nodes if not clusters.nodes.endpoints(node, registry)]
    if len(bare) == len(nodes):
        yield _well(name, "not attached: it pulls from elsewhere", attach)
        return
    if bare:
        yield _wrong(name, f"not attached: {', '.join(bare)}", attach)
    checks = [
        _joined(clusters, name, nodes, attach),
        *(_answers(clusters, n, attach) for n in nodes if n.name not in bare),
    ]
    yield from checks
    yield _announced(clusters, name, attach)
    if all(check.is_well for check in checks):
        for node in nodes:
            if node.name not in bare:
                yield _pulls(clusters, node)


def _joined(clusters: Clusters, name: str, nodes: list[Node], attach: str) -> Check:
    missing = [
        member
        for member in (PROXY, BACKEND)
        if nodes[0].network not in clusters.containers.networks_of(member)
    ]
    if missing:
        return _wrong(name, f"{' and '.join(missing)} not on network {nodes[0].network}", attach)
    return _well(name, f"the registry is on network {nodes[0].network}")


def _answers(clusters: Clusters, node: Node, attach: str) -> Check:
    """Whether an endpoint of this node's mirror file answers from inside it."""
    endpoints = clusters.nodes.endpoints(node, clusters.options.name)
    for endpoint in endpoints:
        url = f"{endpoint.removesuffix('/v2')}/v2/"
        ran = clusters.containers.exec(node.name, ["sh", "-c", _FETCH, "sh", url], timeout=20)
        if ran.code == 0:
            return _well(node.cluster, f"{node.name} reaches {endpoint}")
    return _wrong(node.cluster, f"{node.name} reaches none of {', '.join(endpoints)}", attach)


def _announced(clusters: Clusters, name: str, attach: str) -> Check:
    try:
        said = clusters.nodes.kubectl(
            name,
            "get",
            "configmap",
            CONFIG_MAP,
            "--namespace",
            CONFIG_MAP_NAMESPACE,
            "--output=yaml",
        )
    except AutoregistryError:
        return _wrong(
            name, f"no ConfigMap {CONFIG_MAP}: Tilt and skaffold find no registry", attach
        )
    if clusters.options.name not in said:
        return _wrong(name, f"ConfigMap {CONFIG_MAP} names another registry", attach)
    return _well(name, f"ConfigMap {CONFIG_MAP} names {clusters.options.name}")


def _pulls(clusters: Clusters, node: Node) -> Check:
    try:
        clusters.prove(node, clusters.options.name)
    except AutoregistryError as exc:
        return _wrong(node.cluster, exc.message, "autoregistry logs --tail 20")
    return _well(node.cluster, f"{node.name} pulled an image that was only built")
