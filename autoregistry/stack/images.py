"""The images of the stack: pulled or built if Docker does not have them, with a hint for each kind of failure."""

from __future__ import annotations

import re
from contextlib import suppress

from autoregistry.engine.build import build_image, pull_image
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import Images
from autoregistry.engine.progress import Progress
from autoregistry.engine.streams import tar_of
from autoregistry.errors import DockerRefused, DockerUnreachable, ImageUnavailable
from autoregistry.stack.model import ROLE
from autoregistry.stack.proxy_image import PROXY_REPOSITORY, ImageSource
from autoregistry.stack.steps import Report, StepDone, StepProgress, StepStarted

# How registries refuse a client without a login. Docker Hub limits such clients ("toomanyrequests").
_NEEDS_LOGIN = "unauthorized|denied|authentication required|no basic auth|toomanyrequests"


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
