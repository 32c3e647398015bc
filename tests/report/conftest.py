"""What tests of the pages share: a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

MISSING = "needs Chromium: apt-get install chromium, or name one in CHROMIUM"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser, Chromium as the system has it."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
