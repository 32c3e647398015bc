"""Command line: invalid input gives a message and exit code 2, never a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import orjson
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from runner import cli
from runner.config import compose as composition
from runner.config import wiring
from runner.config.compose import snapshot
from runner.config.settings import Settings
from runner.domain.executions import ExitCode, Status
from tests.cli_runner import CHECKOUT, HANG_SECONDS, Shapwatch, run_cli
from tests.conftest import DEMO
from tests.golden import Golden

HOUR = "stage.window=2026-01-05T09"
JOB_INPUTS = "Job inputs had no data"
"""SageMaker's failure reason for an empty window."""
LINES = (DEMO / "baseline.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def quickstart_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the quickstart."""
    root = tmp_path_factory.mktemp("quickstart")
    Shapwatch(root)("stage=quickstart")
    return root


@pytest.fixture
def after_quickstart(quickstart_results: Path, shapwatch: Shapwatch) -> Shapwatch:
    """The program, with a copy of the results of the quickstart."""
    shutil.copytree(quickstart_results, shapwatch.root)
    return shapwatch


@pytest.fixture
def shapwatch(tmp_path: Path) -> Shapwatch:
    """The program, with the experiment of the quickstart."""
    return Shapwatch(tmp_path / "root")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of the files in a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


BUSY = """
import os, time
from runner import cli

def busy():
    try:
        os.write(1, b"running\\n")
        time.sleep(60)
    finally:
        os.write(1, b"cleaning up\\n")
        while CLEANS_UP_FOR_EVER:
            time.sleep(60)

raise SystemExit(cli.exit_code(busy))
"""


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_run_that_cleans_up(number: int, endless: bool) -> None:
    """The exit code is 130, and there is no traceback. Two signals at once are one."""
    command = [sys.executable, "-c", BUSY.replace("CLEANS_UP_FOR_EVER", str(endless))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        process.send_signal(number)
        assert process.stdout.readline() == "cleaning up\n"
        while endless and process.poll() is None:
            process.send_signal(number)
            time.sleep(0.01)
        _, errors = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, errors.count("Interrupted")) == (130, 1), errors


def test_interruption_inside_exec_has_the_same_exit_code(tmp_path: Path) -> None:
    """Python would end itself with SIGINT after a KeyboardInterrupt that has left a string in exec."""
    (tmp_path / "interrupted.py").write_text(
        "from runner import cli\n"
        "def task():\n"
        "    exec('raise KeyboardInterrupt')\n"
        "raise SystemExit(cli.exit_code(task))\n"
    )
    path = os.pathsep.join([str(tmp_path), str(CHECKOUT)])
    process = subprocess.run(
        [sys.executable, "-m", "interrupted"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False
    )
    assert process.returncode == 130


@pytest.mark.parametrize("error", [SystemExit(0), MemoryError()], ids=["exit", "memory"])
def test_a_run_that_exits_or_lacks_memory_fails(
    error: BaseException, shapwatch: Shapwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of a user or a plug-in may exit; the exit code of the program is 2, and the message names the line."""

    def failing(*_: object) -> object:
        raise error

    monkeypatch.setattr(wiring, "build", failing)
    message = shapwatch("stage=baseline", code=2)
    assert message.startswith(f"error: {__file__}:" if isinstance(error, SystemExit) else "error: out of memory")


def test_help_is_fast_and_lists_all_options() -> None:
    """The help names every option of every group, without importing large libraries."""
    code = "import sys; sys.argv = ['shapwatch', '--help']; from runner.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'polars', 'numpy', 'hydra', 'pydantic', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    for group in sorted(folder for folder in cli.CONF.iterdir() if folder.is_dir() and folder.name != "hydra"):
        options = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
        assert f"{group.name}: {options}" in done.stdout


def test_all_problems_of_settings_are_reported_together(shapwatch: Shapwatch, golden: Golden) -> None:
    """One message lists unknown keys, wrong types and invalid values, each with its full key and value."""
    overrides = {
        "shap.num_sample": "3",
        "shap.agg_method": "mean",
        "shap.num_samples": "abc",
        "monitor.keep": "-P30D",
        "drift.threshold": "7",
        "data.headers": "[a,a]",
        "data.features": '"a["',
        "monitor.name": "a/b",
        "source.neighbours": "99",
        "model.kind": "magic",
        "report.colour": "red",
        "stage.start": "yesterday",
    }
    printed = shapwatch(*(f"{key}={value}" for key, value in overrides.items()), code=2)
    _, *problems = (line.strip() for line in printed.splitlines())
    assert sorted(problem.partition(": ")[0] for problem in problems) == sorted(overrides)
    golden(printed, (r"(model\.kind: expected one of ).*(?= \(got)", r"\1{kinds}"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["stage=baseline", "shap.max_batch_rows=99999999999999999999"],
        ["stage=baseline", "shap.num_samples=true"],
        ["stage=baseline", "shap.baseline=[[1,2,3,4,5,6,7,8,9,nan]]"],
        ["stage=baseline", "shap.baseline=[[1,2,3,4,5,6,7,8,9,1e300]]"],
        ["stage=baseline", "shap.baseline=[[1,2,3,4,5,6,7,8,9,[1]]]"],
        ["stage=baseline", "shap.baseline=[[1,2,3,4,5,6,7,8,9,1],[1,2,3,4,5,6,7,8,9,true]]"],
        ["stage=baseline", "shap.baseline=[{1: 3}]"],
        ["stage=baseline", "data.features='features[::0]'"],
        ["stage=baseline", "data.features='features && nofunc(@)'"],
        ["stage=replay", "stage.start=1969-12-31T00:00:00Z"],
        ["stage=replay", "stage.start=2026-01-05T09:00", "stage.rate=1e-9"],
        ["stage=monitor", "stage.window=2001-01-01T00/2009-01-01T00"],
        ["stage=monitor", "stage.window=9998-12-31T00/9999-12-31T23:30"],
        ["stage=null"],
        ["paths.root="],
        ["stage=baseline", "shap.baseline=5"],
        ["stage=baseline", "model.artifact=null"],
        ["stage=nonsense"],
        ["nonsense=1"],
        ["+nonsense=1"],
        ["stage=monitor"],
        ["stage=monitor", "stage.window=2026-01-05"],
        ["stage=monitor", "stage.window=2026-01-05T09/2026-01-05T08"],
        ["stage=baseline", "data.dataset=null"],
        ["~shap.seed", "stage=baseline"],
        ["stage=baseline", "model.artifact=${oc.env:NOT_SET_ANYWHERE}"],
        ["stage=baseline", "data.dataset=nowhere.jsonl"],
        ["stage=replay", "stage.start=2026-01-05T09:00", "data.traffic=nowhere.jsonl"],
        ["stage=baseline", "model.artifact=nowhere.tar.gz"],
        ["stage=baseline", "model.artifact=README.md"],
        ["stage=baseline", "data.features=featurez"],
        ["stage=baseline", "data.headers=[a,b]"],
        ["stage=baseline", "shap.baseline=[[1,2]]"],
        ["stage=baseline", "shap.baseline=[{x: 1}]"],
        ["stage=baseline", "shap.baseline=nowhere.jsonl"],
        ["stage=baseline", "shap.baseline=[]"],
        ["stage=baseline", "shap=kernel", "shap.explainer=kernel", "shap.num_samples=5"],
        ["stage=replay", "stage.start=2026-01-05T09:00", "stage.rescale={nope: 2}"],
        ["stage=replay", "stage.start=2026-01-05T09:00", "stage.rescale={mean area: 1e307}"],
        ["stage=replay", "stage.start=2026-01-05T09:00", "source=kserve"],
        ["stage=merge", "stage.window=2026-01-05T09", "source=batch_transform"],
        ["stage=merge", "stage.window=2026-01-05T09"],
        ["stage=capture", "stage.window=2026-01-05T09", "source=file"],
        ["stage=capture", HOUR, "source=file", "source.path=nowhere"],
        ["stage=capture", HOUR, "stage.save=csv"],
        ["stage=baseline", "data=csv", "data.label=target"],
        ["stage=baseline", "data.dataset_type=text/html"],
        ["stage=baseline", "data.content_template='{}'"],
        ["stage=baseline", "data.features=null"],
        ["stage=baseline", "data=parquet"],
        ["stage=baseline", "paths.root=/proc/nowhere"],
        ["stage=daemon", "stage.monitors=[nowhere]"],
        ["stage=daemon", "schedule.overlap=allow", "drift.evaluation_period=3"],
        ["stage=baseline", "data.score=predictions[*].score"],
        ["stage=baseline", "data.score={a: 1}"],
        ["stage=baseline", "shap.seed=1,2"],
        ["stage=monitor", HOUR, "stage.fail_on=info"],
        ["stage=baseline", "publish.base_url=https://user:password@host/"],
        ["stage=baseline", "publish.base_url='https://host/?folder=x'"],
    ],
    ids=" ".join,
)
def test_invalid_input_is_refused(shapwatch: Shapwatch, overrides: list[str], golden: Golden) -> None:
    """Each has an error message and exit code 2; nothing is written."""
    golden(shapwatch(*overrides, code=2), (r"(no such option; expected one of ).*", r"\1{options}"))
    assert not shapwatch.root.exists()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param('{"features":[1,2,3,4,5,6,7,8,9]}', id="a feature is missing"),
        pytest.param('{"features":["x",2,3,4,5,6,7,8,9,10]}', id="a string among numbers"),
        pytest.param('{"features":[[],2,3,4,5,6,7,8,9,10]}', id="an array"),
        pytest.param('{"features":', id="no JSON"),
    ],
)
def test_invalid_line_of_a_dataset_is_reported(shapwatch: Shapwatch, tmp_path: Path, line: str, golden: Golden) -> None:
    """The error names file, line and problem; the previous reference is unchanged."""
    shapwatch("stage=baseline")
    before = shapwatch.find("analysis.json").read_bytes()
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([*LINES[:2], line, *LINES[3:]]))
    printed = shapwatch("stage=baseline", f"data.dataset={path}", code=2)
    assert f"{path}:3: " in printed
    assert shapwatch.find("analysis.json").read_bytes() == before
    golden(printed)


def test_empty_window_is_a_failed_execution(shapwatch: Shapwatch, golden: Golden) -> None:
    """The failure reason is SageMaker's, also in the report; the message names the searched folder."""
    shapwatch("stage=baseline")
    golden(shapwatch("stage=monitor", HOUR, code=2))
    manifest = shapwatch.read("manifest.json", "monitor")
    assert (manifest["status"], manifest["failure_reason"]) == (Status.FAILED, JOB_INPUTS)
    assert JOB_INPUTS in shapwatch.find("report.html", "monitor").read_text()
    assert shapwatch.find("settings.yaml", "monitor").parent.as_posix().endswith("2026/01/05/10")


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.headers=[a,b,c,d,e,f,g,h,i,j]"],
        ["data.score=nothing"],
        ["data.features=nothing"],
        ["shap.use_logit=true"],
        ["shap.agg_method=median"],
        ["shap.baseline=[[1,2,3,4,5,6,7,8,9,10]]"],
        ["monitor.reference=nowhere"],
        ["monitor.reference=tests/expected/constraint_violations.json"],
        ["monitor.reference=tests/expected/analysis.json"],
        ["model.artifact=nowhere"],
    ],
    ids=" ".join,
)
def test_execution_without_a_verdict_fails(after_quickstart: Shapwatch, overrides: list[str], golden: Golden) -> None:
    """The failure reason is printed and stored; a failed execution does not replace a finished one."""
    finished = after_quickstart.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10/manifest.json"
    printed = after_quickstart("stage=monitor", HOUR, *overrides, code=2)
    assert str(finished.parent) in printed
    assert orjson.loads(finished.read_bytes())["status"] == Status.COMPLETED
    after_quickstart("stage=monitor", HOUR, f"paths.monitor={after_quickstart.root}/other", *overrides, code=2)
    stored = after_quickstart.read("manifest.json", "other")
    assert stored["status"] == Status.FAILED
    assert stored["failure_reason"] in printed
    golden(printed)


def test_folder_with_other_files_is_not_replaced(shapwatch: Shapwatch, tmp_path: Path, golden: Golden) -> None:
    """The error names the other files, and the folder is unchanged."""
    occupied = tmp_path / "occupied"
    (occupied / "sub").mkdir(parents=True)
    golden(shapwatch("stage=baseline", f"paths.baseline={occupied}", code=2))
    assert (occupied / "sub").is_dir()
    assert list(occupied.iterdir()) == [occupied / "sub"]


def test_another_window_does_not_replace_an_execution(after_quickstart: Shapwatch, golden: Golden) -> None:
    """Of two windows with the same scheduled time, the first result is unchanged."""
    finished = after_quickstart.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10"
    before = contents(finished)
    golden(after_quickstart("stage=monitor", "stage.window=2026-01-05T09:10/2026-01-05T09:20", code=2))
    assert contents(finished) == before


def test_rejected_records_are_reported(after_quickstart: Shapwatch, golden: Golden) -> None:
    """A window with a few invalid lines prints their number; one with mostly invalid lines fails."""
    (path,) = (after_quickstart.root / "capture/breast-cancer/AllTraffic/2026/01/05/09").iterdir()
    manifest = after_quickstart.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10/manifest.json"
    path.write_bytes(path.read_bytes() + b"{}\n" * 4)
    golden(after_quickstart("stage=monitor", HOUR))
    counts = orjson.loads(manifest.read_bytes())["counts"]
    assert (counts["records"], counts["rejected"]) == (90, {"not_a_capture": 4})
    path.write_bytes(path.read_bytes() + b"{}\n" * 396)
    golden(after_quickstart("stage=monitor", HOUR, code=2))


def test_folder_that_cannot_be_listed_is_an_error(after_quickstart: Shapwatch, golden: Golden) -> None:
    """A file in place of the folder is an error of the disk, not an empty window."""
    printed = after_quickstart(
        "stage=monitor", HOUR, f"paths.capture={after_quickstart.find('settings.yaml', 'baseline')}", code=2
    )
    assert os.strerror(errno.ENOTDIR) in printed
    golden(printed)


def test_option_on_the_command_line_takes_precedence(shapwatch: Shapwatch) -> None:
    """It replaces the option of the experiment."""
    assert "explainer: kernel" in shapwatch("shap=kernel", options=("--cfg", "job"))
    assert "explainer: exact" in shapwatch(options=("--cfg", "job"))


def test_closed_output_is_not_an_error(tmp_path: Path) -> None:
    """A closed pipe, or a terminal without Unicode, causes no traceback."""
    command = [sys.executable, "-m", "runner", "stage=baseline", f"paths.root={tmp_path}"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT, env=environment
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert b"Traceback" not in run.stderr.read()


def test_reference_of_another_explainer_is_compared(after_quickstart: Shapwatch, golden: Golden) -> None:
    """A note states that its estimation noise differs."""
    after_quickstart("stage=monitor", HOUR, "shap.explainer=kernel", "shap.num_samples=100")
    manifest = orjson.loads(
        (after_quickstart.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10/manifest.json").read_bytes()
    )
    assert manifest["status"] in {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}
    golden("\n".join(manifest["notes"]))


def test_analysis_of_clarify_is_a_reference(after_quickstart: Shapwatch, tmp_path: Path) -> None:
    """An analysis.json alone is a reference, if shap.baseline contains its background rows."""
    rows = after_quickstart.read("manifest.json", "baseline")["background"]["rows"]
    bare = tmp_path / "clarify.json"
    bare.write_bytes(after_quickstart.find("analysis.json", "baseline").read_bytes())
    printed = after_quickstart("stage=monitor", HOUR, f"monitor.reference={bare}", f"shap.baseline={rows}")
    assert f" {Status.COMPLETED}, " in printed


def test_clusters_replace_the_mean_as_baseline(shapwatch: Shapwatch, golden: Golden) -> None:
    """The background rows are records of the dataset; setting both keys is refused."""
    shapwatch("stage=baseline", "shap.num_clusters=3", "shap.explainer=auto")
    background = shapwatch.read("manifest.json", "baseline")["background"]["rows"]
    assert len(background) == 3
    golden(shapwatch("stage=plan", "shap.num_clusters=3", "shap.explainer=auto"), (r"\d+(\.\d+)? s\b", "{seconds}"))
    golden(shapwatch("stage=baseline", "shap.num_clusters=auto", "shap.baseline=[[1]]", code=2))


def test_medians_are_a_baseline_that_executions_use(shapwatch: Shapwatch) -> None:
    """The background row of the reference is also that of the execution."""
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z")
    shapwatch("stage=baseline", "shap.baseline=median_mode")
    background = shapwatch.read("manifest.json", "baseline")["background"]["rows"]
    features_ND = [orjson.loads(line)["features"] for line in LINES if line]
    assert background == [pytest.approx(list(np.median(features_ND, axis=0)))]
    shapwatch("stage=monitor", HOUR, "shap.baseline=median_mode")
    assert shapwatch.read("manifest.json", "monitor")["background"]["rows"] == background


def test_group_of_features_has_one_attribution(shapwatch: Shapwatch, golden: Golden) -> None:
    """Reference and execution need the same groups to be comparable."""
    groups = "shap.groups={size: [mean radius, mean area]}"
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z")
    shapwatch("stage=baseline", groups)
    assert f" {Status.COMPLETED}, " in shapwatch("stage=monitor", HOUR, groups)
    found = shapwatch.read("analysis.json", "monitor")["explanations"]["kernel_shap"]["malignant"]
    assert "size" in found["global_shap_values"]
    assert "mean radius" not in found["global_shap_values"]
    golden(shapwatch("stage=monitor", HOUR, code=2))
    shapwatch("stage=replay", "stage.start=2026-01-05T10:00:00Z", "stage.rescale={mean area: 100}")
    golden(shapwatch("stage=monitor", "stage.window=2026-01-05T10", groups))
    drift = max(shapwatch.root.glob("monitor/**/drift.json"))
    (label,) = orjson.loads(drift.read_bytes())["finding"]["labels"]
    (cause,) = (feature["cause"] for feature in label["features"] if feature["name"] == "size")
    assert "mean area" in cause


def test_sweep_runs_every_member(shapwatch: Shapwatch, golden: Golden) -> None:
    """Each combination runs; a failed member does not stop the others, and the exit code is the highest one."""
    members = [
        "shap.explainer=kernel",
        "shap.num_samples=100,5,200",
        "paths.baseline=${paths.root}/b${shap.num_samples}",
    ]
    printed = shapwatch("stage=baseline", *members, options=("-m",), code=2)
    manifests = sorted(shapwatch.root.glob("b*/**/manifest.json"))
    assert [orjson.loads(path.read_bytes())["status"] for path in manifests] == [Status.COMPLETED] * 2
    assert {path.relative_to(shapwatch.root).parts[0] for path in manifests} == {"b100", "b200"}
    golden(printed, (r"sweeps/[\dT-]+", "sweeps/{now}"))


def test_verdict_that_reaches_fail_on_ends_a_sweep_with_its_code(after_quickstart: Shapwatch) -> None:
    """Each member has its own exit code; the codes of failures precede it."""
    drifted = ("stage=monitor", "stage.window=2026-01-05T11")
    after_quickstart(*drifted, code=cli.COMPLETED)
    after_quickstart(*drifted, "stage.fail_on=warning", code=ExitCode.ALERT)
    after_quickstart(*drifted, "stage.fail_on=none,violation", options=("-m",), code=ExitCode.ALERT)
    failing = "stage.window=2026-01-05T11,2026-01-05T20"
    after_quickstart("stage=monitor", failing, "stage.fail_on=violation", options=("-m",), code=cli.BAD_INPUT)


def test_settings_can_be_printed(shapwatch: Shapwatch) -> None:
    """--cfg job prints the configuration instead of running."""
    printed = shapwatch("stage=baseline", options=("--cfg", "job"))
    assert "num_samples: null" in printed
    assert not shapwatch.root.exists()


def test_experiment_sets_the_address_of_reports(shapwatch: Shapwatch, tmp_path: Path) -> None:
    """An experiment takes precedence over the defaults in conf/config.yaml."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\npublish: {base_url: https://host/reports}\n")
    mine = ("--config-dir", str(tmp_path), "--cfg", "job")
    assert "base_url: https://host/reports" in shapwatch("experiment=mine", options=mine)


@pytest.mark.parametrize("info", [("--info", "searchpath"), ("--info",)])
def test_options_may_be_anywhere(info: tuple[str, ...], shapwatch: Shapwatch, tmp_path: Path) -> None:
    """Options with and without a value may precede, follow or separate overrides."""
    own = tmp_path / "conf" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\ndefaults: [quickstart, _self_]\nshap: {seed: 7}\n")
    printed = shapwatch(
        "experiment=mine", "--cfg", "job", "stage=baseline", "--config-dir", str(own.parent), "report.max_bars=3"
    )
    assert "seed: 7" in printed
    assert "max_bars: 3" in printed
    assert "provider" in shapwatch("stage=baseline", *info, "shap.seed=3").lower()


def test_unexpected_error_has_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is raised, which ends a process with exit code 1."""
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr(sys, "argv", ["shapwatch", f"paths.root={tmp_path}"])
    monkeypatch.setattr(cli, "run", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize("token", ["two words", "sécret", " "], ids=["two words", "not ASCII", "blank"])
def test_invalid_token_is_refused(
    shapwatch: Shapwatch, token: str, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The message names the variable, and does not contain the token."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", token)
    printed = shapwatch("stage=traffic", "stage.count=1", code=cli.BAD_INPUT)
    assert "SHAPWATCH_TOKEN" in printed
    assert token == " " or token not in printed
    golden(printed)


def test_secrets_are_not_repeated(shapwatch: Shapwatch, golden: Golden) -> None:
    """A token in place of a variable name, and the password and query of a URL, are neither printed nor stored."""
    live = ["model=http", "~model.artifact", "model.url='http://127.0.0.1:9/x?key=hush-hush'"]
    printed = shapwatch("stage=baseline", *live, "model.token_env=hush-hush", code=cli.BAD_INPUT)
    assert "model.token_env: " in printed
    printed += shapwatch("stage=traffic", "stage.url=http://me:hush-hush@127.0.0.1/x", code=cli.BAD_INPUT)
    cli.register_package()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        stored = snapshot(compose("config", ["experiment=quickstart", "stage=baseline", *live]))
    assert "hush-hush" not in printed + stored
    assert "http://127.0.0.1:9/x?…" in stored
    golden(printed)


def test_interrupted_run_writes_nothing(shapwatch: Shapwatch, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """Ctrl-C gives a message and exit code 130."""

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupt)
    golden(shapwatch("stage=baseline", code=cli.INTERRUPTED))
    assert not shapwatch.root.exists()


def test_interruption_that_a_library_has_caught_ends_the_run(
    shapwatch: Shapwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No signal during the composition of the settings is lost."""
    validate = composition.validate

    def interrupt(config: DictConfig) -> Settings:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return validate(config)

    monkeypatch.setattr(composition, "validate", interrupt)
    shapwatch("stage=baseline", code=cli.INTERRUPTED)
    assert not shapwatch.root.exists()


def test_password_of_a_ledger_is_not_printed(shapwatch: Shapwatch) -> None:
    """The error omits it in any part of the URL."""
    urls = ["postgresql://u@h/db?password=hemmelig", "postgresql://u:hemmelig@h/db", "postgresql://u%3Ahemmelig@h/db"]
    for value in [*(f"'{url}'" for url in urls), urls[0]]:  # the last one without quotes cannot be parsed
        printed = shapwatch("stage=status", f"ledger.url={value}", code=2)
        assert "ledger.url" in printed
        assert "hemmelig" not in printed


@pytest.mark.parametrize("url", ["s3://key:hush@bucket/x", "https://example.com/x?signature=hush"])
def test_locations_with_secrets_are_refused(shapwatch: Shapwatch, url: str) -> None:
    """They would be stored with results and schedules."""
    for key in ("data.dataset", "paths.capture", "source.root"):
        printed = shapwatch("stage=schedule", "stage.action=create", f"{key}='{url}'", code=2)
        assert key in printed
        assert "hush" not in printed
    assert not shapwatch.root.exists()


def test_two_monitors_of_one_name_are_refused(shapwatch: Shapwatch, golden: Golden) -> None:
    """They would overwrite each other's schedule."""
    golden(shapwatch("stage=daemon", "stage.monitors=[quickstart,quickstart]", code=2))


@pytest.mark.parametrize("kind", ["baseline", "monitor"])
def test_command_of_a_manifest_reproduces_its_directory(after_quickstart: Shapwatch, kind: str) -> None:
    """The shell command gives the same bytes."""
    manifests = sorted(after_quickstart.root.rglob("manifest.json"))
    made = {orjson.loads(path.read_bytes())["stage"]: path.parent for path in manifests}[kind]
    before = contents(made)
    command = orjson.loads(before["manifest.json"])["command"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = {**os.environ, "PATH": path, "DIRECTORY": str(made)}
    subprocess.run(["/bin/sh", "-c", command], cwd=CHECKOUT, env=shell, check=True, timeout=HANG_SECONDS)
    assert contents(made) == before


def test_settings_file_publishes_nothing(shapwatch: Shapwatch) -> None:
    """Its author could otherwise send a message, or replace metrics; the stored settings are unchanged."""
    sinks = ("publish=[prometheus]",)
    shapwatch("stage=baseline", *sinks)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=40")
    shapwatch("stage=monitor", "stage.window=2026-01-05T09", *sinks)
    directory = next((shapwatch.root / "monitor").rglob("manifest.json")).parent
    before = contents(directory)
    shutil.rmtree(shapwatch.root / "prometheus")
    stage = "stage={kind:monitor,window:2026-01-05T09:00:00Z/2026-01-05T10:00:00Z,scheduled:null,attached:false}"
    run_cli(["--settings", str(directory / "settings.yaml"), stage])
    assert not (shapwatch.root / "prometheus").exists()
    assert contents(directory).keys() == before.keys()
    assert b"prometheus:" in contents(directory)["settings.yaml"]
