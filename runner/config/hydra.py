"""Hydra's part: what the command line composes and overrides, and which member of a sweep this is."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from runner.config.sweep import Member, conclude
from runner.errors import SettingsError

WRITTEN = {"baseline": "paths.baseline", "monitor": "paths.monitor", "quickstart": "paths.root"}
"""Where a stage writes."""
FOR_HYDRA = re.compile(r"-|[+~]*hydra[./]")
"""Arguments that are options, or override Hydra's own settings."""


def launch(task: Callable[[DictConfig], None], conf: Path) -> None:
    """Run a task with the configuration of the command line, or with that of each member of a sweep.

    Hydra's own command line composes everything twice, to see first whether there is a sweep. It is for options,
    sweeps, and errors, which it words for a shell.
    """
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        config = _single(sys.argv[1:])
        if config is not None:
            _run(task, config)
            return
    if sys.version_info >= (3, 14):
        # argparse checks help texts since 3.14, and Hydra 1.3 has one it does not accept (facebookresearch/hydra#3121)
        argparse.ArgumentParser._check_help = lambda *_: None  # type: ignore[attr-defined]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors are handed on instead of printed
    hydra.main(config_path=str(conf), config_name="config", version_base="1.3")(task)()


def _single(given: list[str]) -> DictConfig | None:
    """Return the whole configuration of a single run, None where it takes Hydra's own command line."""
    if any(map(FOR_HYDRA.match, given)):
        return None
    try:
        config = hydra.compose("config", given, return_hydra_config=True)
    except HydraException:
        return None
    return None if config.hydra.mode == RunMode.MULTIRUN else config


def _run(task: Callable[[DictConfig], None], config: DictConfig) -> None:
    """Run the task with what is no setting of Hydra's; those are there to be asked for meanwhile."""
    known = HydraConfig.instance()
    before = known.cfg
    known.set_config(config)
    with open_dict(config):
        del config["hydra"]
    try:
        task(config)
    finally:
        known.cfg = before


def overrides() -> list[str]:
    """Return what the command line overrides."""
    return list(HydraConfig.get().overrides.task)


def composed(experiment: str) -> DictConfig:
    """Return the configuration of another experiment, everything else as on this command line.

    Raises:
        SettingsError: when it cannot be composed.
    """
    given = [each for each in overrides() if not re.match(r"[+~]*experiment=", each)]
    try:
        return hydra.compose(HydraConfig.get().job.config_name, [*given, f"experiment={experiment}"])
    except HydraException as error:
        raise SettingsError([f"stage.monitors: {experiment}: {str(error).splitlines()[0]}"]) from error


def member(config: DictConfig) -> Member | None:
    """Return which member of a sweep this is, None of none; its results get a place of their own in the sweep's folder.

    What a member writes is moved there unless an override says where it belongs: other members would write there too.
    """
    job = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN:
        return None
    found = Member(Path(job.sweep.dir).absolute() / str(job.job.num), tuple(overrides()))
    key = WRITTEN.get(config.stage.kind)
    if key and not any(override.lstrip("+").startswith(f"{key}=") for override in found.overrides):
        OmegaConf.update(config, key, str(found.directory / key.removeprefix("paths.")))
    return found


class SweepTable(Callback):
    """What Hydra calls when the last member of a sweep has ended (conf/hydra/output)."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print where the table is, and end the process with the worst exit code of a member."""
        told, code = conclude(Path(config.hydra.sweep.dir))
        print(told, flush=True)  # noqa: T201  the command line's last word
        sys.exit(code)
