"""The form in which notebooks are kept: what is stripped before one is stored, and what keeps one from being stored."""

import ast
import copy
import io
import json
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path

import nbformat
import papermill
from nbformat import NotebookNode

TAGS = {"parameters", "nbval-ignore-output", "nbval-skip", "hide-input", "exercise", "claim"}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def escape(path: Path) -> str:
    """A path as papermill wants it: it formats its paths, so a brace in a folder's name is doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


def text(notebook: NotebookNode) -> str:
    """The bytes of a notebook file, as JupyterLab writes them."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def strip(notebook: NotebookNode) -> NotebookNode:
    """A copy without what changes from run to run: clock times, versions, random ids, papermill's own notes."""
    notebook = copy.deepcopy(notebook)
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    notebook.metadata["kernelspec"] = nbformat.from_dict(KERNEL)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]  # the empty list that papermill adds
        elif "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
    return notebook


def check_whole(path: Path) -> None:
    """ValueError naming the mend if a file is no notebook that papermill can execute; nothing in it is run."""
    reads = {"whole notebook": lambda: nbformat.validate(nbformat.from_dict(json.loads(path.read_text("utf-8")))),
             "notebook with parameters to read": lambda: papermill.inspect_notebook(escape(path))}
    for wanted, read in reads.items():
        try:
            read()
        except OSError:
            raise
        except Exception as error:  # json's, nbformat's, jsonschema's and papermill's own classes
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise ValueError(f"{path} is no {wanted} ({reason}); restore it by git, or save it again") from error


def first_cells(path: Path, marks: tuple[str, ...]) -> NotebookNode:
    """The notebook up to the last code cell that holds one of the texts `marks`; without cells if there is none."""
    notebook = strip(nbformat.read(path, 4))
    found = [n for n, cell in enumerate(notebook.cells)
             if cell.cell_type == "code" and any(mark in cell.source for mark in marks)]
    notebook.cells = notebook.cells[:found[-1] + 1] if found else []
    return notebook


def problems(notebook: NotebookNode) -> list[str]:
    """What keeps a notebook from being committed, in words; empty for a good one."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = list(_form_problems(notebook, code))
    if not found and text(notebook) != text(strip(notebook)):
        found.append("holds metadata that change with each run; run `make refresh`")
    for cell in notebook.cells:
        found += [f"unknown tag {tag!r}; known: {', '.join(sorted(TAGS))}"
                  for tag in cell.metadata.get("tags", []) if tag not in TAGS]
        hidden = "hide-input" in cell.metadata.get("tags", []), cell.metadata.get("jupyter", {}).get("source_hidden")
        if hidden not in ((True, True), (False, None)):
            found.append(f"cell {cell.get('id')}: 'hide-input' and jupyter.source_hidden, which JupyterLab goes by, "
                         "do not agree; set both or none")
    for number, cell in enumerate(code, 1):
        found += [f"code cell {number}: {problem}" for problem in _code_problems(cell)]
    parameters = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(parameters) != 1:
        return [*found, f"{len(parameters)} cells tagged 'parameters', not one"]
    return found + [f"parameters: {problem}" for problem in _parameter_problems(notebook, parameters[0].source)]


def _form_problems(notebook: NotebookNode, code: list[NotebookNode]) -> Iterator[str]:
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        yield f"format is {notebook.nbformat}.{notebook.nbformat_minor}, not 4.5; save it with JupyterLab 4"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "kernelspec is not python3; choose the kernel 'Python 3 (ipykernel)'"
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "execution counts are not 1, 2, 3, ...; remove empty cells and run `make refresh`"
    if not any(cell.outputs for cell in code):
        yield "no outputs are stored, so nothing is compared; run `make refresh`"


def _code_problems(cell: NotebookNode) -> Iterator[str]:
    if any(output.output_type == "error" for output in cell.outputs):
        yield "its stored output is an error; catch it and print it"
    if any(output.get("name") == "stderr" for output in cell.outputs):
        yield "warnings or progress bars stand in its stored output; mend their cause"
    try:
        ast.parse(cell.source)
        tokens = list(tokenize.generate_tokens(io.StringIO(cell.source).readline))
    except (SyntaxError, tokenize.TokenError):
        yield "is not plain Python; no magics, no shell lines"
        return
    if any(token.type == tokenize.OP and token.string == ";" for token in tokens):
        yield "holds ';', which nbval does not honour; write `_ = ...` to show nothing"


def _parameter_problems(notebook: NotebookNode, source: str) -> Iterator[str]:
    for line in source.splitlines():
        if line.count("=") > 1:
            yield f"a second '=' in {line!r}, so papermill drops the line; reword its comment"
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return  # said by _code_problems
    with tempfile.TemporaryDirectory(prefix="fvit-inspect-") as folder:
        path = Path(folder) / "notebook.ipynb"
        path.write_text(text(strip(notebook)), encoding="utf-8")  # stripped: inspection fails without a kernelspec
        inspected = papermill.inspect_notebook(escape(path))
    for node in statements:
        try:
            name = (node.target if isinstance(node, ast.AnnAssign) else node.targets[0]).id
            read = ast.literal_eval(inspected[name]["default"]) == ast.literal_eval(node.value)
        except (AttributeError, KeyError, ValueError, SyntaxError):
            read = False
        if not read or node.lineno != node.end_lineno:
            yield (f"`{ast.unparse(node)}` is not read by papermill as written; one line "
                   "`name: type = literal  # help`, type one of int, float, str, bool, list")
