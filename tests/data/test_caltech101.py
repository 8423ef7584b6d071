"""Caltech-101 from tiny files in torchvision's form: which picture is for what, its label, and its outline's mask."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from fixtures.dataset_files import caltech101, picture
from PIL import Image, ImageDraw
from scipy.io import loadmat, savemat
from torchvision.datasets import Caltech101

from fvit import load_images
from fvit.data.caltech101 import CLASSES, first, is_natural, of_split
from fvit.data.streams import open_source

pytestmark = pytest.mark.filterwarnings("error")
COLOURS = picture(0, 170, 200)
OUTLINE = [(60.0, 40.0), (150.5, 62.25), (120.0, 130.5), (81.75, 121.0)]


def numbered(name, split, n=1):
    """The first `n` pictures of a class that are of a split."""
    found = [k for k in range(1, 100) if of_split(f"{name}/image_{k:04d}") == split]
    return [(name, k) for k in found[:n]]


def one(tmp_path, split, *, pixels=COLOURS, outline=OUTLINE, name="panda"):
    """A data set of one picture of the split; its root."""
    key, = numbered(name, split)
    return caltech101(tmp_path, {key: pixels}, {} if outline is None else {key: outline})


def test_the_split_is_a_hash_of_the_photograph_whatever_else_is_there(tmp_path):
    names = [("panda", k) for k in range(1, 41)] + [("airplanes", k) for k in range(790, 801)]
    small = np.ascontiguousarray(COLOURS[:160, :160])
    root = caltech101(tmp_path, dict.fromkeys(names, small), {names[0]: [(10, 10), (90, 20), (50, 80)]})
    found = {split: open_source("caltech101", split, root=root) for split in ("train", "val", "test")}
    for split, source in found.items():
        for name in source.ids:
            key = json.dumps([0, "caltech101", name])
            place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
            assert split == ("train" if place < 0.5 else "val" if place < 0.58 else "test")
    assert sorted(name for source in found.values() for name in source.ids) == [
        f"{name}/image_{number:04d}" for name, number in sorted(names)]
    for name, number in names[::2]:
        (root / "101_ObjectCategories" / name / f"image_{number:04d}.jpg").unlink()
    for split, source in found.items():
        left = open_source("caltech101", split, root=root)
        assert left.ids == [name for name in source.ids if int(name[-4:]) % 2 == (name < "b")]
        assert all(CLASSES[label] == path.parent.name for path, label, _ in left.pictures)


def test_labels_are_torchvisions_whichever_classes_are_there(tmp_path):
    keys = [numbered(name, "test")[0] for name in ("yin_yang", "Faces", "accordion")]
    root = caltech101(tmp_path, dict.fromkeys(keys, COLOURS))
    data = load_images("caltech101", root=root)
    assert dict(zip([name.split("/")[0] for name in data.ids], data.y.tolist(), strict=True)) == {
        "yin_yang": 100, "Faces": 0, "accordion": 4}
    assert len(data.class_names) == 101 and list(data.class_names) == sorted(data.class_names)
    assert data.class_names[5] == "airplanes" and "BACKGROUND_Google" not in data.class_names
    assert data.mask is None and data.name == "caltech101"
    (root / "101_ObjectCategories" / "dogs").mkdir()
    with pytest.raises(ValueError, match=r"has a folder 'dogs', wanted the classes of caltech101; move it, or load"):
        load_images("caltech101", root=root)


def test_torchvision_reads_the_same_files(tmp_path):
    """It takes pictures to be numbered without gaps; its root is the folder above caltech101."""
    keys = [("airplanes", k) for k in range(1, 1 + numbered("airplanes", "test")[0][1])]
    caltech101(tmp_path, dict.fromkeys(keys, COLOURS), dict.fromkeys(keys, OUTLINE))
    image, (label, contour) = Caltech101(tmp_path, ["category", "annotation"])[len(keys) - 1]
    source = open_source("caltech101", root=tmp_path)
    assert source.ids[0] == f"airplanes/image_{keys[-1][1]:04d}" and label == 0
    assert np.array_equal(source.read(0).image, image) and (source.read(0).mask == 1).sum() > 4000
    assert contour == pytest.approx(np.array(OUTLINE).T - [[60], [40]])  # from the corner of its box


def test_pictures_of_one_photograph_are_of_one_split_and_one_group(tmp_path):
    assert first("Faces_easy", 12) == first("Faces", 12) == "Faces/image_0012"
    assert first("Leopards", 123) == first("Leopards", 23) == "Leopards/image_0023" != first("Leopards", 24)
    assert first("garfield", 34) == first("garfield", 27) == "garfield/image_0027" != first("garfield", 25)
    keys = numbered("Faces", "test") + [("Faces_easy", k) for _, k in numbered("Faces", "test")]
    source = open_source("caltech101", root=caltech101(tmp_path, dict.fromkeys(keys, COLOURS)))
    assert len(source.ids) == 2 and len(set(source.groups)) == 1
    shares = [of_split(f"panda/image_{k:04d}") for k in range(9000)]
    assert [shares.count(s) / 9000 for s in ("train", "val", "test")] == pytest.approx([0.5, 0.08, 0.42], abs=0.02)


def test_the_mask_is_the_polygon_of_the_picture_at_every_size(tmp_path):
    """The picture shows the outline filled, drawn by another program at 16 times the size."""
    large = Image.new("L", (200 * 16, 170 * 16))
    ImageDraw.Draw(large).polygon([(16 * x + 8, 16 * y + 8) for x, y in OUTLINE], fill=255)
    drawn = np.asarray(large.resize((200, 170), Image.Resampling.BOX))
    pixels = np.stack([drawn, 255 - drawn, drawn], 2)
    root = one(tmp_path, "train", pixels=pixels)
    whole = open_source("caltech101", "train", root=root).read(0)
    sure = (drawn < 30) | (drawn > 225)  # pixels of the edge are drawn in part
    assert sure.mean() > 0.98 and np.array_equal(whole.mask[sure], (drawn > 127)[sure]) and whole.mask.sum() > 4000
    for size in ((224, 224), (97, 301)):
        data = load_images("caltech101", "train_outlined", root=root, size=size)
        shown = data.x[0, 0] - data.x[0, 1]  # -1 outside, 1 inside
        sure = shown.abs() > 0.9
        assert data.mask.shape == (1, *size) and sure.float().mean() > 0.94
        assert ((data.mask[0] == 1) == (shown > 0))[sure].float().mean() > 0.9995
        assert ((data.mask[0] == 1) == (shown > 0)).float().mean() > 0.99


def test_only_the_classifier_learns_from_what_is_no_colour_photograph(tmp_path):
    def framed(value, share):
        pixels = COLOURS.copy()
        pixels[[0, -1]] = pixels[:, [0, -1]] = 128
        pixels[0, :round(share * 2 * (170 + 200 - 2))] = value
        return Image.fromarray(pixels)

    assert is_natural(Image.fromarray(COLOURS)) and is_natural(Image.fromarray(COLOURS[:160]))
    assert not is_natural(Image.fromarray(COLOURS[:159]))
    assert not is_natural(Image.fromarray(COLOURS[..., 0]))  # stored as grey
    grey = np.repeat(COLOURS[..., :1], 3, 2)
    assert not is_natural(Image.fromarray(grey))
    grey[..., 0] = grey[..., 0] // 2 + 64  # tinted
    assert is_natural(Image.fromarray(grey))
    for value, near in ((255, 246), (0, 9)):
        assert is_natural(framed(value, 0.24)) and not is_natural(framed(value, 0.26))
        assert not is_natural(framed(near, 0.26)) and is_natural(framed(abs(near - 20), 0.26))
    keys = {split: numbered("panda", split)[0] for split in ("train", "val", "test")}
    root = caltech101(tmp_path, dict.fromkeys(keys.values(), COLOURS[..., 0]))
    assert len(open_source("caltech101", "train", root=root).ids) == 1
    for split in ("train_natural", "val", "test"):
        with pytest.raises(FileNotFoundError, match=f"no picture of split '{split}' in .*101_ObjectCategories"):
            open_source("caltech101", split, root=root)


def test_a_picture_without_outline_has_no_labelled_pixel_and_is_not_outlined(tmp_path):
    keys = numbered("panda", "test", 2)
    root = caltech101(tmp_path, dict.fromkeys(keys, COLOURS), {keys[0]: OUTLINE})
    data = load_images("caltech101", root=root)
    with_outline = f"panda/image_{keys[0][1]:04d}"
    assert {name: sorted(mask.unique().tolist()) for name, mask in zip(data.ids, data.mask, strict=True)} == {
        with_outline: [0, 1], f"panda/image_{keys[1][1]:04d}": [-1]}
    assert load_images("caltech101", "outlined", root=root).ids == [with_outline]
    with pytest.raises(FileNotFoundError, match="no picture of split 'val_outlined'"):
        load_images("caltech101", "val_outlined", root=root)
    with pytest.raises(ValueError, match=r"unknown split of caltech101 'outline', known: .*did you mean 'outlined'"):
        load_images("caltech101", "outline", root=root)


def test_an_outline_that_is_none_costs_the_mask_and_not_the_picture(tmp_path):
    root = one(tmp_path, "test")
    path, = (root / "Annotations").rglob("*.mat")
    box, far = np.array([[41, 131, 61, 151]]), np.array([[900.0, 950, 920], [700, 750, 790]])
    for broken, why in ((b"MATLAB 5.0 MAT-file", "annotation_.*mat: "), ({"box_coord": box}, "wanted numbers, 4 and"),
                        ({"box_coord": box, "obj_contour": far}, "encloses no pixel of the picture of 200 x 170"),
                        ({"box_coord": box, "obj_contour": far * np.nan}, "it has box_coord"),
                        ({"box_coord": box, "obj_contour": far[:, :2]}, r"and obj_contour \(2, 2\), wanted"),
                        ({"box_coord": box[:, :3], "obj_contour": far}, r"it has box_coord \(1, 3\)")):
        if isinstance(broken, bytes):
            path.write_bytes(broken)
        else:
            savemat(path, broken)
        with pytest.warns(UserWarning, match="the mask of panda/.* lacks a part of caltech101: .*" + why):
            data = load_images("caltech101", root=root)
        assert (data.mask == -1).all() and list(data.reasons) == data.ids and not data.skipped


def test_what_is_absent_or_broken_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*101_ObjectCategories; unpack .*, or let torchvision"):
        open_source("caltech101", root=tmp_path)
    root = one(tmp_path, "test", outline=None)
    with pytest.raises(FileNotFoundError, match=r"no folder .*Annotations, which split 'outlined' is about; unpack"):
        open_source("caltech101", "outlined", root=root)
    path, = (root / "101_ObjectCategories" / "panda").iterdir()
    path.write_bytes(path.read_bytes()[:900])
    (path.parent / "._image_0001.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped panda/image_"), pytest.raises(OSError, match="none of the 1 images"):
        load_images("caltech101", root=root)


def test_the_real_folder():
    """Splits share no photograph; every class is learnt; outlines fill their boxes."""
    root = Path(os.environ.get("FVIT_DATA") or "", "caltech101")
    if not os.environ.get("FVIT_DATA") or not root.is_dir():
        pytest.skip("no $FVIT_DATA/caltech101: torchvision's folder of Caltech-101")
    found = {split: open_source("caltech101", split) for split in ("train", "val", "test", "outlined")}
    groups = {split: set(source.groups) for split, source in found.items()}
    assert not groups["train"] & (groups["val"] | groups["test"]) and not groups["val"] & groups["test"]
    assert set(found["outlined"].ids) <= set(found["test"].ids) and len(found["outlined"].ids) >= 300
    assert {label for _, label, _ in found["train"].pictures} == set(range(101))
    assert len({label for _, label, _ in found["test"].pictures}) > 90
    agree = [overlap_with_box(found["outlined"].read(i).mask, path) for i, (_, _, path) in
             enumerate(found["outlined"].pictures)]
    assert np.median(agree) > 0.9 and np.quantile(agree, 0.02) > 0.7


def overlap_with_box(mask, path):
    """Intersection over union of the rectangle round a mask and the authors' own box."""
    inside, (top, bottom, left, right) = np.argwhere(mask == 1), loadmat(path)["box_coord"].astype(int).ravel()
    (first_row, first), (last_row, last) = inside.min(0), inside.max(0) + 1
    rectangle, box = np.zeros((2, *mask.shape), bool)
    rectangle[first_row:last_row, first:last] = box[top - 1:bottom, left - 1:right] = True
    return (rectangle & box).sum() / (rectangle | box).sum()
