"""The stack as it is in Docker now: its containers, their owner, and the options they were created with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from autoregistry.engine.containers import Container, Containers
from autoregistry.engine.networks import Networks, Volumes
from autoregistry.errors import StackRefused
from autoregistry.stack.model import BACKEND, HOST, OPTIONS, PROXY, ROLE
from autoregistry.stack.options import Host, Options, flags_of, from_label

COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_FILES = "com.docker.compose.project.config_files"


@dataclass(frozen=True, slots=True)
class CurrentStack:
    """The two containers as they are now."""

    proxy: Container | None
    backend: Container | None

    @property
    def containers(self) -> tuple[Container, ...]:
        return tuple(c for c in (self.backend, self.proxy) if c is not None)

    @property
    def _labels(self) -> dict[str, str]:
        return {key: value for c in self.containers for key, value in c.labels.items()}

    @property
    def options(self) -> Options:
        """The options it was created with; the defaults if it does not exist."""
        text = self._labels.get(OPTIONS)
        options = from_label(Options, text) if text else Options()
        # Another registry image replaces only the backend, so the proxy's label may have an older one.
        return replace(options, registry_image=self.backend.image) if self.backend else options

    @property
    def host(self) -> Host | None:
        text = self._labels.get(HOST)
        return from_label(Host, text) if text else None

    @property
    def is_running(self) -> bool:
        """True if both run and neither is unhealthy."""
        both = (self.proxy, self.backend)
        return all(c is not None and c.is_running and c.health != "unhealthy" for c in both)

    @property
    def compose_command(self) -> str | None:
        """`docker compose ...` without a verb, if compose manages this stack."""
        project = self._labels.get(COMPOSE_PROJECT)
        flags = "".join(f" --file {file}" for file in self._compose_files)
        return f"docker compose{flags or f' --project-name {project}'}" if project else None

    @property
    def _compose_files(self) -> list[str]:
        return [file for file in self._labels.get(COMPOSE_FILES, "").split(",") if file]

    def require_ours(self) -> None:
        """Raise StackRefused if another program's container has one of our names."""
        for container in self.containers:
            if ROLE not in container.labels:
                raise StackRefused(
                    f"the container name {container.name} is already used by another container"
                    f" (image {container.image})",
                    f"docker rename {container.name} {container.name}-other"
                    f"  (or: docker rm --force {container.name})",
                )

    def require_no_compose(self, verb: str, choices: Mapping[str, object] | None = None) -> None:
        """Raise StackRefused if compose manages the stack. The hint is the compose command for `verb`.

        For other options (`choices`) the hint begins with a new compose file.
        """
        if command := self.compose_command:
            hint = f"{command} {verb}"
            if choices:
                file = (*self._compose_files, "FILE")[0]
                generate = f"autoregistry generate compose{flags_of(choices)}"
                hint = f"{generate} --output {file} && {hint}"
            raise StackRefused("docker compose manages this stack; change it with compose", hint)


def require_names(kind: Networks | Volumes, *names: str) -> None:
    """Raise StackRefused if another program's network or volume has one of these names."""
    for name in names:
        labels = kind.labels(name)
        if labels is not None and ROLE not in labels:
            raise StackRefused(
                f"the {kind.kind} name {name} is already used by another {kind.kind}",
                f"docker {kind.kind} rm {name}"
                + "  (deletes its content)" * (kind.kind == "volume"),
            )


def find_stack(containers: Containers) -> CurrentStack:
    """Return the containers with our two names, also if they are not ours."""
    return CurrentStack(containers.inspect(PROXY), containers.inspect(BACKEND))
