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
    ("name", "state", "values", "notes"),
    [
        ("Captured", "good", {"12", "2"}, {"7"}),
        ("Rejected", "warning", {"3"}, {"2,", "1"}),
        ("Canary", "warning", {"moved"}, {"50", "1.2e-01", "25.0%"}),
        ("Reference", "good", {"cdcdcdcdcdcd"}, {"600"}),
        ("Model quality", "good", {"AUC", "0.8750"}, {"0.7500,", "9", "few", "labels"}),
    ],
    ids=["captured", "rejected", "canary", "reference", "quality"],
)
def test_checks_have_what_the_documents_hold(
    name: str, state: str, values: set[str], notes: set[str], golden: Golden
) -> None:
    """Each has a value, a state and an explanation."""
    quality = {"auc": 0.875, "log_loss": None, "accuracy": 0.75, "records": 9, "notes": ["few labels"]}
    hashes = {"model": "ab" * 32, "reference": "cd" * 32}
    finding = {"rows_reference": 600, "canary": CANARY}
    value, found, note = checks(finding, counts=COUNTS, hashes=hashes, quality=quality)[name]
    assert found == state
    assert values <= set(value.split())
    assert notes <= set(note.split())
    golden(f"{name}: {value} ({note})")


def test_a_canary_that_is_still_is_fine(golden: Golden) -> None:
    """Where the estimator is another, only the scores can be compared: the note has no share that moved."""
    finding = {"canary": {**CANARY, "changed": False, "moved": None}}
    assert checks(finding)["Canary"][:2] == ("still", "good")
    assert "%" not in checks(finding)["Canary"][2]
    golden(checks(finding)["Canary"][2])


def test_bad_checks_put_the_verdict_in_doubt(golden: Golden) -> None:
    """The doubt names each bad check with its value, and none that is only worth a look."""
    value, state, note = checks(counts={**COUNTS, "events": 0})["Captured"]
    assert (state, value.split()[0]) == ("bad", "0")
    assert {"7", "1"} <= set(note.split())
    golden(f"{value} ({note})")
    broken = health.strip(manifest(counts={**COUNTS, "records": 0}), {})
    doubt = health.doubt(broken)
    assert [check["name"] for check in broken if check["name"] in doubt] == ["Explained", "Serving parity"]
    golden(doubt)
    assert health.doubt(health.strip(manifest(serving_parity=None), {})) == ""
    assert health.strip({"status": "Failed"}, {}) == []
