"""k3d clusters: making them, what is done inside their nodes, and the files they need."""
