"""The checks of one cluster: everything between a node and the registry, in the order of a pull.

They change nothing: the image of the last check is removed again.
"""

from __future__ import annotations

from collections.abc import Iterator

from autoregistry.cli.checks.check import LOG, Check, failed, passed
from autoregistry.cli.environment import Cluster, Environment
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
from autoregistry.stack.current import CurrentStack
from autoregistry.stack.model import BACKEND, PROXY

# k3s includes the wget of busybox; other nodes may have curl.
_FETCH = """
if command -v wget >/dev/null; then wget -q -T 5 -O /dev/null "$1"; else curl -fsS -m 5 -o /dev/null "$1"; fi"""

# k3s passes CONTAINERD_HTTP_PROXY and the like to containerd without their prefix (pkg/agent/containerd).
_SHOW_PROXIES = """
echo "${CONTAINERD_HTTP_PROXY:-${HTTP_PROXY:-$http_proxy}}"
echo "${CONTAINERD_NO_PROXY:-${NO_PROXY:-$no_proxy}}\""""


class ClusterChecks:
    """The checks of one cluster with a running node."""

    def __init__(self, environment: Environment, cluster: Cluster, stack: CurrentStack) -> None:
        self._environment = environment
        self._cluster = cluster
        self._network = cluster.nodes[0].network
        mirror = cluster.mirror
        # A cluster that uses the name of `up` by another route is attached again by that of `up`.
        has_other_name = not (stack.is_running and mirror and mirror.name == stack.options.name)
        flags = _route_flags(mirror) if mirror and has_other_name else ""
        self._attach = f"autoregistry cluster attach {cluster.name}{flags}"
        self._restart = f"k3d cluster stop {cluster.name} && k3d cluster start {cluster.name}"

    def run(self) -> Iterator[Check]:
        """Run the checks; end early if the following ones would make no sense."""
        for name, cause in self._cluster.unreachable.items():
            fix = f"k3d cluster start {self._cluster.name}"
            yield self._failed(f"{name} does not answer: {cause}", fix)
        existing = self._environment.containers.list("app=k3d")
        containers = [c for c in existing if self._network in c.networks]
        yield from self._check_addresses(containers)
        mirror, attached = self._cluster.mirror, self._cluster.attached
        if mirror is None:
            yield self._check_old_name()
            return
        yield from self._check_files(mirror)
        connection = [
            *(self._check_network(containers) if mirror.route is Route.CONTAINER else ()),
            *(check for node in attached for check in self._check_http_proxy(node, mirror)),
            *(self._check_reachable(node, mirror) for node in attached),
        ]
        yield from connection
        yield self._check_config_map(mirror)
        if all(check.is_well for check in connection):
            for node in attached:
                yield self._check_pull(node, mirror)

    def _passed(self, sentence: str, hint: str = "") -> Check:
        return passed(self._cluster.name, sentence, hint)

    def _failed(self, sentence: str, fix: str = "") -> Check:
        return failed(self._cluster.name, sentence, fix or self._attach)

    def _check_old_name(self) -> Check:
        """Check a cluster that does not reach us for nodes that use an earlier name of the registry."""
        ours = self._environment.mirror()
        for file in self._cluster.files.values():
            for name, urls in file.items():
                if ours.is_reached_by(name, urls):
                    current = f"it is now {ours.name}"
                    return self._failed(f"its nodes use the registry's old name {name}; {current}")
        sentence = "not attached: its nodes do not pull from this registry"
        return self._passed(sentence, self._attach)

    def _check_addresses(self, containers: list[Container]) -> Iterator[Check]:
        """Check that no two containers have the same address."""
        ours = {PROXY, BACKEND}
        for collision in collisions(containers):
            if collision.network == self._network:
                is_ours = {collision.owner, collision.holder} & ours
                yield self._failed(str(collision), self._attach if is_ours else self._restart)
        for container in containers:
            if container.error and not container.is_running and container.name not in ours:
                sentence = f"{container.name} is not running: {container.error}"
                yield self._failed(sentence, self._restart)

    def _check_files(self, mirror: Mirror) -> Iterator[Check]:
        """Check that each node has a mirror file for each name, with our endpoints first."""
        attached, expected = self._cluster.attached, list(mirror.endpoints)
        missing = [node.name for node in self._cluster.files if node not in attached]
        is_well = not (missing or self._cluster.unreachable)
        if missing:
            yield self._failed(f"nodes not attached: {', '.join(missing)}")
        for node in attached:
            for name in mirror.names.all:
                urls = base_urls(self._cluster.files[node].get(name, []))
                if urls[: len(expected)] != expected:
                    is_well = False
                    actual = ", then ".join(urls) or "nowhere"
                    wanted = ", then ".join(expected)
                    yield self._failed(f"{node.name} pulls {name} from {actual}, not {wanted}")
        if is_well:
            yield self._passed(f"every node pulls {mirror.name} from {', then '.join(expected)}")

    def _check_network(self, containers: list[Container]) -> Iterator[Check]:
        ours = {c.name: c for c in containers if c.name in (PROXY, BACKEND)}
        missing = [name for name in (PROXY, BACKEND) if name not in ours]
        half_joined = [
            c.name for c in ours.values() if c.is_running and self._network not in c.joined
        ]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            yield self._failed(f"{' and '.join(missing)} {verb} not on network {self._network}")
        for name in half_joined:
            no_address = "but it has no address there"
            yield self._failed(f"Docker lists {name} on network {self._network}, {no_address}")
        if not missing and not half_joined:
            yield self._passed(f"the registry is on network {self._network}")

    def _check_http_proxy(self, node: Node, mirror: Mirror) -> Iterator[Check]:
        """Check a node's HTTP_PROXY: it applies to all names but localhost (Go's x/net/http/httpproxy)."""
        argv = ["sh", "-c", _SHOW_PROXIES]
        output = self._environment.containers.exec(node.name, argv, timeout=10).stdout
        proxy, _, no_proxy = output.partition("\n")
        exempt = [entry.strip() for entry in no_proxy.split(",") if entry.strip()]
        hosts = (HOST_NAME,) if mirror.route is Route.HOST else (PROXY, BACKEND)
        missing = [host for host in hosts if not any(_exempts(entry, host) for entry in exempt)]
        if proxy and missing:
            sentence = f"{node.name} sends requests for {' and '.join(missing)} to its HTTP_PROXY"
            flag = f"--env 'NO_PROXY={','.join([*exempt, *missing])}@all'"
            command = f"autoregistry cluster create {node.cluster}{_route_flags(mirror)} -- {flag}"
            yield self._failed(
                sentence, f"{command}  (delete the cluster first, and add your other flags)"
            )

    def _check_reachable(self, node: Node, mirror: Mirror) -> Check:
        """Check that an endpoint's name resolves, and that the endpoint answers, inside this node."""
        causes = []
        for endpoint in base_urls(self._cluster.files[node][mirror.name]):
            argv = ["sh", "-c", _FETCH, "sh", f"{endpoint}/v2/"]
            ran = self._environment.containers.exec(node.name, argv, timeout=20)
            if ran.code == 0:
                return self._passed(f"{node.name} reaches {endpoint}")
            causes.append((ran.stderr.strip().splitlines() or [f"{endpoint} does not answer"])[-1])
        return self._failed(f"{node.name} cannot reach the registry: {'; '.join(causes)}")

    def _check_config_map(self, mirror: Mirror) -> Check:
        try:
            actual = announced(self._environment.nodes, self._cluster.name)
        except AutoregistryError as exc:
            return self._failed(exc.message)
        if not actual:
            no_config_map = f"there is no ConfigMap {CONFIG_MAP}"
            return self._failed(f"{no_config_map}, so Tilt and skaffold find no registry")
        for key, value in parse_config_map(config_map_yaml(mirror)).items():
            if actual.get(key) != value:
                difference = f"{key}: {actual.get(key)}, not {value}"
                return self._failed(f"ConfigMap {CONFIG_MAP} has {difference}")
        return self._passed(f"ConfigMap {CONFIG_MAP} names {mirror.name}")

    def _check_pull(self, node: Node, mirror: Mirror) -> Check:
        try:
            self._environment.check_pull(node, mirror.name)
        except AutoregistryError as exc:
            return self._failed(exc.message, LOG)
        return self._passed(f"{node.name} pulled an image that was not pushed")


def _route_flags(mirror: Mirror) -> str:
    return f" --via host --port {mirror.names.port}" if mirror.route is Route.HOST else ""


def _exempts(entry: str, host: str) -> bool:
    """Return True if this entry of NO_PROXY covers the host, as Go reads it: a name covers its subdomains too."""
    name = entry.lower().partition(":")[0].removeprefix("*")
    return not name or host == name or host.endswith(name if name[0] == "." else f".{name}")
