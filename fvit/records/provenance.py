"""Where numbers came from: versions, and digests of code, sources and networks."""

import ast
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from importlib import metadata
from pathlib import Path

from fvit.base.paths import NOTEBOOKS, PACKAGE, ROOT
from fvit.records.ledger import read_table, upsert


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; imports none of them."""
    found = {"python": platform.python_version()}
    for package in ("fvit", "torch", "timm", "diffusers", "numpy", "pandas", "matplotlib"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


class Stamp(dict):
    """Versions and device; prints one per line."""

    def __repr__(self) -> str:
        return "\n".join(f"{name:<11}{version}" for name, version in self.items())


def stamp() -> Stamp:
    """Versions and device of this run, for the last cell of a notebook (tag `nbval-ignore-output`)."""
    device, threads = _device()
    return Stamp(versions() | {"device": f"{device}, {threads} threads" if threads else device})


def _device() -> tuple[str, int | str]:
    import torch  # late: tables and figures are read where no torch is

    return (f"cuda, {torch.cuda.get_device_name()}", "") if torch.cuda.is_available() else (
        "cpu", torch.get_num_threads())


RUN_COLUMNS = ["run_id", "date", "commit", "device", "threads", "load", "rounds", "what"]  # of runs.csv


def log_run(path: Path | str, what: str, rounds: int | str = "") -> str:
    """Note in the table of runs at `path` when, by which commit and on what machine rows were made; returns `run_id`.

    what, rounds   the tables that the run made; rounds of what was timed

    The id is the date: a second run on one day takes the place of the first.
    """
    today = str(date.today())
    run = [today, today, commit(), *_device(), round(os.getloadavg()[0]), rounds, what]
    upsert(path, dict(zip(RUN_COLUMNS, run, strict=True)), key=("run_id",), columns=RUN_COLUMNS)
    return today


def run_said(path: Path | str, run_id: str) -> str:
    """A run in words, for captions: "2026-11-24, cpu, 2 threads, load 2, 3 rounds"; KeyError if it is not at `path`."""
    run = {run["run_id"]: run for run in read_table(path)}[run_id]
    words = {"date": "{}", "device": "{}", "threads": "{} threads", "load": "load {}", "rounds": "{} rounds"}
    return ", ".join(word.format(run[column]) for column, word in words.items() if run[column])


def commit() -> str:
    """Short name of the commit of this tree; "" where there is no git."""
    with suppress(OSError):
        return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                              text=True).stdout.strip()
    return ""


# What finds and writes files, names sizes, takes times or halves a batch: no value of a row comes from it.
PLUMBING = {"base.files", "base.paths", "base.timing", "base.memory", "records.profiles"}


def code_digest(modules: Iterable[str], package: Path = PACKAGE) -> str:
    """sha256 over what the sources of `modules`, and of all modules of fvit that they import, do.

    Comments, docstrings and layout do not count, nor does PLUMBING. Weights are named by the settings (`Bench`).
    """
    return _digest({name: _bare(text).encode() for name, text in imported_code(modules, package).items()})


def _digest(parts: dict[str, bytes]) -> str:
    lines = [f"{name} {hashlib.sha256(parts[name]).hexdigest()}" for name in sorted(parts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def imported_code(modules: Iterable[str], package: Path = PACKAGE) -> dict[str, str]:
    """name -> source of `modules` and of all modules of fvit that they import, directly or not, but PLUMBING."""
    found, todo = {}, list(modules)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = _file(name, package).read_text(encoding="utf-8")
            todo += [other for other in _imports(found[name], package) if other not in PLUMBING]
    return found


def _file(name: str, package: Path) -> Path:
    return package / f"{name.replace('.', '/')}.py"


def _bare(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def _imports(source: str, package: Path) -> set[str]:
    """Modules of fvit, such as "rng" or "extras.adm", that a source imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["fvit" if node.level else "", node.module or ""]))
            names.update([module, *(f"{module}.{alias.name}" for alias in node.names)])  # an alias may be a module
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    inside = {name.removeprefix("fvit.") for name in names if name.startswith("fvit.")}
    return {name for name in inside if _file(name, package).is_file()}


def source_digest(notebook: str = "", package: Path = PACKAGE, notebooks: Path = NOTEBOOKS) -> str:
    """sha256 over all that a figure is made by: fvit's code, the code cells and words of a notebook, shipped weights.

    Prose and outputs do not count, nor do line ends, nor checkpoints of a training: git ignores them, so another
    clone has none. A digest of sources, since a commit cannot name itself.
    """
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*") if path.is_file()}
    parts = {name: path.read_text(encoding="utf-8").encode() for name, path in files.items() if path.suffix == ".py"}
    weights = {name: path for name, path in files.items() if path.suffix == ".safetensors"}
    parts |= {name: path.read_bytes() for name, path in weights.items() if not path.name.startswith("checkpoint")}
    for path in sorted(notebooks.glob(f"{notebook}_*.ipynb"))[:1] if notebook else ():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        parts[path.name] = json.dumps(code).encode()
    for path in notebooks.glob(f"words/{notebook}.toml") if notebook else ():
        parts[f"words/{path.name}"] = path.read_text(encoding="utf-8").encode()
    return _digest(parts)
