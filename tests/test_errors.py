"""Errors: messages with correct plurals, and copies of errors from other processes."""

from __future__ import annotations

import errno
import json
import os
import pickle

import pytest

from runner.errors import (
    PROBLEM_CHARACTERS,
    PROBLEMS_SHOWN,
    DatasetError,
    FeatureMismatch,
    MissingSnapshot,
    ModelInputError,
    NoData,
    NoValidRecords,
    PublishError,
    SettingsError,
    ShapwatchError,
    TooManyRejected,
    UnknownSchedule,
    os_error_message,
    printable,
    snippet,
)
from tests.golden import Golden

WINDOW = "2026-01-05 09:00–10:00 UTC"
ERRORS = {
    "one problem": SettingsError(["shap.seed: expected an integer (got 'x')"]),
    "two problems": SettingsError(["a: no such key (got 1)", "b: no such key (got 2)"]),
    "one line": DatasetError("a.jsonl:1: not JSON"),
    "two lines": DatasetError("a.jsonl:1: not JSON", 1),
    "many lines": DatasetError("a.jsonl:1: not JSON", 1234),
    "one folder": NoData(WINDOW, ["capture/09"], 1, 0, 0),
    "two folders": NoData(WINDOW, ["capture/09", "capture/10"], 2, 1, 1),
    "three folders": NoData(WINDOW, ["capture/09", "capture/10", "capture/11"], 0, 2, 2),
    "one record": NoValidRecords(WINDOW, {"not_json": 1}, "a.jsonl:1: not JSON"),
    "two records": NoValidRecords(WINDOW, {"not_json": 1, "payload": 1}, "a.jsonl:1: not JSON"),
    "too many": TooManyRejected(WINDOW, 0.25, 0.05, {"not_json": 1}, ["a.jsonl:1: not JSON"]),
    "no schedule": UnknownSchedule("churn", "sqlite:///x", []),
    "many schedules": UnknownSchedule("churn", "sqlite:///x", [f"monitor-{i}" for i in range(11)]),
    "no snapshot": MissingSnapshot("sqlite:///x", "0a1b"),
    "input": ModelInputError("onnx", "age", "x", "numbers"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_messages(error: ShapwatchError, golden: Golden) -> None:
    """Nouns and verbs agree with the numbers."""
    golden(error)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_pickled_error_is_equal(error: ShapwatchError) -> None:
    """Class, fields and message are unchanged."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  written here
    assert (type(copy), vars(copy), str(copy)) == (type(error), vars(error), str(error))


def test_empty_window_has_the_failure_reason_of_sagemaker() -> None:
    """Other errors have their message as the reason."""
    assert ERRORS["one folder"].reason == "Job inputs had no data"
    assert ERRORS["one record"].reason == str(ERRORS["one record"])


def test_error_of_the_operating_system_names_the_file(golden: Golden) -> None:
    """Without a file the message names the disk."""
    golden(os_error_message(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    golden(os_error_message(OSError(errno.EACCES, os.strerror(errno.EACCES), "/data/x")))


def test_snippet_escapes_and_truncates() -> None:
    """Control characters are escaped; long values end in an ellipsis."""
    assert snippet(b"a\n\xff") == "a\\n\N{REPLACEMENT CHARACTER}"
    assert snippet("x" * 120) == "x" * 120
    assert snippet("x" * 121) == "x" * 119 + "…"


def test_settings_error_with_many_problems_is_short() -> None:
    """It contains the first problems, and the number of the others."""
    lines = str(SettingsError([f"key{i}: no such key" for i in range(200_000)])).splitlines()
    assert len(lines) == PROBLEMS_SHOWN + 2
    assert "199,950 more" in lines[-1]


def test_feature_mismatch_of_many_features_is_short() -> None:
    """Long names are cut too."""
    message = str(FeatureMismatch([f"feature{i}" for i in range(200_000)], ["x" * 100_000]))
    assert len(message) < 2_000
    assert "199,990 more" in message


def test_settings_error_is_short_and_contains_no_secret() -> None:
    """Credentials and queries of URLs are hidden, control characters escaped, and long lines shortened."""
    url = "postgresql://me:hush@h/db?password=hush"
    text = str(SettingsError([f"a: {url} (got {url!r})", "b: \x1b[2J", f"c: {'x' * 100_000}", "d\n  e"]))
    assert "hush" not in text
    assert r"b: \x1b[2J" in text
    assert len(text) < PROBLEM_CHARACTERS + 200
    assert text.endswith("  d\n  e")


def test_message_of_a_sink_contains_no_password() -> None:
    """Libraries quote the addresses of proxies and endpoints in the environment."""
    error = PublishError("cloudwatch", 'could not connect to "http://me:hush@proxy:8080/x?key=hush"')
    assert str(error) == 'cloudwatch: could not connect to "http://…@proxy:8080/x?…"'


def test_control_characters_are_escaped_for_terminals() -> None:
    """Line ends and tabs are unchanged, and JSON remains the same document."""
    text = "a\tb\n\x1b[31m\x00\x9b\x7fé"
    assert (
        printable(text)
        == r"""a	b
\u001b[31m\u0000\u009b\u007fé"""
    )
    document = json.dumps({"name": text}, ensure_ascii=False)
    assert json.loads(printable(document)) == {"name": text}
