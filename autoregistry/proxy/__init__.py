"""The registry that people and nodes talk to: HTTP in, the pull, the flights, HTTP out, the journal."""
