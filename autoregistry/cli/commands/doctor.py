"""`autoregistry doctor`: what explains a failing first pull."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.text import Text

from autoregistry.cli.checks.stack import every_check
from autoregistry.cli.environment import Environment
from autoregistry.cli.output import show_line, stdout


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look at everything that a pull needs; exit code 1 where something is wrong.

    Each line is right or wrong, with the command that mends it.

    \b
    Example:
      autoregistry doctor
    """
    checks = []
    for check in every_check(Environment.here()):
        checks.append(check)
        if not as_json:
            mark = ("✓ ", "green") if check.is_well else ("✗ ", "red")
            show_line(stdout, Text.assemble(mark, (f"{check.about}  ", "bold"), check.sentence))
            if check.hint:
                stdout.print(Text(f"    {check.hint}", "" if not check.is_well else "dim"))
    if as_json:
        stdout.print(json.dumps([asdict(check) for check in checks], indent=2))
    context.exit(0 if all(check.is_well for check in checks) else 1)
