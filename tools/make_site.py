"""`make site`: the README and the notebooks, as they are stored, executed, as pages that open from the file system.

The pages stand under the paths of their sources, so links to figures stay as they are. nbconvert does the work; here
formulas become MathML, links between notebooks links between pages, and search.js gets the text it searches. Nothing
is loaded from a network: no script, no font, no style.
"""

import json
import re
import shutil
import sys
from itertools import islice, takewhile
from os.path import relpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup, NavigableString
from jinja2 import pass_context
from math_core import LatexError, LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from fvit.base.files import write_atomic
from fvit.base.paths import NOTEBOOKS, ROOT

HERE = Path(__file__).resolve().parent
HEADINGS = [f"h{level}" for level in range(1, 7)]
SHOWN = ["text/html", "image/png", "text/markdown", "text/plain"]  # of an output's forms; a widget would be dead here


class _Renderer(IPythonRenderer):
    """Markdown whose formulas are MathML, which every current browser sets by itself."""

    tex = LatexToMathML(fancy_error=False)

    def inline_math(self, body, displaystyle=False):
        try:
            return self.tex.convert_with_local_state(body, displaystyle=displaystyle)
        except LatexError as error:
            raise ValueError(f"no MathML for the formula {body!r}: {error}") from error

    def block_math(self, body):
        return self.inline_math(body, displaystyle=True)


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context, source):
        return MarkdownWithMath(renderer=_Renderer(escape=False, anchor_link_text="#")).render(source)


def sources() -> list[Path]:
    """What becomes a page, in the order of the menu: the README, notebooks/ with its notes and solutions, the rest."""
    found = [path for path in NOTEBOOKS.rglob("*") if path.suffix in (".ipynb", ".md")]
    found = [path for path in found if ".ipynb_checkpoints" not in path.parts]
    found = sorted(found, key=lambda path: (len(path.parts), path.suffix != ".md", path.name))
    others = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md", "tests/golden/README.md")]
    return [ROOT / "README.md", *found, *sorted((ROOT / "docs").glob("*.md")), *filter(Path.is_file, others)]


def address(source: Path) -> Path:
    """Where the page of `source` stands, below the folder of the site."""
    inside = source.relative_to(ROOT)
    return inside.with_name("index.html") if inside.name == "README.md" else inside.with_suffix(".html")


def build(out: Path) -> list[Path]:
    """Write the site to folder `out`; returns its pages, the front page first.

    Raises ValueError for a link or picture whose file is not in the repository, and for a formula with a command that
    MathML has nothing for.
    """
    notebooks = {source: _read(source) for source in sources()}
    titles = {source: _title(notebook) for source, notebook in notebooks.items()}
    exporter = _Exporter(template_name="site", extra_template_basedirs=[str(HERE)], exclude_input_prompt=True,
                         exclude_output_prompt=True, config=Config(NbConvertBase={"display_data_priority": SHOWN}))
    index = []
    for source, notebook in notebooks.items():
        here = address(source)
        menu = [(relpath(address(other), here.parent), title, other == source) for other, title in titles.items()]
        page = {"title": titles[source], "menu": menu, "root": relpath(".", here.parent)}
        soup = BeautifulSoup(exporter.from_notebook_node(notebook, resources={"page": page})[0], "html.parser")
        _mend(soup, source, out)
        index += _sections(soup, here.as_posix(), titles[source])
        write_atomic(out / here, str(soup))
    write_atomic(out / "search-index.js", f"const INDEX = {json.dumps(index, ensure_ascii=False)};\n")
    shutil.copy(HERE / "site" / "search.js", out)
    code = HtmlFormatter(style="default").get_style_defs(".highlight")
    write_atomic(out / "style.css", f"{(HERE / 'site' / 'style.css').read_text(encoding='utf-8')}\n{code}\n")
    return [out / address(source) for source in notebooks]


def _read(source):
    if source.suffix == ".ipynb":
        return nbformat.read(source, 4)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source.read_text(encoding="utf-8"))])


def _title(notebook):
    return next(line[2:].strip() for cell in notebook.cells if cell.cell_type == "markdown"
                for line in cell.source.splitlines() if line.startswith("# "))


def _mend(soup, source, out):
    """Links lead to pages, the files they need are copied, and a wide table scrolls by itself."""
    for tag in soup.main.find_all(["a", "img"]):
        name = "href" if tag.name == "a" else "src"
        link = urlsplit(tag.get(name, ""))
        if source.suffix == ".md" and not link.path and link.fragment:
            tag[name] = f"#{_anchor(unquote(link.fragment))}"
        if link.scheme or link.netloc or not link.path:
            continue
        target = (source.parent / unquote(link.path)).resolve()
        if not target.is_file() or ROOT not in target.parents:
            raise ValueError(f"{source.relative_to(ROOT)} links to {link.path}, which is no file of the repository")
        if target in sources():
            tag[name] = link._replace(path=relpath(address(target), address(source).parent)).geturl()
        else:
            copy = out / target.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, copy)
    for table in soup.main("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "wide", "tabindex": "0"}))
    for number, heading in enumerate(soup.main(HEADINGS)):
        heading["id"] = heading.get("id") or f"part-{number}"  # those of outputs have none, and search leads to them
        if source.suffix == ".md":
            heading["id"] = _anchor(unquote(heading["id"]))


def _anchor(heading):
    """The anchor of a heading as git hosts make it, which links between documents name."""
    return re.sub(r"[^\w-]", "", heading.lower())


def _sections(soup, page, title):
    """[address with anchor, title of the page, heading, text] of what stands from one heading to the next."""
    for heading in soup.main(HEADINGS):
        part = takewhile(lambda node: node.name not in HEADINGS, islice(heading.next_elements, 1, None))
        text = " ".join(str(node) for node in part if type(node) is NavigableString)  # no styles, no comments
        yield [f"{page}#{heading['id']}", title, heading.get_text().rstrip("#"), " ".join(text.split())]


if __name__ == "__main__":
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    try:
        print(f"{len(build(ROOT / 'site'))} pages; open {ROOT / 'site' / 'index.html'}")
    except ValueError as error:
        sys.exit(f"site: {error}")
