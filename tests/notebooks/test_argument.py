"""Notebooks argue: how many of their code lines are the argument, and how many are plumbing or the words of figures.

Every line of code that is not blank is counted once, as
claim      of a cell tagged `claim`
words      of a call that saves or shows a figure, and of a hidden cell, which draws one
plumbing   of the parameters, imports, exercises and the stamp; of a statement that names the run or the theme, or that
           saves, loads or resumes rows
argument   everything else
"""

import ast
import json
import re
from collections import Counter

import pytest

from fvit.base.paths import NOTEBOOKS

ALL = sorted(path for path in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
OWN = {"parameters", "exercise"}  # tags of cells that are plumbing from end to end
CALLS = {"figure": "words", "save_figure": "words", "show_figure": "words", "stamp": "plumbing", "profile": "plumbing",
         "experiment": "plumbing", "set_theme": "plumbing", "run": "plumbing", "rows": "plumbing", "save": "plumbing",
         "shown": "plumbing", "find_rows": "plumbing", "load_rows": "plumbing", "save_rows": "plumbing"}


def kinds(cell) -> list[str]:
    """The kind of each line of a code cell that is not blank."""
    source, tags = "".join(cell["source"]), set(cell["metadata"].get("tags", []))
    found = dict.fromkeys((n for n, line in enumerate(source.splitlines(), 1) if line.strip()), "argument")
    if whole := "plumbing" if tags & OWN else "claim" if "claim" in tags else "words" if "hide-input" in tags else None:
        return [whole] * len(found)
    for node in ast.parse(source).body:
        calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
        names = [f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls]
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.For | ast.If | ast.With):
            names = []  # holds an argument, whatever else
        elif isinstance(node, ast.Import | ast.ImportFrom) or ast.unparse(node) == "print(cfg)":
            names = ["stamp"]
        for kind in [CALLS[name] for name in names if name in CALLS][:1]:
            found |= {n: kind for n in found if node.lineno <= n <= node.end_lineno}
    return list(found.values())


def code(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_three_lines_of_four_are_argument_or_claim():
    total = Counter(kind for path in ALL for cell in code(path) for kind in kinds(cell))
    share = (total["argument"] + total["claim"]) / total.total()
    print(f"{share:.3f} of {total.total()} lines: {dict(total)}")
    assert share >= 0.75


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_hidden_cells_are_short(path):
    hidden = [cell for cell in code(path) if "hide-input" in cell["metadata"].get("tags", [])]
    assert [n for n in (len(kinds(cell)) for cell in hidden) if n > 8] == []


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_lesson_is_short_and_so_is_what_it_shows(path):
    """Thirty code cells; twelve lines a cell but for the parameters; of lessons, eight rows and six columns a table."""
    cells = code(path)
    gallery = path.name.startswith("15_")  # which is where long tables go
    assert len(cells) <= 30
    shown = [cell for cell in cells if "parameters" not in cell["metadata"].get("tags", [])]
    solved = path.parent.name == "solutions"
    assert [n for n in (len(kinds(cell)) for cell in shown) if n > 12] == []
    pages = ["".join(output.get("data", {}).get("text/html", "")) for cell in cells for output in cell["outputs"]]
    sizes = [size(page) for page in pages if "<table" in page and "<svg" not in page]  # verdicts draw theirs
    assert gallery or solved or [found for found in sizes if found[0] > 8 or found[1] > 6] == []


def size(page):
    """(rows, columns) of a table of pandas as HTML, its heads of rows counted as columns and those of columns not."""
    body = page.partition("<tbody>")[2]
    rows = [len(re.findall(r"<t[hd]", row)) for row in body.split("</tr>")[:-1]]
    return len(rows), max(rows, default=0)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_notebook_imports_little_of_fvit(path):
    nodes = [node for cell in code(path) for node in ast.walk(ast.parse("".join(cell["source"])))]
    named = [[node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
             for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    assert sum(names[0].split(".")[0] == "fvit" for names in named if names[0]) <= 6


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_setup_cell_can_be_run_twice(path):
    """No parameter is given another meaning: a cell that reads it finds what the reader wrote."""
    first, *others = [cell for cell in code(path)]
    given = {node.target.id for node in ast.parse("".join(first["source"])).body if isinstance(node, ast.AnnAssign)}
    bound = {node.id for cell in others for node in ast.walk(ast.parse("".join(cell["source"])))
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert given & bound == set()


@pytest.mark.parametrize("source, tags, wanted", [
    ("x = 1\n\nfvit.figure('F01a', fig, df,\n            seed=seed)", [], ["argument", "words", "words"]),
    ("import fvit\ncfg = on.sizes\nrows = on.run('09', f).rows()", [], ["plumbing", "argument", "plumbing"]),
    ("def f():\n    return fvit.profile('laptop')", [], ["argument"] * 2),
    ("fvit.claim('P1', x, '<', 1)", ["claim"], ["claim"]), ("a = 1\nb = 2", ["hide-input"], ["words"] * 2),
    ("seed: int = 0", ["parameters"], ["plumbing"]),
])
def test_lines_are_counted_as_it_says(source, tags, wanted):
    assert kinds({"source": source, "metadata": {"tags": tags}}) == wanted
