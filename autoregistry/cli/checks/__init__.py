"""The checks of `doctor`, and their results."""

from __future__ import annotations

from dataclasses import dataclass

SHOW_LOG = "autoregistry logs --tail 20"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`."""

    about: str
    """The subject: `docker`, `port`, `stack`, a field of the proxy's health, `clusters`, or a cluster's name."""
    sentence: str
    hint: str = ""
    """The command that fixes it."""
    is_well: bool = True


def failed(about: str, sentence: str, hint: str) -> Check:
    """Return a problem, with the command that fixes it."""
    return Check(about, sentence, hint, is_well=False)
