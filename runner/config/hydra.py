"""Composition with Hydra: configuration of the command line, overrides, members of a sweep.

Hydra calls the Python objects that its own section, `hydra`, names. Therefore no file outside `conf/` may set this
section, or contain `_target_`, unless the command line allows it with `--allow-hydra`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.core_plugins import file_config_source, importlib_resources_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from runner.domain.executions import ExitCode
from runner.errors import SettingsError, snippet
from runner.urls import redact_urls

if TYPE_CHECKING:
    from runner.config.sweep import Member

WRITTEN = {"baseline": "paths.baseline", "monitor": "paths.monitor", "quickstart": "paths.root"}
"""Key of the folder that a stage writes, by stage."""
FOR_HYDRA = re.compile(r"-|[+~]*hydra[./]")
"""Pattern of arguments that are options, or override Hydra's own settings."""
SECTION = r"\bhydra\b"
"""Pattern of the name of Hydra's own section."""
ALLOW_HYDRA = "--allow-hydra"
"""Command-line option that lets files outside `conf/` set Hydra's own section, for example a launcher."""
QUOTED = """'data.score="predictions[*].score"'"""

Task = Callable[[DictConfig], int]
"""Function that runs one composed configuration and returns the exit code."""


class TaskError(Exception):
    """Wrapper that passes an error of a task through Hydra; its `__cause__` is that error."""


class FileConfigSource(file_config_source.FileConfigSource):
    """Configuration files in a folder; outside `conf/`, they cannot choose code that Hydra runs.

    It has the name of Hydra's class, because Hydra registers sources by name, in each process of a launcher.
    """

    conf = Path()
    """Folder of the files that may configure Hydra."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.conf = type(self).conf  # a launcher sends the object to other processes

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the content of a file.

        Raises:
            SettingsError: if a file outside `conf/` would let Hydra run code.
        """
        result = super().load_config(config_path)
        file = (Path(self.path) / self._normalize_file_name(config_path)).resolve()
        if not file.is_relative_to(self.conf):
            _refuse_code(file, config_path, result)
        return result


class ImportlibResourcesConfigSource(importlib_resources_config_source.ImportlibResourcesConfigSource):
    """The same for configuration files in a Python package, except those of Hydra and its plugins."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the content of a file; errors as in `FileConfigSource`."""
        result = super().load_config(config_path)
        if self.provider in {"main", "command-line"} or self.provider.startswith("hydra.searchpath"):
            _refuse_code(Path(self.path) / self._normalize_file_name(config_path), config_path, result)
        return result


@contextmanager
def _guard(conf: Path) -> Iterator[None]:
    """Let Hydra read configuration files through the guarded sources inside this context."""
    Plugins.instance()  # registers Hydra's own sources
    sources: dict[str, type[ConfigSource]] = SourcesRegistry.instance().types
    before, FileConfigSource.conf = dict(sources), conf.resolve()
    sources |= {"file": FileConfigSource, "pkg": ImportlibResourcesConfigSource}
    try:
        yield
    finally:
        sources |= before


def _refuse_code(file: Path, config_path: str, result: ConfigResult) -> None:
    """Check that a configuration file sets nothing in Hydra's own section, and names no object to call.

    Raises:
        SettingsError: if it does.
    """
    content: Any = OmegaConf.to_container(result.config, resolve=False)
    found = next(_reaching_hydra(Path(config_path), result.header.get("package") or "", content), None)
    if found:
        problem = f"contains {found}, which lets Hydra run code"
        raise SettingsError([f"{file}: {problem}; remove it, or pass {ALLOW_HYDRA} if you trust the folder"])


def _reaching_hydra(config: Path, package: str, content: Any) -> Iterator[str]:
    """Yield descriptions of the parts of a file that can set Hydra's own section, or name an object to call."""
    if _contains_key(content, "_target_"):
        yield "_target_"
    if "hydra" in config.with_suffix("").parts or re.search(SECTION, package) or "hydra" in content:
        yield "settings of the section hydra"
    if isinstance(content, dict):
        yield from (
            f"the default {each}"
            for each in content.get("defaults") or ()
            if re.search(rf"{SECTION}|@.*[$]", str(each))
        )


def _contains_key(node: Any, key: str) -> bool:
    if isinstance(node, dict):
        return key in node or any(_contains_key(value, key) for value in node.values())
    return isinstance(node, list) and any(_contains_key(value, key) for value in node)


def launch(task: Task, conf: Path, allow_hydra: bool = False) -> int:
    """Run a task once, or once for each member of a sweep, and return the worst exit code.

    Args:
        task: function that runs a composed configuration.
        conf: folder of the configuration.
        allow_hydra: whether files outside that folder may set Hydra's own section.

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
        with nullcontext() if allow_hydra else _guard(conf):
            _launch(recorded, conf)
    except TaskError as failure:
        raise failure.__cause__ or failure from None
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError([_problem(error)]) from error
    return ExitCode.worst(codes)


def _problem(error: Exception) -> str:
    """Return the message for an error during composition."""
    match error:
        case OverrideParseException(override=override):
            expected = f"expected KEY=VALUE, with quotes around a value with special characters: {QUOTED}"
            return f"{snippet(redact_urls(override.removeprefix('++')))}: {expected}"
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
    if any(argument.startswith("--e") for argument in sys.argv[1:]):
        raise SettingsError(["--experimental-rerun: not supported, because it loads a pickle; use --settings FILE"])
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
        """Print the path of the table, and end the process with the worst exit code of a member."""
        from runner.config.sweep import conclude

        message, code = conclude(Path(config.hydra.sweep.dir))
        print(message, flush=True)  # noqa: T201  output of the command line
        sys.exit(code)
