"""Which notebooks a command runs, with which parameters; all that is wrong is refused here, before a kernel."""

import ast
import math
import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from fvit.base import paths
from fvit.notebooks import form
from fvit.records import profiles

GALLERY = "10_"  # shows the figures of the other notebooks
Plan = list[tuple[Path, dict]]


# What to run ------------------------------------------------------------------------------------------------------
def select(names: Iterable[str] = ("all",)) -> list[Path]:
    """Notebooks by number ("1" or "01"), or "all" (the numbered ones; solutions are apart), in order.

    Raises ValueError listing the numbers there are.
    """
    known = sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not known:
        raise ValueError(f"no notebooks in {paths.NOTEBOOKS}; run from a clone of the repository (pip install -e .)")
    chosen = set()
    for name in names:
        found = [path for path in known if name == "all" or (name and path.name.startswith(f"{name:0>2}_"))]
        if not found:
            raise ValueError(f"no notebook {name!r}; known: all, {', '.join(path.name[:2] for path in known)}")
        chosen.update(found)
    return sorted(chosen)


def plan(names: Iterable[str] = ("all",), profile: str = "laptop", given: dict[str, str] | None = None) -> Plan:
    """The selected notebooks, each with the parameters it is given, as values of the right type.

    given     name -> text of a Python literal; a name must be known to each notebook, or with "all" to at least one
    returns   [(notebook, {name: value})]; with "all", a notebook gets those of the parameters that it knows

    Raises ValueError, before anything runs, for an unknown notebook, profile or parameter, or a value of another type.
    """
    names, given = list(names), dict(given or {})
    if "profile" in given:
        raise ValueError("the profile is chosen by --profile NAME, not by -p profile=NAME")
    profiles.profile(profile)  # a ValueError listing the profiles that are known
    if profile != "laptop":  # the default that every notebook carries
        given["profile"] = profile
    known = {path: form.known_parameters(path) for path in select(names)}
    enough = any if "all" in names else all
    for name in given:
        if not enough(name in parameters for parameters in known.values()):
            raise ValueError(_unknown(name, known))
    return [(path, {name: _value(name, given[name], *known[path][name]) for name in given if name in known[path]})
            for path in known]


def _unknown(name: str, known: dict[Path, dict]) -> str:
    lacking = [path for path, parameters in known.items() if name not in parameters]
    names = sorted({n for path in lacking for n in known[path]})
    close = get_close_matches(name, names, n=1)
    return (f"parameter {name!r} is unknown to {', '.join(path.name for path in lacking)}"
            f"{f'; did you mean {close[0]!r}?' if close else ''}; known: {', '.join(names) or 'none'}")


def _value(name: str, given: str, kind: str, default: str) -> object:
    try:
        value = ast.literal_eval(given)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = given
    if kind == "str":
        value = value if isinstance(value, str) else given  # -p method=rollout needs no quotes
        return os.path.abspath(value) if os.sep in value and Path(value).exists() else value  # kernels start elsewhere
    if kind == "float" and type(value) is int:
        value = float(value)
    if type(value).__name__ != kind.partition("[")[0] or (kind == "float" and not math.isfinite(value)):
        raise ValueError(f"-p {name}={given}: wanted a value of type {kind}, written like {name}={default}")
    return value
