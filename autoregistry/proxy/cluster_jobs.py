"""What a proxy does for clusters of its own accord: attaching them, and looking after those that are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from autoregistry.cluster.addresses import give_back
from autoregistry.cluster.attach import Attachment
from autoregistry.cluster.mirror_config import Mirror
from autoregistry.cluster.network_cleanup import leave_gone
from autoregistry.cluster.node_files import MirrorFiles
from autoregistry.cluster.nodes import CLUSTER_LABEL, ROLE_LABEL, ROLES, Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import container_events
from autoregistry.engine.networks import Networks
from autoregistry.events import Emit
from autoregistry.proxy.watch.auto_attach import AttachAll
from autoregistry.proxy.watch.network_repair import Tending
from autoregistry.settings import Settings
from autoregistry.stack.model import BACKEND, PROXY


def attach_all(daemon: Daemon, settings: Settings, emit: Emit) -> AttachAll:
    """Attaches every cluster that starts."""
    attach = _attachment(daemon, settings).attach
    return AttachAll(partial(_running, daemon), attach, emit)


def _attachment(daemon: Daemon, settings: Settings) -> Attachment:
    """For a proxy that runs in a container, its backend goes with it; else the host's address is the road."""
    containers = Containers(daemon)
    port = int(settings.names.primary.rpartition(":")[2])
    members = (BACKEND, settings.container) if settings.container else ()
    mirror, files = Mirror.of(port, settings.container), MirrorFiles(containers)
    return Attachment(containers, Networks(daemon), Nodes(containers), files, mirror, members)


def _running(daemon: Daemon) -> Iterator[str]:
    """The clusters that run, and then that of every node that starts; blocks."""
    nodes = Nodes(Containers(daemon))
    for labels in container_events(daemon, "app=k3d", CLUSTER_LABEL):
        if labels is None:
            yield from sorted({node.cluster for node in nodes.all() if node.is_running})
        elif labels.get(ROLE_LABEL) in ROLES:
            yield labels[CLUSTER_LABEL]


def tending(daemon: Daemon, settings: Settings) -> Tending:
    """For every cluster of this Docker, attached or not: all of them start when Docker does."""
    containers, networks = Containers(daemon), Networks(daemon)
    return Tending(
        partial(give_back, containers),
        partial(leave_gone, containers, networks, (BACKEND, PROXY)),
        _attachment(daemon, settings).rejoin,
        partial(_changes, daemon),
    )


def _changes(daemon: Daemon) -> Iterator[str | None]:
    """None when Docker is listened to, then `start` or `destroy` of containers of k3d's; blocks."""
    for labels in container_events(daemon, "app=k3d", actions=("start", "destroy")):
        yield None if labels is None else labels["action"]
