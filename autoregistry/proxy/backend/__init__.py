"""HTTP out: the registry behind the proxy."""
