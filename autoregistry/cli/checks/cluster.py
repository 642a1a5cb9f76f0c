"""The checks of one cluster: everything between a node and the registry, in the order of a pull.

They change nothing: the image of the last check is removed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from autoregistry.cli.checks import SHOW_LOG, Check, failed
from autoregistry.cli.environment import Cluster, Environment
from autoregistry.cluster.addresses import collisions
from autoregistry.cluster.config_map import CONFIG_MAP, announced, config_map_yaml, parse_config_map
from autoregistry.cluster.mirror_config import HOST_NAME, Mirror, Route
from autoregistry.cluster.nodes import Node
from autoregistry.engine.containers import Container
from autoregistry.errors import AutoregistryError
from autoregistry.stack.current import CurrentStack
from autoregistry.stack.model import BACKEND, PROXY

_OURS = (PROXY, BACKEND)

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
        name, mirror, attached = self._cluster.name, self._cluster.mirror, self._cluster.attached
        for other, cause in self._cluster.unreachable.items():
            yield failed(name, f"{other} does not answer: {cause}", f"k3d cluster start {name}")
        existing = self._environment.containers.list("app=k3d")
        containers = [c for c in existing if self._network in c.networks]
        yield from self._check_addresses(containers)
        if mirror is None:
            yield self._check_old_name()
            return
        is_complete = not self._cluster.unreachable
        wanted = ", then ".join(mirror.endpoints)
        every = f"every node pulls {mirror.name} from {wanted}" if is_complete else ""
        yield from self._report(self._wrong_files(mirror, wanted), every)
        connection = [
            *self._check_network(containers, mirror),
            *(check for node in attached for check in self._check_http_proxy(node, mirror)),
            *(check for node in attached for check in self._check_reachable(node, mirror)),
        ]
        yield from connection
        names = f"ConfigMap {CONFIG_MAP} names {mirror.name}"
        yield from self._report(self._config_map_problem(mirror), names)
        if all(check.is_well for check in connection):
            for node in attached:
                yield from self._check_pull(node, mirror)

    def _report(self, problems: Iterable[str], sentence: str, fix: str = "") -> Iterator[Check]:
        """Yield each problem; if there is none, the sentence."""
        checks = [failed(self._cluster.name, text, fix or self._attach) for text in problems]
        yield from checks or ([Check(self._cluster.name, sentence)] if sentence else [])

    def _check_old_name(self) -> Check:
        """Check a cluster that does not reach us for nodes that use an earlier name of the registry."""
        name, ours = self._cluster.name, self._environment.mirror()
        for file in self._cluster.files.values():
            for old, urls in file.items():
                if ours.is_reached_by(old, urls):
                    text = f"its nodes use the registry's old name {old}; it is now {ours.name}"
                    return failed(name, text, self._attach)
        return Check(name, "not attached: its nodes do not pull from this registry", self._attach)

    def _check_addresses(self, containers: list[Container]) -> Iterator[Check]:
        """Check that no two containers have the same address."""
        for collision in collisions(containers):
            if collision.network == self._network:
                is_ours = collision.owner in _OURS or collision.holder in _OURS
                fix = self._attach if is_ours else self._restart
                yield failed(self._cluster.name, str(collision), fix)
        stopped = [c for c in containers if c.error and not c.is_running and c.name not in _OURS]
        problems = [f"{c.name} is not running: {c.error}" for c in stopped]
        yield from self._report(problems, "", self._restart)

    def _wrong_files(self, mirror: Mirror, wanted: str) -> Iterator[str]:
        """Yield the nodes without a mirror file for each name that has our endpoints first."""
        attached = [node.name for node in self._cluster.attached]
        if missing := [name for name in self._cluster.files if name not in attached]:
            yield f"nodes not attached: {', '.join(missing)}"
        for node in attached:
            for name in mirror.names.all:
                urls = tuple(self._cluster.files[node].get(name, ()))
                if urls[: len(mirror.endpoints)] != mirror.endpoints:
                    actual = ", then ".join(urls)
                    text = f"pulls {name} from {actual}" if actual else f"has no mirror for {name}"
                    yield f"{node} {text}; expected {wanted}"

    def _check_network(self, containers: list[Container], mirror: Mirror) -> Iterator[Check]:
        if mirror.route is Route.HOST:
            return
        network, ours = self._network, [c for c in containers if c.name in _OURS]
        half = [c.name for c in ours if c.is_running and network not in c.joined]
        problems = [
            f"{n} is not on network {network}" for n in _OURS if n not in {c.name for c in ours}
        ]
        problems += [f"{n} is listed on network {network}, but has no address there" for n in half]
        yield from self._report(problems, f"the registry is on network {network}")

    def _check_http_proxy(self, node: Node, mirror: Mirror) -> Iterator[Check]:
        """Check a node's HTTP_PROXY: it applies to all names but localhost (Go's x/net/http/httpproxy)."""
        argv = ["sh", "-c", _SHOW_PROXIES]
        output = self._environment.containers.exec(node.name, argv, timeout=10).stdout
        proxy, _, no_proxy = output.partition("\n")
        exempt = [entry.strip() for entry in no_proxy.split(",") if entry.strip()]
        hosts = (HOST_NAME,) if mirror.route is Route.HOST else _OURS
        missing = [host for host in hosts if not any(_exempts(entry, host) for entry in exempt)]
        if proxy and missing:
            sentence = f"{node.name} sends requests for {' and '.join(missing)} to its HTTP_PROXY"
            flag = f"--env 'NO_PROXY={','.join([*exempt, *missing])}@all'"
            command = f"autoregistry cluster create {node.cluster}{_route_flags(mirror)} -- {flag}"
            fix = f"{command}  (delete the cluster first, and add your other flags)"
            yield failed(self._cluster.name, sentence, fix)

    def _check_reachable(self, node: Node, mirror: Mirror) -> Iterator[Check]:
        """Check that an endpoint's name resolves, and that the endpoint answers, inside this node."""
        causes = []
        for endpoint in self._cluster.files[node.name][mirror.name]:
            argv = ["sh", "-c", _FETCH, "sh", f"{endpoint}/v2/"]
            ran = self._environment.containers.exec(node.name, argv, timeout=20)
            if ran.code == 0:
                yield Check(self._cluster.name, f"{node.name} reaches {endpoint}")
                return
            causes.append((ran.stderr.strip().splitlines() or [f"{endpoint} does not answer"])[-1])
        yield from self._report([f"{node.name} cannot reach the registry: {'; '.join(causes)}"], "")

    def _config_map_problem(self, mirror: Mirror) -> Iterator[str]:
        try:
            actual = announced(self._environment.nodes, self._cluster.name)
        except AutoregistryError as exc:
            yield exc.message
            return
        if not actual:
            yield f"there is no ConfigMap {CONFIG_MAP}, so Tilt and skaffold cannot find the registry"
            return
        for key, value in parse_config_map(config_map_yaml(mirror)).items():
            if actual.get(key) != value:
                yield f"ConfigMap {CONFIG_MAP} says {key}: {actual.get(key)}; expected {value}"
                return

    def _check_pull(self, node: Node, mirror: Mirror) -> Iterator[Check]:
        problems = []
        try:
            self._environment.check_pull(node, mirror.name)
        except AutoregistryError as exc:
            problems.append(exc.message)
        yield from self._report(
            problems, f"{node.name} pulled a test image that was pushed on demand", SHOW_LOG
        )


def _route_flags(mirror: Mirror) -> str:
    return f" --via host --port {mirror.names.port}" if mirror.route is Route.HOST else ""


def _exempts(entry: str, host: str) -> bool:
    """Return True if this entry of NO_PROXY covers the host, as Go reads it: a name covers its subdomains too."""
    name = entry.lower().partition(":")[0].removeprefix("*")
    return not name or host == name or host.endswith(name if name[0] == "." else f".{name}")
