"""COCO as annotation tools export it: what cannot be drawn costs one outline, with a reason, never an image."""

import json
import re

import numpy as np
import pytest
from fixtures.dataset_files import picture
from PIL import Image

from fvit import load_images, stream_images
from fvit.data.coco import _decoded, draw

pytestmark = [pytest.mark.filterwarnings("error"),
              pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]  # pycocotools' own
SQUARE = [4, 4, 12, 4, 12, 12, 4, 12]
PIXELS = np.zeros((16, 16), bool)
PIXELS[4:12, 4:12] = True


def export(root, annotations, images=((1, "a.png"), (2, "b.png")), categories=((1, "cat"),)):
    """A val2017 of 16x16 images; an annotation is (image id, segmentation) and more of its fields."""
    for _, name in images:
        path = root / "val2017" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(len(name), 16, 16)).save(path)
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps({
        "images": [{"id": i, "file_name": name, "width": 16, "height": 16} for i, name in images],
        "annotations": [{"id": n, "image_id": a[0], "category_id": 1, "segmentation": a[1], **dict(*a[2:])}
                        for n, a in enumerate(annotations, 7)],
        "categories": [{"id": i, "name": name} for i, name in categories]}))
    return root


def load(root, **options):
    return load_images("coco", root=root, size=16, **options)


def ours(said) -> list[str]:
    return [str(w.message) for w in said if w.category is UserWarning]


def runs(mask, text=False):
    """Runs of a mask, column by column, by a plain loop; or as COCO's text, by its own library."""
    from pycocotools import mask as rle

    if text:
        counts = rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        return {"size": list(mask.shape), "counts": counts}
    counts, last = [0], False
    for pixel in mask.T.ravel():
        counts += [0] if pixel != last else []
        counts[-1] += 1
        last = pixel
    return {"size": list(mask.shape), "counts": counts}


# what cannot be drawn ------------------------------------------------------------------------------------------------
BAD = {  # segmentation, beside a square of the same object: why it is left out
    "two points": ([1, 1, 2, 2], "a polygon of 4 numbers, wanted x and y of three points or more"),
    "a point": ([1, 1], "a polygon of 2 numbers"), "nothing": ([], "a polygon of 0 numbers"),
    "half a point": ([1, 1, 9, 1, 9, 9, 1], "a polygon of 7 numbers"),
    "pairs": ([[1, 1], [2, 2], [1, 2]], "a polygon of"),
    "NaN": ([1, 1, 9, 1, float("nan"), 9], "far outside of the image, or NaN"),
    "far": ([1, 1, 9, 1, 10**9, 9], "far outside of the image, or NaN"),
    "words": (list("abcdef"), "could not convert"),
    "null": ([None] * 6, "far outside of the image, or NaN"),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_polygon_costs_itself_alone(tmp_path, bad, before):
    polygon, why = BAD[bad]
    export(tmp_path, [(1, [polygon, SQUARE] if before else [SQUARE, polygon]), (2, [SQUARE])])
    with pytest.warns(UserWarning, match=f"the mask of a lacks a part of coco: annotation 7: .*{why}"):
        data = load(tmp_path)
    assert sorted(data.ids) == ["a", "b"] and data.skipped == [] and list(data.reasons) == ["a"]
    assert (data.mask.numpy() == PIXELS).all() and data.y.tolist() == [0, 0]


@pytest.mark.parametrize(("segmentation", "why"), [
    ([[1, 1, 2, 2]], "a polygon of 4"), ([1, 1, 2, 2], "a polygon of 4"), ([], "no outline"), (None, "no outline"),
    ("text", "no outline"), ({}, "no outline"), ({"counts": [256]}, "KeyError: 'size'"),
    ({"size": [16, 16], "counts": [9, 9]}, r"runs of 18 pixels and size \[16, 16\], wanted \[16, 16\]"),
    ({"size": [8, 32], "counts": [0, 256]}, r"and size \[8, 32\], wanted \[16, 16\]"),
    ({"size": [16, 16], "counts": [300, -44]}, "runs of 256"), ({"size": [16, 16], "counts": [255.5, 0.5]}, "runs of"),
    ({"size": [16, 16], "counts": "zzzz"}, "none of COCO's"),
    ({"size": [16, 16], "counts": "T4ooo"}, "cut off"), ({"size": [16, 16], "counts": ""}, "runs of 0"),
    ({"size": [16, 16], "counts": 7}, "runs of 7 pixels"),
])
def test_an_object_that_cannot_be_drawn_costs_itself_alone(tmp_path, segmentation, why):
    export(tmp_path, [(1, segmentation), (1, [SQUARE]), (2, segmentation)])
    with pytest.warns(UserWarning) as said:
        data = load(tmp_path)
    assert all("lacks a part of coco: annotation" in text for text in ours(said)) and len(ours(said)) == 2
    assert all(re.search(why, reason) for reason in data.reasons.values()) and len(data.reasons) == 2
    found = dict(zip(data.ids, zip(data.mask.numpy(), data.y.tolist(), strict=True), strict=True))
    assert (found["a"][0] == PIXELS).all() and found["a"][1] == 0
    assert (found["b"][0] == 0).all() and found["b"][1] == -1 and data.skipped == []


def test_reasons_come_through_workers_and_are_told_once(tmp_path):
    export(tmp_path, [(1, [[1, 1, 2, 2]]), (1, []), (2, [SQUARE])])
    (tmp_path / "val2017" / "b.png").write_bytes(b"no image")
    stream = stream_images("coco", root=tmp_path, size=16, batch_size=1, workers=1)
    with pytest.warns(UserWarning) as said:
        batches = [batch for _ in range(2) for batch in stream]
    assert len(ours(said)) == 2 and [batch.ids for batch in batches] == [["a"], ["a"]] and stream.skipped == ["b"]
    assert re.fullmatch("annotation 7: a polygon of 4 .*, and 1 more", stream.reasons["a"])
    assert stream.reasons["b"].startswith("UnidentifiedImageError") and batches[0].reasons.keys() == {"a"}


# what can be drawn ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("segmentation", [
    [SQUARE], SQUARE, [[4, 4, 8, 4, 8, 12, 4, 12], [8, 4, 12, 4, 12, 12, 8, 12]], runs(PIXELS), runs(PIXELS, text=True),
    [[4.0, 4.0, 12.0, 4.0, 12.0, 12.0, 4.0, 12.0]]])
def test_polygons_and_runs_are_one_mask(segmentation):
    pixels, bad = draw(segmentation, 16, 16)
    assert np.array_equal(pixels, PIXELS) and bad == []


def test_runs_as_text_are_those_of_the_library():
    g = np.random.default_rng(0)
    for shape, share in (((7, 5), 0.5), ((40, 60), 0.02), ((300, 200), 0.5), ((64, 64), 0.999), ((3, 3), 0.0)):
        mask = g.random(shape) < share
        assert np.array_equal(draw(runs(mask, text=True), *shape)[0], mask)
        assert _decoded(runs(mask, text=True)["counts"].encode()) == runs(mask)["counts"]


def test_crowds_are_ignored_categories_have_gaps_and_strange_ones_are_named(tmp_path):
    export(tmp_path, [(1, [SQUARE], {"category_id": 90}), (1, runs(~PIXELS), {"iscrowd": 1}),
                      (2, [SQUARE], {"category_id": 5})], categories=((90, "brush"), (1, "cat")))
    with pytest.warns(UserWarning, match="mask of b lacks a part of coco: annotation 9: it is of no category"):
        data = load(tmp_path)
    found = dict(zip(data.ids, zip(data.mask.numpy(), data.y.tolist(), strict=True), strict=True))
    assert np.array_equal(found["a"][0], np.where(PIXELS, 1, -1)) and found["a"][1] == 1
    assert (found["b"][0] == 0).all() and found["b"][1] == -1 and data.class_names == ("cat", "brush")


# ids -----------------------------------------------------------------------------------------------------------------
def test_ids_are_unique_over_folders_and_suffixes(tmp_path):
    names = ("day/0001.png", "night/0001.png", "win\\0001.png", "0001.png", "c.png", "c.bmp")
    data = load(export(tmp_path, [(1, [SQUARE])], images=tuple(enumerate(names, 1))))
    assert sorted(data.ids) == ["0001", "c#4", "c#5", "day/0001", "night/0001", "win/0001"]
    assert data.groups == data.ids


@pytest.mark.parametrize(("change", "why"), [
    ({"images": ((1, "a.png"), (1, "b.png"))}, "two of one image id"),
    ({"categories": ((1, "cat"), (1, "dog"))}, "two of one category id"),
    ({"images": (("1", "a.png"), ("2", "b.png"))}, r"no annotation is of one of its images: image_id is 1.*\['1'\]")])
def test_an_index_whose_objects_belong_to_nobody_is_refused(tmp_path, change, why):
    export(tmp_path, [(1, [SQUARE])], **change)
    with pytest.raises(OSError, match=rf"instances_val2017\.json is truncated or no index .*{why}"):
        load(tmp_path)


def test_names_that_no_table_can_hold_are_refused(tmp_path):
    root = export(tmp_path, [(1, [SQUARE])])
    index = root / "annotations" / "instances_val2017.json"
    index.write_text(index.read_text().replace("b.png", "b\\udce9.png"))
    with pytest.raises(ValueError, match="is not UTF-8, so no table can hold it; rename it"):
        load(root)
