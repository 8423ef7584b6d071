"""Without a clone: what a wheel holds, notebooks copied out of it, and where their output goes."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fvit import cli
from fvit.base import files, paths
from fvit.notebooks import copies
from fvit.records import provenance


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder of packages as a wheel of this tree fills it."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "build", "--build-base",
                           folder / "build", "--build-lib", folder / "site-packages"], cwd=paths.ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site-packages"


def without(installed, code, cwd, **environment):
    """The answer of Python code, printed as JSON, where fvit is installed without a clone."""
    kept = {name: value for name, value in os.environ.items() if name not in ("FVIT_OUT", "PYTHONPATH")}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True,
                          env=kept | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"} | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_wheel_holds_what_notebooks_run_on_and_are_compared_with(installed):
    inside = installed / "fvit" / "repository"
    told = subprocess.run(["git", "ls-files"], cwd=paths.ROOT, capture_output=True, text=True).stdout.split("\n")
    tracked = [name for name in told if name.startswith(("notebooks/", "results/", "figures/"))]
    for name in tracked or everything(inside):
        if not name.endswith(".pdf") and (paths.ROOT / name).is_file():
            assert (inside / name).read_bytes() == (paths.ROOT / name).read_bytes(), name
    assert not [name for name in everything(inside) if name.endswith((".pdf", ".pyc")) or "checkpoint" in name]
    assert {"conftest.py", "tests/nbval_sanitize.cfg"} <= everything(inside)


WRITES = """
import json, matplotlib.pyplot as plt, pandas as pd, fvit
from fvit.base import paths
from fvit.records import provenance
fvit.profile("laptop", notebook="08")
fvit.claim("X.1", 1, "<", 2, text="one is less than two", source="ours")
png = fvit.save_figure(plt.figure(figsize=(1, 1)), "F90", pd.DataFrame({"a": [1]}), name="line", title="t", caption="c",
                       alt="a", source="ours")
print(json.dumps([str(png), paths.IS_CLONE, str(paths.NOTEBOOKS), provenance.source_digest("08"), provenance.commit()]))
"""


def test_output_goes_to_the_current_folder_and_never_where_packages_are(installed, tmp_path):
    before = everything(installed)
    (tmp_path / "content" / ".git").mkdir(parents=True)  # a project of its own, whose commit is not fvit's
    png, is_clone, notebooks, digest, commit = without(installed, WRITES, tmp_path / "content")
    assert png == str(tmp_path / "content" / "fvit-out" / "figures" / "laptop" / "F90_line.png")
    assert (is_clone, commit, everything(installed)) == (False, "", before)
    assert notebooks == str(installed / "fvit" / "repository" / "notebooks")
    assert digest == provenance.source_digest("08"), "the same sources as those of a clone"
    png, *_ = without(installed, WRITES, tmp_path / "content", FVIT_OUT=str(tmp_path / "told"))
    assert png.startswith(str(tmp_path / "told"))


COPIES = """
import contextlib, io, json, sys
from fvit import cli
said = io.StringIO()
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    codes = [cli.main(words) for words in (["notebooks", "course"], ["verify"])]
print(json.dumps([codes, said.getvalue()]))
"""
IN_THERE = """
import json
from fvit.base import paths
from fvit.notebooks import plan
print(json.dumps([str(paths.output_root()), [str(path) for path, _ in plan.plan(["08", "15"])]]))
"""


def test_the_copied_notebooks_are_those_that_run_in_their_folder(installed, tmp_path):
    codes, said = without(installed, COPIES, tmp_path)
    course = tmp_path / "course"
    assert codes == [0, 1] and said.splitlines()[0] == str(course) and "nothing was made in" in said
    for here in (course, course / "solutions"):
        root, planned = without(installed, IN_THERE, here)
        assert root == str(course / "fvit-out")
        assert [Path(path).parent for path in planned] == [course, course]
    for target in ("figures", "test") if shutil.which("make") else ():
        done = subprocess.run(["make", "-n", target, "PYTHON=py"], cwd=course, capture_output=True, text=True)
        assert done.returncode == 0 and {"figures": "py -m fvit run all --jobs 2", "test": "py -m pytest --nbval"}[
            target] in done.stdout


def test_a_copy_is_whole_and_a_second_one_changes_nothing(tmp_path, capsys):
    folder = tmp_path / "a course"
    for _ in range(2):
        assert cli.main(["notebooks", str(folder)]) == 0
        assert capsys.readouterr().out == f"{folder}\n"
    assert files.changed(folder) == [] and {"conftest.py", "nbval_sanitize.cfg", "Makefile"} <= everything(folder)
    for path in paths.NOTEBOOKS.rglob("*"):
        if path.suffix in (".ipynb", ".toml", ".md") and ".ipynb_checkpoints" not in path.parts:
            assert (folder / path.relative_to(paths.NOTEBOOKS)).read_bytes() == path.read_bytes()


def test_what_is_yours_is_never_overwritten(tmp_path, capsys):
    folder = copies.copy_notebooks(tmp_path / "course")
    mine = folder / "words" / "01.toml"
    mine.write_text("# mine\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert cli.main(["notebooks", str(folder)]) == 1
    assert "files of yours that would be overwritten: words/01.toml; move them" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    mine.unlink()
    (folder / "notes.txt").write_text("mine")
    copies.copy_notebooks(folder)
    assert files.changed(folder) == [] and (folder / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "Makefile").write_text("all:\n")
    with pytest.raises(FileExistsError, match="Makefile"):
        copies.copy_notebooks(other)
    assert everything(other) == {"Makefile"}
    (other / "Makefile").unlink()
    files.write_summed(other, {"data.bin": "mine"})
    with pytest.raises(FileExistsError, match="SHA256SUMS is of other files"):
        copies.copy_notebooks(other)
    assert files.changed(other) == []


def test_an_earlier_copy_is_brought_up_to_date(tmp_path):
    folder = tmp_path / "course"
    files.write_summed(folder, {"Makefile": "of an earlier version\n", "README.md": "old\n"})
    copies.copy_notebooks(folder)
    assert (folder / "Makefile").read_text() == copies.MAKEFILE and files.changed(folder) == []


def test_without_notebooks_the_mend_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "ROOT", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="install it again"):
        copies.copy_notebooks(tmp_path / "course")
    assert not (tmp_path / "course").exists()


def test_the_repository_has_its_address_in_one_place(monkeypatch):
    urls = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert list(urls) == ["Repository"]
    others = [*paths.ROOT.glob("*.*"), *paths.ROOT.glob("docs/*.md"), *paths.PACKAGE.rglob("*.py")]
    named = [path.name for path in others if path.is_file() and urls["Repository"] in path.read_text(errors="replace")]
    assert named == ["pyproject.toml"]
    first = next(paths.NOTEBOOKS.glob("00_*.ipynb")).read_text(encoding="utf-8")  # its cell for who has no fvit yet
    assert f'git+{urls["Repository"]}\\"' in first
    stated = {"example.org/fvit": "", "git.example.com/ours": "https://git.example.com/ours"}
    for address, answer in stated.items():
        heads = type("Heads", (), {"get_all": lambda self, _, a=address: [f"Repository, https://{a}"]})()
        monkeypatch.setattr(provenance.metadata, "metadata", lambda _, heads=heads: heads)
        assert provenance.repository() == answer
