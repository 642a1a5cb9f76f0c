"""What `doctor` looks at in a cluster: every thing between a node and the registry, in the order of a pull.

Nothing is changed: what is made for the last check is taken away again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoregistry.cli.environment import Environment, Route
from autoregistry.cluster.addresses import collisions
from autoregistry.cluster.config_map import told
from autoregistry.cluster.mirror_config import CONFIG_MAP, config_map, hosting, plain
from autoregistry.cluster.nodes import Node
from autoregistry.engine.containers import Container
from autoregistry.errors import AutoregistryError
from autoregistry.stack.model import BACKEND, PROXY

# k3s brings busybox, whose wget this is; other nodes may have curl.
_FETCH = """
if command -v wget >/dev/null; then wget -q -T 5 -O /dev/null "$1"; else curl -fsS -m 5 -o /dev/null "$1"; fi"""

# k3s hands CONTAINERD_HTTP_PROXY and the like to containerd without their prefix (pkg/agent/containerd).
_PROXIES = """
echo "${CONTAINERD_HTTP_PROXY:-${HTTP_PROXY:-$http_proxy}}"
echo "${CONTAINERD_NO_PROXY:-${NO_PROXY:-$no_proxy}}\""""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's."""

    about: str
    """What was looked at: `docker`, `port`, `stack`, `loop`, or a cluster's name."""
    is_well: bool
    sentence: str
    hint: str = ""
    """The command that mends it."""


def well(about: str, sentence: str, hint: str = "") -> Check:
    return Check(about, is_well=True, sentence=sentence, hint=hint)


def wrong(about: str, sentence: str, hint: str) -> Check:
    return Check(about, is_well=False, sentence=sentence, hint=hint)


@dataclass(frozen=True, slots=True)
class Look:
    """A cluster that runs, at least in part, and the mirror files of its running nodes."""

    cluster: str
    network: str
    files: dict[Node, dict[str, list[str]]]
    road: Route | None
    silent: dict[str, str]
    """Nodes that could not be asked, such as one that has stopped a moment ago, and why."""
    up: str = ""
    """What images are tagged with for the containers of `up`, where they run."""

    @property
    def attach(self) -> str:
        """The command that attaches it by the road it has, or by that of `up` if the same name has both."""
        command = f"autoregistry cluster attach {self.cluster}"
        if self.road is None or not self.road.is_by_host or self.road.name == self.up:
            return command
        return f"{command} --via host --port {self.road.name.rpartition(':')[2]}"

    @property
    def restart(self) -> str:
        """The command that starts all of its nodes anew."""
        return f"k3d cluster stop {self.cluster} && k3d cluster start {self.cluster}"


def looks_at(clusters: Environment) -> list[Look]:
    """Every cluster of which a node runs."""
    looks = []
    found = clusters.found
    up = found.options.name if found.is_running else ""
    everything = [node for node in clusters.nodes.all() if node.is_running]
    for name in sorted({node.cluster for node in everything}):
        nodes = [node for node in everything if node.cluster == name]
        files: dict[Node, dict[str, list[str]]] = {}
        silent = {}
        for node in nodes:
            try:
                files[node] = clusters.files.known(node)
            except AutoregistryError as exc:
                silent[node.name] = exc.message
        looks.append(Look(name, nodes[0].network, files, clusters.road(files.values()), silent, up))
    return looks


def cluster_checks(clusters: Environment, look: Look) -> Iterator[Check]:
    """All of one cluster; ends where the next makes no sense."""
    for name, cause in look.silent.items():
        start = f"k3d cluster start {look.cluster}"
        yield wrong(look.cluster, f"{name} cannot be asked: {cause}", start)
    containers = [c for c in clusters.containers.list("app=k3d") if look.network in c.networks]
    yield from _addresses(look, containers)
    road = look.road
    if road is None:
        yield _not_attached(clusters, look)
        return
    files = list(_files(look, road))
    bare = [node for node, file in look.files.items() if road.name not in file]
    attached = [node for node in look.files if node not in bare]
    checks = [
        *files,
        *(_joined(look, containers) if not road.is_by_host else ()),
        *(check for node in attached for check in _diverted(clusters, node, road)),
        *(_answers(clusters, look, node, road) for node in attached),
    ]
    yield from checks
    yield _announced(clusters, look, road)
    if all(check.is_well for check in checks if check not in files):
        for node in attached:
            yield _pulls(clusters, node, road)


def _not_attached(clusters: Environment, look: Look) -> Check:
    ours = clusters.mirror()
    for file in look.files.values():
        for name, ends in file.items():
            if ours.is_road(name, ends):
                sentence = f"it knows the registry as {name}, and that is {ours.names[0]} now"
                return wrong(look.cluster, sentence, look.attach)
    return well(look.cluster, "not attached: it pulls from elsewhere", look.attach)


def _addresses(look: Look, containers: list[Container]) -> Iterator[Check]:
    """Nobody may have the address that another one was made with."""
    for collision in collisions(containers):
        is_ours = {collision.owner, collision.holder} & {PROXY, BACKEND}
        mend = look.attach if is_ours else look.restart
        if collision.network == look.network:
            yield wrong(look.cluster, str(collision), mend)
    for container in containers:
        if container.error and not container.is_running and container.name not in (PROXY, BACKEND):
            sentence = f"{container.name} does not run: {container.error}"
            yield wrong(look.cluster, sentence, look.restart)


def _files(look: Look, road: Route) -> Iterator[Check]:
    """The mirror file of each name on each node: there, and leading to us first."""
    bare = [node.name for node, file in look.files.items() if road.name not in file]
    if bare:
        yield wrong(look.cluster, f"not attached: {', '.join(bare)}", look.attach)
    wanted, is_well = list(road.mirror.endpoints), not (bare or look.silent)
    for node, file in look.files.items():
        for name in road.mirror.names if node.name not in bare else ():
            found = plain(file.get(name, []))
            if found[: len(wanted)] != wanted:
                there = ", then ".join(found) or "nowhere"
                sentence = f"{node.name} pulls {name} from {there}, not {', then '.join(wanted)}"
                is_well = False
                yield wrong(look.cluster, sentence, look.attach)
    if is_well:
        yield well(look.cluster, f"every node pulls {road.name} from {', then '.join(wanted)}")


def _joined(look: Look, containers: list[Container]) -> Iterator[Check]:
    there = {c.name: c for c in containers}
    missing = [name for name in (PROXY, BACKEND) if name not in there]
    half = [
        c.name
        for c in containers
        if c.name in (PROXY, BACKEND) and c.is_running and look.network not in c.joined
    ]
    if missing:
        sentence = f"{' and '.join(missing)} not on network {look.network}"
        yield wrong(look.cluster, sentence, look.attach)
    if half:
        sentence = f"{' and '.join(half)} has no address on network {look.network}, though Docker says it is on it"
        yield wrong(look.cluster, sentence, look.attach)
    if not missing and not half:
        yield well(look.cluster, f"the registry is on network {look.network}")


def _diverted(clusters: Environment, node: Node, road: Route) -> Iterator[Check]:
    """A node's HTTP_PROXY is taken for our names too: for all but localhost (Go's x/net/http/httpproxy)."""
    said = clusters.containers.exec(node.name, ["sh", "-c", _PROXIES], timeout=10).stdout
    proxy, _, exempt = said.partition("\n")
    listed = [entry.strip() for entry in exempt.split(",") if entry.strip()]
    hosts = ("host.k3d.internal",) if road.is_by_host else (PROXY, BACKEND)
    missing = [host for host in hosts if not any(_exempts(entry, host) for entry in listed)]
    if proxy and missing:
        sentence = f"{node.name} asks its HTTP_PROXY for {' and '.join(missing)}"
        flag = f"--env 'NO_PROXY={','.join([*listed, *missing])}@all'"
        by_host = f" --via host --port {road.name.rpartition(':')[2]}" if road.is_by_host else ""
        mend = f"autoregistry cluster create {node.cluster}{by_host} -- {flag}"
        yield wrong(
            node.cluster, sentence, f"{mend}  (and your other flags; it has to be made anew)"
        )


def _exempts(entry: str, host: str) -> bool:
    """Whether this part of a NO_PROXY means that host, as Go reads it: a name means all that ends in it, too."""
    name = entry.lower().partition(":")[0].removeprefix("*")
    return not name or host == name or host.endswith(name if name[0] == "." else f".{name}")


def _answers(clusters: Environment, look: Look, node: Node, road: Route) -> Check:
    """Whether an endpoint's name resolves, and answers, inside this node."""
    causes = []
    for endpoint in plain(look.files[node][road.name]):
        argv = ["sh", "-c", _FETCH, "sh", f"{endpoint}/v2/"]
        ran = clusters.containers.exec(node.name, argv, timeout=20)
        if ran.code == 0:
            return well(node.cluster, f"{node.name} reaches {endpoint}")
        causes.append((ran.stderr.strip().splitlines() or [f"{endpoint} does not answer"])[-1])
    return wrong(
        node.cluster, f"{node.name} does not reach the registry: {'; '.join(causes)}", look.attach
    )


def _announced(clusters: Environment, look: Look, road: Route) -> Check:
    try:
        found = told(clusters.nodes, look.cluster)
    except AutoregistryError as exc:
        return wrong(look.cluster, exc.message, look.attach)
    if not found:
        sentence = f"no ConfigMap {CONFIG_MAP}: Tilt and skaffold find no registry"
        return wrong(look.cluster, sentence, look.attach)
    for key, value in hosting(config_map(road.mirror)).items():
        if found.get(key) != value:
            sentence = f"ConfigMap {CONFIG_MAP} says {key}: {found.get(key)}, not {value}"
            return wrong(look.cluster, sentence, look.attach)
    return well(look.cluster, f"ConfigMap {CONFIG_MAP} names {road.name}")


def _pulls(clusters: Environment, node: Node, road: Route) -> Check:
    try:
        clusters.prove(node, road.name)
    except AutoregistryError as exc:
        return wrong(node.cluster, exc.message, "autoregistry logs --tail 20")
    return well(node.cluster, f"{node.name} pulled an image that was only built")
