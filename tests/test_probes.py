"""Signed inference ids: the key, its file, and ids of others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import probes
from runner.domain.records import PROBE
from runner.probes import KEY_VARIABLE, is_claimed, is_probe, probe_id
from tests.cli_runner import CHECKOUT


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the key, without a key in the environment."""
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(probes.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))  # type: ignore[attr-defined]
    probes._stored_key.cache_clear()
    yield tmp_path / "state" / "shapwatch"
    probes._stored_key.cache_clear()


def new_process() -> None:
    """Forget the key, as a new process does not know it."""
    probes._stored_key.cache_clear()


@pytest.mark.parametrize("number", [1, 7, 10**9])
def test_signed_ids_are_valid(number: int) -> None:
    """They have the prefix, fit into an InferenceId, and differ by number."""
    assert probe_id(number).startswith(f"{PROBE}-{number}-")
    assert len(probe_id(number)) <= 64
    assert not is_claimed(probe_id(number))
    assert is_probe(probe_id(number))
    assert probe_id(number) != probe_id(number + 1)


@pytest.mark.parametrize(
    "inference_id",
    [
        *(PROBE, f"{PROBE}-", f"{PROBE}-1", f"{PROBE}ü", f"{PROBE}-1-{'0' * 24}", probe_id(1) + "0", probe_id(1)[:-1]),
        probe_id(1).replace("-1-", "-2-"),
    ],
)
def test_other_ids_with_the_prefix_are_claimed(inference_id: str) -> None:
    """Without a valid signature, only the prefix matters."""
    assert is_claimed(inference_id)
    assert not is_probe(inference_id)


@pytest.mark.parametrize("inference_id", ["", "1", "shapwatch", PROBE.upper(), f" {PROBE}-1"])
def test_ids_without_the_prefix_are_not_claimed(inference_id: str) -> None:
    """Readers treat such captures as traffic."""
    assert not is_claimed(inference_id)


def test_ids_of_another_key_are_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is read again from the environment."""
    before = probe_id(1)
    monkeypatch.setenv(KEY_VARIABLE, "another key")
    assert is_claimed(before)
    assert not is_claimed(probe_id(1))


def test_key_is_shared_through_a_file_of_the_user(state: Path) -> None:
    """Other users cannot read it, and a second process uses it."""
    first = probe_id(1)
    assert (state / probes.KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in state.iterdir()] == [probes.KEY_FILE]
    new_process()
    assert probe_id(1) == first
    script = f"from runner.probes import is_claimed; print(is_claimed({first!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_key_that_others_can_read_is_not_used(state: Path, mode: int) -> None:
    """The key in the temporary folder is used instead."""
    first = probe_id(1)
    (state / probes.KEY_FILE).chmod(mode)
    new_process()
    second = probe_id(1)
    assert second != first
    new_process()
    assert probe_id(1) == second


def test_key_without_a_writable_folder_belongs_to_the_process(state: Path) -> None:
    """Ids of another process are claimed."""
    state.parent.write_text("a file")
    (state.parent.parent / "temporary").write_text("a file")
    first = probe_id(1)
    assert not is_claimed(first)
    new_process()
    assert is_claimed(first)
