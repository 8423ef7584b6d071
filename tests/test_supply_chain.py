"""What fvit is made of: every licence is known and bearable, and the documents say of it what the packages say."""

import re
import sys
from importlib.metadata import files
from pathlib import Path

import licences
import lock
import pytest
import skimage.data
from sklearn import datasets

from fvit.base.paths import ROOT
from fvit.data.scenes import PHOTOGRAPHS

ROOT_OF_SKLEARN = Path(datasets.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {"clock_motion": "clock", "ihc": "immunohistochemistry", "motorcycle_left": "stereo_motorcycle"}
SAID = {  # words of the README -> words of scikit-image's documentation of that photograph
    "public domain": r"public\s+domain", "CC0": "CC0", "no known restrictions": "No known copyright restrictions",
    "Scharstein et al. 2014": "Scharstein"}


def test_the_table_of_licences_is_what_the_installed_packages_state():
    page = licences.PAGE.read_text(encoding="utf-8")
    assert licences.table(licences.licences()) in page, "run python tools/licences.py, and look at what changed"
    page = " ".join(page.split()).replace("nvidia-*", "nvidia-")
    assert all(f"`{name}`" in page and reason in page for name, (_, reason) in licences.OTHERS.items())


def test_what_only_other_platforms_install_keeps_the_licence_that_was_read_and_is_refused_where_none_was(tmp_path):
    path = tmp_path / "lock"
    path.write_text("numpy==2.4.6\nno-such-package==1 ; sys_platform == 'nowhere'\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no-such-package is in requirements"):
        licences.licences(path)
    elsewhere = {name for name, _, _ in lock.PIN.findall(lock.LOCK.read_text(encoding="utf-8"))} - set(lock.here())
    assert elsewhere >= {"pywinpty"} if sys.platform != "win32" else elsewhere >= {"appnope"}
    assert elsewhere <= set(licences.recorded())


def packages(monkeypatch, **said):
    """Let `metadata` say this of packages: field -> text, or a list of classifiers."""
    class Said(dict):
        def get_all(self, name):
            return self.get(name)

    monkeypatch.setattr(licences.metadata, "metadata", lambda name: Said(said[name]))


@pytest.mark.parametrize("said, wanted", [
    ({"License-Expression": "MIT AND PSF-2.0", "License": "GPL"}, "MIT AND PSF-2.0"),
    ({"License": "Apache 2.0"}, "Apache-2.0"),
    ({"License": "a long\ntext", "Classifier": ["Topic :: X", "License :: OSI Approved :: BSD License"]}, "BSD"),
    ({"License": "Copyright (c) us", "Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
    ({"License": "UNKNOWN"}, "none stated"), ({}, "none stated"), ({"License": "do no evil"}, "do no evil"),
])
def test_what_a_package_states(monkeypatch, said, wanted):
    packages(monkeypatch, it=said)
    assert licences.stated("it") == wanted


@pytest.mark.parametrize("said, words", [
    ({"License-Expression": "GPL-3.0-or-later"}, "it (GPL-3.0-or-later)"),
    ({"License-Expression": "MIT AND AGPL-3.0-only"}, "it (MIT AND AGPL-3.0-only)"),
    ({"Classifier": ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]}, "GPLv3"),
    ({"License": "do no evil"}, "do no evil"), ({}, "none stated"),
    ({"License": "NVIDIA Proprietary Software"}, "NVIDIA's own"),  # of another than nvidia-*
])
def test_unknown_and_binding_licences_are_refused(monkeypatch, tmp_path, said, words):
    packages(monkeypatch, it=said, good={"License-Expression": "MIT"})
    path = tmp_path / "lock"
    path.write_text("good==1\nit==2.0\n")
    with pytest.raises(ValueError, match=f"licence not known here: .*{re.escape(words)}.*; read it, then add it"):
        licences.licences(path)


def test_a_package_that_is_not_installed_is_named_and_the_one_that_states_no_licence_holds_nothing():
    with pytest.raises(ValueError, match=r"no-such-package is in requirements\.lock and not installed; run make"):
        licences.stated("no-such-package")
    assert {path.parts[0].partition("-")[0] for path in files("cuda-toolkit")} == {"cuda_toolkit"}


def test_photographs_and_digits_are_under_the_licences_that_the_readme_names():
    part = " ".join(README.partition("## Images and their sources")[2].partition("\n## ")[0].split())
    names = {name for split in PHOTOGRAPHS.values() for name in split}
    assert {name for name in names if f"`{name}`" not in part} == set()
    owned = (ROOT_OF_SKLEARN / "images" / "README.txt").read_text(encoding="utf-8")
    assert "licenses/by/2.0" in owned and all(who in owned and who in part for who in ("danielbuechele", "vultilion"))
    for name in sorted(names - {"china", "flower"}):
        line = re.search(rf"`{name}`[^;]*", part)[0]
        words = [theirs for ours, theirs in SAID.items() if ours in line]
        theirs = getattr(skimage.data, DOCS.get(name, name)).__doc__
        assert all(re.search(word, theirs) for word in words), f"{name}: {words} not in scikit-image's documentation"
        assert words or not re.search("CC0|public domain|copyright", theirs), f"{name}: the README says nothing"
