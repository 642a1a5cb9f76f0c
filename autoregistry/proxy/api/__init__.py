"""The proxy's own endpoints under /_autoregistry/."""
