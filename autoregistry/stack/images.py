"""The images of the stack: pulled or built if Docker does not have them, with a hint for each kind of failure.

The tag of the proxy's image has the version and a hash of all content. So a changed package has another image, and
an existing image is always current. The context is built in memory from the package's own files.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import autoregistry
from autoregistry.engine.build import build_image, pull_image
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import Images
from autoregistry.engine.streams import Progress, tar_of
from autoregistry.errors import DockerRefused, DockerUnreachable, ImageUnavailable
from autoregistry.stack.model import ROLE
from autoregistry.stack.steps import Report, StepDone, StepProgress, StepStarted
from autoregistry.template_files import template_folder

PROXY_REPOSITORY = "autoregistry"
# pip in the build uses the same index as pip outside.
_PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
# How registries refuse a client without a login. Docker Hub limits such clients ("toomanyrequests").
_NEEDS_LOGIN = "unauthorized|denied|authentication required|no basic auth|toomanyrequests"


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


def ensure_proxy_image(daemon: Daemon, source: ImageSource, report: Report) -> None:
    """Make sure that Docker has the proxy's image for this package: build it if not. Raises ImageUnavailable."""
    if Images(daemon).inspect(source.tag) is not None:
        return
    ensure_image(daemon, source.base_image, "--base-image", report)
    step = f"image {source.tag}"
    report(StepStarted(step))
    try:
        build_image(
            daemon,
            source.tag,
            tar_of(source.files),
            source.arguments(),
            lambda done, total, text: report(StepProgress(step, done, total, text)),
        )
    except ImageUnavailable as exc:
        raise ImageUnavailable(
            f"the proxy's image cannot be built: {exc.message}",
            "if PyPI cannot be reached, set PIP_INDEX_URL, or proxies in ~/.docker/config.json; then: autoregistry up",
        ) from exc
    report(StepDone(step, "built"))


def remove_old_images(daemon: Daemon, current: str) -> None:
    """Remove the proxy images of other package versions. An image in use stays; if Docker is slow, all stay."""
    images = Images(daemon)
    with suppress(DockerUnreachable):
        for name in images.labelled(f"{ROLE}=image"):
            if name != current and name.startswith(f"{PROXY_REPOSITORY}:"):
                with suppress(DockerRefused):
                    images.remove(name)


def ensure_image(daemon: Daemon, reference: str, flag: str, report: Report) -> None:
    """Make sure that Docker has the image that this flag of `up` names. Raises ImageUnavailable."""
    if Images(daemon).inspect(reference) is not None:
        return
    step = f"image {reference}"

    def on_progress(progress: Progress) -> None:
        done, total = progress.done_bytes, progress.total_bytes
        report(StepProgress(step, done, total, "pulling", is_bytes=True))

    report(StepStarted(step))
    try:
        pull_image(daemon, reference, on_progress)
    except DockerRefused as exc:
        hint = f"autoregistry up {flag} IMAGE  (an image that can be pulled, or that Docker has)"
        if re.search(_NEEDS_LOGIN, exc.message.lower()):
            hint = (
                f"docker pull {reference}  (after docker login: autoregistry pulls without a login)"
            )
        raise ImageUnavailable(f"{reference} cannot be pulled: {exc.message}", hint) from exc
    report(StepDone(step, "pulled"))
