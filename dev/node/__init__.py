"""k3d's node image: `rancher/k3s` where it can be pulled, else a node of upstream Kubernetes and containerd 2.3.

The stand-in has a real kubelet, a real API server and a real containerd that pulls; what it lacks of k3s is said
in `k3s`, the script it starts.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
from functools import cache
from pathlib import Path

from dev.lab import Docker, debian, image, tool
from dev.lab.cache import RUN, locked, once, run
from dev.lab.images import import_tree, pull
from dev.node import pause
from dev.node.programs import programs

K3S = "rancher/k3s:v1.34.4-k3s1"
TOOLS = "ghcr.io/k3d-io/k3d-tools:5.9.0"
_STAND_IN = "autoregistry-lab/node"
_HERE = Path(__file__).resolve().parent
_RUNTIME = _HERE.parent / "lab" / "without-sys-resource"
_PACKAGES = (
    "iptables",
    "iproute2",
    "procps",
    "ca-certificates",
    "curl",
    "mount",
    "kmod",
    "bash",
    "openssl",
    "python3-minimal",
    "python3-yaml",
    "runc",
)
_CHANGES = (
    'ENTRYPOINT ["/bin/k3s"]',
    'CMD ["server"]',
    "ENV PATH=/bin:/usr/bin:/sbin:/usr/sbin:/opt/node",
    "VOLUME /var/lib/kubelet",
    "VOLUME /var/lib/rancher/k3s",
    "VOLUME /var/lib/cni",
    "VOLUME /var/log",
)


def node_image(docker: Docker) -> str:
    """Make sure that the daemon has a node image for `k3d cluster create --image`; its name."""
    with locked(f"image-{docker.store}", directory=RUN):
        if _has(docker, K3S) or pull(docker, K3S):
            return K3S
        made = _tree()
        name = f"{_STAND_IN}:{made.name.rpartition('-')[2]}"
        if not _has(docker, name):
            import_tree(docker, name, made, _CHANGES)
    return name


def tools_image(docker: Docker) -> str:
    """k3d's own helper, which every `k3d cluster create` starts."""
    return image(docker, TOOLS)


def environment(docker: Docker) -> dict[str, str]:
    """What k3d needs in its environment to make a cluster in this daemon and leave everything else alone."""
    found = docker.environment
    k3d = tool("k3d").parent
    return {
        **found,
        "PATH": f"{k3d}:{found.get('PATH', os.environ.get('PATH', ''))}",
        "K3D_IMAGE_TOOLS": TOOLS,
        "K3D_FIX_DNS": "0",
    }


def create_arguments(docker: Docker) -> list[str]:
    """Flags of `k3d cluster create` for a cluster of such nodes, the user's kubeconfig left as it is."""
    tools_image(docker)
    return [
        *("--image", node_image(docker)),
        "--no-lb",
        *("--kubeconfig-update-default=false", "--kubeconfig-switch-context=false"),
    ]


def _has(docker: Docker, name: str) -> bool:
    return docker.cli("image", "inspect", "--format", "{{.Id}}", name, check=False).returncode == 0


@cache
def _tree() -> Path:
    recipe = [
        (_HERE / "k3s").read_bytes(),
        _RUNTIME.read_bytes(),
        inspect.getsource(pause).encode(),
        repr((_PACKAGES, _CHANGES)).encode(),
        *(str(path).encode() for path in programs().values()),
    ]
    version = hashlib.sha256(b"".join(recipe)).hexdigest()[:12]
    return once("node", version, _make, usually=10)


def _make(tree: Path) -> None:
    base = once(
        "node-base", hashlib.sha256(repr(_PACKAGES).encode()).hexdigest()[:12], _base, usually=40
    )
    run(["cp", "-a", f"{base}/.", tree], log="node")  # devices and owners included
    for place, program in programs().items():
        target = tree / "opt/node" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, target)
    shutil.copy(_RUNTIME, tree / "opt/node" / _RUNTIME.name)
    pause.write_pause(tree / "opt/node/pause.tar", tool("busybox"))
    shutil.copy(_HERE / "k3s", tree / "usr/bin/k3s")
    (tree / "usr/bin/k3s").chmod(0o755)
    for name in ("kubectl", "crictl", "ctr"):
        (tree / "usr/bin" / name).symlink_to("k3s")
    # k3d's entry point is a /bin/sh script that traps SIGTERM by a name which dash refuses.
    shell = tree / "usr/bin/sh"
    shell.unlink()
    shell.symlink_to("bash")


def _base(tree: Path) -> None:
    debian.tree("bookworm", tree, *_PACKAGES)


__all__ = ["create_arguments", "environment", "node_image", "tools_image"]
