"""The verdict in words: title, what changed, how much it matters, what to do."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.drift import (
    Association,
    Canary,
    DriftResult,
    Effect,
    FeatureDrift,
    Headline,
    InputResult,
    LabelRanking,
    LabelResult,
    Level,
    OutputResult,
    Parity,
    RankingResult,
    Verdict,
    highest,
    worst,
)
from runner.drift.summary import headline
from runner.drift.verdict import ACTIONS, LONGEST_TITLE, NOTHING, SIZES, verdict
from tests.golden import Golden

NAMES = ("a", "b")
FEATURES = tuple(FeatureDrift(name, 0.5, 0.25, 0.5, 0.5, 1, 1, 0.1, 0.2, 0.125, 1.0) for name in NAMES)
LABEL = LabelResult(
    "y", "y", Level.NONE, 1.0, Effect(0.03, 0.05, 0.5), Effect(0.1, 0.2, 0.5), Effect(1, 1, 1), FEATURES
)
SCORES = OutputResult("y", Level.NONE, 1.0, 0.02, 0.375, 0.377, -0.01, 0.02, 1.0)
CALM = DriftResult(Level.NONE, Level.NONE, 600, 300, 1e-4, 0.17, (LABEL,), outputs=(SCORES,))
MOVED = replace(SCORES, level=Level.VIOLATION, p=1e-9, mean_now=0.875, change_low=0.45, change_high=0.55)
SHIFTED = replace(LABEL, level=Level.WARNING, p=1e-9, attribution_shift=Effect(0.35, 0.05, 0.001))
SCALED = InputResult(
    "b", Level.VIOLATION, 1e-9, 1.0, 0.0, 0.0, 1.0, 0.0, constant=False, cause="about 100 times (99–101): unit?"
)
DRIFT = replace(
    CALM, level=Level.VIOLATION, level_alone=Level.VIOLATION, inputs=(SCALED,), outputs=(MOVED,), labels=(SHIFTED,)
)
OTHER_MODEL = Parity(0.71, 957, 1e-4, 324)


def words(shown: str, result: DriftResult | None, parity: Parity | None = None, sentence: str = "why.") -> Verdict:
    """Return the verdict in words."""
    return verdict(shown, sentence, result, parity)


@pytest.mark.parametrize(
    ("shown", "result", "parity"),
    [
        (Headline.SEVERE_DRIFT, DRIFT, None),
        (Headline.NO_DRIFT, CALM, None),
        (Headline.MODEL_MISMATCH, CALM, OTHER_MODEL),
        (Headline.MODEL_CHANGED, replace(CALM, canary=Canary(20, True, 0.71, 0.125)), None),
        (Headline.TOO_FEW_RECORDS, replace(CALM, labels=(), outputs=(), rows_live=14), None),
        (Headline.UNCONFIRMED_DRIFT, replace(DRIFT, level=Level.NONE), None),
        (Headline.DRIFT, None, None),
        (Headline.DRIFT, CALM, None),
        (Headline.FAILED, None, None),
        (Headline.NO_DATA, None, None),
    ],
    ids=[
        "drift",
        "calm",
        "mismatch",
        "changed model",
        "too few",
        "unconfirmed",
        "ranking",
        "ranking only",
        "failed",
        "no data",
    ],
)
def test_each_state_has_its_words(
    shown: str, result: DriftResult | None, parity: Parity | None, golden: Golden
) -> None:
    """The title is short; each state says what to do."""
    found = words(shown, result, parity)
    assert len(found.title) <= LONGEST_TITLE
    assert found.action
    golden("\n".join([found.title, found.changed, found.matters, found.action]))


def test_the_title_is_the_cause_without_its_evidence() -> None:
    """Figures and the hypothesis follow in the sentence on what changed."""
    found = words(Headline.SEVERE_DRIFT, DRIFT)
    assert found.title == "b: about 100 times"
    assert "(99–101)" in found.changed
    assert "b" in found.action


def test_how_much_it_matters_has_the_scores_with_their_interval() -> None:
    """The size in one word, the means of both sides, and the interval of the change."""
    found = words(Headline.SEVERE_DRIFT, DRIFT)
    assert found.matters.startswith(SIZES[Level.VIOLATION])
    assert re.findall(r"[+−]?\d+\.?\d*", found.matters) == ["0.375", "0.875", "95", "+0.45", "+0.55", "35.0", "5.0"]


def test_a_joint_change_names_both_features() -> None:
    """Although no input changed by itself."""
    association = Association("a", "b", 0.95, -0.25, 1e-9, Level.VIOLATION)
    found = words(
        Headline.DRIFT, replace(CALM, level=Level.WARNING, level_alone=Level.WARNING, association=association)
    )
    assert re.match(r".*\ba and b\b", found.title)
    assert {"0.95", "-0.25"} <= set(re.findall(r"-?\d\.\d+", found.changed))


def test_a_headline_of_another_version_is_its_own_title() -> None:
    """There is nothing to do."""
    assert words("Something else", None) == Verdict("Something else", "Why.", "", "")


WITHOUT_INPUTS = "although no input did"
LEVELS = st.sampled_from([Level.NONE, Level.INFO, Level.WARNING, Level.VIOLATION])


@st.composite
def results(draw: st.DrawFn) -> tuple[DriftResult, Parity | None]:
    """Return a result whose levels follow from random significant and insignificant changes."""
    levels = {name: draw(LEVELS) for name in ("input", "output", "label")}
    p = {name: 1.0 if level is Level.NONE else 1e-9 for name, level in levels.items()}
    inputs = (replace(SCALED, level=levels["input"], p=p["input"], cause=draw(st.sampled_from([None, SCALED.cause]))),)
    outputs = (replace(MOVED, level=levels["output"], p=p["output"]),)
    labels = (replace(LABEL, level=levels["label"], p=p["label"]),)
    level = worst([*inputs, *outputs, *labels])
    joint = draw(st.sampled_from([None, Effect(0.5, 0.55, 1.0), Effect(0.8, 0.55, 1e-9)]))
    association = draw(
        st.sampled_from(
            [
                None,
                Association("a", "b", 0.5, 0.5, 1.0),
                Association("a", "b", 0.95, -0.25, 1e-9, Level.WARNING),
                Association("a", "b", 0.2, 0.25, 1e-9, Level.WARNING, 0.5, 1.0, 1e-9),
            ]
        )
    )
    together = draw(st.sampled_from([None, 1e-9, 0.01, 0.5]))
    if any(each is not None and each.p == 1e-9 for each in (joint, association)):
        level = highest([level, Level.WARNING])
    else:
        together = None if level is Level.NONE else together
    canary = draw(st.sampled_from([None, Canary(20, False, 0.0, 0.0), Canary(20, True, 0.5, 0.1)]))
    parity = draw(st.sampled_from([None, Parity(0.0, 10), OTHER_MODEL]))
    if (canary and canary.changed) or (parity and not parity.same):
        level = Level.VIOLATION
    return replace(
        CALM,
        level=level,
        level_alone=level,
        inputs=inputs,
        outputs=outputs,
        labels=labels,
        canary=canary,
        separability=joint,
        association=association,
        inputs_together=together,
    ), parity


@given(results())
def test_words_never_contradict_the_level(case: tuple[DriftResult, Parity | None]) -> None:
    """No drift is said only of level none, and then nothing matters and nothing is to be done."""
    result, parity = case
    shown = headline(RankingResult(0.9, (LabelRanking("y", "y", 0.99, None, None),)), result, parity)
    found = words(shown, result, parity)
    says_nothing = found.title == Headline.NO_DRIFT
    assert says_nothing == (result.level is Level.NONE)
    assert (found.changed == f"{NOTHING.capitalize()}.") == says_nothing
    assert found.matters.startswith(SIZES[Level.NONE]) or not says_nothing
    assert (found.action == ACTIONS[Headline.NO_DRIFT]) == says_nothing
    assert Headline.NO_DRIFT not in f"{found.changed} {found.matters} {found.action}"


@given(results())
def test_a_change_of_the_inputs_is_stated_only_with_evidence(case: tuple[DriftResult, Parity | None]) -> None:
    """A change without changed inputs is one of the model, in title, sentence and action alike."""
    result, parity = case
    ranking = RankingResult(0.9, (LabelRanking("y", "y", 0.99, None, None),))
    shown = headline(ranking, result, parity)
    found = words(shown, result, parity)
    text = f"{found.title} {found.changed} {found.action}"
    assert not (result.joint_change and result.without_inputs)
    joint, without, sources = (re.search(each, text) for each in ("jointly|related", WITHOUT_INPUTS, "the sources? of"))
    assert bool(joint) <= (result.joint_change or result.without_inputs)
    assert bool(without) <= result.without_inputs
    if shown in {Headline.DRIFT, Headline.SEVERE_DRIFT}:
        assert bool(re.search(WITHOUT_INPUTS, found.title)) == result.without_inputs
        assert bool(sources) == bool(result.changed_inputs or result.joint_change)
    assert bool(re.search("canary", text)) <= (result.canary is None)
