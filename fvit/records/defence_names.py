"""Defences by name: those of the vocabulary, and a reader's own, "FILE.py:NAME". What names nothing is refused.

Nothing is imported or run, so that a wrong name ends a command at once.
"""

import ast
import hashlib
from pathlib import Path

from fvit.base.checks import as_list, check_choice
from fvit.records.words import DEFENCES

KNOWN = tuple(code for code in DEFENCES if code != "constant_map")
HOW = "or FILE.py:NAME, a class in a file of your own (CONTRIBUTING.md, Add a defence)"


def check(names) -> list[str]:
    """The names, each once, the files of a reader's own by absolute path.

    Raises ValueError for an unknown name, a file that defines no such name, and two that rows could not tell apart;
    FileNotFoundError for a file that is not there.
    """
    several = as_list(names)
    if several is None:
        raise ValueError(f"defences={names!r}, wanted a list of names, such as ['dds', 'blur'] or ['mine.py:Mine']")
    found = list(dict.fromkeys(_checked(name) for name in several))
    if len(twice := [name for name in found if [code(other) for other in found].count(code(name)) > 1]):
        raise ValueError(f"{' and '.join(twice)} would both be {code(twice[0])} in the rows; rename one of the files")
    return found


def code(name: str) -> str:
    """How rows name a defence: a reader's own by its file and class, wherever the file is."""
    path, colon, what = name.rpartition(":")
    return f"{Path(path).name}:{what}" if colon else name


def digest(name: str) -> str:
    """sha256 of the file of a reader's own, which its rows depend on besides the code of fvit; "" for the others."""
    return hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest() if ":" in name else ""


def _checked(name) -> str:
    if not (isinstance(name, str) and ".py:" in name):
        try:
            return check_choice(name, KNOWN, "defence")
        except ValueError as error:
            raise ValueError(f"{error}; {HOW}") from None
    file, _, what = name.rpartition(":")
    path = Path(file).expanduser().absolute()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} for the defence {name!r}")
    try:
        there = {found for node in ast.parse(path.read_text(encoding="utf-8")).body for found in _defined(node)}
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is no Python ({error}); mend the file of the defence") from None
    if what not in there:
        raise ValueError(f"{path} defines no {what!r}, wanted a class or a function of that name; it defines "
                         f"{', '.join(sorted(there)) or 'nothing'}")
    return f"{path}:{what}"


def _defined(node: ast.stmt):
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield node.name
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    if isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
