"""The command line. Commands parse and print; the other packages do the work (docs/architecture.md)."""

from __future__ import annotations

import sys

import click

from autoregistry import __version__
from autoregistry.cli.commands import (
    cluster,
    completion,
    doctor,
    down,
    generate,
    images,
    logs,
    push,
    restart,
    serve,
    status,
    up,
    watch,
    why,
)
from autoregistry.cli.output import show_error
from autoregistry.errors import AutoregistryError, SettingInvalid


class _Commands(click.Group):
    """The only place that turns our errors into two lines and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except AutoregistryError as exc:
            if ctx.params.get("verbose", 0) >= 2:
                raise
            show_error(exc, _fallback(exc, ctx.invoked_subcommand or ""))
            ctx.exit(exc.exit_code)


def _fallback(error: AutoregistryError, command: str) -> str:
    """Return the command to type if an error has no hint of its own."""
    if isinstance(error, SettingInvalid):
        return f"autoregistry {command} --help"
    return "autoregistry status" if command == "doctor" else "autoregistry doctor"


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="autoregistry")
@click.option("-v", "--verbose", count=True, help="-vv shows the traceback of an error.")
def program(verbose: int) -> None:
    """A local registry for k3d that pushes for you.

    Build an image with Docker, and the cluster pulls it by the same name, without `docker push`.

    \b
    Example:
      autoregistry up
      autoregistry cluster create dev
    """


program.add_command(cluster.cluster)
program.add_command(completion.completion)
program.add_command(restart.refresh)
program.add_command(restart.restart)
program.add_command(doctor.doctor)
program.add_command(images.images)
program.add_command(push.push)
program.add_command(watch.watch)
program.add_command(why.why)
program.add_command(up.up)
program.add_command(down.down)
program.add_command(status.status)
program.add_command(logs.logs)
program.add_command(generate.generate)
program.add_command(serve.serve)


def main() -> None:
    """The entry point of `autoregistry` and `k3d-autoregistry`."""
    try:
        # Outside its standalone mode click returns an exit code instead of exiting with it.
        sys.exit(program.main(prog_name="autoregistry", standalone_mode=False))
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
