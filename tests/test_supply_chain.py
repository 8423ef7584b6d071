"""What fvit is made of: every licence is known and bearable, and the documents say of it what the packages say."""

import hashlib
import io
import re
import struct
import sys
import tarfile
import tomllib
import zlib
from importlib.metadata import files
from pathlib import Path

import licences
import lock
import numpy as np
import photographs
import pytest
import skimage.data
from PIL import Image
from sklearn import datasets

from fvit.base.paths import ROOT
from fvit.data.photographs import FOLDER, table

ROOT_OF_SKLEARN = Path(datasets.__file__).parent
SHIPPED = (ROOT / "docs" / "shipped.md").read_text(encoding="utf-8")
DOCS = {"clock_motion": "clock", "ihc": "immunohistochemistry", "motorcycle_left": "stereo_motorcycle"}
SAID = {  # words of docs/shipped.md -> words of scikit-image's documentation of that photograph
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


def test_photographs_and_digits_are_under_the_licences_that_the_page_of_what_ships_names():
    part = " ".join(SHIPPED.partition("## Images and their sources")[2].partition("\n## ")[0].split())
    names = {row["name"] for row in table() if not row["file"].startswith("fvit/")}
    assert {name for name in names if f"`{name}`" not in part} == set()
    owned = (ROOT_OF_SKLEARN / "images" / "README.txt").read_text(encoding="utf-8")
    assert "licenses/by/2.0" in owned and all(who in owned and who in part for who in ("danielbuechele", "vultilion"))
    for name in sorted(names - {"china", "flower"}):
        line = re.search(rf"`{name}`[^;]*", part)[0]
        words = [theirs for ours, theirs in SAID.items() if ours in line]
        theirs = getattr(skimage.data, DOCS.get(name, name)).__doc__
        assert all(re.search(word, theirs) for word in words), f"{name}: {words} not in scikit-image's documentation"
        assert words or not re.search("CC0|public domain|copyright", theirs), f"{name}: docs/shipped.md says nothing"


def test_the_page_names_author_licence_and_origin_of_every_photograph_that_ships():
    page = photographs.PAGE.read_text(encoding="utf-8")
    assert photographs.page_table() in page, "run python tools/photographs.py, and look at what changed"
    shipped = [row for row in table() if row["file"].startswith("fvit/")]
    assert all(photographs.FREE.fullmatch(row["licence"]) and row["author"] and row["original"] for row in shipped)
    assert all(row["licence"] in page.partition("\nLicences:")[2] for row in shipped if "C" in row["licence"])
    assert {row["package"] for row in shipped} == set(photographs.PACKAGES)
    splits = [row["split"] for row in sorted(shipped, key=lambda row: hashlib.sha256(row["name"].encode()).hexdigest())]
    n_test, n_val = photographs.N_TEST, photographs.N_VAL
    assert splits == ["test"] * n_test + ["val"] * n_val + ["train"] * (len(splits) - n_test - n_val)
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]
    assert set(said.split(" AND ")) == {"MIT", *(row["licence"].replace("public-domain", "LicenseRef-Public-Domain")
                                                 for row in shipped)}
    n = {split: sum(row["split"] == split for row in table()) for split in ("train", "val", "test")}
    assert (f"There are {len(table())} photographs, {n['train']} for training, {n['val']} for validation and "
            f"{n['test']} for test") in " ".join(SHIPPED.split()) and f"- {len(shipped)} photographs" in SHIPPED


COPYRIGHT = """Format: x

Files: *
Copyright: 2014 Them
License: GPL-3+

Files: 16.04/a.jpg
 16.04/b_by_Her.jpg
Copyright: Her, 2018
License: CC-BY-4.0
Comment: https://example.org/a

License: CC-BY-4.0
 In full
"""


def debian_package(path: Path, files: dict[str, bytes]) -> Path:
    """A Debian package of these files, as ar and tar write it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    parts = {"debian-binary": b"2.0", "data.tar.xz": packed.getvalue()}
    path.write_bytes(b"!<arch>\n" + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
        for name, body in parts.items()))
    return path


def test_pictures_of_a_package_are_taken_by_the_licence_that_its_copyright_file_gives(tmp_path):
    folder = "./usr/share/backgrounds/"
    deb = debian_package(tmp_path / "lomiri-wallpapers-16.04_20.04.0-2_all.deb", {
        f"{folder}a.jpg": b"A", f"{folder}b_by_Her.jpg": b"B", f"{folder}theirs.jpg": b"C", f"{folder}list.xml": b"D",
        "./usr/share/doc/it/copyright": COPYRIGHT.encode()})
    found = [(file, raw, said["Copyright"], said["Comment"]) for file, raw, said in photographs.candidates(deb)]
    assert found == [(f"16.04/{name}", raw, "Her, 2018", "https://example.org/a")
                     for name, raw in (("a.jpg", b"A"), ("b_by_Her.jpg", b"B"))]


def test_the_files_of_a_resource_collection_are_found_by_their_path():
    """The format of Qt's rcc, version 1: folder "d" with "a.txt" as it is and "b.txt" compressed."""
    labels = ["d", "a.txt", "b.txt"]
    names = [struct.pack(">HI", len(text), 0) + text.encode("utf-16-be") for text in labels]
    at = [0, len(names[0]), len(names[0] + names[1])]
    packed = struct.pack(">I", 3) + zlib.compress(b"BBB")
    data = struct.pack(">I", 2) + b"AA" + struct.pack(">I", len(packed)) + packed
    tree = b"".join([struct.pack(">IHII", 0, 2, 1, 1), struct.pack(">IHII", at[0], 2, 2, 2),
                     struct.pack(">IHII", at[1], 0, 0, 0), struct.pack(">IHII", at[2], 1, 0, 6)])
    raw = b"qres" + struct.pack(">4I", 1, 20, 20 + len(tree), 20 + len(tree + data)) + tree + data + b"".join(names)
    assert dict(photographs.resources(raw)) == {"d/a.txt": b"AA", "d/b.txt": b"BBB"}


def test_a_crop_is_the_central_square_and_flat_or_small_pictures_give_none():
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)

    def stored(pixels):
        packed = io.BytesIO()
        Image.fromarray(pixels).save(packed, "PNG")
        return packed.getvalue()

    assert photographs.crop(stored(noise)).size == (256, 256)
    assert np.array_equal(photographs.crop(stored(noise[:210])), noise[:210, 145:355])
    assert photographs.crop(stored(noise[:199])) is None
    flat = noise.copy()
    flat[:, 100:240] = 90  # the crop is 100:400: 47 % of it
    assert photographs.crop(stored(flat)) is not None
    flat[:, 100:270] = 90  # 57 %
    assert photographs.crop(stored(flat)) is None


@pytest.mark.parametrize("file, name", [
    ("x/arcDeTriomphe.jpg", "arc_de_triomphe"), ("Wine_by_Jakkub_Mede.jpg", "wine"),
    ("Picture_0B_by_freespace.jpg", "picture_0b"), ("tea-gardens.jpg", "tea_gardens"),
])
def test_a_photograph_is_called_after_its_file(file, name):
    assert photographs.slug(file) == name and (FOLDER / f"{name}.jpg").is_file()
