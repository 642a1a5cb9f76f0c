"""`autoregistry doctor`: checks of everything that a pull needs."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.text import Text

from autoregistry.cli.checks.every import every_check
from autoregistry.cli.environment import Environment
from autoregistry.cli.output import show_line, stdout


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
    for check in every_check(Environment.current()):
        checks.append(check)
        if not as_json:
            mark = ("✓ ", "green") if check.is_well else ("✗ ", "red")
            show_line(stdout, Text.assemble(mark, (f"{check.about}  ", "bold"), check.sentence))
            if check.hint:
                stdout.print(Text(f"    {check.hint}", "dim" if check.is_well else ""))
    if as_json:
        stdout.print(json.dumps([asdict(check) for check in checks], indent=2))
    context.exit(0 if all(check.is_well for check in checks) else 1)
