"""The command line. Commands parse and print; the other packages do the work (docs/architecture.md)."""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules

import click

from autoregistry import __version__
from autoregistry.cli import bash_completion as bash_completion  # it registers itself
from autoregistry.cli import commands
from autoregistry.cli.output import show_error
from autoregistry.errors import AutoregistryError, SettingInvalid

_MODULES = {module.name: module.name for module in iter_modules(commands.__path__)}
_MODULES["refresh"] = "restart"
"""For each command, its module in `commands/`."""


class _Commands(click.Group):
    """Imports a command when it is used, and turns our errors into two lines and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as above
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"{commands.__name__}.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

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
