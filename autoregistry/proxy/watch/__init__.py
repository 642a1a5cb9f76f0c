"""Work that starts without a client: builds, nodes, clusters."""
