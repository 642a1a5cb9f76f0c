"""Go programs, built from the module files in `dev/tools/<family>`.

`go install PROGRAM@VERSION` needs a module's list of versions, which not every proxy serves; a
module file needs no list and pins hashes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dev.lab import debian
from dev.lab.cache import TOOLS, once, run
from dev.lab.errors import LabError


@dataclass(frozen=True, slots=True)
class Family:
    """Programs that share a module file; `packages` maps a program to its Go package."""

    packages: dict[str, str]
    usually: int
    ldflags: str = ""


_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
# The first Go that downloads a newer one by itself.
_FIRST_WITH_TOOLCHAINS = 21
_K3D = "github.com/k3d-io/k3d/v5"
FAMILIES = {
    "crane": Family({"crane": "github.com/google/go-containerregistry/cmd/crane"}, 15),
    "k3d": Family({"k3d": _K3D}, 60, f"-X {_K3D}/version.Version=v5.9.0"),
    "containerd": Family(
        {
            "containerd": f"{_CONTAINERD}/containerd",
            "ctr": f"{_CONTAINERD}/ctr",
            "containerd-shim-runc-v2": f"{_CONTAINERD}/containerd-shim-runc-v2",
        },
        75,
        "-X github.com/containerd/containerd/v2/version.Version=v2.3.7",
    ),
    "registry3": Family({"registry3": "github.com/distribution/distribution/v3/cmd/registry"}, 80),
    "conformance": Family(
        {"conformance": "github.com/opencontainers/distribution-spec/conformance"}, 15
    ),
}


def go_program(name: str) -> Path:
    """Return one program, built with its family; it is static, so that images can contain it."""
    for family, wanted in FAMILIES.items():
        if name in wanted.packages:
            return build(family, wanted) / name
    known = sorted(program for family in FAMILIES.values() for program in family.packages)
    raise LabError(f"unknown tool {name!r}; the Go programs are {', '.join(known)}")


def build(name: str, family: Family) -> Path:
    """Return the folder with the programs of one family, at the versions of its go.mod and go.sum."""
    module = TOOLS / name
    pins = b"".join((module / file).read_bytes() for file in ("go.mod", "go.sum"))
    version = hashlib.sha256(pins + repr(family).encode()).hexdigest()[:12]
    return once(name, version, lambda draft: _build(module, family, draft), usually=family.usually)


def _build(module: Path, family: Family, target: Path) -> None:
    go = _go()
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "auto"}
    for program, package in family.packages.items():
        flags = ["-mod=readonly", "-trimpath", "-ldflags", f"-s -w {family.ldflags}"]
        run(
            [go, "build", *flags, "-o", target / program, package],
            log=f"go-{module.name}",
            env=env,
            cwd=module,
        )


def _go() -> Path:
    """Return a Go that can download the toolchain of a module; Debian 12's own (1.19) cannot."""
    installed = shutil.which("go")
    if installed is not None and _has_toolchains(Path(installed)):
        return Path(installed)

    def make(draft: Path) -> None:
        debian.need_bare_debian("Go")
        debian.tree("sid", draft, "golang-go", "ca-certificates")

    tree = once("go", "sid", make, usually=60)
    return next(iter(sorted(tree.glob("usr/lib/go-*/bin/go"))))


def _has_toolchains(go: Path) -> bool:
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    version = done.stdout.strip().removeprefix("go").split(".")
    return version[:1] == ["1"] and int(version[1]) >= _FIRST_WITH_TOOLCHAINS
