"""The configuration of the node's parts, and their paths, which are those of k3s."""

from __future__ import annotations

import json
from pathlib import Path

PROGRAMS = Path("/opt/node")
HOME = Path("/var/lib/rancher/k3s")
CERTS = HOME / "agent/etc/containerd/certs.d"
TLS = HOME / "server/tls"
MANIFESTS = HOME / "server/manifests"
SOCKET = Path("/run/k3s/containerd/containerd.sock")
KUBECONFIG = Path("/etc/rancher/k3s/k3s.yaml")
REGISTRIES = Path("/etc/rancher/k3s/registries.yaml")
LOGS = Path("/var/log/node")
PAUSE = "localhost/pause:1"

# A sandbox may forbid AppArmor, cgroup v2 and negative OOM scores; use_local_image_pull is k3s's own choice.
CONTAINERD = f"""\
version = 3
root = "{HOME}/agent/containerd"
state = "/run/k3s/containerd"
[grpc]
address = "{SOCKET}"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
use_local_image_pull = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "{CERTS}"
[plugins.'io.containerd.cri.v1.runtime']
disable_apparmor = true
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{PROGRAMS}/cni"]
conf_dir = "/etc/cni/net.d"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{PROGRAMS}/without-sys-resource"
"""

# There is no cluster DNS. With an address that refuses connections, the kubelet adds no warning to each pod's events.
KUBELET = f"""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://{SOCKET}
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
serializeImagePulls: false
clusterDomain: cluster.local
clusterDNS: ["127.0.0.1"]
evictionHard: {{}}
imageGCHighThresholdPercent: 100
"""

# k3d adds host.k3d.internal and the nodes' names to it.
COREDNS = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: coredns
  namespace: kube-system
data:
  NodeHosts: |
"""


def network(address: str) -> str:
    """Return the CNI configuration of a node; the subnet of its pods is derived from its address."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "ipam": {
            "type": "host-local",
            "subnet": f"10.42.{address.rpartition('.')[2]}.0/24",
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "node", "plugins": [bridge, ports]})


def kubeconfig(server: str, token: str) -> str:
    """Return a kubeconfig (JSON is YAML). Clients do not check the API server's certificate."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "default",
            "clusters": [
                {
                    "name": "default",
                    "cluster": {"server": server, "insecure-skip-tls-verify": True},
                }
            ],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
            "users": [{"name": "default", "user": {"token": token}}],
        }
    )
