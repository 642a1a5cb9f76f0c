"""The template files of `templates/`: text with comments for users, filled in by `cluster/` and `stack/`."""

from __future__ import annotations

from pathlib import Path


def template_folder() -> Path:
    """Return the folder of template files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def read_template(name: str) -> str:
    """Return the text of one template file."""
    return (template_folder() / name).read_text()
