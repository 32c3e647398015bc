"""What Hydra knows of this run: what the command line overrides, and which member of a sweep it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.errors import SettingsError
from runner.sweep import Member, conclude

WRITTEN = {"baseline": "paths.baseline", "monitor": "paths.monitor", "quickstart": "paths.root"}
"""Where a stage writes."""


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
