"""Access to Docker. Only this package imports `docker`. It is synchronous; callers provide the threads."""
