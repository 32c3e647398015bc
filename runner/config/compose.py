"""A composed configuration → validated settings → what runs them."""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

import runner
from runner.config.settings import Settings
from runner.config.validation import describe
from runner.config.wiring import Others, assemble
from runner.domain.executions import Outcome
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.errors import SettingsError
from runner.models.http import Http
from runner.models.local_endpoint import LocalEndpoint
from runner.models.remote import Remote
from runner.paths import resource
from runner.protocols import Track
from runner.results.directories import Provenance
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.durations import duration
from runner.scheduling.timetable import dump
from runner.sources.data import Data
from runner.urls import shown

EXPLAINING = {"quickstart", "plan", "baseline", "monitor"}
"""The stages that ask the model on purpose."""
DEPENDENCIES = ("numpy", "polars", "hydra-core", "pydantic", "jmespath")


def validate(config: DictConfig) -> Settings:
    """Return the settings that a composed configuration holds.

    Raises:
        SettingsError: with every problem at once, each with its full key, the value got and what is allowed.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        raw: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = str(error).splitlines()[0]
        raise SettingsError([f"{key}: {reason}" if key else reason]) from error
    problems = [f"{key}: required, but not set; pass {key}=..." for key in missing]
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        problems += [told for key, told in describe(error, raw) if key not in missing]
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def snapshot(config: DictConfig) -> str:
    """Return the resolved configuration as YAML that reads back as itself, without what URLs may hide."""
    values: Any = _literal(OmegaConf.to_container(config, resolve=True))
    for group, key in (("model", "url"), ("model", "endpoint_url"), ("stage", "url")):
        if isinstance(values[group].get(key), str):
            values[group][key] = shown(values[group][key])
    return OmegaConf.to_yaml(OmegaConf.create(values))


def _literal(value: Any) -> Any:
    r"""Return plain data whose texts mean themselves to OmegaConf.

    >>> print(_literal({"template": ["$features", "${x}"]})["template"][1])
    \${x}
    """
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(inner) for inner in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def build(settings: Settings, snapshot: str, track: Track) -> Callable[[], Outcome]:
    """Return what runs the configured stage.

    Args:
        settings: the validated settings.
        snapshot: the resolved configuration as YAML, stored beside each result.
        track: shows progress.
    """
    provenance = Provenance(snapshot, _versions(), time.perf_counter)
    others = Others(partial(_declared, settings, snapshot), _monitors, _executing, _keeping)
    if settings.stage.kind in EXPLAINING and not isinstance(settings.model, Remote) and settings.model.deploy:
        shadow = LocalEndpoint(settings.model, _served(snapshot), partial(_loopback, settings.data))
        return partial(_within, shadow, assemble(settings, shadow, provenance, track, others))
    return assemble(settings, settings.model, provenance, track, others)


def _within(shadow: LocalEndpoint, run: Callable[[], Outcome]) -> Outcome:
    with shadow:
        return run()


def _served(snapshot: str) -> str:
    """Return the configuration of a process that serves the model of a snapshot, on a free port, uncaptured."""
    config = {key: value for key, value in OmegaConf.create(snapshot).items() if key != "stage"}
    private = {"port": 0, "attached": True, "token_env": "SHAPWATCH_SHADOW_TOKEN"}  # not that of another endpoint
    stage = OmegaConf.merge(_option("stage/serve"), private)
    return OmegaConf.to_yaml(OmegaConf.merge(config, {"stage": stage, "data_capture": {"enable_capture": False}}))


def _loopback(data: Data, url: str) -> Http:
    """Return a model that is served on this machine, asked as the captured endpoint is."""
    model = OmegaConf.merge(_option("model/http"), {"url": url})
    config = OmegaConf.create({"data": _literal(asdict(data)), "model": model})
    values: Any = OmegaConf.to_container(config.model, resolve=True)
    return Http(**values)


def _declared(settings: Settings, snapshot: str) -> Declaration:
    """Return what the settings declare to the ledger.

    Raises:
        SettingsError: when a setting may hold a secret, which no ledger shall.
    """
    urls = {f"model.{key}": getattr(settings.model, key, None) for key in ("url", "endpoint_url")}
    problem = "what follows the question mark may be a secret, and the ledger keeps none"
    if hidden := [key for key, url in urls.items() if url and shown(url) != url]:
        raise SettingsError(
            [f"{key}: {problem}; give a token in the variable that model.token_env names" for key in hidden]
        )
    assert settings.schedule is not None  # noqa: S101  Settings._inputs checks it
    return Declaration(
        name=settings.monitor.name,
        endpoint=settings.monitor.endpoint,
        reference=str(settings.monitor.reference),
        timetable=settings.schedule,
        changes=_changes(json.loads(dump(settings.schedule))),
        snapshot=Snapshot(_without_stage(snapshot), str(Path.cwd())),
    )


def _changes(timetable: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the command line sets in a timetable, None when that, or an experiment, chooses another one."""
    from runner.config import hydra

    told = [re.match(r"[+~]*schedule(?:\.(\w+))?=", override) for override in hydra.overrides()]
    given = {match[1] for match in told if match}
    usual: Any = OmegaConf.to_container(_option("schedule/hourly"))
    others = {key: value for key, value in timetable.items() if key not in given}
    if given & {None, "kind", "expression"} or not others.items() <= usual.items():
        return None
    return {key: timetable[key] for key in timetable if key in given}


def _without_stage(snapshot: str) -> str:
    """Return what every execution of a schedule has in common; an execution has no schedule of its own."""
    config = {key: value for key, value in OmegaConf.create(snapshot).items() if key != "stage"}
    return OmegaConf.to_yaml(OmegaConf.merge(config, {"schedule": None}))


def _executing(snapshot: Snapshot, entry: ExecutionRecord) -> str:
    """Return the configuration of a process that runs an execution."""
    stage = {
        "window": f"{entry.window.start.isoformat()}/{entry.window.end.isoformat()}",
        "scheduled": entry.scheduled.isoformat(),
        "attached": True,
    }
    config = {"stage": OmegaConf.merge(_option("stage/monitor"), stage)}
    return OmegaConf.to_yaml(OmegaConf.merge(OmegaConf.create(snapshot.settings), config))


def _keeping(snapshot: Snapshot) -> timedelta | None:
    """Return how long results are kept that come from some settings, None for ever."""
    text = OmegaConf.select(OmegaConf.create(snapshot.settings), "monitor.keep")
    return duration(text) if text else None


def _monitors(experiments: Sequence[str]) -> list[Declaration]:
    """Return what other experiments declare, everything else as on this command line.

    Raises:
        SettingsError: with the problems of the first one that has some.
    """
    from runner.config import hydra

    declarations: list[Declaration] = []
    for experiment in experiments:
        config = hydra.composed(experiment)
        try:
            declared = _declared(validate(config), snapshot(config))
        except SettingsError as error:
            raise SettingsError([f"in the experiment {experiment}: {problem}" for problem in error.problems]) from error
        if declared.name in (names := [one.name for one in declarations]):
            others = f"{experiments[names.index(declared.name)]} and {experiment}"
            raise SettingsError(
                [f"stage.monitors: {others} have the same monitor.name, {declared.name}; give each its own"]
            )
        declarations.append(replace(declared, changes=None))
    return declarations


def _option(name: str) -> Any:
    return OmegaConf.load(resource("conf") / f"{name}.yaml")


def _versions() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in DEPENDENCIES}
    return {"shapwatch": runner.__version__, "python": platform.python_version(), **packages}
