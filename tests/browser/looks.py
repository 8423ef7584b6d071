"""What the tests of this folder look at in a page, and where they keep their pictures of it."""

import os
from pathlib import Path

SCREENSHOTS = Path(__file__).parent / "screenshots"
WIDTHS = (1280, 768)  # pixels: a laptop's window; a tablet, or half a screen
HEIGHT = 1400
MINUTE = 60_000  # milliseconds

# For `locator.evaluate`, of the part of the page that is below `root`: the levels of its headings; what is wrong with
# its pictures; the elements whose right end is cut off, where no scrolling shows it.
LEVELS = "root => [...root.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => Number(h.tagName[1]))"
NOT_DRAWN = "root => [...root.querySelectorAll('img')].filter(i => !(i.naturalWidth > 0)).map(i => i.src.slice(0, 200))"
NO_ALT = "root => [...root.querySelectorAll('img')].filter(i => !i.alt.trim()).map(i => i.outerHTML.slice(0, 200))"
# mjx-assistive-mml is what a screen reader says of a formula: clipped to nothing by intent.
CUT = """root => [...root.querySelectorAll('*')].filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1
    && !e.closest('mjx-assistive-mml')
    && ['hidden', 'clip'].includes(getComputedStyle(e).overflowX)).map(e => e.outerHTML.slice(0, 200))"""


class Heard:
    """What a page said and asked for, from its first moment on."""

    def __init__(self, page):
        self.complaints, self.requests = [], []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:200]}"))
        page.on("request", lambda request: self.requests.append(request.url))


def photograph(page, *words, **options):
    """Keep a picture of the page, if pictures are wanted; its name is the words and the window's width."""
    if "PICTURES" in os.environ:
        page.screenshot(path=SCREENSHOTS / f"{'-'.join([*words, str(page.viewport_size['width'])])}.png", **options)
