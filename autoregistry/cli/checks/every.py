"""All checks of `doctor`, in the order in which they depend on each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from autoregistry.cli.checks.check import Check, failed, passed
from autoregistry.cli.checks.cluster import ClusterChecks
from autoregistry.cli.checks.docker import check_docker, check_loopback
from autoregistry.cli.checks.port import check_port
from autoregistry.cli.checks.stack import check_stack
from autoregistry.cli.client import Client
from autoregistry.cli.environment import Environment
from autoregistry.cluster.mirror_config import Mirror, Route
from autoregistry.errors import AutoregistryError
from autoregistry.stack.options import Options


def every_check(environment: Environment) -> Iterator[Check]:
    """Run the checks; end early if the following ones would make no sense."""
    docker = check_docker(environment)
    yield docker
    if not docker.is_well:
        return
    clusters = [c for c in environment.clusters() if c.files or c.unreachable]
    stack = environment.stack()
    serve = None if stack.containers else _serve_name(cluster.mirror for cluster in clusters)
    if serve is None:
        checks = [*check_port(environment, stack), *check_stack(stack)]
    else:
        checks = [passed("stack", f"`autoregistry serve` is running on this machine as {serve}")]
    yield from checks
    if all(check.is_well for check in checks):
        yield check_loopback(environment, serve or stack.options.name)
    if not clusters:
        yield passed("clusters", "no k3d cluster is running")
    for cluster in clusters:
        try:
            yield from ClusterChecks(environment, cluster, stack).run()
        except AutoregistryError as exc:  # a node or the proxy stopped during the checks
            yield failed(cluster.name, exc.message, exc.hint or "autoregistry doctor")


def _serve_name(mirrors: Iterable[Mirror | None]) -> str | None:
    """Return the name of the `serve` that runs on this machine, or None."""
    ports = {m.names.port for m in mirrors if m is not None and m.route is Route.HOST}
    for port in sorted(ports or {Options().port}):
        with Client(None, Options(port=port)) as client:
            if client.check_port():
                return Options(port=port).name
    return None
