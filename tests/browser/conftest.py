"""A real browser for the tests of this folder: Debian's Chromium, by Playwright; `make test-browser` installs it.

Plain `pytest tests` passes this folder by (norecursedirs in pyproject.toml). Pictures of what was seen are left in
`screenshots/`, which git ignores: they are to be looked at.
"""

from pathlib import Path

import pytest
from looks import HEIGHT, WIDTHS, Heard
from playwright.sync_api import sync_playwright

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def chromium():
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}; `make test-browser` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A fresh page with `page.heard`, in a profile of its own."""
    context = chromium.new_context(viewport={"width": WIDTHS[0], "height": HEIGHT})
    page = context.new_page()
    page.heard = Heard(page)
    yield page
    context.close()
