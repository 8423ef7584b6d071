"""Own pictures with mask images: every usual encoding gives one mask, and what nobody can tell is refused in a line."""

import re

import numpy as np
import pytest
import torch
from fixtures.dataset_files import picture
from PIL import Image

from fvit import cli, load_images
from fvit.data.mask_files import MaskFiles
from fvit.data.streams import open_source
from fvit.notebooks import plan
from fvit.records import sources

pytestmark = pytest.mark.filterwarnings("error")
TRUTH = np.zeros((6, 8), np.int8)
TRUTH[1:4, 2:6], TRUTH[0] = 1, -1
EMPTY = np.zeros((6, 8), np.int8)
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), *[(90, 90, 9)] * 252, (224, 224, 192)]


def own(root, masks, names=None, suffix=".png", pictures=None):
    """root/images/a.jpg, b.jpg, ... and root/masks/a.png, ... of these mask images; the two folders."""
    names = names or [chr(ord("a") + n) for n in range(len(masks))]
    for n, (name, mask) in enumerate(zip(names, masks, strict=True)):
        for folder in ("images", "masks"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(n)).save(root / "images" / f"{name}.jpg")
        mask.save(root / "masks" / f"{name}{suffix}")
    return root / "images", root / "masks"


def grey(mask, there, void):
    """A mask image of greys from 1, 0, -1."""
    return Image.fromarray(np.select([mask == 1, mask == -1], [there, void], 0).astype(np.uint8))


def palette(mask, colours=VOC, there=2, void=255):
    image = grey(mask, there, void)
    image.putpalette(sum(colours, ()))
    return image


CERTAIN = np.abs(TRUTH)  # without a void: row 0 is an object
ENCODINGS = {
    "0/1": ([grey(CERTAIN, 1, 0), grey(EMPTY, 1, 0)], CERTAIN), "0/255": ([grey(CERTAIN, 255, 0)] * 2, CERTAIN),
    "one bit": ([Image.fromarray(CERTAIN == 1)], CERTAIN),
    "0/255 RGB": ([grey(CERTAIN, 255, 0).convert("RGB")], CERTAIN),
    "0/255 RGBA": ([grey(CERTAIN, 255, 0).convert("RGBA")], CERTAIN),
    "0/1/255": ([grey(EMPTY, 1, 255), grey(TRUTH, 1, 255)], TRUTH),
    "void alone in one mask": ([grey(TRUTH, 1, 255), grey(np.minimum(TRUTH, 0), 1, 255)], TRUTH),
    "0/128/255": ([grey(TRUTH, 255, 128)], TRUTH), "palette": ([palette(TRUTH), palette(EMPTY)], TRUTH),
    "palette of greys": ([palette(CERTAIN, [(255,) * 3, (0,) * 3], 1, 1)], 1 - CERTAIN)}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_usual_encoding_gives_the_same_mask(tmp_path, encoding):
    masks, truth = ENCODINGS[encoding]
    images, folder = own(tmp_path, masks)
    data = load_images(images, masks=folder, size=(6, 8))
    found = dict(zip(data.ids, data.mask.numpy(), strict=True))
    assert np.array_equal(found["b.jpg" if encoding == "0/1/255" else "a.jpg"], truth)
    assert data.mask.dtype == torch.int8
    if encoding == "void alone in one mask":  # of itself, this one would read as an object
        assert np.array_equal(found["b.jpg"], np.minimum(TRUTH, 0))


def test_a_void_of_ones_own(tmp_path):
    images, masks = own(tmp_path, [grey(TRUTH, 1, 2)])
    with pytest.raises(ValueError, match=r"the masks have the values \[0, 1, 2\], a\.png among them; wanted 0 and 255"):
        load_images(images, masks=masks)
    assert np.array_equal(load_images(images, masks=masks, void=2, size=(6, 8)).mask[0], TRUTH)
    images, masks = own(tmp_path / "b", [palette(TRUTH, void=9)])
    assert np.array_equal(load_images(images, masks=masks, void=9, size=(6, 8)).mask[0], TRUTH)
    for void in (256, -1, 1.5, "255"):
        with pytest.raises(ValueError, match=f"void={void!r}, wanted the value that is left out of masks, 0 to 255"):
            load_images(images, masks=masks, void=void)


def test_masks_are_found_by_path_and_stem_and_classes_are_those_of_the_folders(tmp_path):
    names = ["test/cat/1", "test/dog/1", "train/cat/1", "train/dog/2", "train/emu/x.y"]
    truths = [np.roll(CERTAIN, n, 1) for n in range(5)]
    images, masks = own(tmp_path, [grey(t, 255, 0) for t in truths], names, ".bmp")
    (masks / "._1.png").write_bytes(b"")
    data = load_images(images, "test", masks=masks, size=(6, 8))
    assert dict(zip(data.ids, data.y.tolist(), strict=True)) == {"test/cat/1.jpg": 0, "test/dog/1.jpg": 1}
    assert data.class_names == ("cat", "dog", "emu")
    for name, mask in zip(data.ids, data.mask, strict=True):
        assert np.array_equal(mask, truths[names.index(name[:-4])])
    train = load_images(images, "train", masks=masks, size=(6, 8))
    assert np.array_equal(train.mask[train.ids.index("train/emu/x.y.jpg")], truths[4])
    flat, masks = own(tmp_path / "flat", [grey(CERTAIN, 1, 0)] * 2, ["1", "below/2"])
    data = load_images(flat, masks=masks)
    assert sorted(data.ids) == ["1.jpg", "below/2.jpg"] and data.y.tolist() == [-1, -1] and data.class_names == ()
    assert data.name == "images" and open_source(flat, masks=masks).groups == ["1.jpg", "below/2.jpg"]


def refused(images, masks, **given):
    """The one line of the error; the planner says it too, before a kernel."""
    with pytest.raises((ValueError, FileNotFoundError)) as found:
        load_images(images, masks=masks, **given)
    names = sources.chosen("paper", "scenes", "scenes", {"source": str(images), "masks": str(masks), **given})
    with pytest.raises(type(found.value), match=re.escape(str(found.value))):
        sources.check(names)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_wrong_pairs_are_refused_in_one_line(tmp_path):
    images, masks = own(tmp_path, [grey(CERTAIN, 255, 0)] * 3)
    assert "no folder" in refused(images, tmp_path / "nowhere") and "lie in each other" in refused(images, images)
    assert "lie in each other" in refused(tmp_path, masks)
    (masks / "b.png").rename(masks / "bb.png")
    said = refused(images, masks)
    assert re.search(r"no mask for .*b\.jpg, wanted .*masks.b\.png or the like; 1 of 3 pictures have none", said)
    grey(CERTAIN, 255, 0).save(masks / "b.png")
    said = refused(images, masks)
    assert re.search(r"bb\.png is a mask of no picture in .*images; .*masks has 1 such; move them", said)
    (masks / "bb.png").rename(masks / "b.bmp")
    assert re.search(r"b\.bmp and .*b\.png have one stem", refused(images, masks))
    (masks / "b.bmp").unlink()
    grey(CERTAIN, 255, 0).resize((16, 12)).save(masks / "c.png")
    assert re.search(r"c\.png is 16 x 12 pixels and .*c\.jpg 8 x 6$", refused(images, masks))
    (images / "back").symlink_to(images)
    assert "folders deep in" in refused(images, masks) and "a link leads back" in refused(images, masks)


@pytest.mark.parametrize("mask, why", [
    (Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)), "soft edges, as of JPEG, are made hard by"),
    (Image.fromarray(picture(0)), "has colours and no palette"), (palette(TRUTH, VOC[1:]), r"entry 0 is \(128, 0, 0\)"),
    (Image.fromarray(CERTAIN.astype(np.uint16)), "has mode I;16"), (grey(CERTAIN, 128, 0), r"the values \[0, 128\]"),
    (Image.fromarray(np.dstack([picture(0), 255 * TRUTH.astype(bool)]).astype(np.uint8)), "is transparent in places")])
def test_values_that_nobody_can_tell_are_refused(tmp_path, mask, why):
    assert re.search(why, refused(*own(tmp_path, [mask])))


def test_two_encodings_in_one_folder_are_refused(tmp_path):
    said = refused(*own(tmp_path, [grey(CERTAIN, 1, 0), grey(CERTAIN, 255, 0)]))
    assert "some masks are of 0 and 1 and others of 0 and 255: say void=255, or save all alike" in said
    said = refused(*own(tmp_path / "b", [grey(CERTAIN, 1, 0), palette(TRUTH)]))
    assert re.search(r"a\.png is grey and .*b\.png has a palette of colours; save all alike", said)


@pytest.mark.parametrize("turned, size, why", [
    (3, (8, 6), "has the EXIF orientation 3, so that nobody can tell whether its mask is turned too; save it upright"),
    (6, (6, 8), r"is 6 x 8 pixels and .* 8 x 6; its EXIF orientation 6 turns it, save it upright"), (6, (8, 6), None)])
def test_a_turned_photograph_is_refused_unless_its_mask_is_of_the_stored_size(tmp_path, turned, size, why):
    images, masks = own(tmp_path, [grey(CERTAIN, 255, 0).resize(size)])
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(picture(0)).save(images / "a.jpg", exif=exif)
    if why is None:
        assert np.array_equal(MaskFiles(images, masks).read(images / "a.jpg"), CERTAIN)
    else:
        assert re.search(why, refused(images, masks))


def test_masks_belong_to_a_folder(tmp_path):
    for source in ("cifar10", "imagenet-seg"):
        with pytest.raises(ValueError, match=f"with {source}; masks= is for a folder of your own pictures"):
            load_images(source, masks=tmp_path, root=tmp_path)
    with pytest.raises(ValueError, match="void=3 without masks="):
        load_images(tmp_path, void=3)
    with pytest.raises(ValueError, match="masks= is for data sets on disk; scenes are drawn"):
        load_images("scenes", masks=tmp_path)


def test_the_command_takes_masks_beside_data(tmp_path, monkeypatch, capsys):
    own(tmp_path, [grey(CERTAIN, 255, 0)] * 2)
    monkeypatch.chdir(tmp_path)
    given = {"data": "images", "masks": "masks", "vit": "scenes", "den": "scenes"}
    (_, values), = plan.plan(["09"], "paper", given)
    wanted = {"source": str(tmp_path / "images"), "masks": str(tmp_path / "masks")}
    assert sources.parsed("data", values["data"]) == wanted
    (_, same), = plan.plan(["09"], "paper", given | {"data": "{'source': './images', 'split': 'test'}"})
    assert sources.parsed("data", same["data"])["split"] == "test"
    with pytest.raises(ValueError, match="-p masks=masks: wanted once, beside the pictures: -p data=FOLDER"):
        plan.plan(["09"], "paper", {"masks": "masks"})
    (tmp_path / "masks" / "a.png").unlink()
    assert cli.main(["run", "09", "--profile", "paper", *(f"-p{name}={value}" for name, value in given.items())]) == 1
    assert capsys.readouterr().err.startswith("fvit: no mask for ")
