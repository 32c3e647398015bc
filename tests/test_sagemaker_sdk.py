"""The classes of the sagemaker SDK, in a separate environment, read our documents from an object store."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.cli_runner import CHECKOUT, HANG_SECONDS, Shapwatch
from tests.object_store import ENVIRONMENT, s3_server

SDK = CHECKOUT / ".venv-sagemaker"
MISSING = "needs the sagemaker SDK in a separate environment: make sagemaker"


def test_sdk_classes_read_our_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads violations, constraints, and the attributions for a model card."""
    if not (SDK / ".installed").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=quickstart")
    written = [shapwatch.find("constraint_violations.json"), shapwatch.find("analysis.json", "baseline")]
    violations, constraints = (orjson.loads(path.read_bytes()) for path in written)
    kinds = [violation["constraint_check_type"] for violation in violations["violations"]]
    assert kinds == ["feature_attribution_drift_check", "calibrated_drift_check"]
    with s3_server(monkeypatch) as bucket:
        locations = [bucket.put(f"monitoring/{path.name}", path.read_bytes()) for path in written]
        region = {"AWS_DEFAULT_REGION": ENVIRONMENT["AWS_REGION"], "SAGEMAKER_SUPPRESS_V2_WARNING": "1"}
        command = [str(SDK / "bin/python"), "-P", str(CHECKOUT / "tests/sagemaker_sdk.py"), *locations]
        done = subprocess.run(command, env=os.environ | region, capture_output=True, check=False, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    attributions = constraints["explanations"]["kernel_shap"]["malignant"]["global_shap_values"]
    assert orjson.loads(done.stdout.splitlines()[-1]) == {
        "violations": violations,
        "constraints": constraints,
        "card": {"explanations - global_shap_values, label=malignant": attributions},
    }
