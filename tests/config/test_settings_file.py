"""Settings files: data that can be received from anybody, without code in it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from runner import cli
from runner.config import compose, settings_file
from runner.config.hydra import launch
from runner.errors import MissingInput, SettingsError
from tests.golden import Golden

STAGE = "stage={kind:baseline}"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the settings file of a baselining."""
    return _written(tmp_path, monkeypatch)


def _written(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    cli.register_package()
    snapshots = []

    def task(config: Any) -> int:
        compose.validate(config)
        snapshots.append(compose.snapshot(config))
        return 0

    monkeypatch.setattr(sys, "argv", ["shapwatch", "stage=baseline", f"paths.root={folder}/root", *overrides])
    launch(task, cli.CONF)
    (folder / "settings.yaml").write_text(snapshots[0])
    return folder / "settings.yaml"


def test_file_gives_the_settings_that_it_was_written_from(written: Path) -> None:
    """The stage is replaced; other overrides change single values."""
    config = settings_file.load(written, [STAGE, "shap.seed=7", "model.label_headers=[a]"])
    compose.validate(config)
    stored = OmegaConf.load(written)
    assert (config.shap.seed, list(config.model.label_headers)) == (7, ["a"])
    assert config.data == stored.data


@pytest.mark.parametrize(
    "added",
    [
        "hydra: {callbacks: {x: {_target_: os.system, command: exit}}}",
        "extra: {_target_: os.system}",
        "extra: [{inner: {_target_: os.system}}]",
        "extra: !!binary aGVsbG8=",
        "extra: !!python/object/apply:os.system [exit]",
        "a: &a [1]\nb: [*a, *a]",
        "extra: ${oc.env:HOME}",
        "extra: 'https://example.com/${oc.env:HOME}'",
        r"extra: '\\${oc.env:HOME}'",
        "extra: " + "[" * 1000 + "]" * 1000,
        "extra: [",
        "extra: 1\nextra: 2",
    ],
    ids=range(12),
)
def test_file_with_more_than_data_is_refused(added: str, written: Path, golden: Golden) -> None:
    """Nothing is constructed, called, read from the environment, or multiplied."""
    written.write_text(f"{added}\n{written.read_text()}")
    with golden.raises(SettingsError):
        settings_file.load(written, [STAGE])


def test_sections_of_another_type_are_refused(written: Path) -> None:
    """A list in place of a section gives a problem, and no other error."""
    stored = OmegaConf.load(written)
    for section in ("model", "engine", "publish", "stage", "paths"):
        for value in ([1, [2]], "text", 5, None):
            written.write_text(OmegaConf.to_yaml({**stored, section: value}))
            with pytest.raises(SettingsError):
                compose.validate(settings_file.load(written, [STAGE]))


@pytest.mark.parametrize("content", [b"[1, 2]", b"", b"\xff\xfe", b"word"], ids=range(4))
def test_other_file_is_refused(content: bytes, tmp_path: Path) -> None:
    """It is no mapping, or no text."""
    (tmp_path / "settings.yaml").write_bytes(content)
    with pytest.raises(SettingsError):
        settings_file.load(tmp_path / "settings.yaml", [STAGE])


def test_file_with_many_values_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Their number is limited, because each takes time."""
    monkeypatch.setattr(settings_file, "MAX_SCALARS", 100)
    (tmp_path / "settings.yaml").write_text("stage:\n" + "".join(f"  key_{i}: {i}\n" for i in range(50)))
    with golden.raises(SettingsError):
        settings_file.load(tmp_path / "settings.yaml", [STAGE])


def test_missing_large_and_special_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is read."""
    for path in (tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(MissingInput):
            settings_file.load(path, [STAGE])
    monkeypatch.setattr(settings_file, "MAX_BYTES", 3)
    (tmp_path / "settings.yaml").write_text("a: b")
    with pytest.raises(SettingsError):
        settings_file.load(tmp_path / "settings.yaml", [STAGE])


@pytest.mark.parametrize(
    "override",
    ["word", "~stage", "shap.seed=1,2", "shap.seed=choice(1,2)", "shap.seed=${oc.env:HOME}", "--config-dir", "a@b=c"],
)
def test_override_of_another_form_is_refused(override: str, written: Path, golden: Golden) -> None:
    """Each is one key with one literal value."""
    with golden.raises(SettingsError):
        settings_file.load(written, [STAGE, override])


@pytest.mark.parametrize("stage", ["stage={kind:daemon}", "stage={kind:schedule,action:create}", "stage=monitor"])
def test_other_stages_are_refused(stage: str, written: Path) -> None:
    """They write no result, and some need the overrides of Hydra's command line."""
    with pytest.raises(SettingsError, match="stage"):
        settings_file.load(written, [stage])


@pytest.mark.parametrize(
    ("key", "overrides"),
    [
        ("model.function", ("model=python", "~model.artifact", "model.function=scoring:predict")),
        ("model.trusted", ("model=sklearn", "model.artifact=m.skops", "model.trusted=[a.B,'c d']")),
        ("engine.address", ("engine=dask", "engine.address=tcp://10.0.0.1:8786")),
        ("model.url", ("model=http", "~model.artifact", "model.url=http://example.com/score")),
        ("model.token_env", ("model=http", "~model.artifact", "model.url=http://e.com", "model.token_env=PGPASSWORD")),
    ],
)
def test_code_and_receivers_of_secrets_need_a_confirmation(
    key: str, overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of a result contains it, so that a reader of the command sees the code and the address."""
    path = _written(tmp_path, monkeypatch, *overrides)
    with pytest.raises(SettingsError, match=rf"{key}: names"):
        settings_file.load(path, [STAGE])
    stored = compose.completed(OmegaConf.load(path))  # type: ignore[arg-type]
    confirmed = settings_file.confirmations(compose.validate(stored))
    assert key in [override.partition("=")[0] for override in confirmed]
    loaded = settings_file.load(path, [STAGE, *confirmed])
    stored.stage = {"kind": "baseline"}
    assert loaded == stored


@pytest.mark.parametrize("value", ["a:b", "a b", 'q"x\\', "null", "1", 'x\\"y', "a,b", "it's", "http://[::1]:80/"])
def test_confirmation_is_read_as_it_is_written(value: str, written: Path) -> None:
    """Values with special characters are quoted."""
    settings: Any = SimpleNamespace(model=SimpleNamespace(function=value))
    config = settings_file.load(written, [STAGE, *settings_file.confirmations(settings)])
    assert config.model.function == value
