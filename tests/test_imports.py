"""Who imports whom: a package imports only from lower floors. Read from the source, late imports included."""

import ast
import subprocess
import sys

import pytest

import fvit
from fvit.base.paths import PACKAGE, ROOT

FLOORS = ["base", "theory metrics data models", "explanations records", "smoothing attacks certification report",
          "experiments training notebooks adapters", "cli", "__main__"]  # those of one floor never import each other
APART = {"experiments", "report"}  # both meet in records
NO_TORCH = ("theory", "records", "report.style", "report.panels", "report.saving", "report.f")  # what they begin with
SOURCES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
           for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages.split()}


def imports(source: str) -> set[str]:
    """Modules a text imports, anywhere in it: "base.rng" for those of fvit, "torch" for others."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["fvit" * bool(node.level), node.module]))
            joined = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if name.removeprefix("fvit.") in SOURCES or module == "fvit" else module for name in joined}
    return {name.removeprefix("fvit.") if name.startswith("fvit.") else name.split(".")[0] for name in found}


def violations(name: str, source: str) -> list[str]:
    """What module `name` of fvit imports that is neither of its own package nor of a lower floor."""
    mine = name.split(".")[0]
    inside = {m for m in imports(source) if m.split(".")[0] in FLOOR or m in fvit.__all__ or m == "fvit"}
    others = {m: m.split(".")[0] for m in inside if m.split(".")[0] != mine}
    return sorted(m for m, other in others.items() if FLOOR.get(other, 99) >= FLOOR[mine] or {mine, other} == APART)


def test_every_package_has_its_floor():
    assert {name.split(".")[0] for name in SOURCES} == set(FLOOR)


@pytest.mark.parametrize("name", SOURCES)
def test_modules_import_from_lower_floors(name):
    assert violations(name, SOURCES[name]) == []


def test_no_circle_inside_a_package():
    arrows = {name: {m for m in imports(source) if m in SOURCES} for name, source in SOURCES.items()}
    while ready := [name for name, below in arrows.items() if not below & set(arrows)]:
        for name in ready:
            del arrows[name]
    assert not arrows


def test_no_package_or_module_bears_the_name_of_a_public_function():
    assert not set(fvit.__all__) & {part for name in SOURCES for part in name.split(".")[:1]}


@pytest.mark.parametrize("name, text, found", [
    ("attacks", "from fvit.base import rng", []), ("attacks", "from fvit.report import panels", ["report.panels"]),
    ("attacks", "from . import smoothing", ["smoothing"]), ("base.rng", "from fvit.base import files", []),
    ("base.rng", "import fvit.metrics.maps as m", ["metrics.maps"]),
    ("attacks", "def f():\n    from fvit.training.loop import main", ["training.loop"]),
    ("report.style", "from fvit.experiments.bench import Bench", ["experiments.bench"]),
    ("experiments.bench", "from fvit.report import tables", ["report.tables"]),
    ("report.style", "from fvit import explain", ["explain"]),  # a public name: inside, import from its own module
    ("report.style", "import fvit", ["fvit"]), ("base.rng", "import numpy, torch.nn", []),
])
def test_the_rule_sees_each_form_of_import(name, text, found):
    assert violations(name, text) == found


def fresh(code: str) -> None:
    """Run code in a new Python in which any attempt at the network raises."""
    guard = ("import socket, sys\n"
             "def refuse(*_, **__): raise AssertionError('touched the network')\n"
             "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n")
    done = subprocess.run([sys.executable, "-c", guard + code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_fvit_loads_no_torch_and_touches_no_network():
    fresh("import fvit\nassert 'torch' not in sys.modules and 'pandas' not in sys.modules, 'import fvit is not lazy'")


def test_what_needs_no_torch_does_not_load_it():
    modules = [f"fvit.{name}" for name in SOURCES if name.startswith(NO_TORCH)]
    assert len(modules) > 20
    fresh(f"import {', '.join(modules)}\nfvit.records.provenance.versions()\nassert 'torch' not in sys.modules")
