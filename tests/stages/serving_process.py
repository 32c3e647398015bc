"""`stage=serve` by hand, as a process: `python -m tests.stages.serving_process CAPTURE_ROOT attached|detached`."""

from __future__ import annotations

import sys
from functools import partial

from runner import cli
from runner.models.linear_learner import LinearLearner
from runner.records.fields import Fields
from runner.serving.data_capture import DataCapture
from runner.stages.serve import Serve, ServeStage
from tests.conftest import DEMO


def main() -> int:
    """Serve, and return the exit code of a completed stage."""
    root, attached = sys.argv[1:]
    outcome = Serve(
        ServeStage("serve", "127.0.0.1", 0, "SHAPWATCH_TOKEN", attached=attached == "attached"),
        model=LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=None, deploy=None),
        fields=Fields("features", "score"),
        endpoint="churn",
        variant="AllTraffic",
        token=None,
        capture=partial(DataCapture, root=root, min_free_bytes=0),
    ).run()
    print(outcome.message)  # noqa: T201
    return cli.COMPLETED


if __name__ == "__main__":
    sys.exit(cli.exit_code(main))
