"""The checks of `doctor`, and their results."""

from __future__ import annotations

from dataclasses import dataclass

SHOW_LOG = "autoregistry logs --tail 20"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`."""

    about: str
    """The subject: `docker`, `port`, `stack`, a field of the proxy's health, `clusters`, or a cluster's name."""
    is_well: bool
    sentence: str
    hint: str = ""
    """The command that fixes it."""


def passed(about: str, sentence: str, hint: str = "") -> Check:
    """Return a check without a problem."""
    return Check(about, is_well=True, sentence=sentence, hint=hint)


def failed(about: str, sentence: str, hint: str) -> Check:
    """Return a problem, with the command that fixes it."""
    return Check(about, is_well=False, sentence=sentence, hint=hint)
