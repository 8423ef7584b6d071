"""The photographs of the scenes: enough of them, disjoint by split, whole, and damaged ones refused."""

import io
import zlib
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from fvit.data import photographs
from fvit.data.photographs import FOLDER, is_grey, names, photograph, table

ALL = [row["name"] for row in table()]


def test_there_are_enough_and_each_belongs_to_one_split():
    assert len(names("test")) >= 40 and len(names("val")) >= 15 and len(names("train")) >= 50
    assert sorted(names("test") + names("val") + names("train")) == sorted(set(ALL)) and len(set(ALL)) == len(ALL)


def test_every_file_of_the_folder_is_in_the_table_and_all_are_read():
    shipped = {row["file"] for row in table() if row["file"].startswith("fvit/")}
    assert shipped == {f"fvit/data/photographs/{path.name}" for path in FOLDER.glob("*.jpg")}
    assert {photograph(name).mode for name in ALL} == {"RGB"}
    assert all(200 <= min(photograph(name).size) <= max(photograph(name).size) <= 256
               for name in ALL if (FOLDER / f"{name}.jpg").is_file())
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jpg")) < 2.5e6


def test_no_two_show_the_same_picture():
    """Correlation of 8x8 luminance: copies and near copies have more than .99, the closest of these pairs less."""
    thumbs = {name: np.asarray(photograph(name).convert("L").resize((8, 8), Image.Resampling.BOX), float).ravel()
              for name in ALL}
    assert np.corrcoef(thumbs["moon"], thumbs["moon"] + np.random.default_rng(0).normal(0, 1, 64))[0, 1] > 0.99
    assert max(np.corrcoef(thumbs[a], thumbs[b])[0, 1] for a, b in combinations(ALL, 2)) < 0.99


def test_a_damaged_table_is_refused(tmp_path, monkeypatch):
    text = photographs.TABLE.read_text(encoding="utf-8")
    monkeypatch.setattr(photographs, "TABLE", tmp_path / "photographs.csv")
    photographs.TABLE.write_bytes(text.replace("\n", "\r\n").encode())  # as a checkout on Windows may write it
    assert table.__wrapped__() == table()
    photographs.TABLE.write_text(text.replace("chair,test,", "chair,train,"), encoding="utf-8")
    with pytest.raises(OSError, match=r"photographs\.csv is damaged, or not the table .*; reinstall fvit"):
        table.__wrapped__()


def test_grey_ones_are_told_from_coloured_ones():
    assert is_grey("camera") and is_grey("moon") and not is_grey("coffee")


def saved(colour) -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(packed, "PNG")
    return packed.getvalue()


@pytest.mark.parametrize("package, mend", [("skimage", "reinstall scikit-image and scikit-learn from the lock"),
                                           ("fvit", "reinstall fvit")])
def test_a_damaged_photograph_is_refused(tmp_path, monkeypatch, package, mend):
    path, whole = tmp_path / "data" / "it.png", saved("red")
    path.parent.mkdir()
    monkeypatch.setattr(photographs, "files", {package: tmp_path}.get)
    monkeypatch.setattr(photographs, "table", lambda: [
        {"name": "it", "file": f"{package}/data/it.png", "crc32": f"{zlib.crc32(whole):08x}"}])
    read = photograph.__wrapped__  # past the cache
    with pytest.raises(FileNotFoundError, match=f"photograph 'it' is not at .*it.png; {mend}"):
        read("it")
    path.write_bytes(whole)
    assert (np.asarray(read("it")) == (255, 0, 0)).all()
    for other in (whole[:-1] + b"x", saved("blue")):
        path.write_bytes(other)
        with pytest.raises(OSError, match=rf"it\.png is damaged, or not the picture that the scenes .*; {mend}"):
            read("it")
