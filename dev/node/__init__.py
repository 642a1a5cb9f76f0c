"""k3d's node image: `rancher/k3s` if it can be pulled, else a stand-in of Kubernetes and containerd 2.3.

The stand-in has a real kubelet, API server and containerd. It runs the package `inside`, which describes
what is missing compared with k3s.
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
from dev.node.programs import PARTS, programs

K3S = "rancher/k3s:v1.34.4-k3s1"
TOOLS = "ghcr.io/k3d-io/k3d-tools:5.9.0"
_STAND_IN = "autoregistry-lab/node"
_HERE = Path(__file__).resolve().parent
_INSIDE = _HERE / "inside"
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
_LAUNCHER = """\
#!/usr/bin/python3
import sys
sys.path.insert(0, "/opt/node/python")
from dev.node.inside.k3s import main
main()
"""
_CRICTL = """\
runtime-endpoint: unix:///run/k3s/containerd/containerd.sock
image-endpoint: unix:///run/k3s/containerd/containerd.sock
"""
_CHANGES = (
    'ENTRYPOINT ["/bin/k3s"]',
    'CMD ["server"]',
    "ENV PATH=/bin:/usr/bin:/sbin:/usr/sbin:/opt/node",
    "ENV KUBECONFIG=/etc/rancher/k3s/k3s.yaml",
    "ENV CONTAINERD_ADDRESS=/run/k3s/containerd/containerd.sock",
    "ENV CONTAINERD_NAMESPACE=k8s.io",
    "VOLUME /var/lib/kubelet",
    "VOLUME /var/lib/rancher/k3s",
    "VOLUME /var/lib/cni",
    "VOLUME /var/log",
)


def node_image(docker: Docker) -> str:
    """Make sure that the daemon has a node image, and return its name for `k3d cluster create --image`."""
    with locked(f"image-{docker.store}", directory=RUN):
        if _has(docker, K3S) or pull(docker, K3S):
            return K3S
        tree = _tree()
        name = f"{_STAND_IN}:{tree.name.rpartition('-')[2]}"
        if not _has(docker, name):
            import_tree(docker, name, tree, _CHANGES)
    return name


def tools_image(docker: Docker) -> str:
    """Make sure that the daemon has k3d's helper image, which every `k3d cluster create` runs."""
    return image(docker, TOOLS)


def environment(docker: Docker) -> dict[str, str]:
    """Return the environment in which k3d creates clusters in this daemon only."""
    variables = docker.environment
    k3d = tool("k3d").parent
    return {
        **variables,
        "PATH": f"{k3d}:{variables.get('PATH', os.environ.get('PATH', ''))}",
        "K3D_IMAGE_TOOLS": TOOLS,
        "K3D_FIX_DNS": "0",
    }


def create_arguments(docker: Docker) -> list[str]:
    """Return flags of `k3d cluster create` for such nodes, without changes to the user's kubeconfig."""
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
        *(file.read_bytes() for file in sorted(_INSIDE.glob("*.py"))),
        _RUNTIME.read_bytes(),
        inspect.getsource(pause).encode(),
        inspect.getsource(_make).encode(),
        repr((_PACKAGES, _CHANGES, _LAUNCHER, _CRICTL)).encode(),
        *(str(path).encode() for path in programs().values()),
    ]
    version = hashlib.sha256(b"".join(recipe)).hexdigest()[:12]
    return once("node", version, _make, usually=5)


def _make(tree: Path) -> None:
    packages = hashlib.sha256(repr(_PACKAGES).encode()).hexdigest()[:12]
    base = once("node-base", packages, _base, usually=40)
    run(["cp", "-a", f"{base}/.", tree], log="node")  # devices and owners included
    programs_folder = tree / "opt/node"
    for place, program in programs().items():
        target = programs_folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(program)  # both are in the cache, and large
    for part in PARTS:
        (programs_folder / part).symlink_to("parts")
    shutil.copy(_RUNTIME, programs_folder / _RUNTIME.name)
    pause.write_pause(programs_folder / "pause.tar", tool("busybox"))
    shutil.copytree(
        _INSIDE,
        programs_folder / "python/dev/node/inside",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (tree / "etc/crictl.yaml").write_text(_CRICTL)
    launcher = tree / "usr/bin/k3s"
    launcher.write_text(_LAUNCHER)
    launcher.chmod(0o755)
    for client in ("kubectl", "crictl", "ctr"):
        (tree / "usr/bin" / client).symlink_to(f"/opt/node/{client}")
    # k3d's entry point is a /bin/sh script that traps SIGTERM by a name that dash does not accept.
    shell = tree / "usr/bin/sh"
    shell.unlink()
    shell.symlink_to("bash")


def _base(tree: Path) -> None:
    debian.tree("bookworm", tree, *_PACKAGES)


__all__ = ["create_arguments", "environment", "node_image", "tools_image"]
