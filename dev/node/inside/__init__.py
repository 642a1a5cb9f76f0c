"""What runs inside the stand-in node as `/bin/k3s`: k3s's command line over upstream Kubernetes.

As much of k3s as k3d, containerd's mirrors and a pod need. Not here: CoreDNS, traefik, flannel, kube-proxy, k3s's own
controllers, several servers. The image holds a copy of this package; its Python is Debian's.
"""
