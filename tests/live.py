"""An endpoint as a process of its own: `stage=serve` on a free port, until the test is done with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.running import CHECKOUT

END_SECONDS = 20


@dataclass
class Endpoint:
    """A served endpoint: where it answers, its process, and what it printed in the end."""

    url: str
    process: subprocess.Popen[str]
    told: str = ""

    @property
    def origin(self) -> str:
        """What boto3 calls the endpoint's URL: scheme, host and port."""
        return self.url.partition("/endpoints/")[0]


@contextmanager
def served(root: Path, experiment: str, *overrides: str) -> Iterator[Endpoint]:
    """Yield an endpoint for an experiment's model; leaving ends it with SIGTERM, so that everything is captured."""
    arguments = [f"experiment={experiment}", f"paths.root={root}", "stage=serve", "stage.port=0", *overrides]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "runner", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=CHECKOUT,
    )
    assert process.stdout
    line = process.stdout.readline()
    endpoint = Endpoint(line.split()[-1] if line else "", process)
    try:
        assert line.startswith("serving "), line + process.stdout.read()
        yield endpoint
    finally:
        process.terminate()
        endpoint.told, _ = process.communicate(timeout=END_SECONDS)
