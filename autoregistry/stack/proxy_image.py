"""The proxy's image: which one belongs to the installed package, and the context it is built from.

The tag carries the version and a hash of everything that goes in, so a changed package is another image, and
one that is there needs no second look. The context is made in memory from the package's own files.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import autoregistry
from autoregistry.template_files import template_folder

REPOSITORY = "autoregistry"
# pip in the build looks where pip outside was told to look.
_PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
_LEFT_OUT = ("__pycache__",)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What goes into the image: path in the context to content."""

    files: Mapping[str, bytes]
    base_image: str

    @property
    def tag(self) -> str:
        summary = hashlib.sha256(self.base_image.encode())
        for path in sorted(self.files):
            summary.update(f"\0{path}\0{len(self.files[path])}\0".encode())
            summary.update(self.files[path])
        return f"{REPOSITORY}:{autoregistry.__version__}-{summary.hexdigest()[:12]}"

    def context(self) -> io.BytesIO:
        """The tar that is sent to the builder; the same files make the same bytes, so its cache works."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path in sorted(self.files):
                entry = tarfile.TarInfo(path)
                entry.size = len(self.files[path])
                entry.mode = 0o644
                tar.addfile(entry, io.BytesIO(self.files[path]))
        packed.seek(0)
        return packed

    def arguments(self, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """The build's arguments."""
        environment = os.environ if environment is None else environment
        found = {name: environment[name] for name in _PIP_VARIABLES if environment.get(name)}
        return {"BASE_IMAGE": self.base_image, **found}


def image_source(base_image: str) -> ImageSource:
    """From the package as it is installed here."""
    package = Path(autoregistry.__file__).parent
    files = {
        f"autoregistry/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and not set(_LEFT_OUT) & set(path.parts) and path.suffix != ".pyc"
    }
    for path in template_folder().iterdir():
        files[f"autoregistry/templates/{path.name}"] = path.read_bytes()
    files["Dockerfile"] = (template_folder() / "Dockerfile").read_bytes()
    files["requirements.txt"] = (template_folder() / "requirements.txt").read_bytes()
    return ImageSource(files, base_image)
