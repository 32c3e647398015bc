"""Health checks: values, states and notes, and doubts about the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.domain.drift import Canary, DriftResult
from runner.drift.performance import Quality
from runner.report import health
from runner.report.health import Check, State
from runner.results.manifest import DatasetCounts
from tests.golden import Golden
from tests.report.samples import COUNTS, FAILURE, attributions, drift_result, manifest

MANY = replace(COUNTS, files=2, outside=1, probes=7, rejected={"not_json": 2, "no_score": 1})
CANARY = Canary(50, True, 0.125, 0.25)
QUALITY = Quality(records=9, accuracy=0.75, log_loss=None, auc=0.875, notes=("few labels",))
LIVE = attributions(["a"])


def checks(canary: Canary | None = None, **changes: Any) -> dict[str, Check]:
    """Return the checks by name."""
    result: DriftResult = replace(drift_result(LIVE, LIVE), canary=canary)
    return {check.name: check for check in health.checks(manifest(**changes), result)}


@pytest.mark.parametrize(
    ("name", "state", "values", "notes"),
    [
        ("Captured", State.GOOD, {"12", "2"}, {"7"}),
        ("Rejected", State.WARNING, {"3"}, {"2,", "1"}),
        ("Canary", State.WARNING, {"changed"}, {"50", "0.12,", "25.0%"}),
        ("Reference", State.GOOD, {"600"}, {"cdcdcdcdcdcd…"}),
        ("Model quality", State.GOOD, {"AUC", "0.8750"}, {"0.7500,", "9", "few", "labels"}),
    ],
    ids=["captured", "rejected", "canary", "reference", "quality"],
)
def test_checks_show_the_figures_of_the_documents(
    name: str, state: State, values: set[str], notes: set[str], golden: Golden
) -> None:
    """Each check has a value, a state and a note."""
    hashes = {"model": "ab" * 32, "reference": "cd" * 32}
    check = checks(CANARY, counts=MANY, hashes=hashes, quality=QUALITY)[name]
    assert check.state is state
    assert values <= set(check.value.split())
    assert notes <= set(check.note.split())
    golden(str(check))


def test_an_unchanged_canary_is_good(golden: Golden) -> None:
    """With other estimator settings, only scores are compared, so the note has no attribution shift."""
    check = checks(replace(CANARY, changed=False, attribution_shift=None))["Canary"]
    assert check.state is State.GOOD
    assert "%" not in check.note
    golden(str(check))


def test_failed_checks_cast_doubt_on_the_verdict(golden: Golden) -> None:
    """The doubt names each failed check with its value, and no warning."""
    captured = checks(counts=replace(MANY, events=0))["Captured"]
    assert captured.state is State.BAD
    assert {"7", "1"} <= set(captured.note.split())
    golden(str(captured))
    broken = list(checks(counts=replace(MANY, records=0)).values())
    doubt = health.doubt(broken)
    assert [check.name for check in broken if check.name in doubt] == ["Explained", "Serving parity"]
    golden(doubt)
    assert health.doubt(list(checks(serving_parity=None).values())) == ""
    assert list(health.checks(FAILURE, None)) == []


def test_counts_of_a_dataset_are_its_records() -> None:
    """A baselining reads no captures, so nothing is captured or rejected."""
    names = list(checks(counts=DatasetCounts(12)))
    assert "Explained" in names
    assert not {"Captured", "Rejected"} & set(names)


def test_a_new_explainer_needs_no_entry_in_the_report() -> None:
    """The check shows its name, and whether its attributions are exact."""
    estimator = {"explainer": "new", "agg_method": "mean_abs", "use_logit": True}
    check = checks(estimator=estimator)["Estimator"]
    assert check.value == "standard error unknown"
    assert "shap.explainer=new" in check.note
