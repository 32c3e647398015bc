"""The health strip: what each check says, and what puts a verdict in doubt."""

from __future__ import annotations

from typing import Any

import pytest

from runner.report import health
from tests.golden import Golden
from tests.report.samples import manifest

COUNTS = {
    "files": 2,
    "events": 12,
    "outside": 1,
    "probes": 7,
    "records": 10,
    "rejected": {"not_json": 2, "no_score": 1},
}
CANARY = {"records": 50, "changed": True, "difference": 0.125, "moved": 0.25}


def checks(finding: dict[str, Any] | None = None, **changes: Any) -> dict[str, tuple[str, str, str]]:
    """Return value, state and note of each check by its name."""
    strip = health.strip(manifest(**changes), finding or {})
    return {check["name"]: (check["value"], check["state"], check["note"]) for check in strip}


@pytest.mark.parametrize(
    ("name", "value", "state", "note"),
    [
        ("Captured", "12 events in 2 files", "good", "7 probes of ours left out"),
        ("Rejected", "3", "warning", "not json 2, no score 1"),
        ("Canary", "moved", "warning", "50 kept records explained again: scores differ by 1.2e-01 at most, 25.0% of"),
        ("Reference", "cdcdcdcdcdcd", "good", "keeps 600 records"),
        ("Model quality", "AUC 0.8750", "good", "accuracy 0.7500, on 9 records with labels; few labels"),
    ],
)
def test_checks_say_what_the_documents_hold(name: str, value: str, state: str, note: str) -> None:
    """Each with a value, a state and an explanation."""
    quality = {"auc": 0.875, "log_loss": None, "accuracy": 0.75, "records": 9, "notes": ["few labels"]}
    hashes = {"model": "ab" * 32, "reference": "cd" * 32}
    finding = {"rows_reference": 600, "canary": CANARY}
    told = checks(finding, counts=COUNTS, hashes=hashes, quality=quality)[name]
    assert told[:2] == (value, state)
    assert told[2].startswith(note)


def test_a_canary_that_is_still_is_fine() -> None:
    """Where the estimator is another, only the scores can be compared."""
    finding = {"canary": {**CANARY, "changed": False, "moved": None}}
    assert checks(finding)["Canary"][:2] == ("still", "good")
    assert "attention" not in checks(finding)["Canary"][2]


def test_what_is_bad_is_told_as_a_doubt(golden: Golden) -> None:
    """All that is bad, in words; what is only worth a look is none."""
    empty = checks(counts={**COUNTS, "events": 0})["Captured"]
    assert empty[1] == "bad"
    golden("\n".join(empty))
    broken = health.strip(manifest(counts={**COUNTS, "records": 0}), {})
    golden(health.doubt(broken))
    assert health.doubt(health.strip(manifest(serving_parity=None), {})) == ""
    assert health.strip({"status": "Failed"}, {}) == []
