"""Starts without a machine of one's own, in Codespaces and on Binder: no container is made here, but what their files
name is there, and the versions are those of pyproject.toml and requirements.lock."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import lock
import nbformat
import pytest
from packaging.specifiers import SpecifierSet

from fvit.base.paths import ROOT

BINDER, MAKEFILE = ROOT / ".binder", (ROOT / "Makefile").read_text(encoding="utf-8")
VENV = re.search(r"^VENV \?= (\S+)$", MAKEFILE, re.M)[1]
INSTALLED = re.search(r"^INSTALLED := (\S+)$", MAKEFILE, re.M)[1].replace("$(VENV)", VENV)
POST_BUILD = (BINDER / "postBuild").read_text(encoding="utf-8")


def container() -> dict:
    """devcontainer.json without its comments, each a line."""
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))


def test_all_name_the_python_on_which_everything_was_tested():
    conda = (ROOT / "environment.yml").read_text(encoding="utf-8")
    named = {re.match(r"python:(\d+\.\d+)-", container()["image"])[1], re.search(r"- python=(\S+)", conda)[1],
             (BINDER / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")}
    assert named == {lock.PYTHONS[0]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SpecifierSet(project["requires-python"]).contains(lock.PYTHONS[0])


def test_both_install_by_make_from_the_lock():
    assert container()["onCreateCommand"] == f"make {INSTALLED}"
    assert re.findall(r"^make .*$", POST_BUILD, re.M) == [f"make {INSTALLED} TORCH=cpu"]
    assert re.search(r"^\$\(INSTALLED\): requirements\.lock pyproject\.toml$", MAKEFILE, re.M)
    assert re.search(r"^TORCH \?=", MAKEFILE, re.M)
    assert re.search(r"^\s+cpu\) grep .* requirements\.lock", MAKEFILE, re.M)
    ours = f"{VENV}/bin/python"
    assert container()["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith(f"/{ours}")
    assert f"\n{ours} -m ipykernel " in POST_BUILD


@pytest.mark.skipif(shutil.which("make") is None, reason="make says itself what it would do")
def test_make_would_install_the_lock_without_cuda(tmp_path):
    venv = tmp_path / "venv"
    said = subprocess.run(["make", "-n", f"VENV={venv}", "TORCH=cpu", f"{venv}/{INSTALLED.removeprefix(f'{VENV}/')}"],
                          cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "requirements.lock" in said and "--torch-backend=cpu" in said and f"{venv}/bin/uv" in said
    assert not venv.exists()


def test_binder_takes_from_the_index_only_what_the_lock_pins():
    pins = dict((name, version) for name, version, _ in lock.PIN.findall((BINDER / "requirements.txt").read_text()))
    assert pins and pins.items() <= lock.pins().items()
    assert {"ipykernel", "jupyterlab", "ipywidgets"} <= set(lock.pins())


def test_the_notebook_that_opens_is_there_and_asks_for_the_kernel_that_binder_gets():
    opened = [*container()["customizations"]["codespaces"]["openFiles"], *re.findall(r"\?labpath=(\S+)", POST_BUILD)]
    assert len(opened) == 2
    for name in opened:
        kernel = nbformat.read(ROOT / name, 4).metadata.kernelspec.name
        assert name.startswith("notebooks/00_") and f"--name {kernel} " in POST_BUILD


@pytest.mark.skipif(os.name != "posix", reason="a script of bash")
def test_binder_makes_fvit_the_kernel_of_its_own_jupyterlab(tmp_path):
    """The script itself, with a make that only says what it is asked for and the kernel of this environment."""
    home, bin_there = tmp_path / "home", tmp_path / "tools"
    for path, text in ((bin_there / "make", 'echo "$@" > made\n'),
                       (home / VENV / "bin" / "python", f'exec "{sys.executable}" "$@"\n')):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        path.chmod(0o755)
    assert os.access(BINDER / "postBuild", os.X_OK), "git must keep it executable: git update-index --chmod=+x"
    environment = os.environ | {"PATH": f"{bin_there}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)}
    unset = subprocess.run([BINDER / "postBuild"], cwd=home, capture_output=True, text=True, env={
        name: value for name, value in environment.items() if name != "NB_PYTHON_PREFIX"})
    assert unset.returncode != 0 and "NB_PYTHON_PREFIX" in unset.stderr
    subprocess.run([BINDER / "postBuild"], cwd=home, check=True, capture_output=True, env=environment | {
        "NB_PYTHON_PREFIX": str(tmp_path / "base")})
    assert (home / "made").read_text().split() == [INSTALLED, "TORCH=cpu"]
    spec = json.loads((tmp_path / "base/share/jupyter/kernels/python3/kernel.json").read_text(encoding="utf-8"))
    assert spec["display_name"] == "fvit" and "ipykernel_launcher" in spec["argv"]
