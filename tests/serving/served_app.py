"""The app of the uvicorn process, captured to CAPTURE_ROOT."""

from __future__ import annotations

import os

from runner.serving.data_capture import DataCapture
from tests.serving.served import scores


def app() -> DataCapture:
    """Return the app that the environment variables describe."""
    return DataCapture(
        scores,
        os.environ["CAPTURE_ROOT"],
        json_content_types=("application/json", "application/jsonlines"),
        flush_seconds=float(os.environ.get("FLUSH_SECONDS", "600")),
        min_free_bytes=0,
    )
