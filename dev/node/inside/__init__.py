"""`/bin/k3s` of the stand-in node: the command line of k3s for upstream Kubernetes.

It has as much of k3s as k3d, containerd's mirrors and a pod need. Missing: CoreDNS, traefik, flannel, kube-proxy,
k3s's own controllers, several servers. The image contains a copy of this package and Debian's Python.
"""
