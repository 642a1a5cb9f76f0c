"""The checks of one cluster: everything between a node and the registry, in the order of a pull.

They change nothing: the image of the last check is removed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoregistry.cli.checks.check import Check, failed, passed
from autoregistry.cli.environment import Environment
from autoregistry.cluster.addresses import collisions
from autoregistry.cluster.config_map import (
    CONFIG_MAP,
    announced,
    config_map_yaml,
    parse_config_map,
)
from autoregistry.cluster.mirror_config import HOST_NAME, Mirror, Route, base_urls
from autoregistry.cluster.nodes import Node
from autoregistry.engine.containers import Container
from autoregistry.errors import AutoregistryError
from autoregistry.stack.model import BACKEND, PROXY

# k3s includes the wget of busybox; other nodes may have curl.
_FETCH = """
if command -v wget >/dev/null; then wget -q -T 5 -O /dev/null "$1"; else curl -fsS -m 5 -o /dev/null "$1"; fi"""

# k3s passes CONTAINERD_HTTP_PROXY and the like to containerd without their prefix (pkg/agent/containerd).
_SHOW_PROXIES = """
echo "${CONTAINERD_HTTP_PROXY:-${HTTP_PROXY:-$http_proxy}}"
echo "${CONTAINERD_NO_PROXY:-${NO_PROXY:-$no_proxy}}\""""


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """A cluster with at least one running node, and the mirror files of its running nodes."""

    name: str
    network: str
    files: dict[Node, dict[str, list[str]]]
    mirror: Mirror | None
    """The configuration by which its nodes reach us; None if they do not."""
    unreachable: dict[str, str]
    """Nodes that did not answer, such as one that has just stopped, and the cause."""
    stack_name: str = ""
    """The name that images are tagged with for the containers of `up`, if they run."""

    @property
    def attach(self) -> str:
        """The command that attaches it by its current route, or by that of `up` if both have the same name."""
        command = f"autoregistry cluster attach {self.name}"
        if self.mirror is None or self.mirror.name == self.stack_name:
            return command
        return f"{command}{_route_flags(self.mirror)}"

    @property
    def restart(self) -> str:
        """The command that restarts all of its nodes."""
        return f"k3d cluster stop {self.name} && k3d cluster start {self.name}"


def _route_flags(mirror: Mirror) -> str:
    return f" --via host --port {mirror.names.port}" if mirror.route is Route.HOST else ""


def running_clusters(environment: Environment) -> list[RunningCluster]:
    """Return every cluster with a running node."""
    clusters = []
    stack = environment.stack()
    stack_name = stack.options.name if stack.is_running else ""
    running = [node for node in environment.nodes.all() if node.is_running]
    for name in sorted({node.cluster for node in running}):
        nodes = [node for node in running if node.cluster == name]
        files: dict[Node, dict[str, list[str]]] = {}
        unreachable = {}
        for node in nodes:
            try:
                files[node] = environment.files.mirrors(node)
            except AutoregistryError as exc:
                unreachable[node.name] = exc.message
        mirror = environment.mirror_in_use(files.values())
        network = nodes[0].network
        clusters.append(RunningCluster(name, network, files, mirror, unreachable, stack_name))
    return clusters


def check_cluster(environment: Environment, cluster: RunningCluster) -> Iterator[Check]:
    """Run the checks of one cluster; end early if the following ones would make no sense."""
    for name, cause in cluster.unreachable.items():
        fix = f"k3d cluster start {cluster.name}"
        yield failed(cluster.name, f"{name} does not answer: {cause}", fix)
    existing = environment.containers.list("app=k3d")
    containers = [c for c in existing if cluster.network in c.networks]
    yield from _check_addresses(cluster, containers)
    mirror = cluster.mirror
    if mirror is None:
        yield _check_old_name(environment, cluster)
        return
    files = list(_check_files(cluster, mirror))
    attached = [node for node, file in cluster.files.items() if mirror.name in file]
    connection = [
        *(_check_network(cluster, containers) if mirror.route is Route.CONTAINER else ()),
        *(check for node in attached for check in _check_http_proxy(environment, node, mirror)),
        *(_check_reachable(environment, cluster, node, mirror) for node in attached),
    ]
    yield from (*files, *connection)
    yield _check_config_map(environment, cluster, mirror)
    if all(check.is_well for check in connection):
        for node in attached:
            yield _check_pull(environment, node, mirror)


def _check_old_name(environment: Environment, cluster: RunningCluster) -> Check:
    """Check a cluster that does not reach us for nodes that use an earlier name of the registry."""
    ours = environment.mirror()
    for file in cluster.files.values():
        for name, urls in file.items():
            if ours.is_reached_by(name, urls):
                sentence = f"its nodes use the registry's old name {name}; it is now {ours.name}"
                return failed(cluster.name, sentence, cluster.attach)
    sentence = "not attached: its nodes do not pull from this registry"
    return passed(cluster.name, sentence, cluster.attach)


def _check_addresses(cluster: RunningCluster, containers: list[Container]) -> Iterator[Check]:
    """Check that no two containers have the same address."""
    for collision in collisions(containers):
        is_ours = {collision.owner, collision.holder} & {PROXY, BACKEND}
        fix = cluster.attach if is_ours else cluster.restart
        if collision.network == cluster.network:
            yield failed(cluster.name, str(collision), fix)
    for container in containers:
        if container.error and not container.is_running and container.name not in (PROXY, BACKEND):
            sentence = f"{container.name} is not running: {container.error}"
            yield failed(cluster.name, sentence, cluster.restart)


def _check_files(cluster: RunningCluster, mirror: Mirror) -> Iterator[Check]:
    """Check that each node has a mirror file for each name, with our endpoints first."""
    missing = [node.name for node, file in cluster.files.items() if mirror.name not in file]
    if missing:
        yield failed(cluster.name, f"nodes not attached: {', '.join(missing)}", cluster.attach)
    expected, is_well = list(mirror.endpoints), not (missing or cluster.unreachable)
    for node, file in cluster.files.items():
        for name in mirror.names.all if node.name not in missing else ():
            urls = base_urls(file.get(name, []))
            if urls[: len(expected)] != expected:
                actual = ", then ".join(urls) or "nowhere"
                sentence = f"{node.name} pulls {name} from {actual}, not {', then '.join(expected)}"
                is_well = False
                yield failed(cluster.name, sentence, cluster.attach)
    if is_well:
        sentence = f"every node pulls {mirror.name} from {', then '.join(expected)}"
        yield passed(cluster.name, sentence)


def _check_network(cluster: RunningCluster, containers: list[Container]) -> Iterator[Check]:
    ours = {c.name: c for c in containers if c.name in (PROXY, BACKEND)}
    missing = [name for name in (PROXY, BACKEND) if name not in ours]
    half_joined = [
        c.name for c in ours.values() if c.is_running and cluster.network not in c.joined
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        sentence = f"{' and '.join(missing)} {verb} not on network {cluster.network}"
        yield failed(cluster.name, sentence, cluster.attach)
    for name in half_joined:
        sentence = f"Docker lists {name} on network {cluster.network}, but it has no address there"
        yield failed(cluster.name, sentence, cluster.attach)
    if not missing and not half_joined:
        yield passed(cluster.name, f"the registry is on network {cluster.network}")


def _check_http_proxy(environment: Environment, node: Node, mirror: Mirror) -> Iterator[Check]:
    """Check a node's HTTP_PROXY: it applies to all names but localhost (Go's x/net/http/httpproxy)."""
    argv = ["sh", "-c", _SHOW_PROXIES]
    output = environment.containers.exec(node.name, argv, timeout=10).stdout
    proxy, _, no_proxy = output.partition("\n")
    exempt = [entry.strip() for entry in no_proxy.split(",") if entry.strip()]
    hosts = (HOST_NAME,) if mirror.route is Route.HOST else (PROXY, BACKEND)
    missing = [host for host in hosts if not any(_exempts(entry, host) for entry in exempt)]
    if proxy and missing:
        sentence = f"{node.name} sends requests for {' and '.join(missing)} to its HTTP_PROXY"
        flag = f"--env 'NO_PROXY={','.join([*exempt, *missing])}@all'"
        command = f"autoregistry cluster create {node.cluster}{_route_flags(mirror)} -- {flag}"
        fix = f"{command}  (delete the cluster first, and add your other flags)"
        yield failed(node.cluster, sentence, fix)


def _exempts(entry: str, host: str) -> bool:
    """Return True if this entry of NO_PROXY covers the host, as Go reads it: a name covers its subdomains too."""
    name = entry.lower().partition(":")[0].removeprefix("*")
    return not name or host == name or host.endswith(name if name[0] == "." else f".{name}")


def _check_reachable(
    environment: Environment, cluster: RunningCluster, node: Node, mirror: Mirror
) -> Check:
    """Check that an endpoint's name resolves, and that the endpoint answers, inside this node."""
    causes = []
    for endpoint in base_urls(cluster.files[node][mirror.name]):
        argv = ["sh", "-c", _FETCH, "sh", f"{endpoint}/v2/"]
        ran = environment.containers.exec(node.name, argv, timeout=20)
        if ran.code == 0:
            return passed(node.cluster, f"{node.name} reaches {endpoint}")
        causes.append((ran.stderr.strip().splitlines() or [f"{endpoint} does not answer"])[-1])
    sentence = f"{node.name} cannot reach the registry: {'; '.join(causes)}"
    return failed(node.cluster, sentence, cluster.attach)


def _check_config_map(environment: Environment, cluster: RunningCluster, mirror: Mirror) -> Check:
    try:
        actual = announced(environment.nodes, cluster.name)
    except AutoregistryError as exc:
        return failed(cluster.name, exc.message, cluster.attach)
    if not actual:
        sentence = f"there is no ConfigMap {CONFIG_MAP}, so Tilt and skaffold find no registry"
        return failed(cluster.name, sentence, cluster.attach)
    for key, value in parse_config_map(config_map_yaml(mirror)).items():
        if actual.get(key) != value:
            sentence = f"ConfigMap {CONFIG_MAP} has {key}: {actual.get(key)}, not {value}"
            return failed(cluster.name, sentence, cluster.attach)
    return passed(cluster.name, f"ConfigMap {CONFIG_MAP} names {mirror.name}")


def _check_pull(environment: Environment, node: Node, mirror: Mirror) -> Check:
    try:
        environment.check_pull(node, mirror.name)
    except AutoregistryError as exc:
        return failed(node.cluster, exc.message, "autoregistry logs --tail 20")
    return passed(node.cluster, f"{node.name} pulled an image that was not pushed")
