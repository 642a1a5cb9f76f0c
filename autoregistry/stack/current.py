"""What of the stack is there, whose it is, and with which options it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from autoregistry.engine.containers import Container, Containers
from autoregistry.errors import StackRefused
from autoregistry.stack.model import BACKEND, HOST, OPTIONS, PROXY, ROLE, Host, Options
from autoregistry.stack.options import flags_of

COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_FILES = "com.docker.compose.project.config_files"


@dataclass(frozen=True, slots=True)
class CurrentStack:
    """The two containers, as they are."""

    proxy: Container | None
    backend: Container | None

    @property
    def containers(self) -> tuple[Container, ...]:
        return tuple(c for c in (self.backend, self.proxy) if c is not None)

    @property
    def options(self) -> Options:
        """What it was made with; the defaults where there is nothing."""
        text = self.proxy.labels.get(OPTIONS) if self.proxy else None
        options = Options.read(text) if text else Options()
        # Another registry image replaces the backend only: the proxy's label then says the one of before.
        return replace(options, registry_image=self.backend.image) if self.backend else options

    @property
    def host(self) -> Host | None:
        text = self.proxy.labels.get(HOST) if self.proxy else None
        return Host.read(text) if text else None

    @property
    def is_running(self) -> bool:
        """Whether both are up and do not say that they are ill."""
        both = (self.proxy, self.backend)
        return all(c is not None and c.is_running and c.health != "unhealthy" for c in both)

    @property
    def compose_command(self) -> str | None:
        """`docker compose ...`, where compose runs this stack; the verb is to be added."""
        for container in self.containers:
            if project := container.labels.get(COMPOSE_PROJECT):
                flags = "".join(f" --file {file}" for file in self._compose_files)
                return f"docker compose{flags or f' --project-name {project}'}"
        return None

    @property
    def _compose_files(self) -> list[str]:
        named = [container.labels.get(COMPOSE_FILES, "") for container in self.containers]
        return next((files.split(",") for files in named if files), [])

    def refuse_foreign(self) -> None:
        """Raise StackRefused where a container has one of our names and is not ours."""
        for container in self.containers:
            if ROLE not in container.labels:
                raise StackRefused(
                    f"a container named {container.name} is there and is not ours (image {container.image})",
                    f"docker rename {container.name} {container.name}-other"
                    f"  (or: docker rm --force {container.name})",
                )

    def refuse_compose(self, verb: str, choices: Mapping[str, object] | None = None) -> None:
        """Raise StackRefused where it is for compose to change the stack; for other choices by a new file."""
        if command := self.compose_command:
            hint = f"{command} {verb}"
            if choices:
                file = (*self._compose_files, "FILE")[0]
                flags = flags_of(choices)
                hint = f"autoregistry generate compose{flags} --output {file} && {hint}"
            raise StackRefused("docker compose runs this stack, and has to change it", hint)


def find_stack(containers: Containers) -> CurrentStack:
    """Look at both containers. Nothing is refused here: `status` shows whatever there is."""
    return CurrentStack(containers.inspect(PROXY), containers.inspect(BACKEND))
