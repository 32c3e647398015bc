"""What to do about a verdict, in a sentence or two."""

from __future__ import annotations

ADVICE: dict[str, tuple[str, ...]] = {
    "Failed": (
        "Nothing was judged; the reference and all earlier executions are as they were.",
        "Correct what the sentence above names, then run the same window again: this report is replaced.",
    ),
    "Too few records": (
        "Only the ranking was judged. Watch longer windows, or lower drift.min_rows and accept that less can be seen.",
        "If there should have been more traffic, look at what was captured and rejected below.",
    ),
    "No verdict": (
        "Nothing could be compared. Make a new reference with stage=baseline, from data that the model uses.",
    ),
    "Drift": (
        "Look at the first of the movers where its values come from, and at its likely cause.",
        "If the change is meant to stay, make a new reference with stage=baseline.",
    ),
}
ADVICE["Severe drift"] = ADVICE["Drift"]
DOUBT = "Settle first what is in doubt: until then neither drift nor its absence is sure."


def advice(headline: str, doubtful: bool) -> tuple[str, ...]:
    """Return what to do about a verdict; nothing where all is well."""
    return (DOUBT,) * doubtful + ADVICE.get(headline, ())
