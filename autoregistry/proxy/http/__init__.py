"""HTTP in: the server and its checks."""
