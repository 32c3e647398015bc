"""Compares the files written by this checkout with those of another commit, byte for byte.

    python -m benchmarks.identical --base af4a976

Runs quickstart, adult (exact, kernel, compat=clarify), csv, json, multiclass and batch_transform with the code of both
commits, and compares analysis.json, SageMaker's violations in constraint_violations.json, captured lines and merged
files. Violations of the calibrated verdict are left out: their sentences are not SageMaker's. adult needs the
notebook's files in ADULT_DIR or ../shared/data/adult. Exits with 1 if a byte differs or a file is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import orjson

CHECKOUT = Path(__file__).parents[1]
HOUR = "stage.window=2026-01-05T09"
TRAFFIC = ("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.batch_rows=3", "stage.count=90")
RUNS: Mapping[str, tuple[str, ...]] = {
    "quickstart": ("experiment=quickstart",),
    "adult exact": ("experiment=adult", "shap=exact", "shap.num_samples=null"),
    "adult kernel": ("experiment=adult",),
    "adult clarify": ("experiment=adult", "shap.compat=clarify"),
    "csv": ("experiment=csv",),
    "json": ("experiment=json",),
    "multiclass": ("experiment=multiclass",),
    "batch_transform": ("experiment=batch_transform",),
}
VIOLATIONS = "constraint_violations.json"
COMPARED = ("analysis.json", VIOLATIONS)
FOLDERS = ("capture", "merge")


def run(checkout: Path, root: Path, *overrides: str) -> None:
    """Run one stage with the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "runner", f"paths.root={root}", *overrides]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def label(root: Path) -> None:
    """Write a ground truth record for each captured event, with the ID of the event."""
    for captures in sorted((root / "capture").rglob("*.jsonl")):
        endpoint, _variant, *hour = captures.relative_to(root / "capture").parent.parts
        labels = root / "ground-truth" / endpoint / Path(*hour) / "labels.jsonl"
        labels.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for line in captures.read_bytes().splitlines():
            identifier = orjson.loads(line)["eventMetadata"]["eventId"]
            label_ = {"groundTruthData": {"data": "1", "encoding": "CSV"}, "eventMetadata": {"eventId": identifier}}
            lines.append(orjson.dumps({**label_, "eventVersion": "0"}) + b"\n")
        labels.write_bytes(b"".join(lines))


def play(checkout: Path, root: Path, overrides: tuple[str, ...]) -> None:
    """Replay and monitor an hour of traffic with a reference; run quickstart and merge if the experiment has them."""
    run(checkout, root, *overrides, *TRAFFIC)
    run(checkout, root, *overrides, "stage=baseline")
    run(checkout, root, *overrides, "stage=monitor", HOUR)
    if "experiment=quickstart" in overrides:
        run(checkout, root / "quickstart", *overrides, "stage=quickstart")
    if "experiment=batch_transform" not in overrides:
        label(root)
        run(checkout, root, *overrides, "stage=merge", HOUR)


def digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each compared file that is not empty, by its path below a root."""
    files = [path for path in root.rglob("*") if path.is_file()]
    chosen = [path for path in files if path.name in COMPARED or set(FOLDERS) & set(path.relative_to(root).parts)]
    contents = {str(path.relative_to(root)): _compared(path) for path in chosen}
    return {path: hashlib.sha256(data).hexdigest() for path, data in contents.items() if data}


def _compared(path: Path) -> bytes:
    """Return the bytes of a file; of constraint_violations.json, only SageMaker's violations."""
    if path.name != VIOLATIONS:
        return path.read_bytes()
    violations = orjson.loads(path.read_bytes())["violations"]
    return b"\n".join(orjson.dumps(each) for each in violations if each["metric_name"] == "shap")


def main() -> int:
    """Compare the files of each run, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(description="Compare the files of this checkout with those of a commit.")
    parser.add_argument("--base", default="af4a976")
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        git = ["git", "-C", str(CHECKOUT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(base), arguments.base], check=True)  # noqa: S603
        try:
            os.environ.setdefault("ADULT_DIR", str((CHECKOUT / "../shared/data/adult").resolve()))
            for name in arguments.only:
                found = []
                for checkout in (base, CHECKOUT):
                    root = Path(folder) / "written"
                    play(checkout, root, RUNS[name])
                    found.append(digests(root))
                    root.rename(Path(folder) / f"{name}-{len(found)}")
                before, now = found
                differing = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
                failed += bool(differing) or not before
                print(f"{name}: {len(before)} files, {len(differing)} differ", *differing[:10], sep="\n  ")
        finally:
            subprocess.run([*git, "remove", "--force", str(base)], check=True)  # noqa: S603
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
