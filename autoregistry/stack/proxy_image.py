"""The proxy's image: its tag for the installed package, and the context it is built from.

The tag has the version and a hash of all content. So a changed package has another image, and an existing image
is always current. The context is built in memory from the package's own files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import autoregistry
from autoregistry.engine.streams import tar_of
from autoregistry.template_files import template_folder

PROXY_REPOSITORY = "autoregistry"
# pip in the build uses the same index as pip outside.
_PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The content of the image: each path in the context, and its bytes."""

    files: Mapping[str, bytes]
    base_image: str

    @property
    def tag(self) -> str:
        content = self.base_image.encode() + tar_of(self.files).read()
        summary = hashlib.sha256(content).hexdigest()[:12]
        return f"{PROXY_REPOSITORY}:{autoregistry.__version__}-{summary}"

    def arguments(self) -> dict[str, str]:
        """Return the build arguments."""
        pip = {name: os.environ[name] for name in _PIP_VARIABLES if os.environ.get(name)}
        return {"BASE_IMAGE": self.base_image, **pip}


def image_source(base_image: str) -> ImageSource:
    """Return the source for the package as it is installed here."""
    package = Path(autoregistry.__file__).parent
    files = {
        f"autoregistry/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    templates = {path.name: path.read_bytes() for path in template_folder().iterdir()}
    files |= {f"autoregistry/templates/{name}": content for name, content in templates.items()}
    files |= {name: templates[name] for name in ("Dockerfile", "requirements.txt")}
    return ImageSource(files, base_image)
