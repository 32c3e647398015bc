"""How good or bad something is, in the words that become colours and marks."""

from __future__ import annotations

GOOD, WARNING, BAD = "good", "warning", "bad"

STATES = {
    "No drift": GOOD,
    "No material drift": GOOD,
    "Drift": BAD,
    "Severe drift": BAD,
    "No verdict": WARNING,
    "Too few records": WARNING,
    "Failed": BAD,
    "Reference": GOOD,
}
"""By headline."""


def state(headline: str) -> str:
    """Return the state that a headline stands for; one that is not known is worth a look."""
    return STATES.get(headline, WARNING)
