"""Every committed notebook is in the form that papermill, nbval and git can work with."""

import copy
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from fvit.base import paths
from fvit.notebooks import form, plan

COMMITTED = sorted(path for path in paths.NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
SUCCEEDS = Path(__file__).parents[1] / "fixtures" / "succeeds.ipynb"
assert COMMITTED, "no notebooks in notebooks/: nothing would be tested"


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_notebooks_have_no_problems_and_default_to_laptop(path):
    assert form.problems(nbformat.read(path, as_version=nbformat.NO_CONVERT)) == []
    assert plan.known_parameters(path).get("profile") == ("str", '"laptop"')


@pytest.fixture
def good():
    notebook = nbformat.read(SUCCEEDS, 4)
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count = number
    notebook.cells[2].outputs = [new_output("stream", text="laptop\n")]
    return notebook


def parameters(notebook, line):
    notebook.cells[1].source += "\n" + line


SPOILED = {
    "format is 4.4": lambda nb: nb.update(nbformat_minor=4),
    "kernelspec is not python3": lambda nb: nb.metadata.kernelspec.update(name="conda-env-py"),
    "execution counts are not 1, 2, 3": lambda nb: nb.cells[3].update(execution_count=7),
    "no outputs are stored": lambda nb: nb.cells[2].update(outputs=[]),
    "metadata that change with each run": lambda nb: nb.cells[0].metadata.update(papermill={"duration": 1.5}),
    "unknown tag 'raises-exception'": lambda nb: nb.cells[0].metadata.update(tags=["raises-exception"]),
    "'hide-input' and jupyter.source_hidden, which JupyterLab goes by, do not agree; set both or none":
        lambda nb: nb.cells[2].metadata.update(tags=["hide-input"]),
    "'hide-input' and jupyter.source_hidden": lambda nb: nb.cells[2].metadata.update(jupyter={"source_hidden": True}),
    "cell c2: 'hide-input' and": lambda nb: nb.cells[2].update(id="c2", metadata={
        "tags": ["hide-input"], "jupyter": {"source_hidden": False}}),
    "code cell 2: its stored output is an error":
        lambda nb: nb.cells[2].update(outputs=[new_output("error", ename="E", evalue="", traceback=[])]),
    "code cell 2: warnings or progress bars":
        lambda nb: nb.cells[2].update(outputs=[new_output("stream", name="stderr", text="UserWarning: x")]),
    "code cell 2: is not plain Python": lambda nb: nb.cells[2].update(source="%matplotlib inline"),
    "code cell 2: holds ';'": lambda nb: nb.cells[2].update(source="ax.plot(x);  # drawn"),
    "0 cells tagged 'parameters'": lambda nb: nb.cells[1].metadata.update(tags=["claim"]),
    "2 cells tagged 'parameters'": lambda nb: nb.cells[2].metadata.update(tags=["parameters"]),
    "parameters: a second '=' in 'n: int = 8  # n=8 in CI'": lambda nb: parameters(nb, "n: int = 8  # n=8 in CI"),
    "parameters: `limit: int | None = None`": lambda nb: parameters(nb, "limit: int | None = None"),
    "parameters: `twice: int = seed * 2`": lambda nb: parameters(nb, "twice: int = seed * 2"),
    "parameters: `print(seed)`": lambda nb: parameters(nb, "print(seed)"),
    "parameters: `sizes: list = [1, 2]`": lambda nb: parameters(nb, "sizes: list = [1,\n 2]"),
    "parameters: `name: str = 'a#b'`": lambda nb: parameters(nb, "name: str = 'a#b'"),
}


def test_a_good_notebook_has_no_problems_and_is_not_changed(good):
    before = copy.deepcopy(good)
    assert form.problems(good) == [] and good == before


@pytest.mark.parametrize("problem", SPOILED)
def test_each_problem_is_found_and_named(good, problem):
    SPOILED[problem](good)
    assert any(problem in found for found in form.problems(good)), form.problems(good)


def test_what_is_allowed_is_not_a_problem(good):
    parameters(good, "# a line of its own, then an unannotated value\nn_samples = 0  # 0 takes the profile's")
    good.cells[2].source = "print('a; b')  # one; two"
    good.cells += [new_markdown_cell("`x = 1; y = 2`", id="m"), new_code_cell("r'%d' % 1", id="c", execution_count=4)]
    good.cells[-1].metadata = nbformat.from_dict({"tags": sorted(form.TAGS - {"parameters"}),
                                                  "jupyter": {"source_hidden": True}})
    assert form.problems(good) == []


def test_only_notebook_03_tells_of_the_reference_codes_timesteps():
    """t = 177 (and 45 before it) is a fault to be explained, not a number to be met elsewhere."""
    texts = {path.name: "\n".join(c.source for c in nbformat.read(path, 4).cells) for path in COMMITTED}
    plain = [paths.ROOT / "README.md", *paths.PACKAGE.rglob("*.py")]
    texts |= {path.name: path.read_text(encoding="utf-8") for path in plain}
    tell = [name for name, text in texts.items() if re.search(r"\bt = (177|45)\b|\b177\b", text)]
    assert all(name.startswith("03_") for name in tell), tell
    assert any("reference_index" in text for text in texts.values())


def without_language(data):
    """What a flipped byte in its metadata leaves: valid, and papermill cannot tell how its parameters are written."""
    notebook = json.loads(data)
    notebook["metadata"].pop("language_info", None)
    del notebook["metadata"]["kernelspec"]["language"]
    return json.dumps(notebook).encode()


@pytest.mark.parametrize("damage, said", [
    (without_language, "notebook with parameters"),
    *((damage, "whole notebook") for damage in (
        lambda data: data[:-9], lambda data: data.replace(b"cell_type", b"cell_tipe", 1), lambda data: b"\xff" + data,
        lambda data: b"", lambda data: b"[]")),
])
def test_a_damaged_notebook_is_refused_before_anything_runs(damage, said, tmp_path, monkeypatch):
    (tmp_path / "00_damaged.ipynb").write_bytes(damage(SUCCEEDS.read_bytes()))
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    with pytest.raises(ValueError, match=rf"00_damaged\.ipynb is no {said} .+; restore it by git"):
        plan.plan(["00"])


@pytest.mark.parametrize("number", ["09", "12"])
def test_defences_are_named_before_anything_runs_and_own_files_by_their_whole_path(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("class Mine: pass")
    [(_, given)] = plan.plan([number], given={"defences": "['dds', 'blur', 'mine.py:Mine']"})
    assert given == {"defences": ["dds", "blur", f"{tmp_path / 'mine.py'}:Mine"]}
    for wrong, error, message in (("['blurr']", ValueError, "unknown defence 'blurr'.*did you mean 'blur'"),
                                  ("['mine.py:Yours']", ValueError, "defines no 'Yours'.*it defines Mine"),
                                  ("['no.py:Mine']", FileNotFoundError, "no file .*no.py"),
                                  ("blur", ValueError, "wanted a value of type list")):
        with pytest.raises(error, match=message):
            plan.plan([number], given={"defences": wrong})
