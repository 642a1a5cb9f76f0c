"""Docker, and the only importers of the `docker` package. Synchronous; callers bring the threads."""
