"""Docker's images, the local registry and the cluster's nodes, kept in step."""

__version__ = "0.1.0"
