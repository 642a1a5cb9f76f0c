"""The proxy's image: its tag for the installed package, and the context it is built from.

The tag has the version and a hash of all content. So a changed package has another image, and an existing image
is always current. The context is built in memory from the package's own files.
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

PROXY_REPOSITORY = "autoregistry"
# pip in the build uses the same index as pip outside.
_PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
_EXCLUDED = ("__pycache__",)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The content of the image: each path in the context, and its bytes."""

    files: Mapping[str, bytes]
    base_image: str

    @property
    def tag(self) -> str:
        summary = hashlib.sha256(self.base_image.encode())
        for path in sorted(self.files):
            summary.update(f"\0{path}\0{len(self.files[path])}\0".encode())
            summary.update(self.files[path])
        return f"{PROXY_REPOSITORY}:{autoregistry.__version__}-{summary.hexdigest()[:12]}"

    def context(self) -> io.BytesIO:
        """Return the tar for the builder. The same files give the same bytes, so that its cache works."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in sorted(self.files):
                entry = tarfile.TarInfo(path)
                entry.size = len(self.files[path])
                entry.mode = 0o644
                tar.addfile(entry, io.BytesIO(self.files[path]))
        archive.seek(0)
        return archive

    def arguments(self, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the build arguments."""
        environment = os.environ if environment is None else environment
        pip = {name: environment[name] for name in _PIP_VARIABLES if environment.get(name)}
        return {"BASE_IMAGE": self.base_image, **pip}


def image_source(base_image: str) -> ImageSource:
    """Return the source for the package as it is installed here."""
    package = Path(autoregistry.__file__).parent
    files = {
        f"autoregistry/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and not set(_EXCLUDED) & set(path.parts) and path.suffix != ".pyc"
    }
    for path in template_folder().iterdir():
        files[f"autoregistry/templates/{path.name}"] = path.read_bytes()
    files["Dockerfile"] = (template_folder() / "Dockerfile").read_bytes()
    files["requirements.txt"] = (template_folder() / "requirements.txt").read_bytes()
    return ImageSource(files, base_image)
