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
        # Nobody reads this: it makes the family anew when its own source has changed.
        f" -X main.source={hashlib.sha256(_PARTS.read_bytes()).hexdigest()[:12]}"
    ),
)
# `parts` is each of these, by the name it is started by.
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
    """Where each program goes in the node's `/opt/node`, and where it is now."""
    kubernetes = build("kubernetes", _KUBERNETES)
    found = {name: kubernetes / name for name in _KUBERNETES.packages}
    found["etcd"] = build("etcd", _ETCD) / "etcd"
    plugins = build("cni", _CNI)
    found.update({f"cni/{name}": plugins / name for name in _CNI.packages})
    found.update({name: tool(name) for name in _CONTAINERD})
    return found
