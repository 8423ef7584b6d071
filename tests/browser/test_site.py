"""The site of `make site`, opened from the file system in a real browser that has no network."""

from itertools import pairwise
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from looks import CUT, HEIGHT, LEVELS, NO_ALT, NOT_DRAWN, WIDTHS, photograph
from make_site import address, build, sources
from playwright.sync_api import expect

SOURCES = {address(source).as_posix(): source for source in sources()}


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, in a folder whose name has a space and a letter that is not ASCII."""
    folder = tmp_path_factory.mktemp("my sité")
    build(folder)
    return folder


@pytest.fixture
def opened(page, site, request):
    page.context.set_offline(True)
    page.goto((site / request.param).as_uri())
    return page


@pytest.mark.parametrize("opened", SOURCES, indirect=True, ids=lambda name: name.rpartition("/")[2])
def test_a_page_is_whole_alone_and_in_order(opened, request):
    assert {urlsplit(url).scheme for url in opened.heard.requests} <= {"file", "data"}, "a call to the network"
    assert opened.heard.complaints == []
    main = opened.locator("main")
    assert main.evaluate(NOT_DRAWN) == main.evaluate(NO_ALT) == []
    levels = main.evaluate(LEVELS)
    assert levels[0] == 1 and levels.count(1) == 1, f"wanted one h1, at the top: {levels}"
    assert all(b <= a + 1 for a, b in pairwise(levels)), f"a level is skipped: {levels}"
    for width in WIDTHS:
        opened.set_viewport_size({"width": width, "height": HEIGHT})
        assert opened.evaluate("document.documentElement.scrollWidth") == width, "wider than the window"
        assert opened.locator("body").evaluate(CUT) == []
        photograph(opened, "site", request.node.callspec.id, full_page=True)


@pytest.fixture(scope="session")
def parsed(site):
    return {page: BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in site.rglob("*.html")}


@pytest.mark.parametrize("name", SOURCES, ids=lambda name: name.rpartition("/")[2])
def test_every_link_leads_somewhere_in_the_site(parsed, site, name):
    links = [urlsplit(a["href"]) for a in parsed[site / name]("a")]
    assert len(links) > len(SOURCES)
    for link in links:
        target = ((site / name).parent / unquote(link.path)).resolve() if link.path else site / name
        assert link.scheme in ("http", "https") or target.is_file(), link.geturl()
        assert not link.fragment or parsed[target].find(id=link.fragment), link.geturl()
        assert target.suffix not in (".ipynb", ".md"), f"{link.geturl()} is a source, not a page"


@pytest.mark.parametrize("opened", ["notebooks/08_is_gaussian_noise_nearly_best.html"], indirect=True)
def test_formulas_are_set(opened):
    """A fraction is taller than a line and a letter not; no TeX is left over."""
    tall, letter = (opened.locator(f"math{which}").first.bounding_box()["height"]
                    for which in ('[display="block"]:has(mfrac)', ":not(:has(*:nth-child(2)))"))
    assert tall > 1.5 * letter > 0
    opened.evaluate("document.querySelectorAll('pre, code').forEach(e => e.remove())")
    text = opened.locator("main").inner_text()
    assert "$" not in text and "\\" not in text


@pytest.mark.parametrize("opened", ["index.html", "notebooks/15_every_figure_and_table.html"], indirect=True)
def test_the_search_says_when_it_finds_nothing_and_leads_to_a_section_it_finds(opened):
    opened.get_by_role("searchbox").fill("xylophone")
    expect(opened.locator("#found")).to_have_text("No section has all these words.")
    opened.get_by_role("searchbox").fill("pooling contested tokens")
    opened.locator("#found a", has_text="3. Pooling all contested tokens is one step too far").click()
    opened.wait_for_url("**/notebooks/06_*.html#3.-Pooling*")
    heading = opened.get_by_role("heading", name="3. Pooling all contested")
    expect(heading).to_be_in_viewport()
    assert opened.heard.complaints == []


@pytest.mark.parametrize("opened", ["index.html"], indirect=True)
def test_a_reader_walks_from_page_to_page(opened):
    opened.get_by_text("All pages").click()
    opened.get_by_role("navigation").get_by_role("link", name="02 · What does averaging over noise buy?").click()
    expect(opened).to_have_title("02 · What does averaging over noise buy?")
    opened.locator("main a[href^='03_']").first.click()
    expect(opened).to_have_title("03 · How does a diffusion model remove the noise we added?")


@pytest.mark.parametrize("text, said", [
    ("[there](notebooks/99.ipynb)", r"README\.md links to notebooks/99\.ipynb, which is no file of the repository"),
    ("![out](../picture.png)", r"README\.md links to \.\./picture\.png, which is no file"),
    (r"so $\frobnicate x$ is", r"no MathML for the formula .*frobnicate"),
])
def test_what_cannot_be_shown_stops_the_build(tmp_path, monkeypatch, text, said):
    (tmp_path / "picture.png").touch()
    root = tmp_path / "clone"
    root.mkdir()
    (root / "README.md").write_text(f"# Title\n\n{text}\n", encoding="utf-8")
    monkeypatch.setattr("make_site.ROOT", root)
    monkeypatch.setattr("make_site.NOTEBOOKS", root / "notebooks")
    with pytest.raises(ValueError, match=said):
        build(tmp_path / "site")
