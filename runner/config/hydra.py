"""Composition with Hydra: configuration of the command line, overrides, members of a sweep."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from runner.errors import SettingsError

if TYPE_CHECKING:
    from runner.config.sweep import Member

WRITTEN = {"baseline": "paths.baseline", "monitor": "paths.monitor", "quickstart": "paths.root"}
"""Key of the folder that a stage writes, by stage."""
FOR_HYDRA = re.compile(r"-|[+~]*hydra[./]")
"""Pattern of arguments that are options, or override Hydra's own settings."""
QUOTED = """'data.score="predictions[*].score"'"""

Task = Callable[[DictConfig], int]
"""Function that runs one composed configuration and returns the exit code."""


class TaskError(Exception):
    """Wrapper that passes an error of a task through Hydra; its `__cause__` is that error."""


def launch(task: Task, conf: Path) -> int:
    """Run a task once, or once for each member of a sweep, and return the highest exit code.

    Raises:
        SettingsError: if a configuration cannot be composed. Errors of the task pass unchanged.
    """
    codes: list[int] = []

    def recorded(config: DictConfig) -> None:
        try:
            codes.append(task(config))
        except Exception as error:
            raise TaskError from error

    try:
        _launch(recorded, conf)
    except TaskError as failure:
        raise failure.__cause__ or failure from None
    except Exception as error:
        raise SettingsError([_problem(error)]) from error
    return max(codes, default=0)


def _problem(error: Exception) -> str:
    """Return the message for an error during composition."""
    match error:
        case OverrideParseException(override=override):
            expected = f"expected KEY=VALUE, with quotes around a value with special characters: {QUOTED}"
            return f"{override.removeprefix('++')}: {expected}"
        case MissingConfigException(missing_cfg_file=str(file), options=[*options]):
            group, _, option = file.rpartition("/")
            return f"{group}={option}: no such option; expected one of {', '.join(options)}"
        case HydraException(__cause__=ConfigKeyError(full_key=key) | ConfigAttributeError(full_key=key)):
            return f"{key}: no such key"
    texts = [str(each).partition("\n\n")[0] for each in (error, error.__cause__) if each]  # the rest is a search path
    return "\n".join(texts).replace("'++", "'").replace("\n", "\n  ")


def _launch(task: Callable[[DictConfig], None], conf: Path) -> None:
    """Compose the configuration, and run the task.

    Hydra's own command line composes each configuration twice, the first time to find out whether there is a sweep.
    Therefore it is used only for options, sweeps and error messages.
    """
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        config = _single(sys.argv[1:])
        if config is not None:
            _run(task, config)
            return
    if sys.version_info >= (3, 14):
        # Since Python 3.14, argparse checks help texts, and rejects one of Hydra 1.3 (facebookresearch/hydra#3121)
        argparse.ArgumentParser._check_help = lambda *_: None  # type: ignore[attr-defined]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them
    hydra.main(config_path=str(conf), config_name="config", version_base="1.3")(task)()


def _single(given: list[str]) -> DictConfig | None:
    """Return the configuration of a single run, None if Hydra's own command line is needed."""
    if any(map(FOR_HYDRA.match, given)):
        return None
    try:
        config = hydra.compose("config", given, return_hydra_config=True)
    except HydraException:
        return None
    return None if config.hydra.mode == RunMode.MULTIRUN else config


def _run(task: Callable[[DictConfig], None], config: DictConfig) -> None:
    """Remove Hydra's own settings from the configuration, and run the task; `HydraConfig` provides them meanwhile."""
    provider = HydraConfig.instance()
    before = provider.cfg
    provider.set_config(config)
    with open_dict(config):
        del config["hydra"]
    try:
        task(config)
    finally:
        provider.cfg = before


def overrides() -> list[str]:
    """Return the overrides of the command line."""
    return list(HydraConfig.get().overrides.task)


def composed(experiment: str) -> DictConfig:
    """Return the configuration of another experiment, with all other overrides of this command line.

    Raises:
        SettingsError: if it cannot be composed.
    """
    given = [each for each in overrides() if not re.match(r"[+~]*experiment=", each)]
    try:
        return hydra.compose(HydraConfig.get().job.config_name, [*given, f"experiment={experiment}"])
    except HydraException as error:
        raise SettingsError([f"stage.monitors: {_problem(error)}"]) from error


def member(config: DictConfig) -> Member | None:
    """Return this run as a member of its sweep, and set a separate folder for its results; None without a sweep.

    In a common folder, members would overwrite each other's results. An override of the folder takes precedence.
    """
    job = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN:
        return None
    from runner.config.sweep import Member

    found = Member(Path(job.sweep.dir).absolute() / str(job.job.num), tuple(overrides()))
    key = WRITTEN.get(config.stage.kind)
    if key and not any(override.lstrip("+").startswith(f"{key}=") for override in found.overrides):
        OmegaConf.update(config, key, str(found.directory / key.removeprefix("paths.")))
    return found


class SweepTable(Callback):
    """Hydra callback after the last member of a sweep (configured in conf/hydra/output)."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the path of the table, and end the process with the highest exit code of a member."""
        from runner.config.sweep import conclude

        message, code = conclude(Path(config.hydra.sweep.dir))
        print(message, flush=True)  # noqa: T201  output of the command line
        sys.exit(code)
