"""Composed configurations: validated settings, snapshots, and the configurations of other processes."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError  # type: ignore[import-untyped]

from runner import resource
from runner.config.settings import Settings
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.errors import OutdatedSettings, SettingsError, listed, snippet
from runner.models.http import Http
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.timetable import dump, parse_duration
from runner.sources.data import Data
from runner.urls import redact_urls, without_secrets

EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "enum": "{expected}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:,}",
    "greater_than_equal": "at least {ge:,}",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_type": "an integer",
    "less_than": "less than {lt:,}",
    "less_than_equal": "at most {le:,}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_type": "a string",
    "too_long": "a list with a length of at most {max_length}",
    "too_short": "a list with a length of at least {min_length}",
    "tuple_type": "a list",
}
"""Descriptions of the allowed values by pydantic's type of error; placeholders refer to the error's context."""

VERSION = 3
"""Version of stored settings; it increases when a setting is renamed or changes its meaning."""
FORMER_LIMITS = {
    "attribution_shift": ("material", "severe"),
    "total_log2_change": ("material_mass", "severe_mass"),
}
"""Settings of the section drift that were limits of a warning and of a violation before version 3."""
KINDS = {"source", "model"}
"""Groups whose options have different settings; the key `kind` names the option."""
UNSTORED = {"stage", "schedule", "publish"}
"""Groups without a default option in stored settings."""
PUBLISHING = ("version", "stage", "schedule", "paths", "monitor", "publish")
"""Parts of stored settings that are needed to publish a recorded result."""

MAX_PROBLEMS = 100
"""Maximum number of problems that are described; each is compared with all known keys."""
KEYS_SHOWN = 40
"""Maximum number of keys of a section in a message."""


def format_errors(error: ValidationError, raw: Any) -> Iterator[tuple[str, str]]:
    """Yield the full key of each problem, and a message with the value got and the values allowed.

    Args:
        error: error of the validation.
        raw: validated configuration, as plain data.
    """
    details = error.errors(include_url=False)
    for detail in details[:MAX_PROBLEMS]:
        location = detail["loc"]
        if detail["type"] == "too_short" and any(other["loc"][:-1] == location for other in details):
            continue  # pydantic counts only the valid items, and each invalid item has its own message
        key = _key(location, raw)
        yield key, _problem(key, detail, raw)


def _key(location: tuple[int | str, ...], raw: Any) -> str:
    """Return the full key of a problem, without the tags that pydantic adds for unions."""
    keys: list[str] = []
    node = raw
    for step in location:
        if isinstance(node, dict) and step not in node and step == node.get("kind"):
            continue
        if not isinstance(node, dict | list) and keys:
            break
        keys.append(str(step))
        node = node[step] if _contains(node, step) else None
    return ".".join(keys)


def _contains(node: Any, step: int | str) -> bool:
    if isinstance(node, dict):
        return step in node
    return isinstance(node, list) and isinstance(step, int) and step < len(node)


def _problem(key: str, detail: Mapping[str, Any], raw: Any) -> str:
    got = _got(key, detail["input"])
    message = _message(detail)
    match detail["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{key}: no such key{_nearest(key, raw)} {got}"
        case "missing":
            return f"{key}: required, but not set; pass {key}=..."
        case "union_tag_invalid":
            return f"{key}.kind: expected one of {detail['ctx']['expected_tags']} (got {detail['ctx']['tag']!r})"
        case _ if not key:
            return message
        case "value_error" if isinstance(detail["input"], dict) and re.match(r"[\w.]+: ", message):
            return f"{key}.{message}"
        case _:
            return f"{key}: {message} {got}"


def _message(detail: Mapping[str, Any]) -> str:
    """Return the allowed values, or the message of a validator of shapwatch."""
    if detail["type"] in EXPECTED:
        expected = EXPECTED[detail["type"]].format(**detail.get("ctx", {}))
        return "expected " + re.sub(r"<[^:<>]*: (.*?)>", r"\1", expected)  # values of enums
    return str(detail["msg"]).removeprefix("Value error, ")


def _got(key: str, value: Any) -> str:
    """Return the value got, without secrets."""
    if re.search(r"_env(\.\d+)?$", key):
        return "(the value is not shown because it may be secret)"
    return f"(got {snippet(redact_urls(repr(value)))})"


def _nearest(key: str, raw: Any) -> str:
    """Return a hint: the most similar known key, or else all keys of the section."""
    known = [path for path in _leaves(raw) if not f"{path}.".startswith(f"{key}.")]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if near:
        return f"; did you mean {near[0]}?"
    parent = key.rpartition(".")[0]
    siblings = [path.removeprefix(f"{parent}.") for path in known if parent and path.startswith(f"{parent}.")]
    return (
        f"; {parent} has {listed(siblings, KEYS_SHOWN)}; if a file sets this key, remove it with ~{key}"
        if siblings
        else ""
    )


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def validate(config: DictConfig) -> Settings:
    """Return the validated settings of a composed configuration.

    Raises:
        SettingsError: with all problems, each with its full key, the value got and the values allowed.
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
        problems += [problem for key, problem in format_errors(error, raw) if key not in missing]
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def completed(config: DictConfig) -> DictConfig:
    """Return stored settings with the default values of settings that were added after they were stored.

    Raises:
        SettingsError: if a later version of shapwatch stored them.
    """
    values: Any = OmegaConf.to_container(config, resolve=False)
    version = values.pop("version", 1)
    if not isinstance(version, int) or version > VERSION:
        problem = f"the settings have version {version}, but this shapwatch supports versions up to {VERSION}"
        raise SettingsError([f"version: {problem}; use the shapwatch that stored them, or a later one"])
    if isinstance(values.get("drift"), dict):
        values["drift"] = _with_limits(values["drift"], version)
    for group, name in _default_options().items():
        section = values.setdefault(group, {})
        if isinstance(section, dict):
            values[group] = _defaults(group, section.get("kind") if group in KINDS else name) | section
    sinks = values.setdefault("publish", {})
    for name, sink in sinks.items() if isinstance(sinks, dict) else ():
        if isinstance(sink, dict):
            sinks[name] = _defaults("publish", name) | sink
    complete: DictConfig = OmegaConf.create(values)
    return complete


def _with_limits(drift: dict[str, Any], version: int) -> dict[str, Any]:
    """Return stored settings of the section drift with all limits.

    Versions before 3 had four settings for limits, and no unit `content`: they counted repetitions of records.
    """
    limits: Any = _defaults("drift", _default_options()["drift"])["limits"]
    if version < VERSION:
        for kind, names in FORMER_LIMITS.items():
            levels = zip(("warning", "violation"), names, strict=True)
            limits[kind] |= {level: drift.pop(name) for level, name in levels if name in drift}
    stored = drift.get("limits", {})
    return {**drift, "limits": {**limits, **stored}} if isinstance(stored, dict) else drift


def _defaults(group: str, option: object) -> dict[str, object]:
    """Return the settings of an option, empty if it does not exist."""
    if option not in [path.stem for path in (resource("conf") / group).glob("*.yaml")]:
        return {}
    defaults: Any = OmegaConf.to_container(_option(f"{group}/{option}"), resolve=False)
    return {key: value for key, value in defaults.items() if key != "defaults"}


def stored(config: DictConfig) -> tuple[DictConfig, Settings]:
    """Return the stored configuration of a schedule for this version of shapwatch, and its settings.

    Raises:
        OutdatedSettings: if this version does not support them.
    """
    try:
        config = completed(config)
        return config, validate(config)
    except SettingsError as error:
        raise OutdatedSettings(error.problems) from error


def _default_options() -> dict[str, str]:
    """Return the default option of each group whose settings are stored with results and schedules."""
    chosen: Any = OmegaConf.to_container(OmegaConf.load(resource("conf") / "config.yaml"))
    options = {group: name for entry in chosen["defaults"] if isinstance(entry, dict) for group, name in entry.items()}
    return {group: options[group] for group in Settings.model_fields if group in options and group not in UNSTORED}


def snapshot(config: DictConfig) -> str:
    """Return the resolved configuration as YAML, without secrets in URLs and with its version.

    `completed` reads it; loading it does not change its values.
    """
    values: Any = _literal(OmegaConf.to_container(config, resolve=True))
    for group, key in (("model", "url"), ("model", "endpoint_url"), ("stage", "url")):
        if isinstance(values[group].get(key), str):
            values[group][key] = without_secrets(values[group][key])
    return OmegaConf.to_yaml(OmegaConf.create(values | {"version": VERSION}))


def _literal(value: Any) -> Any:
    r"""Return plain data with strings escaped, so that OmegaConf interpolates nothing.

    >>> print(_literal({"template": ["$features", "${x}"]})["template"][1])
    \${x}
    """
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(inner) for inner in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def serving_settings(snapshot: str) -> str:
    """Return the configuration of a process that serves the model of a snapshot on a free port, without capture."""
    config = {key: value for key, value in OmegaConf.create(snapshot).items() if key != "stage"}
    private = {
        "port": 0,
        "attached": True,
        "token_env": "SHAPWATCH_SHADOW_TOKEN",
    }
    stage = OmegaConf.merge(_option("stage/serve"), private)
    return OmegaConf.to_yaml(OmegaConf.merge(config, {"stage": stage, "data_capture": {"enable_capture": False}}))


def loopback_model(data: Data, url: str) -> Http:
    """Return the client of a model served on this machine, with the formats of the captured endpoint."""
    model = OmegaConf.merge(_option("model/http"), {"url": url})
    config = OmegaConf.create({"data": _literal(asdict(data)), "model": model})
    values: Any = OmegaConf.to_container(config.model, resolve=True)
    return Http(**values)


def declaration(settings: Settings, snapshot: str) -> Declaration:
    """Return the declaration of a schedule.

    Raises:
        SettingsError: if a URL may contain a secret, since the ledger must not store it.
    """
    urls = {f"model.{key}": getattr(settings.model, key, None) for key in ("url", "endpoint_url")}
    problem = "the part after the question mark may be a secret, and the ledger stores no secrets"
    if hidden := [key for key, url in urls.items() if url and without_secrets(url) != url]:
        raise SettingsError(
            [f"{key}: {problem}; pass a token in the environment variable of model.token_env" for key in hidden]
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


def _changes(timetable: dict[str, object]) -> dict[str, object] | None:
    """Return the timetable settings in overrides; None if overrides or an experiment choose another timetable."""
    from runner.config import hydra

    matches = [re.match(r"[+~]*schedule(?:\.(\w+))?=", override) for override in hydra.overrides()]
    given = {match[1] for match in matches if match}
    usual: Any = OmegaConf.to_container(_option("schedule/hourly"))
    unchanged = {key: value for key, value in timetable.items() if key not in given}
    if given & {None, "kind", "expression"} or not unchanged.items() <= usual.items():
        return None
    return {key: timetable[key] for key in timetable if key in given}


def _without_stage(snapshot: str) -> str:
    """Return the settings that all executions of a schedule share, without stage.

    The schedule is left out, too, unless its executions need `schedule.on_empty=skip`.
    """
    config = {key: value for key, value in OmegaConf.create(snapshot).items() if key != "stage"}
    skips = OmegaConf.select(OmegaConf.create(config), "schedule.on_empty") == "skip"
    return OmegaConf.to_yaml(OmegaConf.merge(config, {} if skips else {"schedule": None}))


def execution_settings(snapshot: Snapshot, execution: ExecutionRecord) -> str:
    """Return the configuration of a process that runs an execution, or publishes its recorded result.

    If this version does not support the settings, the process that publishes this failure has the default values of
    all settings that the publication does not need.

    Raises:
        OutdatedSettings: if the snapshot cannot be read.
    """
    stage = {
        "window": f"{execution.window.start.isoformat()}/{execution.window.end.isoformat()}",
        "scheduled": execution.scheduled.isoformat(),
        "attached": True,
    }
    settings = _settings(snapshot)
    settings["stage"] = OmegaConf.merge(_option("stage/monitor"), stage)
    if execution.status.terminal and not _is_supported(settings):
        defaults = {group: _defaults(group, name) for group, name in _default_options().items()}
        settings = OmegaConf.create(defaults | {group: settings[group] for group in PUBLISHING if group in settings})
        for key in OmegaConf.missing_keys(settings):
            OmegaConf.update(settings, key, "unused")
    return OmegaConf.to_yaml(settings)


def _settings(snapshot: Snapshot) -> DictConfig:
    """Return the settings of a snapshot.

    Raises:
        OutdatedSettings: if they cannot be read.
    """
    try:
        config = OmegaConf.create(snapshot.settings)
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise OutdatedSettings([f"they cannot be read ({type(error).__name__}: {snippet(error)})"]) from error
    if not isinstance(config, DictConfig):
        raise OutdatedSettings([f"expected a mapping (got {snippet(config)})"])
    return config


def _is_supported(config: DictConfig) -> bool:
    try:
        stored(config)
    except OutdatedSettings:
        return False
    return True


def results_retention(snapshot: Snapshot) -> timedelta | None:
    """Return the time after which results of a schedule are removed; None if they are never removed.

    Raises:
        OutdatedSettings: if the snapshot cannot be read.
    """
    text = OmegaConf.select(_settings(snapshot), "monitor.keep")
    return parse_duration(text) if text else None


def declarations(experiments: Sequence[str]) -> list[Declaration]:
    """Return the declarations of other experiments, with all other overrides of this command line.

    Raises:
        SettingsError: with the problems of the first experiment that has problems.
    """
    from runner.config import hydra

    declared: dict[str, Declaration] = {}
    for experiment in experiments:
        config = hydra.composed(experiment)
        try:
            found = declaration(validate(config), snapshot(config))
        except SettingsError as error:
            raise SettingsError([f"in the experiment {experiment}: {problem}" for problem in error.problems]) from error
        if found.name in declared:
            both = f"{experiments[list(declared).index(found.name)]} and {experiment}"
            raise SettingsError([f"stage.monitors: {both} have the same monitor.name, {found.name}; names must differ"])
        declared[found.name] = replace(found, changes=None)
    return list(declared.values())


def _option(name: str) -> Any:
    return OmegaConf.load(resource("conf") / f"{name}.yaml")
