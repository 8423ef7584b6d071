"""The package is built in floors: a file imports only from lower ones. Read from the source, lazy imports included."""

import ast
import subprocess
import sys

import pytest

from fvit.paths import PACKAGE, ROOT

FLOORS = {name: floor for floor, names in enumerate([
    "paths",
    "checks",
    "rng profiles timing",
    "theory intervals schedule notebooks noise images memory",
    "extras.adm_settings",
    "extras.adm",
    "lessons comparisons scores radii optimal_noise scenes vit attention denoiser",
    "lrp extras.pictures extras.bridge extras.compiled",
    "explanations extras.folders",
    "extras.segmented",
    "extras.datasets",
    "sources",
    "setting",
    "choice",
    "smoothing attacks",
    "metrics certification results",
    "extras.cluster",
    "segmentation perturbation blocks sanity",
    "plots figures experiments",
    "theory_plots radius_plots method_plots cost_plots perturbation_plots score_tables controls score_plots",
    "gallery estimates widgets",
    "tasks",
    "runner train_denoiser",
    "train_vit",
    "train_scenes extras.train_cifar10",
    "train",
    "cli",
    "__main__",
]) for name in names.split()}
NO_TORCH = ("theory radii noise optimal_noise intervals comparisons scores schedule notebooks paths profiles "
            "plots figures theory_plots radius_plots method_plots cost_plots timing perturbation_plots score_plots "
            "gallery").split()
PUBLIC_FACE = "__init__"  # above all floors: it names what lies in them, and imports nothing until asked
FOLDERS = ("fvit", "fvit.extras")


def imports(source: str) -> set[str]:
    """Modules a source text imports, anywhere in it: "fvit.rng" for files of the package, else the top-level name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["fvit" if node.level else "", node.module or ""]))
            found.update(f"{module}.{alias.name}" for alias in node.names) if module in FOLDERS else found.add(module)
    parts = [name.split(".") for name in found]
    return {".".join(p[:3 if p[:2] == ["fvit", "extras"] else 2 if p[0] == "fvit" else 1]) for p in parts}


def violations(name: str, source: str) -> list[str]:
    """What file `name` imports that is not on a lower floor (or is no file of the package at all)."""
    inside = [module.partition(".")[2] for module in imports(source) if module.split(".")[0] == "fvit"]
    return sorted(module for module in inside if FLOORS.get(module, 99) >= FLOORS[name] and module != "__version__")


def source(name: str) -> str:
    return PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8")


def test_every_file_has_a_floor():
    files = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    assert files - {PUBLIC_FACE, "extras.__init__"} == set(FLOORS), "add a new file to FLOORS, remove one that is gone"


@pytest.mark.parametrize("name", FLOORS)
def test_files_import_only_from_lower_floors(name):
    assert violations(name, source(name)) == []


@pytest.mark.parametrize("name", [name for name in FLOORS if not name.startswith("extras.")])
def test_the_core_imports_extras_only_when_asked(name):
    at_once = [node for node in ast.parse(source(name)).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any(module.startswith("fvit.extras") for node in at_once for module in imports(ast.unparse(node)))


@pytest.mark.parametrize("name", NO_TORCH)
def test_files_that_need_no_torch_do_not_import_it(name):
    assert imports(source(name)) & {"torch", "torchvision", "timm", "diffusers"} == set()


PLOTS = "plots figures cost_plots radius_plots theory_plots method_plots perturbation_plots score_plots".split()


@pytest.mark.parametrize("name", PLOTS)
def test_no_figure_function_sees_a_model(name):
    below = {m.partition(".")[2] for m in imports(source(name)) if m.startswith("fvit.")}
    assert below <= {"checks", "paths", "profiles", "results", "plots"}


@pytest.mark.parametrize("text, found", [
    ("from fvit import rng", []),
    ("from fvit import plots", ["plots"]),
    ("from . import attacks", ["attacks"]),
    ("from .cli import main", ["cli"]),
    ("import fvit.metrics as m", ["metrics"]),
    ("def f():\n    from fvit.train import main", ["train"]),
    ("from fvit.extras import cluster", ["extras.cluster"]),
    ("import fvit.extras.cluster", ["extras.cluster"]),
    ("from fvit import explain", ["explain"]),  # a public name: inside the package, import from the file that holds it
    ("import fvit", [""]),
    ("import numpy, torch.nn", []),
])
def test_the_walk_sees_each_form_of_import(text, found):
    assert violations("smoothing", text) == found


def fresh(code: str) -> None:
    """Run code in a new Python in which any attempt at the network raises."""
    guard = ("import socket, sys\n"
             "def refuse(*_, **__): raise AssertionError('touched the network')\n"
             "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n")
    done = subprocess.run([sys.executable, "-c", guard + code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_fvit_loads_no_torch_and_touches_no_network():
    fresh("import fvit\nassert 'torch' not in sys.modules and 'pandas' not in sys.modules, 'import fvit is not lazy'")


def test_files_that_need_no_torch_do_not_load_it_by_another():
    modules = ", ".join(f"fvit.{name}" for name in NO_TORCH)
    fresh(f"import {modules}\nassert 'torch' not in sys.modules")
