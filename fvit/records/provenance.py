"""Where numbers came from: versions, and digests of code, sources and networks."""

import ast
import hashlib
import json
import os
import platform
import subprocess
from contextlib import suppress
from datetime import date
from importlib import metadata
from pathlib import Path

from fvit.base import devices
from fvit.base.paths import MODELS, NOTEBOOKS, PACKAGE, PRIOR_OF, ROOT, shipped
from fvit.records.ledger import read_table, upsert
from fvit.records.profiles import ON_PHOTOGRAPHS


def versions(packages=("fvit", "torch", "timm", "diffusers", "numpy", "pandas", "matplotlib")) -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; imports none of them."""
    found = {"python": platform.python_version()} | dict.fromkeys(packages, "not installed")
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def repository() -> str:
    """Address of the repository, of pyproject.toml; "" where it still is the placeholder, or fvit is not installed."""
    with suppress(metadata.PackageNotFoundError):
        for line in metadata.metadata("fvit").get_all("Project-URL") or ():
            label, _, address = line.partition(", ")
            if label == "Repository" and "example.org" not in address:
                return address
    return ""


class Stamp(dict):
    """Versions and device; prints one per line."""

    def __repr__(self) -> str:
        return "\n".join(f"{name:<11}{version}" for name, version in self.items())


def stamp() -> Stamp:
    """Versions and device of this run, for the last cell of a notebook (tag `nbval-ignore-output`)."""
    return Stamp(versions() | {"device": device_said()})


def device_said() -> str:
    """The best device here, in words: "cpu, 2 threads", "mps", or "cuda" and the card's name."""
    device, threads = devices.named()
    return f"{device}, {threads} threads" if threads else device


RUN_COLUMNS = ["run_id", "date", "commit", "device", "threads", "load", "rounds", "what", "inputs"]  # of runs.csv


def log_run(path: Path | str, what: str, rounds: int | str = "", inputs: str = "") -> str:
    """Note in the table of runs at `path` when, by which commit and on what machine rows were made; returns `run_id`.

    what, rounds   the table that the run made; rounds of what was timed
    inputs         `inputs_digest` of the models and images

    The id is date, commit and table: a second run on one day of the same code takes the place of the first.
    """
    today, load = str(date.today()), round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else ""  # Windows has none
    code = commit()
    run_id = " ".join(filter(None, (today, code, what)))
    run = [run_id, today, code, *devices.named(), load, rounds, what, inputs]
    upsert(path, dict(zip(RUN_COLUMNS, run, strict=True)), key=("run_id",), columns=RUN_COLUMNS)
    return run_id


PHOTOGRAPHS = PACKAGE / "data" / "photographs" / "photographs.csv"


OF_DEFENCE = {"cnn": "cnn", "noise_cnn": "cnn", "vit_noise": "vit_noise", "vit_adversarial": "vit_adversarial"}


def inputs_digest(data: str, vit: str | None = None, den: str | None = None, defences=()) -> str:
    """Twelve hexadecimal digits that change with the images of a data set, or a network that rows are of.

    data, vit, den   names: of `data` by default. Of what ships with fvit the files count, of other sources the name
    defences         codes of defences; some have a network of their own (OF_DEFENCE)
    """
    parts = {"data": (PHOTOGRAPHS.read_bytes() if data == "scenes" else data.encode())}
    own = sorted({OF_DEFENCE[code] for code in defences if code in OF_DEFENCE})
    vit, den = vit or data, den or data
    of = {"cnn": PRIOR_OF.get(vit, vit)}
    for what, source in (("vit", vit), ("denoiser", den), *((what, of.get(what, vit)) for what in own)):
        files = shipped(source, what).glob("*.safetensors") if source in MODELS[what] else ()
        found = {f"{what}/{path.name}": path.read_bytes() for path in files if not path.name.startswith("checkpoint")}
        parts |= found or {what: str(source).encode()}
    return _digest(parts)[:12]


def runs_in(folder: Path) -> list[dict]:
    """The runs on record in a folder of results."""
    return read_table(folder / "runs.csv") if (folder / "runs.csv").exists() else []


def runs_of(rows, runs: list[dict]) -> list[dict | None]:
    """The runs, of those on record, that made rows; None for one that is not among them."""
    by_id = {run["run_id"]: run for run in runs}
    return [by_id.get(run_id) for run_id in dict.fromkeys(rows["run_id"])]


def runs_said(runs) -> str:
    """Runs in words: "2026-11-24 (06b2ab2) and 2026-11-25 (e81464e)"."""
    return " and ".join(f"{run['date']}" + f" ({run['commit']})" * bool(run["commit"]) for run in runs)


def outdated(rows, folder: str, runs: list[dict]) -> str:
    """Why the rows of results/<folder>/ are none of the images and models that ship now; "" if they are.

    Those of `laptop` are made anew by the run that reads them, those of `paper` are of models that do not ship.
    """
    if folder in ("laptop", "paper"):
        return ""
    used = runs_of(rows, runs)
    if None in used:
        return f"its {folder} rows do not say which run made them"
    of = {"study": ("scenes",), "natural": (repr(ON_PHOTOGRAPHS["data"]), ON_PHOTOGRAPHS["vit"], ON_PHOTOGRAPHS["den"])}
    wanted = inputs_digest(*of.get(folder, (folder,)), defences=set(rows["defence"]))
    if any(run.get("inputs") != wanted for run in used):
        return f"its {folder} rows, of {runs_said(used)}, are of other models or images than ship now"
    return ""


def run_said(runs: list[dict], run_id: str) -> str:
    """A run in words, for captions: "2026-11-24, cpu, 2 threads, load 2, 3 rounds"; KeyError for one not on record."""
    run = {run["run_id"]: run for run in runs}[run_id]
    words = {"date": "{}", "device": "{}", "threads": "{} threads", "load": "load {}", "rounds": "{} rounds"}
    return ", ".join(word.format(run[column]) for column, word in words.items() if run[column])


def commit() -> str:
    """Short name of the commit of this tree; "" where there is no git, or another project's."""
    with suppress(OSError):
        if not (ROOT / ".git").exists():
            return ""
        return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                              text=True).stdout.strip()
    return ""


COMPUTES = "base theory metrics data models explanations records smoothing attacks certification experiments".split()


def code_digest(package: Path = PACKAGE) -> str:
    """sha256 over what the code of the packages that rows come from does: comments, docstrings, layout do not count."""
    files = {path.relative_to(package): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    return _digest({path.as_posix(): _bare(text).encode() for path, text in files.items()
                    if path.with_suffix("").parts[0] in COMPUTES})


def _digest(parts: dict[str, bytes]) -> str:
    lines = [f"{name} {hashlib.sha256(parts[name]).hexdigest()}" for name in sorted(parts)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _bare(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def source_digest(notebook: str = "", package: Path = PACKAGE, notebooks: Path = NOTEBOOKS) -> str:
    """sha256 over all that a figure is made by: fvit's code, the code cells and words of a notebook, shipped weights.

    Prose and outputs do not count, nor do line ends, nor checkpoints of a training: git ignores them, so another
    clone has none. A digest of sources, since a commit cannot name itself.
    """
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*")
             if path.is_file() and "repository" not in path.parts[len(package.parts):]}  # what a wheel has besides
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
