"""Go programs, built from module files of our own in `dev/tools/<family>`.

`go install PROGRAM@VERSION` asks for a module's list of versions, which not every proxy serves; a
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
    """Programs that share a module file; `packages` maps a program to what is built for it."""

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
    """One program, built with all of its family; statically, so that images can hold it."""
    for family, wanted in FAMILIES.items():
        if name in wanted.packages:
            return build(family, wanted) / name
    known = sorted(program for family in FAMILIES.values() for program in family.packages)
    raise LabError(f"the lab knows no tool {name!r}; Go programs are {', '.join(known)}")


def build(name: str, family: Family) -> Path:
    """The folder with the programs of one family, at the versions its go.mod and go.sum say."""
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
    """A Go that can fetch the toolchain a module asks for; Debian 12's own (1.19) cannot."""
    found = shutil.which("go")
    if found is not None and _is_young_enough(Path(found)):
        return Path(found)

    def make(draft: Path) -> None:
        debian.need_bare_debian("Go")
        debian.tree("sid", draft, "golang-go", "ca-certificates")

    tree = once("go", "sid", make, usually=60)
    return next(iter(sorted(tree.glob("usr/lib/go-*/bin/go"))))


def _is_young_enough(go: Path) -> bool:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    version = said.stdout.strip().removeprefix("go").split(".")
    return version[:1] == ["1"] and int(version[1]) >= _FIRST_WITH_TOOLCHAINS
