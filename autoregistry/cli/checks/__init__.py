"""The checks of `autoregistry doctor`."""
