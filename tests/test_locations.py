"""Captures on disk and in an object store, with files in any order."""

from __future__ import annotations

import gzip
import itertools
import random
from pathlib import Path

import orjson
import pytest

from tests.cli_runner import Shapwatch
from tests.conftest import DEMO
from tests.golden import Golden
from tests.object_store import s3_server

START = "2026-01-05T09:00:00Z"
WINDOW = "2026-01-05T09"


def analysis(run: Shapwatch) -> bytes:
    """Return the analysis.json of the only execution."""
    return run.find("analysis.json", "monitor").read_bytes()


def without_logs(printed: str) -> str:
    """Return the printed lines, without the log of the object store in this process."""
    return "\n".join(line for line in printed.splitlines() if not line.startswith("{"))


def shuffled_files(captures: Path, seed: int) -> dict[str, bytes]:
    """Return the events of a folder in random order, in several files of random names, one of them gzipped."""
    rng = random.Random(seed)
    events = [line for path in captures.rglob("*.jsonl") for line in path.read_bytes().splitlines(keepends=True)]
    rng.shuffle(events)
    parts = [events[i::5] for i in range(5)]
    files = {f"{rng.getrandbits(64):016x}.jsonl": b"".join(part) for part in parts[1:]}
    files[f"{rng.getrandbits(64):016x}.jsonl.gz"] = gzip.compress(b"".join(parts[0]), mtime=0)
    return files


@pytest.mark.soak
def test_disk_object_store_and_shuffled_files_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same window read from disk, from S3 and in shuffled order gives the same analysis, to the byte."""
    disk = Shapwatch(tmp_path / "disk")
    disk("stage=replay", f"stage.start={START}", "stage.batch_rows=2")
    disk("stage=baseline")
    disk("stage=monitor", f"stage.window={WINDOW}")
    expected = analysis(disk)
    reference = f"monitor.reference={disk.root}/baseline/breast-cancer-monitor"
    folder = "breast-cancer/AllTraffic/2026/01/05/09"
    for seed in range(2):
        shuffled = Shapwatch(tmp_path / f"shuffled{seed}")
        for name, data in shuffled_files(disk.root / "capture", seed).items():
            path = shuffled.root / "capture" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        shuffled("stage=monitor", f"stage.window={WINDOW}", reference)
        assert analysis(shuffled) == expected
    with s3_server(monkeypatch) as bucket:
        for name, data in shuffled_files(disk.root / "capture", 2).items():
            bucket.put(f"{folder}/{name}", data)
        store = Shapwatch(tmp_path / "store")
        store("stage=monitor", f"stage.window={WINDOW}", f"paths.capture={bucket.url}", reference)
        assert analysis(store) == expected


def test_all_inputs_and_captures_may_be_in_an_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """Datasets are read from S3, traffic is captured to it, merged and monitored from it."""
    with s3_server(monkeypatch) as bucket:
        for name in ("baseline.jsonl", "traffic.jsonl"):
            bucket.put(f"data/{name}", (DEMO / name).read_bytes())
        run = Shapwatch(tmp_path)
        remote = [f"paths.capture={bucket.url}/capture", f"data.traffic={bucket.url}/data/traffic.jsonl"]
        remote += [f"paths.ground_truth={bucket.url}/labels", f"paths.merge={bucket.url}/merged"]
        run("stage=replay", f"stage.start={START}", *remote)
        run("stage=baseline", f"data.dataset={bucket.url}/data/baseline.jsonl")
        truth = {"groundTruthData": {"data": "1", "encoding": "CSV"}, "eventVersion": "0"}
        labels = [truth | {"eventMetadata": {"eventId": str(i)}} for i in range(270)]
        bucket.put("labels/2026/01/05/10/0000.jsonl", b"\n".join(map(orjson.dumps, labels)))
        golden(without_logs(run("stage=merge", f"stage.window={WINDOW}", *remote)))
        merged = run.read("*.merge.json")
        assert (merged["events"], merged["joined"], merged["unused"]) == (270, 270, 0)
        run("stage=monitor", f"stage.window={WINDOW}", *remote)
        assert run.read("manifest.json", "monitor")["quality"]["records"] == 270


def test_error_of_an_object_store_is_the_failure_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The manifest contains the error, and the exit code is 2."""
    location = "s3://no-such-bucket"
    with s3_server(monkeypatch):
        run = Shapwatch(tmp_path)
        run("stage=baseline")
        printed = run("stage=monitor", f"stage.window={WINDOW}", f"paths.capture={location}", code=2)
        manifest = run.read("manifest.json", "monitor")
        assert manifest["status"] == "Failed"
        assert manifest["failure_reason"] in printed
        assert location in manifest["failure_reason"]
        golden(manifest["failure_reason"])


@pytest.mark.parametrize(
    "override",
    [
        "paths.capture=s3:/one-slash",
        "paths.capture=ftp://host/x",
        "paths.root=s3://bucket",
        "stage.window=0001-01-01T00",
    ],
)
def test_invalid_locations_and_times_are_refused(override: str, tmp_path: Path, golden: Golden) -> None:
    """A misspelled URL, results in an object store and a window before 1970 are refused before any work."""
    printed = Shapwatch(tmp_path)("stage=monitor", f"stage.window={WINDOW}", override, code=2)
    assert f"{override.partition('=')[0]}: " in printed
    golden(printed)


def test_manifest_in_an_object_store_reads_no_local_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """A manifest in an object store may only list files in object stores."""
    with s3_server(monkeypatch) as bucket:
        bucket.put("breast-cancer-batch/input/2026/01/05/09/a.json", b'[{"prefix":"/etc/"},"passwd"]')
        run = Shapwatch(tmp_path, "batch_transform")
        printed = run("stage=capture", f"stage.window={WINDOW}", f"paths.capture={bucket.url}", code=2)
        assert "/etc/passwd" in printed
        golden(without_logs(printed))


def test_windows_within_one_hour_do_not_overlap(tmp_path: Path) -> None:
    """An event belongs to exactly one of consecutive windows."""
    run = Shapwatch(tmp_path)
    run("stage=replay", f"stage.start={START}", "stage.rate=0.05")
    counts = []
    for start, end in itertools.pairwise(["09:00", "09:30", "10:15", "11:00"]):
        window = f"2026-01-05T{start}Z/2026-01-05T{end}Z"
        run("stage=capture", f"stage.window={window}", "source.neighbours=0")
        (listing,) = run.root.rglob(f"2026-01-05T{start.replace(':', '')}--*.json")
        counts.append(orjson.loads(listing.read_bytes())["records"])
    assert sum(counts) == 270
