"""`autoregistry doctor`: checks of everything that a pull needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click
from rich.text import Text

from autoregistry.cli.checks import Check, failed
from autoregistry.cli.checks.cluster import ClusterChecks
from autoregistry.cli.checks.stack import check_containers, check_docker, check_health, check_port
from autoregistry.cli.client import Client
from autoregistry.cli.environment import Cluster, Environment
from autoregistry.cli.output import show_json, show_line, stdout
from autoregistry.cluster.mirror_config import Route
from autoregistry.errors import AutoregistryError
from autoregistry.stack.options import Options


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check everything that a pull needs.

    Each problem is shown with the command that fixes it. The exit code is 1 if there is a problem.

    \b
    Example:
      autoregistry doctor
    """
    checks = []
    for check in _every_check(Environment.current()):
        checks.append(check)
        if not as_json:
            mark = ("✓ ", "green") if check.is_well else ("✗ ", "red")
            show_line(stdout, Text.assemble(mark, (f"{check.about}  ", "bold"), check.sentence))
            if check.hint:
                stdout.print(Text(f"    {check.hint}", "dim" if check.is_well else ""))
    if as_json:
        show_json([asdict(check) for check in checks])
    context.exit(0 if all(check.is_well for check in checks) else 1)


def _every_check(environment: Environment) -> Iterator[Check]:
    """Run the checks in the order in which they depend on each other; end early if the next ones make no sense."""
    docker = check_docker(environment)
    yield docker
    if not docker.is_well:
        return
    clusters = [c for c in environment.clusters() if c.files or c.unreachable]
    stack = environment.stack()
    serve = None if stack.containers else _running_serve(clusters)
    if serve is None:
        checks = [*check_port(environment, stack), *check_containers(stack)]
    else:
        sentence = f"`autoregistry serve` serves {serve.name} on this machine"
        checks = [Check("stack", sentence)]
    yield from checks
    if serve or (stack.proxy and stack.proxy.is_running):
        is_well = all(check.is_well for check in checks)
        yield from check_health(environment, stack, serve, is_well=is_well)
    if not clusters:
        yield Check("clusters", "no k3d cluster is running")
    for cluster in clusters:
        try:
            yield from ClusterChecks(environment, cluster, stack).run()
        except AutoregistryError as exc:  # a node or the proxy stopped during the checks
            yield failed(cluster.name, exc.message, exc.hint or "autoregistry doctor")


def _running_serve(clusters: list[Cluster]) -> Options | None:
    """Return the options of the `serve` that runs on this machine, or None; only its port is known."""
    mirrors = [cluster.mirror for cluster in clusters if cluster.mirror]
    ports = {mirror.names.port for mirror in mirrors if mirror.route is Route.HOST}
    for port in sorted(ports or {Options().port}):
        with Client(None, Options(port=port)) as client:
            if client.check_port():
                return Options(port=port)
    return None
