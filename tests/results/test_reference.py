"""The reference, in folders built by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from runner.errors import MissingInput, UnusableReference
from runner.explain import background as backgrounds
from runner.results.reference import Reference
from tests.golden import Golden

SETTINGS = {"kind": "kernel", "num_samples": 100, "agg_method": "mean_abs", "use_logit": False}
BACKGROUND = pl.DataFrame({"Age": [39], "Rate": [0.5]})
BARE = "the reference is a bare analysis.json: with which settings it was computed is not known"


def analysis(**values: float) -> bytes:
    """Return an analysis.json."""
    label = {"global_shap_values": values, "expected_value": 0.25}
    return json.dumps({"version": "1.0", "explanations": {"kernel_shap": {"label0": label}}}).encode()


ANALYSIS = analysis(Age=0.5, Rate=-0.125)


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the manifest of a baselining run."""
    hashes = {
        "analysis.json": hashlib.sha256(ANALYSIS).hexdigest(),
        "background": backgrounds.identity(BACKGROUND),
        "model": "m",
    }
    background = {"names": ["Age", "Rate"], "rows": [[39, 0.5]]}
    return {"hashes": hashes, "background": background, "estimator": SETTINGS, **changes}


def folder(path: Path, origin: object = None) -> Path:
    """Fill a folder with an analysis and, if given, a manifest."""
    (path / "analysis.json").write_bytes(ANALYSIS)
    if origin is not None:
        (path / "manifest.json").write_text(json.dumps(origin))
    return path


@pytest.mark.parametrize("name", ["", "analysis.json"])
def test_reference_is_a_folder_or_its_analysis(tmp_path: Path, name: str) -> None:
    """The folder and the file in it are the same reference, with its origin."""
    reference = Reference.read(folder(tmp_path, manifest()) / name)
    assert reference.path == tmp_path / "analysis.json"
    assert reference.digest == hashlib.sha256(ANALYSIS).hexdigest()
    assert reference.origin == manifest()
    found = reference.attributions
    assert (found.names, found.labels) == (("Age", "Rate"), ("label0",))
    assert (found.values_DL.tolist(), found.expected_L.tolist()) == ([[0.5], [-0.125]], [0.25])


@pytest.mark.parametrize("origin", [None, [], {}, {"hashes": None}, {"hashes": "x"}, {"hashes": {}}])
def test_reference_without_its_own_manifest_is_bare(tmp_path: Path, origin: object) -> None:
    """A manifest that is absent or foreign says nothing about this analysis."""
    assert Reference.read(folder(tmp_path, origin)).origin is None


def test_bare_file_of_any_name_is_read(tmp_path: Path) -> None:
    """An analysis that SageMaker Clarify wrote is a reference under any name."""
    (tmp_path / "clarify.json").write_bytes(ANALYSIS)
    assert Reference.read(tmp_path / "clarify.json").attributions.names == ("Age", "Rate")


@pytest.mark.parametrize("name", ["", "absent", "absent.json"])
def test_missing_reference_says_what_to_do(tmp_path: Path, name: str, golden: Golden) -> None:
    """Without a reference the setting and the stage that makes one are named."""
    with golden.raises(MissingInput):
        Reference.read(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"explanations":{"kernel_shap":{}}}', analysis()])
def test_unreadable_reference_is_named(tmp_path: Path, data: bytes, golden: Golden) -> None:
    """A file that is no analysis is named."""
    (tmp_path / "analysis.json").write_bytes(data)
    with golden.raises(UnusableReference):
        Reference.read(tmp_path)


def test_background_is_the_references_own(tmp_path: Path) -> None:
    """The rows come back with their names and types."""
    assert Reference.read(folder(tmp_path, manifest())).background().equals(BACKGROUND)


def test_bare_reference_has_no_background(tmp_path: Path, golden: Golden) -> None:
    """Without an origin the rows have to be given."""
    with golden.raises(UnusableReference):
        Reference.read(folder(tmp_path)).background()


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ({**manifest(), "hashes": {**manifest()["hashes"], "analysis.json": "other"}}, "is another analysis than"),
        ({**manifest(), "hashes": {"analysis.json": manifest()["hashes"]["analysis.json"]}}, "damaged"),
        (manifest(background=None), "damaged"),
        (manifest(background={"names": None, "rows": []}), "damaged"),
        (manifest(estimator=None), "damaged"),
    ],
)
def test_a_damaged_origin_is_never_taken_for_none(tmp_path: Path, origin: object, said: str, golden: Golden) -> None:
    """An analysis whose manifest is not whole is refused, or the guards would be off."""
    with golden.raises(UnusableReference):
        Reference.read(folder(tmp_path, origin))


def test_a_torn_manifest_is_refused(tmp_path: Path, golden: Golden) -> None:
    """So is one that is no JSON."""
    (folder(tmp_path) / "manifest.json").write_text("{")
    with golden.raises(UnusableReference):
        Reference.read(tmp_path)


def test_equal_settings_need_no_words(tmp_path: Path) -> None:
    """With the same settings and rows there is nothing to say."""
    assert Reference.read(folder(tmp_path, manifest())).check_comparable(SETTINGS, BACKGROUND) == []


def test_bare_reference_is_compared_with_a_caveat(tmp_path: Path) -> None:
    """Without an origin the caveat is all there is to say."""
    assert Reference.read(folder(tmp_path)).check_comparable(SETTINGS, BACKGROUND) == [BARE]


def test_settings_of_noise_are_reported(tmp_path: Path, golden: Golden) -> None:
    """Other samples or another explainer change only the noise."""
    live = {"kind": "exact", "num_samples": 200, "seed": 1, "agg_method": "mean_abs", "use_logit": False}
    told = Reference.read(folder(tmp_path, manifest())).check_comparable(live, BACKGROUND)
    assert len(told) == 3
    golden("\n".join(told))


@pytest.mark.parametrize(("key", "value"), [("agg_method", "median"), ("use_logit", True)])
def test_settings_of_meaning_are_refused(tmp_path: Path, key: str, value: object, golden: Golden) -> None:
    """Another aggregation or unit makes the numbers incomparable."""
    reference = Reference.read(folder(tmp_path, manifest()))
    with golden.raises(UnusableReference):
        reference.check_comparable({**SETTINGS, key: value}, BACKGROUND)


def test_other_background_is_refused(tmp_path: Path, golden: Golden) -> None:
    """Another SHAP baseline makes the numbers incomparable."""
    reference = Reference.read(folder(tmp_path, manifest()))
    with golden.raises(UnusableReference):
        reference.check_comparable(SETTINGS, BACKGROUND.with_columns(Age=40))
