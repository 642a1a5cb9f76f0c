"""The files that `generate` writes. A file that it did not write itself is only overwritten with `--force`."""

from __future__ import annotations

from pathlib import Path

from autoregistry import __version__
from autoregistry.cli.output import stderr, stdout
from autoregistry.errors import SettingInvalid

_MARK = "# Written by autoregistry "


def write_generated(text: str, command: str, output: Path | None, *, force: bool) -> None:
    """Print a generated file, or write it. Its first line has the command that generated it.

    Raises SettingInvalid if `output` exists and was not generated.
    """
    marked = f"{_MARK}{__version__}: {command}\n{text}"
    if output is None:
        stdout.print(marked, end="", soft_wrap=True)
        return
    if output.exists() and not force and not _is_generated(output):
        raise SettingInvalid(
            f"{output} exists and was not written by autoregistry",
            f"{command} --output {output} --force",
        )
    try:
        output.write_text(marked)
    except OSError as exc:
        raise SettingInvalid(f"{output} cannot be written: {exc.strerror}", command) from exc
    stderr.print(f"wrote {output}")


def _is_generated(path: Path) -> bool:
    try:
        with path.open(errors="replace") as file:
            return file.readline().startswith(_MARK)
    except OSError:
        return False
