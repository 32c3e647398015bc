"""The app of the uvicorn process, with captures in CAPTURE_ROOT."""

from __future__ import annotations

import os

from runner.serving.data_capture import DataCapture
from tests.serving.served import score_app


def app() -> DataCapture:
    """Return the app with the settings in environment variables."""
    return DataCapture(
        score_app,
        os.environ["CAPTURE_ROOT"],
        json_content_types=("application/json", "application/jsonlines"),
        flush_seconds=float(os.environ.get("FLUSH_SECONDS", "600")),
        min_free_bytes=0,
    )
