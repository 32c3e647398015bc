"""The command line: bad input gets a sentence and exit code 2, never a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from hydra import compose, initialize_config_dir

from runner import cli
from runner.config.compose import snapshot
from runner.domain.executions import Status
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.conftest import DEMO
from tests.golden import Golden

HOUR = "stage.window=2026-01-05T09"
JOB_INPUTS = "Job inputs had no data"
"""SageMaker's failure reason for an empty window."""
LINES = (DEMO / "baseline.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def quickstarted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a quickstart leaves."""
    root = tmp_path_factory.mktemp("quickstarted")
    Shapwatch(root)("stage=quickstart")
    return root


@pytest.fixture
def played(quickstarted: Path, shapwatch: Shapwatch) -> Shapwatch:
    """The program, after a quickstart."""
    shutil.copytree(quickstarted, shapwatch.root)
    return shapwatch


@pytest.fixture
def shapwatch(tmp_path: Path) -> Shapwatch:
    """The program, with the quickstart's experiment."""
    return Shapwatch(tmp_path / "root")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_help_is_quick_and_lists_the_choices() -> None:
    """The help names every option of every group without loading what stages need."""
    code = "import sys; sys.argv = ['shapwatch', '--help']; from runner.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'polars', 'numpy', 'hydra', 'pydantic', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    for group in sorted(folder for folder in cli.CONF.iterdir() if folder.is_dir() and folder.name != "hydra"):
        options = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
        assert f"{group.name}: {options}" in done.stdout


def test_all_problems_of_the_settings_are_printed_at_once(shapwatch: Shapwatch, golden: Golden) -> None:
    """Unknown keys, wrong types and values that are not allowed come in one message with their full keys and values."""
    wrong = {
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
    printed = shapwatch(*(f"{key}={value}" for key, value in wrong.items()), code=2)
    _, *problems = (line.strip() for line in printed.splitlines())
    assert sorted(problem.partition(": ")[0] for problem in problems) == sorted(wrong)
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
    ],
    ids=" ".join,
)
def test_bad_input_is_refused(shapwatch: Shapwatch, overrides: list[str], golden: Golden) -> None:
    """Each is an error that names the culprit, with exit code 2; nothing is written."""
    golden(shapwatch(*overrides, code=2))
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
def test_a_bad_line_of_a_dataset_is_named(shapwatch: Shapwatch, tmp_path: Path, line: str, golden: Golden) -> None:
    """The error names the file, the line and what is wrong with it, and the former reference stays."""
    shapwatch("stage=baseline")
    before = shapwatch.find("analysis.json").read_bytes()
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([*LINES[:2], line, *LINES[3:]]))
    printed = shapwatch("stage=baseline", f"data.dataset={path}", code=2)
    assert f"{path}:3: " in printed
    assert shapwatch.find("analysis.json").read_bytes() == before
    golden(printed)


def test_an_empty_window_is_a_failed_execution(shapwatch: Shapwatch, golden: Golden) -> None:
    """The failure reason is SageMaker's, also in the report; the sentence printed names the folder searched."""
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
def test_an_execution_that_cannot_be_judged_fails(played: Shapwatch, overrides: list[str], golden: Golden) -> None:
    """The failure reason is printed and stored, and a failed run never replaces a finished one."""
    finished = played.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10/manifest.json"
    printed = played("stage=monitor", HOUR, *overrides, code=2)
    assert str(finished.parent) in printed
    assert orjson.loads(finished.read_bytes())["status"] == Status.COMPLETED
    played("stage=monitor", HOUR, f"paths.monitor={played.root}/other", *overrides, code=2)
    stored = played.read("manifest.json", "other")
    assert stored["status"] == Status.FAILED
    assert stored["failure_reason"] in printed
    golden(printed)


def test_a_folder_with_other_things_is_never_replaced(shapwatch: Shapwatch, tmp_path: Path, golden: Golden) -> None:
    """Baselining into a folder with other contents is refused, naming them, and leaves it as it is."""
    precious = tmp_path / "precious"
    (precious / "sub").mkdir(parents=True)
    golden(shapwatch("stage=baseline", f"paths.baseline={precious}", code=2))
    assert (precious / "sub").is_dir()
    assert list(precious.iterdir()) == [precious / "sub"]


def test_another_window_does_not_replace_an_execution(played: Shapwatch, golden: Golden) -> None:
    """Of two windows with the same scheduled hour the one that is finished stays."""
    finished = played.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10"
    before = contents(finished)
    golden(played("stage=monitor", "stage.window=2026-01-05T09:10/2026-01-05T09:20", code=2))
    assert contents(finished) == before


def test_rejections_are_printed(played: Shapwatch, golden: Golden) -> None:
    """A window with a few unusable lines says so on the terminal too, and one that holds mostly such lines fails."""
    (path,) = (played.root / "capture/breast-cancer/AllTraffic/2026/01/05/09").iterdir()
    manifest = played.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10/manifest.json"
    path.write_bytes(path.read_bytes() + b"{}\n" * 4)
    golden(played("stage=monitor", HOUR))
    counts = orjson.loads(manifest.read_bytes())["counts"]
    assert (counts["records"], counts["rejected"]) == (90, {"not_a_capture": 4})
    path.write_bytes(path.read_bytes() + b"{}\n" * 396)
    golden(played("stage=monitor", HOUR, code=2))


def test_a_folder_that_cannot_be_listed_is_no_empty_window(played: Shapwatch, golden: Golden) -> None:
    """A file where the hour's folder should be is an error of the disk, not a window without traffic."""
    printed = played("stage=monitor", HOUR, f"paths.capture={played.find('settings.yaml', 'baseline')}", code=2)
    assert os.strerror(errno.ENOTDIR) in printed
    golden(printed)


def test_the_choice_of_a_group_holds_in_an_experiment(shapwatch: Shapwatch) -> None:
    """An option named on the command line wins over the experiment's."""
    assert "explainer: kernel" in shapwatch("shap=kernel", options=("--cfg", "job"))
    assert "explainer: exact" in shapwatch(options=("--cfg", "job"))


def test_a_reader_that_went_away_is_no_error(tmp_path: Path) -> None:
    """Output into a closed pipe, or a terminal without Unicode, ends as it should."""
    command = [sys.executable, "-m", "runner", "stage=baseline", f"paths.root={tmp_path}"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT, env=environment
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert b"Traceback" not in run.stderr.read()


def test_a_reference_by_another_explainer_is_compared(played: Shapwatch, golden: Golden) -> None:
    """It has other noise, which a note in the manifest and the report says."""
    played("stage=monitor", HOUR, "shap.explainer=kernel", "shap.num_samples=100")
    manifest = orjson.loads(
        (played.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10/manifest.json").read_bytes()
    )
    assert manifest["status"] in {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}
    golden("\n".join(manifest["notes"]))


def test_a_reference_by_clarify_is_enough(played: Shapwatch, tmp_path: Path) -> None:
    """A bare analysis.json is a reference, given the rows it used as shap.baseline."""
    rows = played.read("manifest.json", "baseline")["background"]["rows"]
    bare = tmp_path / "clarify.json"
    bare.write_bytes(played.find("analysis.json", "baseline").read_bytes())
    printed = played("stage=monitor", HOUR, f"monitor.reference={bare}", f"shap.baseline={rows}")
    assert printed.startswith(f"{Status.COMPLETED}, ")


def test_clusters_replace_the_mean_as_baseline(shapwatch: Shapwatch, golden: Golden) -> None:
    """The baseline rows are records of the dataset; both at once are refused."""
    shapwatch("stage=baseline", "shap.num_clusters=3", "shap.explainer=auto")
    background = shapwatch.read("manifest.json", "baseline")["background"]["rows"]
    assert len(background) == 3
    golden(shapwatch("stage=plan", "shap.num_clusters=3", "shap.explainer=auto"), (r"\d+(\.\d+)? s\b", "{seconds}"))
    golden(shapwatch("stage=baseline", "shap.num_clusters=auto", "shap.baseline=[[1]]", code=2))


def test_features_may_be_explained_together(shapwatch: Shapwatch, golden: Golden) -> None:
    """A group has one attribution in the reference and in the execution; without it they are not comparable."""
    groups = "shap.groups={size: [mean radius, mean area]}"
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z")
    shapwatch("stage=baseline", groups)
    assert shapwatch("stage=monitor", HOUR, groups).startswith(f"{Status.COMPLETED}, ")
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


def test_a_sweep_runs_every_member(shapwatch: Shapwatch, golden: Golden) -> None:
    """Multirun composes each combination; a member that fails does not stop the others, and the exit code tells."""
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


def test_settings_can_be_shown(shapwatch: Shapwatch) -> None:
    """--cfg job prints the configuration instead of running."""
    printed = shapwatch("stage=baseline", options=("--cfg", "job"))
    assert "num_samples: null" in printed
    assert not shapwatch.root.exists()


@pytest.mark.parametrize("info", [("--info", "searchpath"), ("--info",)])
def test_options_may_stand_anywhere(info: tuple[str, ...], shapwatch: Shapwatch, tmp_path: Path) -> None:
    """Between overrides and after them, with and without a value."""
    own = tmp_path / "conf" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\ndefaults: [quickstart, _self_]\nshap: {seed: 7}\n")
    printed = shapwatch(
        "experiment=mine", "--cfg", "job", "stage=baseline", "--config-dir", str(own.parent), "report.max_bars=3"
    )
    assert "seed: 7" in printed
    assert "max_bars: 3" in printed
    assert "provider" in shapwatch("stage=baseline", *info, "shap.seed=3").lower()


def test_an_error_of_ours_is_no_bad_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It shows where it happened, which ends a process with 1."""
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr(sys, "argv", ["shapwatch", f"paths.root={tmp_path}"])
    monkeypatch.setattr(cli, "run", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize("token", ["two words", "sécret", " "], ids=["two words", "not ASCII", "blank"])
def test_a_token_that_no_header_can_carry_is_refused(
    shapwatch: Shapwatch, token: str, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The variable is named, the token is not."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", token)
    printed = shapwatch("stage=traffic", "stage.count=1", code=cli.BAD_INPUT)
    assert "SHAPWATCH_TOKEN" in printed
    assert token == " " or token not in printed
    golden(printed)


def test_secrets_are_not_repeated(shapwatch: Shapwatch, golden: Golden) -> None:
    """A token where the name of a variable belongs, a password in a URL and a URL's query are not printed or stored."""
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


def test_an_interrupted_run_leaves_nothing(
    shapwatch: Shapwatch, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """Ctrl-C ends with 130 and a sentence."""

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupt)
    golden(shapwatch("stage=baseline", code=cli.INTERRUPTED))
    assert not shapwatch.root.exists()


def test_the_password_of_a_ledger_is_shown_to_nobody(shapwatch: Shapwatch) -> None:
    """Wherever in the URL it stands, the sentence that refuses it leaves it out."""
    for url in ("postgresql://u@h/db?password=hemmelig", "postgresql://u:hemmelig@h/db"):
        printed = shapwatch("stage=status", f"ledger.url='{url}'", code=2)
        assert "ledger.url" in printed
        assert "hemmelig" not in printed


def test_two_monitors_of_one_name_are_refused(shapwatch: Shapwatch, golden: Golden) -> None:
    """Else each start of the daemon would replace the schedule of one by that of the other."""
    golden(shapwatch("stage=daemon", "stage.monitors=[quickstart,quickstart]", code=2))


@pytest.mark.parametrize("kind", ["baseline", "monitor"])
def test_a_report_says_how_it_is_made_again(played: Shapwatch, kind: str) -> None:
    """Its command, as somebody would paste it into a shell, gives the same bytes."""
    manifests = sorted(played.root.rglob("manifest.json"))
    made = {orjson.loads(path.read_bytes())["stage"]: path.parent for path in manifests}[kind]
    before = contents(made)
    command = orjson.loads(before["manifest.json"])["command"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = {**os.environ, "PATH": path, "DIRECTORY": str(made)}
    subprocess.run(["/bin/sh", "-c", command], cwd=CHECKOUT, env=shell, check=True, timeout=120)
    assert contents(made) == before
