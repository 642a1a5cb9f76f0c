"""The images of the stack: there, or pulled, or built; with a hint for each way in which that fails."""

from __future__ import annotations

from contextlib import suppress

from autoregistry.engine.build import Supply
from autoregistry.errors import DockerRefused, DockerUnreachable, ImageUnavailable
from autoregistry.stack.model import ROLE, Options
from autoregistry.stack.proxy_image import REPOSITORY, ImageSource
from autoregistry.stack.steps import Emit, StepBegun, StepDone, StepProgress

# What a registry says to those who have to say who they are.
_DENIED = ("unauthorized", "denied", "authentication required", "no basic auth")


def ensure_registry_image(supply: Supply, options: Options, emit: Emit) -> None:
    """The backend's image. Raises ImageUnavailable."""
    _ensure(supply, options.registry_image, "--registry-image", emit)


def ensure_proxy_image(supply: Supply, source: ImageSource, emit: Emit) -> None:
    """The proxy's image, built where this package's is not there yet. Raises ImageUnavailable."""
    if supply.identity(source.tag) is not None:
        return
    _ensure(supply, source.base_image, "--base-image", emit)
    step = f"image {source.tag}"
    emit(StepBegun(step))
    try:
        supply.build(
            source.tag,
            source.context(),
            source.arguments(),
            lambda done, total, text: emit(StepProgress(step, done, total, text)),
        )
    except ImageUnavailable as exc:
        raise ImageUnavailable(
            f"the proxy's image cannot be built: {exc.message}",
            "no road to PyPI? set PIP_INDEX_URL, or the proxies in ~/.docker/config.json; then: autoregistry up",
        ) from exc
    emit(StepDone(step, "built"))


def remove_old_images(supply: Supply, current: str) -> None:
    """Images of packages that are no longer installed; one that is in use stays, and so do all if Docker is slow."""
    with suppress(DockerUnreachable):
        for name in supply.labelled(f"{ROLE}=image"):
            if name != current and name.startswith(f"{REPOSITORY}:"):
                with suppress(DockerRefused):
                    supply.remove(name)


def _ensure(supply: Supply, reference: str, flag: str, emit: Emit) -> None:
    if supply.identity(reference) is not None:
        return
    step = f"image {reference}"
    emit(StepBegun(step))
    try:
        supply.pull(
            reference,
            lambda done, total: emit(StepProgress(step, done, total, "pulling", is_bytes=True)),
        )
    except DockerRefused as exc:
        hint = f"autoregistry up {flag} IMAGE  (one that can be pulled, or that Docker has)"
        if any(word in exc.message.lower() for word in _DENIED):
            hint = f"docker pull {reference}  (with your login; autoregistry pulls without)"
        raise ImageUnavailable(f"{reference} cannot be pulled: {exc.message}", hint) from exc
    emit(StepDone(step, "pulled"))
