"""Files that `generate` writes: never over a file that it did not write itself, unless told to."""

from __future__ import annotations

from pathlib import Path

from autoregistry import __version__
from autoregistry.cli.output import stderr, stdout
from autoregistry.errors import SettingInvalid

_MARK = "# Written by autoregistry "


def write_out(text: str, command: str, output: Path | None, *, force: bool) -> None:
    """Print a generated file, or write it; its first line says where it came from.

    Raises SettingInvalid where the file is somebody else's.
    """
    marked = f"{_MARK}{__version__}: {command}\n{text}"
    if output is None:
        stdout.print(marked, end="", soft_wrap=True)
        return
    if output.exists() and not force and not _is_ours(output):
        raise SettingInvalid(
            f"{output} is there and was not written by autoregistry",
            f"{command} --output {output} --force",
        )
    try:
        output.write_text(marked)
    except OSError as exc:
        raise SettingInvalid(f"{output} cannot be written: {exc.strerror}", command) from exc
    stderr.print(f"wrote {output}")


def _is_ours(path: Path) -> bool:
    try:
        with path.open(errors="replace") as file:
            return file.readline().startswith(_MARK)
    except OSError:
        return False
