"""The same records from disk and from an object store, in whatever order their files are listed."""

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
    """Return the analysis of the one execution."""
    return run.find("analysis.json", "monitor").read_bytes()


def written(printed: str) -> str:
    """Return what the program printed, without the log of the object store in this process."""
    return "\n".join(line for line in printed.splitlines() if not line.startswith("{"))


def scattered(captures: Path, seed: int) -> dict[str, bytes]:
    """Return the events of a folder anew: shuffled, in several files of other names, one of them gzipped."""
    rng = random.Random(seed)
    events = [line for path in captures.rglob("*.jsonl") for line in path.read_bytes().splitlines(keepends=True)]
    rng.shuffle(events)
    parts = [events[i::5] for i in range(5)]
    files = {f"{rng.getrandbits(64):016x}.jsonl": b"".join(part) for part in parts[1:]}
    files[f"{rng.getrandbits(64):016x}.jsonl.gz"] = gzip.compress(b"".join(parts[0]), mtime=0)
    return files


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
        for name, data in scattered(disk.root / "capture", seed).items():
            path = shuffled.root / "capture" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        shuffled("stage=monitor", f"stage.window={WINDOW}", reference)
        assert analysis(shuffled) == expected
    with s3_server(monkeypatch) as bucket:
        for name, data in scattered(disk.root / "capture", 2).items():
            bucket.put(f"{folder}/{name}", data)
        store = Shapwatch(tmp_path / "store")
        store("stage=monitor", f"stage.window={WINDOW}", f"paths.capture={bucket.url}", reference)
        assert analysis(store) == expected


def test_everything_may_lie_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
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
        golden(written(run("stage=merge", f"stage.window={WINDOW}", *remote)))
        merged = run.read("*.merge.json")
        assert (merged["events"], merged["joined"], merged["unused"]) == (270, 270, 0)
        run("stage=monitor", f"stage.window={WINDOW}", *remote)
        assert run.read("manifest.json", "monitor")["quality"]["records"] == 270


@pytest.mark.parametrize("location", ["s3://no-such-bucket", "ftp://host/x"])
def test_a_store_that_refuses_is_the_failure_reason(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The error of an object store is the failure reason, and the exit code is 2."""
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
    "override", ["paths.capture=s3:/one-slash", "paths.root=s3://bucket", "stage.window=0001-01-01T00"]
)
def test_places_and_times_that_cannot_be_are_refused(override: str, tmp_path: Path, golden: Golden) -> None:
    """A slip in a location, results in an object store and a window before all data are refused before work begins."""
    printed = Shapwatch(tmp_path)("stage=monitor", f"stage.window={WINDOW}", override, code=2)
    assert f"{override.partition('=')[0]}: " in printed
    golden(printed)


def test_a_manifest_in_a_store_reads_no_file_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """A manifest in an object store may only list files in object stores."""
    with s3_server(monkeypatch) as bucket:
        bucket.put("breast-cancer-batch/input/2026/01/05/09/a.json", b'[{"prefix":"/etc/"},"passwd"]')
        run = Shapwatch(tmp_path, "batch_transform")
        printed = run("stage=capture", f"stage.window={WINDOW}", f"paths.capture={bucket.url}", code=2)
        assert "/etc/passwd" in printed
        golden(written(printed))


def test_hours_of_a_window_are_listed_once(tmp_path: Path) -> None:
    """Windows that share an hour read its files once each, and an event counts in one of them only."""
    run = Shapwatch(tmp_path)
    run("stage=replay", f"stage.start={START}", "stage.rate=0.05")
    counts = []
    for first, last in itertools.pairwise(["09:00", "09:30", "10:15", "11:00"]):
        window = f"2026-01-05T{first}Z/2026-01-05T{last}Z"
        run("stage=capture", f"stage.window={window}", "source.neighbours=0")
        (listing,) = run.root.rglob(f"2026-01-05T{first.replace(':', '')}--*.json")
        counts.append(orjson.loads(listing.read_bytes())["records"])
    assert sum(counts) == 270
