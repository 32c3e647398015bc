"""A settings file: the settings.yaml of a result, read as data, so that its author cannot run code with it.

Hydra does not read it, and nothing in it is interpolated. The few settings that name code or an address that may
receive secrets count only if the command line repeats them (`CONFIRMED`). Its sinks receive nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config import compose
from runner.config.settings import Settings
from runner.errors import MissingInput, SettingsError, snippet
from runner.urls import without_secrets

CONFIRMED = {
    "model.function": "names code to run",
    "model.trusted": "names types that may run code",
    "engine.address": "names a scheduler, which may run code here",
    "model.url": "names an address that receives records and a token",
    "model.endpoint_url": "names an address that receives records",
    "model.token_env": "names a variable of the environment whose value is sent to model.url",
}
"""Keys whose values a settings file cannot set alone, with the reason."""
STAGES = ("baseline", "monitor")
"""Stages that a settings file can run; they write a result."""
MAX_BYTES = 16 * 2**20
MAX_SCALARS = 50_000
"""Maximum number of keys and values; reading 10,000 takes about one second."""
MAX_DEPTH = 40
"""Maximum number of nested sequences and mappings."""
PLAIN = re.compile(r"(?=.*[:/._-])[A-Za-z][\w:/.-]*")
"""Pattern of strings that an override needs no quotes for."""
INTERPOLATION = re.compile(r"(?<!\\)(?:\\\\)*\$\{")
"""Pattern of the beginning of an interpolation of OmegaConf; a backslash escapes it."""


def confirmations(settings: Settings) -> tuple[str, ...]:
    """Return the overrides that a command with the settings file of these settings needs."""
    return tuple(f"{key}={_shown(value)}" for key, value in _confirmed(settings))


def _confirmed(settings: Settings) -> Iterator[tuple[str, Any]]:
    for key in CONFIRMED:
        value: Any = settings
        for name in key.split("."):
            value = getattr(value, name, None)
        if value:
            yield key, without_secrets(value) if isinstance(value, str) else list(value)


def _shown(value: str | list[str]) -> str:
    """Return a value in the syntax of overrides, without quotes if possible."""
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    quoted = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), value)
    return value if PLAIN.fullmatch(value) else f'"{quoted}"'


def load(path: Path, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration in a settings file, with overrides of the command line.

    Args:
        path: path of the settings.yaml of a result.
        overrides: values by key, each `KEY=VALUE` as on other command lines.

    Raises:
        MissingInput: if the file does not exist.
        SettingsError: if the file is no settings file, contains an interpolation or an instruction for Hydra, or names
            code or an address that the overrides do not confirm.
    """
    given = dict(_parsed(overrides))
    try:
        config = compose.completed(OmegaConf.create(_read(path)))
        problems = list(_problems(config, given))
        for key, value in given.items():
            OmegaConf.update(config, key, value, merge=False, force_add=True)
        stage = OmegaConf.select(config, "stage.kind")
    except OmegaConfBaseException as error:
        raise _unreadable(path, str(error).splitlines()[0]) from error
    if stage not in STAGES:
        problems.append("stage: expected the kind baseline or monitor, for example 'stage={kind: baseline}'")
    if problems:
        raise SettingsError(problems)
    return config


def _problems(config: DictConfig, given: Collection[str]) -> Iterator[str]:
    """Yield a problem for each key that needs a confirmation and is not among the given keys."""
    for key, reason in CONFIRMED.items():
        if OmegaConf.select(config, key) and not any(f"{key}.".startswith(f"{name}.") for name in given):
            remedy = f"add {key}=VALUE to the command if you trust its value"
            yield f"{key}: {reason}, which a settings file cannot do alone; {remedy}"


def _read(path: Path) -> dict[str, object]:
    """Return the content of a settings file."""
    if not path.is_file():
        raise MissingInput("the settings file", path, "--settings", "give the path of the settings.yaml of a result")
    if path.stat().st_size > MAX_BYTES:
        raise _unreadable(path, f"is larger than {MAX_BYTES // 2**20} MiB")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(path, "is not UTF-8") from error
    values = _data(path, text)
    if not isinstance(values, dict) or not isinstance(values.get("stage"), dict):
        raise _unreadable(path, "contains no section stage")
    if "hydra" in values:
        raise _unreadable(path, "contains the section hydra, which can run code")
    return values


def _parsed(overrides: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the key and the value of each override."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise SettingsError([f"{str(error).splitlines()[0]}; expected KEY=VALUE after the settings file"]) from error
    for override in parsed:
        if override.type is not OverrideType.CHANGE or override.is_sweep_override() or override.package:
            raise SettingsError([f"{override.input_line}: expected KEY=VALUE after the settings file"])
        value: Any = override.value()
        if INTERPOLATION.search(str(value)):
            raise SettingsError([f"{override.input_line}: expected a value without interpolations"])
        yield override.key_or_group, value


def _data(path: Path, text: str) -> Any:
    """Return the content of a YAML file that contains only data.

    Raises:
        SettingsError: if it is invalid, or contains an alias, a tag or an interpolation.
    """
    depth, scalars = 0, 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            scalars += isinstance(event, yaml.ScalarEvent)
            if scalars > MAX_SCALARS:
                raise _unreadable(path, f"contains more than {MAX_SCALARS:,} keys and values")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise _unreadable(path, f"contains more than {MAX_DEPTH} nested lists or mappings")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
                raise _unreadable(path, f"contains a YAML alias or tag in line {event.start_mark.line + 1}")
        values: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _unreadable(path, f"is not valid YAML{line} ({error.problem})") from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise _unreadable(path, f"is not valid YAML ({snippet(error)})") from error
    _check_literal(path, values)
    return values


def _check_literal(path: Path, node: Any) -> None:
    """Check that data contains no interpolation, and no name of an object to call.

    Raises:
        SettingsError: if it does.
    """
    if isinstance(node, dict):
        if "_target_" in node:
            raise _unreadable(path, "contains _target_, which can run code")
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            _check_literal(path, value)
    elif isinstance(node, str) and INTERPOLATION.search(node):
        raise _unreadable(path, f"contains the interpolation {snippet(node)}")


def _unreadable(path: Path, problem: str) -> SettingsError:
    return SettingsError([f"{path}: {problem}; expected the settings.yaml of a result, which contains only data"])
