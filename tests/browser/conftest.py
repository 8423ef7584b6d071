"""A real browser for the tests of this folder: Debian's Chromium, by Playwright; `make test-browser` installs it.

Plain `pytest tests` passes this folder by (norecursedirs in pyproject.toml). With PICTURES set, pictures of what was
seen are left in `screenshots/`, which git ignores, to be looked at. (One of a long page takes a slow machine over half
a minute.)
"""

from pathlib import Path

import pytest
from looks import HEIGHT, MINUTE, WIDTHS, Heard
from playwright.sync_api import expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
expect.set_options(timeout=5 * MINUTE)  # how long a sick page is waited for, not how fast a sound one must be


@pytest.fixture(scope="session")
def chromium():
    if not CHROMIUM.exists():
        pytest.skip(reason=f"no {CHROMIUM}; `make test-browser` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A fresh page with `page.heard`, in a profile of its own."""
    context = chromium.new_context(viewport={"width": WIDTHS[0], "height": HEIGHT})
    context.set_default_timeout(5 * MINUTE)
    page = context.new_page()
    page.heard = Heard(page)
    yield page
    context.close()
