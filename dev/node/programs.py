"""The programs of the stand-in node, built from pinned module files: Kubernetes, etcd, CNI plugins."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dev.lab.cache import TOOLS
from dev.lab.gotools import Family, build
from dev.lab.tools import tool

VERSION = "1.34.4"
_PARTS = TOOLS / "kubernetes/parts/main.go"
_KUBERNETES = Family(
    {
        "parts": "./parts",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        "crictl": "sigs.k8s.io/cri-tools/cmd/crictl",
    },
    usually=330,
    ldflags=(
        f"-X k8s.io/component-base/version.gitVersion=v{VERSION}"
        " -X k8s.io/component-base/version.gitMajor=1"
        " -X k8s.io/component-base/version.gitMinor=34"
        # Unused by the program: it causes a new build when the source of `parts` changes.
        f" -X main.source={hashlib.sha256(_PARTS.read_bytes()).hexdigest()[:12]}"
    ),
)
# `parts` contains all of these, chosen by the name it is started with.
PARTS = ("kubelet", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_ETCD = Family({"etcd": "go.etcd.io/etcd/server/v3"}, usually=20)
_PLUGINS = "github.com/containernetworking/plugins/plugins"
_CNI = Family(
    {
        "bridge": f"{_PLUGINS}/main/bridge",
        "loopback": f"{_PLUGINS}/main/loopback",
        "host-local": f"{_PLUGINS}/ipam/host-local",
        "portmap": f"{_PLUGINS}/meta/portmap",
    },
    usually=10,
)
_CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr")


def programs() -> dict[str, Path]:
    """Return the built program for each path below the node's `/opt/node`."""
    kubernetes = build("kubernetes", _KUBERNETES)
    paths = {name: kubernetes / name for name in _KUBERNETES.packages}
    paths["etcd"] = build("etcd", _ETCD) / "etcd"
    plugins = build("cni", _CNI)
    paths.update({f"cni/{name}": plugins / name for name in _CNI.packages})
    paths.update({name: tool(name) for name in _CONTAINERD})
    return paths
