"""The command line: bad input gets a sentence and exit code 2, never a traceback."""

from __future__ import annotations

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
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.conftest import DEMO
from tests.golden import Golden

HOUR = "stage.window=2026-01-05T09"
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


def test_help_is_quick_and_lists_the_choices() -> None:
    """The help names every option of every group without loading what stages need."""
    code = "import sys; sys.argv = ['shapwatch', '--help']; from runner.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'polars', 'numpy', 'hydra', 'pydantic', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    for group in (
        "data: csv, json, jsonlines, parquet",
        "experiment: adult, batch_transform, csv, json, multiclass, quickstart",
        "model: bentoml, http, kserve_v1, kserve_v2, lightgbm, linear, linear_learner, mlflow, onnx",
        "shap: auto, exact, kernel, linear, tree",
        "engine: dask, loky, serial",
        "source: batch_transform, endpoint, file, kserve",
        "ledger: postgresql, sqlite",
        "schedule: cron, daily, every_n_hours, hourly, once",
        "stage: backfill, baseline, capture, daemon, merge, monitor, plan, quickstart, replay, report, schedule, "
        "serve, status",
    ):
        assert group in done.stdout


def test_problems_of_the_settings_are_told_together(shapwatch: Shapwatch, golden: Golden) -> None:
    """Unknown keys, wrong types and values that are not allowed come in one message with their full keys."""
    printed = shapwatch(
        "shap.num_sample=3",
        "shap.agg_method=mean",
        "shap.num_samples=abc",
        "monitor.keep=-P30D",
        "drift.threshold=7",
        "data.headers=[a,a]",
        'data.features="a["',
        "monitor.name=a/b",
        "source.neighbours=99",
        "model.kind=magic",
        "report.colour=red",
        "stage.start=yesterday",
        code=2,
    )
    told = [line.strip() for line in printed.splitlines()]
    golden(told[0])
    for key, got, hint in [
        ("shap.num_sample", "(got 3)", "did you mean shap.num_samples?"),
        ("shap.agg_method", "(got 'mean')", "'mean_abs', 'median' or 'mean_sq'"),
        ("shap.num_samples", "(got 'abc')", "integer"),
        ("monitor.keep", "(got '-P30D')", "expected a duration above PT0S"),
        ("drift.threshold", "(got 7)", "less than or equal to 1"),
        ("data.headers", "(got ['a', 'a'])", "unique"),
        ("data.features", "(got 'a[')", "no JMESPath expression"),
        ("monitor.name", "(got 'a/b')", "letters, digits and hyphens"),
        ("source.neighbours", "(got 99)", "less than or equal to 24"),
        ("model.kind", "(got 'magic')", "'linear_learner'"),
        ("report.colour", "(got 'red')", "report has title, max_bars, templates"),
        ("stage.start", "(got 'yesterday')", "no UTC time such as 2023-01-19T05:00:00Z"),
    ]:
        (line,) = [line for line in told if line.startswith(f"{key}: ")]
        assert line.endswith(got)
        assert hint in line


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["stage=baseline", "shap.max_batch_rows=99999999999999999999"],
            "shap.max_batch_rows: Input should be less than",
        ),
        (["stage=baseline", "shap.num_samples=true"], "shap.num_samples: Input should be a valid integer"),
        (["stage=baseline", "shap.baseline=[[1,2,3,4,5,6,7,8,9,nan]]"], "feature 'mean fractal dimension' has [nan]"),
        (["stage=baseline", "shap.baseline=[[1,2,3,4,5,6,7,8,9,1e300]]"], "has [1e+300]; expected numbers"),
        (["stage=baseline", "shap.baseline=[[1,2,3,4,5,6,7,8,9,[1]]]"], "has [[1]]; expected numbers"),
        (
            ["stage=baseline", "shap.baseline=[[1,2,3,4,5,6,7,8,9,1],[1,2,3,4,5,6,7,8,9,true]]"],
            "of different kinds: [1, True]",
        ),
        (["stage=baseline", "shap.baseline=[{1: 3}]"], "shap.baseline: data.features='features' finds nothing"),
        (["stage=baseline", "data.features='features[::0]'"], "data.features='features[::0]' finds nothing"),
        (["stage=baseline", "data.features='features && nofunc(@)'"], "finds nothing"),
        (["stage=replay", "stage.start=1969-12-31T00:00:00Z"], "not between the years 1970 and 9000"),
        (
            ["stage=replay", "stage.start=2026-01-05T09:00", "stage.rate=1e-9"],
            "stage.rate: Input should be greater than",
        ),
        (["stage=monitor", "stage.window=2001-01-01T00/2009-01-01T00"], "it is longer than 366 days"),
        (["stage=monitor", "stage.window=9998-12-31T00/9999-12-31T23:30"], "is no window"),
        (["stage=null"], "Config group override must be a string or a list"),
        (["paths.root="], "paths.root: expected a path, got an empty text"),
        (
            ["stage=baseline", "shap.baseline=5"],
            "shap.baseline: expected mean, a list of rows, or the path of a file (got 5)",
        ),
        (["stage=baseline", "model.artifact=null"], "model.artifact: Input is not a valid path"),
        (["stage=nonsense"], "Available options in 'stage':"),
        (["nonsense=1"], "Could not override 'nonsense'"),
        (["+nonsense=1"], "nonsense: no such key"),
        (["stage=monitor"], "stage.window: required, but not set; pass stage.window=..."),
        (["stage=monitor", "stage.window=2026-01-05"], "stage.window: '2026-01-05' is no UTC time"),
        (["stage=monitor", "stage.window=2026-01-05T09/2026-01-05T08"], "stage.window: the window starts at"),
        (["stage=baseline", "data.dataset=null"], "stage=baseline needs data.dataset: give the path"),
        (["~shap.seed", "stage=baseline"], "shap.seed: required, but not set"),
        (["stage=baseline", "model.artifact=${oc.env:NOT_SET_ANYWHERE}"], "NOT_SET_ANYWHERE"),
        (["stage=baseline", "data.dataset=nowhere.jsonl"], "the dataset was not found at nowhere.jsonl (data.dataset)"),
        (["stage=replay", "stage.start=2026-01-05T09:00", "data.traffic=nowhere.jsonl"], "(data.traffic)"),
        (
            ["stage=baseline", "model.artifact=nowhere.tar.gz"],
            "the model was not found at nowhere.tar.gz (model.artifact)",
        ),
        (["stage=baseline", "model.artifact=README.md"], "README.md: is no readable tar.gz archive"),
        (["stage=baseline", "data.features=featurez"], "data.features='featurez' finds nothing in {\"features\":["),
        (["stage=baseline", "data.headers=[a,b]"], "baseline.jsonl:1: 10 features where data.headers names 2"),
        (["stage=baseline", "shap.baseline=[[1,2]]"], "shap.baseline: row 0 has 2 values, the data has 10 features"),
        (["stage=baseline", "shap.baseline=[{x: 1}]"], "shap.baseline: data.features='features' finds nothing"),
        (
            ["stage=baseline", "shap.baseline=nowhere.jsonl"],
            "the SHAP baseline was not found at nowhere.jsonl (shap.baseline)",
        ),
        (["stage=baseline", "shap.baseline=[]"], "shap.baseline: no row; give at least one, or 'mean'"),
        (["stage=baseline", "shap=kernel", "shap.explainer=kernel", "shap.num_samples=5"], "use 20 or more"),
        (["stage=replay", "stage.start=2026-01-05T09:00", "stage.rescale={nope: 2}"], "no feature 'nope'"),
        (["stage=replay", "stage.start=2026-01-05T09:00", "stage.rescale={mean area: 1e307}"], "which no request can"),
        (
            ["stage=replay", "stage.start=2026-01-05T09:00", "source=kserve"],
            "only captures of an endpoint or batch_transform can be replayed",
        ),
        (
            ["stage=merge", "stage.window=2026-01-05T09", "source=batch_transform"],
            "only an endpoint's captures are merged",
        ),
        (["stage=merge", "stage.window=2026-01-05T09"], "no captured event in 2026-01-05 09:00–10:00 UTC; looked in"),
        (["stage=capture", "stage.window=2026-01-05T09", "source=file"], "source.path: required, but not set"),
        (["stage=capture", HOUR, "source=file", "source.path=nowhere"], "was not found at nowhere (source.path)"),
        (["stage=capture", HOUR, "stage.save=csv"], "stage.save: Input should be 'json' or 'parquet' (got 'csv')"),
        (["stage=baseline", "data=csv", "data.label=target"], "a CSV without header has no column 'target'"),
        (["stage=baseline", "data.dataset_type=text/html"], "data.dataset_type: Input should be"),
        (["stage=baseline", "data.content_template='{}'"], 'a right one is {"features":$features}'),
        (["stage=baseline", "data.features=null"], "features: JSON needs a JMESPath to the feature values"),
        (["stage=baseline", "data=parquet"], "baseline.jsonl:1: not a Parquet file that can be read"),
        (["stage=baseline", "paths.root=/proc/nowhere"], "/proc/nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_a_sentence(shapwatch: Shapwatch, overrides: list[str], sentence: str) -> None:
    """Each is told in a sentence that names the culprit; nothing is written."""
    assert sentence in shapwatch(*overrides, code=2)
    assert not shapwatch.root.exists()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"features":[1,2,3,4,5,6,7,8,9]}', "3: 9 features where data.headers names 10: [1,2,3,4,5,6,7,8,9]"),
        (
            '{"features":["x",2,3,4,5,6,7,8,9,10]}',
            "3: feature 'mean radius' holds the text 'x' where the other records",
        ),
        ('{"features":[[],2,3,4,5,6,7,8,9,10]}', "3: feature 'mean radius' holds [], expected a number"),
        ('{"features":', "3: line 1 of the body is not JSON"),
    ],
)
def test_a_bad_line_of_a_dataset_is_named(shapwatch: Shapwatch, tmp_path: Path, line: str, sentence: str) -> None:
    """The file, the line and what is wrong with it are told, and the former reference stays."""
    shapwatch("stage=baseline")
    before = shapwatch.find("analysis.json").read_bytes()
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([*LINES[:2], line, *LINES[3:]]))
    assert f"{path}:{sentence}" in shapwatch("stage=baseline", f"data.dataset={path}", code=2)
    assert shapwatch.find("analysis.json").read_bytes() == before


def test_an_empty_window_is_a_failed_execution(shapwatch: Shapwatch, golden: Golden) -> None:
    """The reason is SageMaker's, the sentence says where was looked, and a report says it too."""
    shapwatch("stage=baseline")
    printed = shapwatch("stage=monitor", HOUR, code=2)
    assert printed.startswith("Failed, 2026-01-05 09:00–10:00 UTC: Job inputs had no data: no captured event in")
    golden(printed)
    manifest = shapwatch.read("manifest.json", "monitor")
    assert (manifest["status"], manifest["failure_reason"]) == ("Failed", "Job inputs had no data")
    assert "Job inputs had no data" in shapwatch.find("report.html", "monitor").read_text()
    assert shapwatch.find("settings.yaml", "monitor").parent.as_posix().endswith("2026/01/05/10")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.headers=[a,b,c,d,e,f,g,h,i,j]"], "only the reference has 'mean radius', 'mean texture'"),
        (["data.score=nothing"], "all 90 were rejected (score_not_found 90); the first: 2026/01/05/09/"),
        (["data.features=nothing"], "all 90 were rejected (features_not_found 90)"),
        (["shap.use_logit=true"], "shap.use_logit was False, is now True"),
        (["shap.agg_method=median"], "shap.agg_method was mean_abs, is now median"),
        (["shap.baseline=[[1,2,3,4,5,6,7,8,9,10]]"], "was computed with a different shap.baseline"),
        (["monitor.reference=nowhere"], "the reference was not found at nowhere/analysis.json (monitor.reference)"),
        (["monitor.reference=tests/expected/constraint_violations.json"], "expected an analysis.json"),
        (["monitor.reference=tests/expected/analysis.json"], "only the reference has 'Age'"),
        (["model.artifact=nowhere"], "the model was not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_execution_that_cannot_be_judged_fails(
    played: Shapwatch, overrides: list[str], sentence: str, golden: Golden
) -> None:
    """The sentence is printed and stored, and a failed run never replaces a finished one."""
    finished = played.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10/manifest.json"
    printed = played("stage=monitor", HOUR, *overrides, code=2)
    assert printed.startswith("Failed, 2026-01-05 09:00–10:00 UTC: ")
    assert sentence in printed
    golden(printed)
    assert orjson.loads(finished.read_bytes())["status"] == "Completed"
    played("stage=monitor", HOUR, f"paths.monitor={played.root}/other", *overrides, code=2)
    stored = played.read("manifest.json", "other")
    assert stored["status"] == "Failed"
    assert sentence in stored["failure_reason"]


def test_a_folder_with_other_things_is_never_replaced(shapwatch: Shapwatch, tmp_path: Path, golden: Golden) -> None:
    """Baselining into a folder of one's own says what is there and leaves it."""
    precious = tmp_path / "precious"
    (precious / "sub").mkdir(parents=True)
    golden(shapwatch("stage=baseline", f"paths.baseline={precious}", code=2))
    assert (precious / "sub").is_dir()


def test_another_window_does_not_replace_an_execution(played: Shapwatch, golden: Golden) -> None:
    """Two windows with the same scheduled hour: the one that is finished stays."""
    printed = played("stage=monitor", "stage.window=2026-01-05T09:10/2026-01-05T09:20", code=2)
    golden(printed)
    assert "was kept" in printed


def test_many_rejections_are_printed(played: Shapwatch, golden: Golden) -> None:
    """A window with some rubbish in it says so on the terminal too, and one that is mostly rubbish fails."""
    (path,) = (played.root / "capture/breast-cancer/AllTraffic/2026/01/05/09").iterdir()
    path.write_bytes(path.read_bytes() + b"{}\n" * 4)
    printed = played("stage=monitor", HOUR)
    golden(printed)
    path.write_bytes(path.read_bytes() + b"{}\n" * 396)
    printed = played("stage=monitor", HOUR, code=2)
    golden(printed)


def test_a_folder_that_cannot_be_listed_is_no_empty_window(played: Shapwatch, golden: Golden) -> None:
    """A file where the hour's folder should be is told, not taken for a window without traffic."""
    printed = played("stage=monitor", HOUR, f"paths.capture={played.find('settings.yaml', 'baseline')}", code=2)
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


def test_other_noise_is_told_not_refused(played: Shapwatch, golden: Golden) -> None:
    """A reference by another explainer is compared, and the report says that the noise differs."""
    played("stage=monitor", HOUR, "shap.explainer=kernel", "shap.num_samples=100")
    manifest = orjson.loads(
        (played.root / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/10/manifest.json").read_bytes()
    )
    golden(" ".join(manifest["notes"]))


def test_a_reference_by_clarify_is_enough(played: Shapwatch, tmp_path: Path) -> None:
    """A bare analysis.json serves with the rows it used as shap.baseline, and the report says what is not known."""
    rows = played.read("manifest.json", "baseline")["background"]["rows"]
    bare = tmp_path / "clarify.json"
    bare.write_bytes(played.find("analysis.json", "baseline").read_bytes())
    printed = played("stage=monitor", HOUR, f"monitor.reference={bare}", f"shap.baseline={rows}")
    assert printed.startswith("Completed, ")


def test_clusters_take_the_place_of_the_mean(shapwatch: Shapwatch, golden: Golden) -> None:
    """The baseline rows are records of the dataset; both at once are refused."""
    shapwatch("stage=baseline", "shap.num_clusters=3", "shap.explainer=auto")
    background = shapwatch.read("manifest.json", "baseline")["background"]["rows"]
    assert len(background) == 3
    said = shapwatch("stage=plan", "shap.num_clusters=3", "shap.explainer=auto")
    assert "3 background rows" in said
    refused = shapwatch("stage=baseline", "shap.num_clusters=auto", "shap.baseline=[[1]]", code=2)
    golden(refused)


def test_features_may_be_explained_together(shapwatch: Shapwatch, golden: Golden) -> None:
    """A group has one attribution in the reference and in the execution; without it they are not comparable."""
    groups = "shap.groups={size: [mean radius, mean area]}"
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z")
    shapwatch("stage=baseline", groups)
    assert shapwatch("stage=monitor", HOUR, groups).startswith("Completed, ")
    found = shapwatch.read("analysis.json", "monitor")["explanations"]["kernel_shap"]["malignant"]
    assert "size" in found["global_shap_values"]
    assert "mean radius" not in found["global_shap_values"]
    assert "differ" in shapwatch("stage=monitor", HOUR, code=2)
    shapwatch("stage=replay", "stage.start=2026-01-05T10:00:00Z", "stage.rescale={mean area: 100}")
    said = shapwatch("stage=monitor", "stage.window=2026-01-05T10", groups)
    golden(said)


def test_a_sweep_runs_every_member(shapwatch: Shapwatch, golden: Golden) -> None:
    """Multirun composes each combination; a member that fails does not stop the others, and the exit code tells."""
    members = [
        "shap.explainer=kernel",
        "shap.num_samples=100,5,200",
        "paths.baseline=${paths.root}/b${shap.num_samples}",
    ]
    printed = shapwatch("stage=baseline", *members, options=("-m",), code=2)
    assert printed.count("Completed. Reference: 299 records") == 2
    golden(printed)


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


@pytest.mark.parametrize("token", ["two words", "sécret", " "])
def test_a_token_that_no_header_can_carry_is_refused(
    shapwatch: Shapwatch, token: str, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The variable is named, the token is not."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", token)
    printed = shapwatch("stage=traffic", "stage.count=1", code=cli.BAD_INPUT)
    golden(printed)
    assert token == " " or token not in printed


def test_secrets_are_not_repeated(shapwatch: Shapwatch, golden: Golden) -> None:
    """A token where the name of a variable belongs, a password in a URL and a URL's query are not told or stored."""
    live = ["model=http", "~model.artifact", "model.url='http://127.0.0.1:9/x?key=hush-hush'"]
    printed = shapwatch("stage=baseline", *live, "model.token_env=hush-hush", code=cli.BAD_INPUT)
    golden(printed)
    printed += shapwatch("stage=traffic", "stage.url=http://me:hush-hush@127.0.0.1/x", code=cli.BAD_INPUT)
    cli.know_package()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        stored = snapshot(compose("config", ["experiment=quickstart", "stage=baseline", *live]))
    assert "hush-hush" not in printed + stored
    assert "http://127.0.0.1:9/x?…" in stored


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
    """Else the last one would win, at each start anew."""
    printed = shapwatch("stage=daemon", "stage.monitors=[quickstart,quickstart]", code=2)
    golden(printed)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
