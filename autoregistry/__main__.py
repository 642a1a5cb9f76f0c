"""`python -m autoregistry`."""

from autoregistry.cli import main

main()
