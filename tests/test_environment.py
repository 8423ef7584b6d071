"""The three files that name dependencies agree, and the lock is complete in itself, on every platform and Python."""

import re
import shutil
import subprocess
import tomllib
from importlib import metadata

import lock
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import fvit
from fvit.base.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK_LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)(\s*;.*)?")


def direct() -> dict[str, Requirement]:
    """The direct dependencies, with those of the extras that the lock holds."""
    extras = [line for extra in lock.EXTRAS for line in PROJECT["optional-dependencies"][extra]]
    return {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependencies"] + extras)}


def pins(lines) -> dict[str, str]:
    return {canonicalize_name(match[1]): match[2] for match in map(PIN.fullmatch, lines)}


def locked() -> dict[str, str]:
    return pins(line for line in map(str.strip, LOCK_LINES) if PIN.fullmatch(line))


def test_the_lock_holds_exact_versions_and_no_address():
    lines = [line.strip() for line in LOCK_LINES if line.strip() and not line.lstrip().startswith("#")]
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert [line for line in LOCK_LINES if re.search(r"://|@|^\s*-|file:|\.whl|\+local", line)] == []
    assert len(locked()) == len(lines), "a name is locked twice"


@pytest.mark.parametrize("name", sorted(direct()))
def test_the_lock_satisfies_pyproject(name):
    assert name in locked()
    assert direct()[name].specifier.contains(Version(locked()[name]), prereleases=True)


def test_the_page_on_other_tools_names_versions_that_pyproject_takes():
    page = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([\w-]+) \| (\d\S*) \|", page, re.M)
    tried = {canonicalize_name(name): Version(version) for name, version in listed}
    wanted = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["optional-dependencies"]["interop"])}
    assert set(tried) == set(wanted)
    assert [name for name, r in wanted.items() if not r.specifier.contains(tried[name])] == []


@pytest.mark.parametrize("python", lock.PYTHONS)
@pytest.mark.parametrize("platform", lock.PLATFORMS)
def test_each_platform_gets_what_fvit_needs_and_only_linux_gets_cuda(platform, python):
    found = lock.pins(lock.environment(platform, python))
    assert set(direct()) <= set(found)
    assert any(name.startswith(lock.CUDA) for name in found) == ("linux" in platform)
    assert {"appnope": "apple" in platform, "pywinpty": "windows" in platform, "aiohttp": python == "3.12",
            "ptyprocess": "windows" not in platform} == {
        name: name in found for name in ("appnope", "pywinpty", "aiohttp", "ptyprocess")}


def test_what_is_installed_here_is_what_the_lock_says():
    found = {name: metadata.version(name).removesuffix("+cpu") for name in lock.here()}
    assert found == lock.here()


def test_torch_is_pinned_by_a_range_of_minor_versions_and_exactly_in_the_lock():
    [low, high] = sorted(direct()["torch"].specifier, key=lambda part: Version(part.version))
    assert (low.operator, high.operator) == (">=", "<") and low.contains(locked()["torch"])
    assert Version(high.version).minor == Version(locked()["torch"]).minor + 1  # newer ones are untried


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize("choice, answers, cuda, said", [
    ("lock", True, True, ""), ("cpu", False, False, ""), ("auto", True, False, ""),
    ("auto", False, True, "no answer from PyTorch's index of CPU builds: torch is the lock's, with CUDA"),
    ("gpu", True, None, "TORCH=gpu, wanted auto, cpu or lock")])
def test_make_takes_the_cpu_build_of_torch_where_asked_or_answered(tmp_path, choice, answers, cuda, said):
    """With a Python that does nothing, and an uv that writes down what it is asked to install."""
    log = tmp_path / "log"
    log.touch()
    (tmp_path / "bin").mkdir()
    for name, script in {"python": "exit 0", "uv": f"""
case "$*" in *--dry-run*) cat >/dev/null; exit {int(not answers)};; esac
echo "uv $*" >>{log}
case "$*" in *"-r -"*) cat >>{log};; *requirements.lock*) cat requirements.lock >>{log};; esac"""}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    done = subprocess.run(["make", "-s", f"VENV={tmp_path}", f"PYTHON={tmp_path}/bin/python", f"TORCH={choice}",
                           f"{tmp_path}/.installed"], cwd=ROOT, capture_output=True, text=True)
    wanted, installed = log.read_text(), (tmp_path / ".installed").exists()
    assert done.stdout.strip() == said and (done.returncode == 0) == (cuda is not None) == installed
    if installed:
        assert f"torch=={locked()['torch']}" in wanted and "-e ." in wanted
        assert [any(f"\n{name}" in wanted for name in lock.CUDA), "--torch-backend=cpu" in wanted] == [cuda, not cuda]


def test_environment_yml_pins_the_direct_dependencies_as_the_lock_does_and_takes_the_rest_from_it():
    *plain, inside = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pip = inside["pip"]
    assert pins(line for line in pip if not line.startswith("-")) == {name: locked()[name] for name in direct()}
    assert [line for line in pip if line.startswith("-")] == ["-c requirements.lock", "-e ."]
    [python] = [line for line in plain if line.startswith("python=")]
    assert Requirement(f"x{PROJECT['requires-python']}").specifier.contains(python.removeprefix("python="))
    assert "pip" in plain


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert fvit.__version__ == PROJECT["version"] == citation["version"]
