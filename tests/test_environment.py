"""The three files that name dependencies agree, and the lock is complete in itself."""

import re
import tomllib

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
    """The direct dependencies, with those of every extra but `interop`, which has an environment of its own."""
    extras = [lines for extra, lines in PROJECT["optional-dependencies"].items() if extra != "interop"]
    every = PROJECT["dependencies"] + [line for lines in extras for line in lines]
    return {canonicalize_name(r.name): r for r in map(Requirement, every)}


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
