"""Parameters of notebooks: what a parameters cell states, and whether a value that was given has the kind it states."""

import ast
import math
import sys

SOURCES = ("vit", "den", "data")  # what a notebook works on: a source, or a dict of arguments
INJECTED = "# Parameters"  # first line of the cell that papermill adds


def declared(source: str) -> dict[str, tuple[str, str]]:
    """name -> (type name, text of the default) of a parameters cell, of which nothing is run."""
    found = {}
    for node in ast.parse(source).body:
        target, kind = ((node.target, ast.unparse(node.annotation)) if isinstance(node, ast.AnnAssign) else
                        (node.targets[0], type(ast.literal_eval(node.value)).__name__))
        found[target.id] = (kind, ast.get_source_segment(source, node.value))
    return found


def fits(name: str, value: object, kind: str) -> bool:
    """Whether `value` has the type that a notebook states for parameter `name`; a whole number is a float too."""
    if kind == "float" and type(value) is int:
        return True
    if kind == "str" and name in SOURCES and isinstance(value, dict):
        return True
    return type(value).__name__ == kind.partition("[")[0] and (kind != "float" or math.isfinite(value))


def check_given() -> None:
    """ValueError for what papermill's own command line gave this kernel with another type than the notebook states.

    `papermill -p` guesses types: a list arrives as text, "4" as a number, "None" as nothing. Nothing is done where no
    cell of papermill's was run; `fvit run` checks beforehand.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    cells = [str(cell) for cell in shell.user_ns.get("In", ())] if shell else []
    for number in [n for n, cell in enumerate(cells) if n and cell.startswith(INJECTED)]:
        try:
            known, given = declared(cells[number - 1]), ast.parse(cells[number]).body
        except (ValueError, SyntaxError, AttributeError):
            continue  # another notebook's, of another form
        for node in given:
            name = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
            if name in known and not fits(name, value := _value(node.value), known[name][0]):
                kind, default = known[name]
                ways = {"str": f"-r {name} {ast.literal_eval(default) or 'TEXT'}", "list": f"-y '{name}: {default}'"}
                way = ways.get(kind, f"-p {name} {default}")
                raise ValueError(f"parameter {name} came from papermill as {type(value).__name__}, {value!r}; wanted "
                                 f"{kind}, given like {way}, or to `fvit run` like -p {name}={default}")


def _value(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, SyntaxError):
        return float("nan")  # as papermill writes what is no finite number: float('nan')
