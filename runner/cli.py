"""Command line: composes the settings, runs one stage, prints its message and exits.

Logs and progress go to standard error: readable on a terminal, JSON lines otherwise.

Exit codes: 0 completed, with or without violations; 1 a bug in shapwatch; 2 invalid input or a failed execution;
3 a verdict reached stage.fail_on; 130 interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import json
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from runner import PACKAGE, guard, resource
from runner.domain.executions import ExitCode
from runner.protocols import Item
from runner.subprocesses import SETTINGS_FILE, SNAPSHOT

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from runner.config.sweep import Member
    from runner.domain.executions import Outcome

COMPLETED, BAD_INPUT, INTERRUPTED = ExitCode.COMPLETED, ExitCode.FAILED, ExitCode.INTERRUPTED
CONF = resource("conf")

ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""Environment of the linear algebra libraries; with more threads, the order of additions and the results change."""

WITH_VALUE = {"--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package", "-p", "--cfg", "-c"}
"""Hydra's options that take a value."""
VALUE_OVERRIDE = re.compile(r"(?!hydra\.)[A-Za-z_]\w*\.[^=]*=")
"""Pattern of the beginning of an override of a key in a section."""
REQUIRED = re.compile(r"^(\w+): \?\?\?", re.MULTILINE)
"""Pattern of a key without default in an option file."""
INTERRUPTIONS = (signal.SIGTERM, signal.SIGINT)
FORCE_AFTER_SECONDS = 0.5
"""Seconds after a signal from which another one ends the process at once."""
LOG_INTERVAL_SECONDS = 10.0
"""Minimum time in seconds between two log lines about progress."""
CONTEXT_KEYS = ("execution", "schedule")
"""Attributes of log records that are shown, set by `extra={"execution": …}`."""

HELP = """\
shapwatch monitors SHAP feature attribution drift in captured endpoint traffic.

  python -m runner [stage=STAGE] [experiment=NAME] [GROUP=OPTION …] [KEY=VALUE …]

Without arguments it runs the quickstart, which needs neither network nor services.
docs/reference lists every key and every error.

Options:
  --config-dir FOLDER    also use FOLDER/experiment/*.yaml
  --allow-hydra          let files of FOLDER set Hydra's launcher or sweeper, which can run code
  --cfg job              print the settings instead of running
  -m, --multirun         run all combinations of comma-separated values
  --hydra-help           list further options
  --settings FILE [KEY=VALUE …]
                         run a result's settings.yaml, read as data; nothing is published

Stages:
{stages}

Groups and their options:
{groups}"""

logger = logging.getLogger("shapwatch")


def main() -> NoReturn:
    """Run the stage of the command line and exit."""
    match sys.argv[1:]:
        case [option, path] if option == SNAPSHOT:
            sys.exit(exit_code(lambda: run_snapshot(Path(path))))
        case [option, path, *overrides] if option == SETTINGS_FILE:
            sys.exit(exit_code(lambda: run_settings_file(Path(path), overrides)))
        case [*arguments] if {"--help", "-h"} & set(arguments):
            print(help_text(CONF))  # noqa: T201
            sys.exit(COMPLETED)
    sys.exit(exit_code(compose_and_run))


def exit_code(task: Callable[[], int]) -> int:
    """Prepare the process, run a task, and return its exit code, or `INTERRUPTED` after an interruption."""
    os.environ |= ONE_THREAD  # read when numpy is loaded
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    interrupt = Interrupt()
    for number in INTERRUPTIONS:
        signal.signal(number, interrupt)
    atexit.register(prepare_exit)
    try:
        return task()
    except KeyboardInterrupt:
        print("Interrupted. No partial results were written.", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def prepare_exit() -> None:
    """Avoid the last garbage collection, which takes 0.25 s, and the loss of the exit code.

    Later signals are ignored. Python also ends itself with SIGINT if an earlier KeyboardInterrupt has left a string in
    `exec`, for example in a dataclass, although it was handled; the next `exec` of a string clears this.
    """
    gc.freeze()
    for number in INTERRUPTIONS:
        signal.signal(number, signal.SIG_IGN)
    exec("")  # noqa: S102


class Interrupt:
    """Handler of signals: the first one raises KeyboardInterrupt, so that the run cleans up; a later one exits at once.

    A signal that follows immediately does not count: some programs send it to the process and to its group.
    """

    def __init__(self) -> None:
        self._first: float | None = None

    def check(self) -> None:
        """Interrupt the run if a library has caught the first interruption."""
        if self._first is not None:
            raise KeyboardInterrupt

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Interrupt the run, or exit."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            raise KeyboardInterrupt
        if now - self._first > FORCE_AFTER_SECONDS:
            os.write(2, b"Interrupted again. The next run removes unfinished results.\n")
            os._exit(INTERRUPTED)


def compose_and_run() -> int:
    """Compose the configuration with Hydra, run its stage, once or as a sweep, and return the exit code."""
    from runner.config import hydra
    from runner.errors import SettingsError, printable

    register_package()
    given = [argument for argument in sys.argv[1:] if argument != hydra.ALLOW_HYDRA]
    allow_hydra = len(given) < len(sys.argv[1:])
    sys.argv[1:] = [accept_unknown_key(argument) for argument in overrides_first(given)]
    try:
        return hydra.launch(lambda config: run(config, hydra.member(config)), CONF, allow_hydra)
    except SettingsError as error:
        print(printable(f"error: {error}"), file=sys.stderr)  # noqa: T201
        return BAD_INPUT


def run_settings_file(path: Path, overrides: list[str]) -> int:
    """Run the stage of a settings file with overrides, without Hydra and sinks, and return the exit code."""
    from runner.config import settings_file
    from runner.errors import ShapwatchError, printable

    register_package()
    try:
        config = settings_file.load(path, overrides)
    except ShapwatchError as error:
        print(printable(f"error: {error}"), file=sys.stderr)  # noqa: T201
        return BAD_INPUT
    return run(config, publishes=False)


def run_snapshot(path: Path) -> int:
    """Run the stage of a resolved configuration, stored as YAML, and return the exit code.

    The process ends with its parent, and ends everything that it started.
    """
    guard.start(path.parent if os.environ.get("TMPDIR") == str(path.parent) else None)
    from omegaconf import OmegaConf

    register_package()
    config: Any = OmegaConf.load(path)
    return run(config, is_stored=True)


def register_package() -> None:
    """Let configurations refer to files of this package as `${package:…}`."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("package", lambda path: str(PACKAGE / path), replace=True)


def help_text(conf: Path) -> str:
    """Return the help with the stages, groups and options of a configuration folder."""
    return HELP.format(stages="\n".join(_stages(conf)), groups="\n".join(_groups(conf)))


def _stages(conf: Path) -> Iterable[str]:
    """Yield a line for each stage: its name, purpose (the comment in its file) and required keys."""
    for path in sorted((conf / "stage").glob("*.yaml")):
        text = path.read_text("utf-8")
        required = [f"stage.{key}=…" for key in REQUIRED.findall(text)]
        purpose = text.partition("\n")[0].removeprefix("# ")
        yield f"  {path.stem:<12}{purpose}" + (f" Requires {' '.join(required)}" if required else "")


def _groups(conf: Path) -> Iterable[str]:
    """Yield a line for each group: its name and its options."""
    for folder in sorted(folder for folder in conf.iterdir() if folder.is_dir() and folder.name != "hydra"):
        yield f"  {folder.name}: {', '.join(sorted(path.stem for path in folder.glob('*.yaml')))}"


def overrides_first(arguments: Iterable[str]) -> list[str]:
    """Return the arguments with overrides before options, because Hydra accepts no option between two overrides.

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
        is_option = argument.startswith("-") or before in WITH_VALUE or not is_override
        (options if is_option else overrides).append(argument)
        before = argument
    return overrides + options


def accept_unknown_key(argument: str) -> str:
    """Return an override that Hydra accepts for an unknown key too, so that validation reports all problems together.

    >>> accept_unknown_key("shap.num_sample=3"), accept_unknown_key("stage=monitor")
    ('++shap.num_sample=3', 'stage=monitor')
    >>> accept_unknown_key("hydra.job.name=x")
    'hydra.job.name=x'
    """
    return f"++{argument}" if VALUE_OVERRIDE.match(argument) else argument


def run(config: DictConfig, member: Member | None = None, is_stored: bool = False, publishes: bool = True) -> int:
    """Run the stage of a composed configuration, print its message, and return the exit code.

    Args:
        config: the configuration.
        member: member of a sweep, whose result is recorded.
        is_stored: whether another process stored the configuration, possibly with another version of shapwatch.
        publishes: whether the configured sinks receive results.
    """
    from runner.errors import printable
    from runner.scheduling.daemon.process import log_context
    from runner.stages import terminal

    configure_logging(**log_context(os.environ))
    start = time.perf_counter()
    outcome = outcome_of(config, is_stored, publishes)
    code = outcome.exit_code
    with contextlib.suppress(BrokenPipeError):
        if outcome.message:
            stream = sys.stdout if outcome.succeeded else sys.stderr
            print(terminal.adapted(printable(outcome.text or outcome.message), stream), file=stream, flush=True)
    if member:
        from runner.config import sweep

        sweep.record(member, code, outcome.message, time.perf_counter() - start, outcome.directory or None)
    return code


def outcome_of(config: DictConfig, is_stored: bool, publishes: bool = True) -> Outcome:
    """Validate a composed configuration, run its stage, and return the outcome; an error becomes a failed outcome.

    A stage returns its outcome and never exits: SystemExit comes from other code, such as a user's module or a plug-in.
    """
    from runner.config import compose, wiring
    from runner.config.settings import Publish
    from runner.domain.executions import Outcome
    from runner.errors import ShapwatchError, os_error_message

    try:
        config, settings = compose.stored(config) if is_stored else (config, compose.validate(config))
        if not publishes:
            settings = settings.model_copy(update={"publish": Publish()})
        stage = wiring.build(settings, compose.snapshot(config), track)
        if isinstance(interrupt := signal.getsignal(signal.SIGINT), Interrupt):
            interrupt.check()
        return stage()
    except ShapwatchError as error:
        return Outcome(f"error: {error}", succeeded=False)
    except OSError as error:
        return Outcome(f"error: {os_error_message(error)}", succeeded=False)
    except SystemExit as error:
        code = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(f"error: {code.filename}:{code.lineno} exited ({error.code!r}) during the run", succeeded=False)
    except MemoryError:
        return Outcome("error: out of memory; decrease data.max_records or shap.max_batch_rows", succeeded=False)


@dataclass(frozen=True)
class LogContext:
    """Execution and schedule of log records.

    Attributes:
        default: values for records without their own.
    """

    default: Mapping[str, str]

    def values(self, record: logging.LogRecord) -> Mapping[str, object]:
        """Return the context of a record."""
        return {**self.default, **{key: vars(record)[key] for key in CONTEXT_KEYS if key in vars(record)}}


class JsonFormatter(logging.Formatter):
    """Formatter of log records as lines of JSON."""

    def __init__(self, context: LogContext) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"at": time, "level": record.levelname.lower(), "logger": record.name}
        line = {**head, **self._context.values(record), "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class ReadableFormatter(logging.Formatter):
    """Formatter of log records for a terminal, with the context before the message."""

    def __init__(self, context: LogContext) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record."""
        from runner.errors import printable

        values = self._context.values(record)
        schedule = [str(values["schedule"])] if "schedule" in values else []
        execution = [f"execution {values['execution']}"] if "execution" in values else []
        context = ", ".join([*schedule, *execution])
        text = super().format(record)
        return printable(f"{context}: {text}" if context else text)


def configure_logging(**context: str) -> None:
    """Log to standard error; from libraries log only warnings and errors.

    Args:
        context: execution and schedule of all records.
    """
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(ReadableFormatter(LogContext(context)))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter(LogContext(context)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(logging.INFO)


def track(items: Iterable[Item], description: str, total: int | None) -> Iterable[Item]:
    """Yield the items, and show progress: a bar on a terminal, occasional log lines otherwise."""
    return _bar(items, description, total) if sys.stderr.isatty() else _log(items, description, total)


def _bar(items: Iterable[Item], description: str, total: int | None) -> Iterable[Item]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description, total, console=Console(stderr=True), transient=True)


def _log(items: Iterable[Item], description: str, total: int | None) -> Iterable[Item]:
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last > LOG_INTERVAL_SECONDS:
            last = time.monotonic()
            logger.info("%s: %d%s", description, done, "" if total is None else f" of {total}")
        yield item
