"""File trees for images that cannot be pulled: the same name and use, made from Debian.

They are sufficient to run and to build on. A machine that can pull the real image uses that.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dev.lab import debian
from dev.lab.tools import tool

_CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host")
_ENTRYPOINT = """\
#!/bin/sh
set -e
case "$1" in
    *.yaml|*.yml) set -- registry serve "$@" ;;
    serve|garbage-collect|help|-*) set -- registry "$@" ;;
esac
exec "$@"
"""
_REGISTRY_CONFIG = """\
version: 0.1
log: {fields: {service: registry}}
storage: {cache: {blobdescriptor: inmemory}, filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000", headers: {X-Content-Type-Options: [nosniff]}}
"""


@dataclass(frozen=True, slots=True)
class StandIn:
    """The function that creates a tree, and the image configuration (`docker import -c`) for it."""

    make: Callable[[Path], None]
    changes: tuple[str, ...]
    usually: int

    @property
    def version(self) -> str:
        """A hash of the recipe, so that old trees and images are replaced."""
        recipe = inspect.getsource(self.make) + repr(self.changes)
        return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def busybox(tree: Path) -> None:
    """Create a tree with a static shell and the usual small tools."""
    program = tool("busybox")
    for folder in ("bin", "etc", "root", "var", "tmp"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    shutil.copy(program, tree / "bin/busybox")
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        link = tree / "bin" / name
        if not link.exists():
            link.symlink_to("busybox")
    (tree / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    )
    (tree / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def _registry(program: str, config: str) -> Callable[[Path], None]:
    def make(tree: Path) -> None:
        busybox(tree)
        binary = tool(program)
        shutil.copy(binary, tree / "bin/registry")
        for library in _libraries(binary):
            place = tree / library.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)
        _copy_ca_bundle(tree)
        (tree / "entrypoint.sh").write_text(_ENTRYPOINT)
        (tree / "entrypoint.sh").chmod(0o755)
        place = tree / config.lstrip("/")
        place.parent.mkdir(parents=True)
        place.write_text(_REGISTRY_CONFIG)

    return make


def _libraries(binary: Path) -> list[Path]:
    """Return the libraries of a program, including the loader; empty for a static one."""
    done = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False)
    words = done.stdout.split() if done.returncode == 0 else []
    return [Path(word) for word in words if word.startswith("/")]


def _python(tree: Path) -> None:
    packages = ("python3", "python3-venv", "python3-pip", "ca-certificates")
    debian.tree("trixie", tree, *packages)
    (tree / "usr/bin/python").symlink_to("python3")
    for marker in tree.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()  # the real image allows pip install
    _copy_ca_bundle(tree)
    (tree / "etc/pip.conf").write_text(_pip_configuration())


def _copy_ca_bundle(tree: Path) -> None:
    """Copy the machine's CA certificates: some networks re-sign TLS."""
    place = tree / _CA_BUNDLE
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path("/") / _CA_BUNDLE, place)


def _pip_configuration() -> str:
    """Return a pip.conf with the index that this machine's pip uses."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings = {"cert": f"/{_CA_BUNDLE}", "root-user-action": "ignore"}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in _PIP_SETTINGS:
            settings[option] = value.strip("'")
    return "\n".join(["[global]", *(f"{name} = {value}" for name, value in settings.items()), ""])


def _registry_changes(config: str) -> tuple[str, ...]:
    return (
        'ENTRYPOINT ["/entrypoint.sh"]',
        f'CMD ["{config}"]',
        "ENV PATH=/bin",
        "EXPOSE 5000",
        "VOLUME /var/lib/registry",
    )


_V2, _V3 = "/etc/docker/registry/config.yml", "/etc/distribution/config.yml"
_PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_K3D_TOOLS = 'ENTRYPOINT ["/bin/sh", "-c", "trap exit TERM; while :; do sleep 60 & wait; done"]'
STAND_INS = {
    "ghcr.io/k3d-io/k3d-tools:5.9.0": StandIn(busybox, (_K3D_TOOLS, "ENV PATH=/bin"), 1),
    "busybox:latest": StandIn(busybox, ('CMD ["sh"]', "ENV PATH=/bin"), 1),
    "registry:2": StandIn(_registry("docker-registry", _V2), _registry_changes(_V2), 1),
    "registry:3": StandIn(_registry("registry3", _V3), _registry_changes(_V3), 1),
    "python:3.13-slim": StandIn(
        _python,
        ('CMD ["python3"]', _PATH, "ENV LANG=C.UTF-8", f"ENV SSL_CERT_FILE=/{_CA_BUNDLE}"),
        25,
    ),
}
