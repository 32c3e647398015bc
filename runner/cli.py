"""The command line: Hydra composes, one stage runs, the outcome becomes a text and an exit code.

Exit codes: 0 done (also with violations: the status says so), 2 bad input or a failed execution, 1 an error of ours,
130 interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from runner.paths import PACKAGE, shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from omegaconf import DictConfig

    from runner.config.sweep import Member
    from runner.domain.executions import Outcome

DONE, OUR_FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

CONF = shipped("conf")

ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""For linear algebra, which adds up in another order with more: no result may depend on the number of cores."""

VALUED = {"--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p", "--cfg", "-c"}
"""Hydra's options that a value follows."""
VALUE_OVERRIDE = re.compile(r"(?!hydra\.)[A-Za-z_]\w*\.[^=]*=")

UNQUOTED = re.compile("no viable alternative|mismatched input|extraneous input|token recognition error")
QUOTES = """\na value with special characters needs quotes of its own: 'data.score="predictions[*].score"'"""

HELP = """\
shapwatch watches why a model decides: SHAP feature attribution drift, from captured traffic to a verdict.

  python -m runner                                     the quickstart: a drift, found, without network or service
  python -m runner stage=serve                         serve the model over HTTP, with data capture
  python -m runner stage=traffic                       send data.traffic to an endpoint
  python -m runner stage=replay stage.start=TIME       replay data.traffic at a time of your choice, and capture it
  python -m runner stage=capture stage.window=HOUR     what was captured in an hour (UTC, such as 2023-01-19T05)
  python -m runner stage=plan                          what explaining would cost: rows, calls, time, money
  python -m runner stage=baseline                      compute the reference attributions of data.dataset
  python -m runner stage=monitor stage.window=HOUR     judge an hour against the reference
  python -m runner stage=report stage.directory=FOLDER render the report of an execution again, from its documents
  python -m runner stage=backfill stage.start= stage.end=   judge every hour of a stretch of the past
  python -m runner stage=schedule stage.action=create  have a monitor executed every hour; also describe, stop, delete …
  python -m runner stage=daemon                        execute what the schedules have due, until it is told to end
  python -m runner stage=status                        is a daemon alive, what ran last, what comes next

Any setting is overridden by KEY=VALUE; docs/reference lists every key and every error.

  --config-dir FOLDER    use your own experiment/*.yaml too
  --cfg job              print the settings instead of running
  -m, --multirun         run all combinations of comma-separated values
  --hydra-help           the other options

Choices (group=option):
"""


def main() -> NoReturn:
    """Run the stage that the command line names and exit."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(HELP + choices(CONF))  # noqa: T201
        sys.exit(DONE)
    sys.exit(ended(compose_and_run))


def again(settings: Path) -> NoReturn:
    """Run the stage of a whole configuration, stored as YAML, and exit."""

    def load_and_run(codes: list[int]) -> None:
        from omegaconf import OmegaConf

        know_package()
        config: Any = OmegaConf.load(settings)
        codes.append(OUR_FAULT)
        codes[-1] = run(config)

    sys.exit(ended(load_and_run))


def ended(running: Callable[[list[int]], None]) -> int:
    """Return the exit code of what runs stages and collects theirs; an error before a stage becomes a sentence."""
    os.environ |= ONE_THREAD  # read when numpy is loaded
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is under way is undone as on Ctrl-C
    atexit.register(gc.freeze)  # what is left goes with the process; to look through it takes a quarter of a second
    codes: list[int] = []
    try:
        running(codes)
    except KeyboardInterrupt:
        print("interrupted; what was not finished left nothing behind", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except Exception as error:
        if codes:
            raise
        told = "\n".join(str(each) for each in (error, error.__cause__) if each)
        return refuse(told + QUOTES if UNQUOTED.search(told) else told)
    return max(codes, default=DONE)


def compose_and_run(codes: list[int]) -> None:
    """Let Hydra compose the configuration and run the stage, once or as a sweep; collect the exit codes."""
    from runner.config import hydra

    def task(config: DictConfig) -> None:
        codes.append(OUR_FAULT)
        codes[-1] = run(config, hydra.member(config))

    know_package()
    sys.argv[1:] = [admitted(argument) for argument in overrides_first(sys.argv[1:])]
    hydra.launch(task, CONF)


def know_package() -> None:
    """Let configurations name files that ship with the program as `${package:…}`."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("package", lambda path: str(PACKAGE / path), replace=True)


def choices(conf: Path) -> str:
    """Return the groups of a configuration folder with their options, a line each."""
    groups = sorted(folder for folder in conf.iterdir() if folder.is_dir() and folder.name != "hydra")
    options = {group.name: sorted(file.stem for file in group.glob("*.yaml")) for group in groups}
    return "\n".join(f"  {group}: {', '.join(names)}" for group, names in options.items())


def overrides_first(arguments: Iterable[str]) -> list[str]:
    """Return the arguments with the overrides before the options: Hydra's parser takes no option between two of them.

    >>> overrides_first(["stage=baseline", "-m", "shap.seed=1,2", "--config-dir", "my/conf", "~schedule"])
    ['stage=baseline', 'shap.seed=1,2', '~schedule', '-m', '--config-dir', 'my/conf']
    >>> overrides_first(["stage=baseline", "--info", "defaults-tree", "shap.seed=3"])
    ['stage=baseline', 'shap.seed=3', '--info', 'defaults-tree']
    """
    overrides: list[str] = []
    options: list[str] = []
    before = ""
    for argument in arguments:
        is_override = argument.startswith("~") or "=" in argument or not before.startswith("-")
        (options if argument.startswith("-") or before in VALUED or not is_override else overrides).append(argument)
        before = argument
    return overrides + options


def admitted(argument: str) -> str:
    """Return an override that lets an unknown key pass Hydra, so that all problems are reported together.

    >>> admitted("shap.num_sample=3"), admitted("stage=monitor"), admitted("hydra.job.name=x")
    ('++shap.num_sample=3', 'stage=monitor', 'hydra.job.name=x')
    """
    return f"++{argument}" if VALUE_OVERRIDE.match(argument) else argument


def run(config: DictConfig, member: Member | None = None) -> int:
    """Run the stage of a composed configuration, print what it says, and return the exit code.

    The member of a sweep leaves a record of how it ended.
    """
    from runner import console
    from runner.config import sweep
    from runner.scheduling.daemon.launch import log_context

    console.configure_logging(**log_context(os.environ))
    start = time.perf_counter()
    outcome, results = outcome_of(config)
    code = DONE if outcome.succeeded else BAD_INPUT
    with contextlib.suppress(BrokenPipeError):
        if outcome.message:
            print(outcome.message, file=sys.stdout if outcome.succeeded else sys.stderr, flush=True)
    if member:
        sweep.record(member, code, outcome.message, time.perf_counter() - start, results)
    return code


def outcome_of(config: DictConfig) -> tuple[Outcome, str | None]:
    """Validate a composed configuration and return what its stage says, and the folder of its results if it has one."""
    from runner import console
    from runner.config import compose
    from runner.domain.executions import Execution, Outcome
    from runner.errors import ShapwatchError, os_error_message

    try:
        settings = compose.validate(config)
        outcome = compose.build(settings, compose.snapshot(config), console.track)()
    except ShapwatchError as error:
        return Outcome(f"error: {error}", succeeded=False), None
    except OSError as error:
        return Outcome(f"error: {os_error_message(error)}", succeeded=False), None
    if isinstance(outcome, Execution):
        return outcome, outcome.directory or None
    return outcome, str(settings.paths.baseline.absolute()) if settings.stage.kind == "baseline" else None


def refuse(sentence: str) -> int:
    """Tell what is wrong on standard error and return the exit code for it."""
    print(f"error: {sentence}", file=sys.stderr)  # noqa: T201
    return BAD_INPUT
