"""Settings of timetables."""

from __future__ import annotations

HOURLY = {
    "kind": "cron",
    "expression": "cron(0 * ? * * *)",
    "start_offset": None,
    "end_offset": None,
    "buffer_minutes": 0,
    "catch_up": "all",
    "max_catch_up": 24,
    "overlap": "wait",
    "max_runtime": 3600,
    "on_empty": "fail",
}
"""The settings of schedule=hourly."""
