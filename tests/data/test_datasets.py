"""Every data set from tiny files of its real format: pixels, masks, labels and ids against arrays known beforehand."""

import io
import os
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import dataset_files
from fixtures.dataset_files import class_folders, gtsegs, picture, resized
from fixtures.hostile import Hostile
from PIL import Image

from fvit import load_images, stream_images
from fvit.data.folders import CIFAR10, imagenet_classes
from fvit.data.pictures import Picture, as_tensors, read_rgb
from fvit.data.streams import choose, open_source

pytestmark = [pytest.mark.filterwarnings("error"),
              pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]  # pycocotools' own
TABBY = 281  # n02123045 among the 1,000 classes


def by_id(data):
    """id -> (pixels (h, w, 3) uint8, class, mask or None)."""
    pixels = (data.x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    masks = [None] * len(data) if data.mask is None else data.mask.numpy()
    return dict(zip(data.ids, zip(pixels, data.y.tolist(), masks, strict=True), strict=True))


def corrupt(path):
    path.write_bytes(path.read_bytes()[:-len(path.read_bytes()) // 3])


# ImageNet-Segmentation -----------------------------------------------------------------------------------------------
def test_imagenet_segmentation(tmp_path):
    pixels, outlines = gtsegs(tmp_path / "gtsegs_ijcv.mat")
    source = open_source("imagenet-seg", root=tmp_path)
    assert source.ids == list(dataset_files.IMAGE_IDS)
    for i, (image, outline) in enumerate(zip(pixels, outlines, strict=True)):
        read = source.read(i)
        assert np.array_equal(read.image, image) and np.array_equal(read.mask, outline) and read.mask.dtype == np.int8
    data = load_images("imagenet-seg", root=tmp_path / "gtsegs_ijcv.mat", size=(5, 9))
    assert data.x.shape == (3, 3, 5, 9) and data.x.dtype == torch.float32 and data.mask.dtype == torch.int8
    found = by_id(data)
    for name, image, outline, label in zip(source.ids, pixels, outlines, (TABBY, -1, TABBY), strict=True):
        assert np.array_equal(found[name][0], resized(image, (5, 9)))
        assert np.array_equal(found[name][2], resized(outline, (5, 9), nearest=True)) and found[name][1] == label
    assert data.class_names[TABBY] == "tabby" and data.name == "imagenet-seg" and data.groups == data.ids
    assert load_images("imagenet-seg", root=tmp_path, n=1).x.shape == (1, 3, 224, 224)


def test_an_outline_of_another_size_or_none_is_skipped(tmp_path):
    gtsegs(tmp_path / "gtsegs_ijcv.mat", cells=False)
    with pytest.warns(UserWarning, match="skipped n02123045_99 of imagenet-seg: ValueError.*one annotation; 1 so far"):
        data = load_images("imagenet-seg", root=tmp_path)
    assert data.skipped == ["n02123045_99"] and sorted(data.ids) == sorted(dataset_files.IMAGE_IDS[:2])


def test_without_names_or_with_repeated_ones_places_tell_images_apart(tmp_path):
    gtsegs(tmp_path / "a.mat", ids=None)
    gtsegs(tmp_path / "b.mat", ids=("n02123045_1", "n02123045_1", "x"))
    assert open_source("imagenet-seg", root=tmp_path / "a.mat").ids == ["gtsegs#0", "gtsegs#1", "gtsegs#2"]
    assert open_source("imagenet-seg", root=tmp_path / "b.mat").ids == ["n02123045_1#0", "n02123045_1#1", "x"]


def test_broken_matlab_files_and_an_absent_library_are_named(tmp_path, monkeypatch):
    path = tmp_path / "gtsegs_ijcv.mat"
    with pytest.raises(FileNotFoundError, match=r"no file .*gtsegs_ijcv\.mat; download"):
        load_images("imagenet-seg", root=tmp_path)
    gtsegs(path)
    corrupt(path)
    with pytest.raises(OSError, match=r"gtsegs_ijcv\.mat is truncated or no HDF5.*download .* again"):
        load_images("imagenet-seg", root=tmp_path)
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: PCWIN".ljust(600))
    with pytest.raises(OSError, match=r"no HDF5 file, which MATLAB v7\.3 writes"):
        load_images("imagenet-seg", root=tmp_path)
    import h5py

    with h5py.File(path, "w") as file:
        file.create_group("value").create_dataset("img", (3, 1), dtype=h5py.ref_dtype)
    with pytest.raises(OSError, match="has no value/gt, so it is not ImageNet-Segmentation"):
        load_images("imagenet-seg", root=tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py is needed .* pip install 'fvit\[paper\]'"):
        load_images("imagenet-seg", root=tmp_path)


# COCO ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("split", ["val2017", "val2014"])
def test_coco(tmp_path, split, capfd):
    wanted = dataset_files.coco(tmp_path, split)
    found = by_id(load_images("coco", root=tmp_path, size=(6, 8)))
    assert found.keys() == wanted.keys()
    for name, (pixels, mask, label) in wanted.items():
        assert np.array_equal(found[name][0], pixels) and np.array_equal(found[name][2], mask), name
        assert found[name][1] == label
    smaller = by_id(load_images("coco", root=tmp_path, size=(4, 5)))
    for name, (pixels, mask, _) in wanted.items():  # by nearest pixel: no mixture of 255, which -1 is, and 0
        assert np.array_equal(smaller[name][0], resized(pixels, (4, 5)))
        assert np.array_equal(smaller[name][2], resized(mask.view(np.uint8), (4, 5), nearest=True).view(np.int8))
    assert capfd.readouterr().out == ""  # pycocotools reports to stdout, which notebooks compare
    assert load_images("coco", root=tmp_path).class_names == ("person", "cat", "toothbrush")  # by id, without gaps


def test_coco_with_some_objects_only(tmp_path):
    dataset_files.coco(tmp_path)
    found = by_id(load_images("coco", root=tmp_path, size=(6, 8), objects=["toothbrush"]))
    assert (found["000000000007"][2] >= 0).all() and found["000000000007"][2].sum() == 12  # no crowd of this kind
    assert (found["000000000009"][2] == 0).all() and found["000000000009"][1] == -1
    with pytest.raises(ValueError, match="unknown class in objects 'cats', known: person, cat, toothbrush; did you"):
        load_images("coco", root=tmp_path, objects=["cats"])
    with pytest.raises(ValueError, match=r"objects='cat' is one text, wanted a list"):
        load_images("coco", root=tmp_path, objects="cat")


def test_broken_coco_is_named(tmp_path):
    dataset_files.coco(tmp_path)
    index = tmp_path / "annotations" / "instances_val2017.json"
    text = index.read_text()
    with pytest.raises(FileNotFoundError, match=r"no file .*instances_train2017\.json; unpack"):
        load_images("coco", "train", root=tmp_path)
    with pytest.raises(ValueError, match="unknown split with annotations 'test', known: train, val"):
        load_images("coco", "test", root=tmp_path)
    for broken in (text[:-20], '{"images": []}', text.replace('"height"', '"tall"')):
        index.write_text(broken)
        with pytest.raises(OSError, match=r"instances_val2017\.json is truncated or no index .*unpack"):
            load_images("coco", root=tmp_path)
    index.write_text(text.replace('"height": 6', '"height": 7'))
    with pytest.warns(UserWarning), pytest.raises(OSError, match=r"none of the 3 .* its mask is \(8, 7\) pixels, the"):
        load_images("coco", root=tmp_path)
    index.write_text(text)
    (tmp_path / "val2017").rename(tmp_path / "val")
    with pytest.raises(FileNotFoundError, match=r"no folder .*val2017, whose images .* lists; unpack val2017\.zip"):
        load_images("coco", root=tmp_path)


# Cityscapes ----------------------------------------------------------------------------------------------------------
def test_cityscapes(tmp_path):
    frames = dataset_files.cityscapes(tmp_path)
    data = load_images("cityscapes", root=tmp_path, size=(6, 8))
    found = by_id(data)
    assert found.keys() == frames.keys()
    assert dict(zip(data.ids, data.groups, strict=True)) == {name: city for name, (_, _, city) in frames.items()}
    for n, (name, (pixels, labels, _)) in enumerate(frames.items()):
        mask = np.isin(labels, (24, 26)).astype(np.int8)
        mask[5] = -1  # out of roi, caravan, polegroup: what the benchmark leaves out
        assert np.array_equal(found[name][0], pixels) and np.array_equal(found[name][2], mask)
        assert data.class_names[found[name][1]] == ("car", "person", "person")[n]  # of 3 and 3 pixels the lower id
    only = by_id(load_images("cityscapes", root=tmp_path, size=(6, 8), objects=["road", "caravan"]))
    assert [(mask == 1).sum() for _, _, mask in (only[name] for name in frames)] == [
        48 - 8 - 3 - 2 - 8, 48 - 8 - 3 - 3 - 8 + 8, 48 - 8 - 3 - 4 - 8]


def test_broken_cityscapes_is_named(tmp_path):
    dataset_files.cityscapes(tmp_path)
    with pytest.raises(ValueError, match="unknown split with annotations 'test'"):
        load_images("cityscapes", "test", root=tmp_path)
    (tmp_path / "gtFine" / "val" / "lindau" / "lindau_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.warns(UserWarning, match="skipped lindau_000000_000019 of cityscapes: FileNotFoundError"):
        assert len(load_images("cityscapes", root=tmp_path)) == 2
    for hidden in ("frankfurt/._frankfurt_000000_000294_leftImg8bit.png", "__MACOSX/x_leftImg8bit.png", ".DS_Store"):
        path = tmp_path / "leftImg8bit" / "val" / hidden
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    assert len(open_source("cityscapes", "validation", root=tmp_path).ids) == 3
    (tmp_path / "gtFine").rename(tmp_path / "fine")
    with pytest.raises(FileNotFoundError, match=r"no folder .*gtFine/val; unpack gtFine_trainvaltest\.zip in"):
        load_images("cityscapes", root=tmp_path)
    (tmp_path / "fine").rename(tmp_path / "gtFine")
    for path in (tmp_path / "leftImg8bit" / "val").glob("*/*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*val/CITY/\*_leftImg8bit\.png; unpack leftImg8bit_trainvaltest"):
        load_images("cityscapes", root=tmp_path)


# CIFAR-10 ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cifar_batches(tmp_path, protocol):
    batches = dataset_files.cifar_batches(tmp_path, protocol=protocol)
    for split, names in (("test", ["test_batch"]), ("train", [f"data_batch_{i}" for i in range(1, 6)])):
        found = by_id(load_images("cifar10", split, root=tmp_path))
        wanted = {f"{batch}/{name}": (image, label) for batch in names
                  for image, label, name in zip(*batches[batch], strict=True)}
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[i][0], wanted[i][0]) and found[i][1] == wanted[i][1] for i in wanted)
    assert load_images("cifar10", root=tmp_path / "cifar-10-batches-py").class_names == CIFAR10


def test_a_cifar_batch_in_the_opcodes_of_python_2(tmp_path):
    """As the official files are: text of Python 2 for keys, names and the array's bytes, numpy by its old name."""
    pixels = bytes(range(256)) * 12
    text = (b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
            b"J\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00" + pixels + b"tb"
            b"U\x06labels](K\x03eU\tfilenames](U\x07cat.pngeu.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's old name
        trusted = pickle.loads(text, encoding="latin1")  # what torchvision does: our bytes are what we mean them to be
    assert trusted["data"].tobytes() == pixels and trusted["labels"] == [3]
    (tmp_path / "test_batch").write_bytes(text)
    data = load_images("cifar10", root=tmp_path)
    assert data.ids == ["test_batch/cat.png"] and data.y.tolist() == [3]
    assert np.array_equal(by_id(data)["test_batch/cat.png"][0].transpose(2, 0, 1).ravel(), list(pixels))


def test_a_batch_that_would_run_code_is_refused_and_runs_none(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Hostile(tmp_path / "made")}, protocol=2))
    with pytest.raises(OSError, match=r"test_batch is no batch of CIFAR-10 \(ValueError: it names \w+\.open.*not run"):
        load_images("cifar10", root=tmp_path)
    assert not (tmp_path / "made").exists()


def test_broken_cifar_batches_are_named(tmp_path):
    dataset_files.cifar_batches(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    (folder / "data_batch_4").unlink()
    with pytest.raises(FileNotFoundError, match=r"no data_batch_4 in .*unpack"):
        load_images("cifar10", "train", root=tmp_path)
    corrupt(folder / "test_batch")
    with pytest.raises(OSError, match=r"test_batch is no batch of CIFAR-10 .*; unpack cifar-10-python\.tar\.gz again"):
        load_images("cifar10", root=tmp_path)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10],
                                                      "filenames": ["a"]}, protocol=4))
    with pytest.raises(OSError, match=r"labels beyond 0\.\.9"):
        load_images("cifar10", root=tmp_path)


def test_cifar_as_class_folders(tmp_path):
    frogs = class_folders(tmp_path / "test", ["frog", "airplane"], size=(32, 32))
    class_folders(tmp_path / "train", ["frog"], size=(32, 32))
    data = load_images("cifar10", root=tmp_path)
    assert data.x.shape == (4, 3, 32, 32) and data.mask is None  # 32, not 224: CIFAR's own size
    assert {name: label for name, (_, label, _) in by_id(data).items()} == {
        "test/frog/0000.png": 6, "test/frog/0001.png": 6, "test/airplane/0000.png": 0, "test/airplane/0001.png": 0}
    assert all(np.array_equal(by_id(data)[f"test/{name}"][0], pixels) for name, pixels in frogs.items())
    class_folders(tmp_path / "test", ["frogs"])
    with pytest.raises(ValueError, match="has a folder 'frogs', wanted classes of cifar10, such as"):
        load_images("cifar10", root=tmp_path)


# class folders -------------------------------------------------------------------------------------------------------
def test_any_folder_of_class_folders(tmp_path):
    wanted = class_folders(tmp_path, ["zebra", "ant", ".ipynb_checkpoints"])
    (tmp_path / "zebra" / "notes.txt").write_text("no image")
    for split in (None, "test"):
        data = load_images(tmp_path, split, size=(6, 8))
        assert data.class_names == ("ant", "zebra") and data.name == tmp_path.name and len(data) == 4
        assert all(np.array_equal(pixels, wanted[name]) and data.class_names[label] == name.split("/")[0]
                   for name, (pixels, label, _) in by_id(data).items())
    with pytest.raises(ValueError, match=r"unknown split of .*, which has none and is all 'test', 'train', known"):
        load_images(tmp_path, "train")


def test_splits_are_folders_and_the_default_is_for_evaluation(tmp_path):
    for split in ("train", "val"):
        class_folders(tmp_path / split, ["ant"])
    assert {i.split("/")[0] for i in load_images(str(tmp_path)).ids} == {"val"}
    assert {i.split("/")[0] for i in load_images(tmp_path, "train").ids} == {"train"}
    with pytest.raises(ValueError, match=r"unknown split of .*: 'test', known: train, val"):
        load_images(tmp_path, "test")
    class_folders(tmp_path / "test", ["ant"])
    assert {i.split("/")[0] for i in load_images(tmp_path).ids} == {"test"}


def test_imagenet_counts_within_its_thousand_classes(tmp_path):
    class_folders(tmp_path / "val", ["n02123045", "n01440764"], n=1)
    data = load_images("imagenet", root=tmp_path)
    assert {i: label for i, (_, label, _) in by_id(data).items()} == {
        "val/n02123045/0000.png": TABBY, "val/n01440764/0000.png": 0}
    assert len(data.class_names) == 1000 and data.class_names[0] == "tench" and data.x.shape[-2:] == (224, 224)
    wnids, _ = imagenet_classes()
    assert list(wnids) == sorted(wnids)  # the order of the class folders is that of the classes


@pytest.mark.parametrize("n", [4])
def test_the_real_jpegs(n):
    folder = Path(os.environ.get("FVIT_DATA") or "$FVIT_DATA") / "imagenet256"
    if not folder.is_dir():
        pytest.skip(reason="no $FVIT_DATA/imagenet256: a thousand ImageNet JPEGs as WNID/*.JPEG")
    data, named = load_images(folder, n=n), load_images("imagenet", n=n, root=folder)
    assert torch.equal(data.x, named.x) and data.ids == named.ids and torch.equal(data.y, named.y)
    wnids, names = imagenet_classes()
    for image_id, (pixels, label, _) in by_id(named).items():
        with Image.open(folder / image_id) as file:
            assert np.array_equal(pixels, resized(np.asarray(file), (224, 224)))
        assert label == wnids[image_id.split("/")[0]]
    assert len(open_source(folder).ids) == 1000 and len(names) == 1000


# files of every kind -------------------------------------------------------------------------------------------------
def test_grey_cmyk_alpha_palette_and_orientation(tmp_path):
    pixels = picture(3)
    grey, alpha = pixels[..., 0], np.where(pixels[..., :1] > 128, 255, 0).astype(np.uint8)
    files = {name: tmp_path / name for name in ("grey.png", "cmyk.tif", "alpha.png", "palette.png", "turned.png")}
    Image.fromarray(grey).save(files["grey.png"])
    Image.fromarray(255 - np.concatenate([pixels, 255 + 0 * alpha], 2), "CMYK").save(files["cmyk.tif"])  # K = 0
    Image.fromarray(np.concatenate([pixels, alpha], 2)).save(files["alpha.png"])
    palette = Image.fromarray(grey % 4, "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(files["palette.png"], transparency=bytes([0, 128, 255, 7]))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    Image.fromarray(pixels).save(files["turned.png"], exif=exif)
    read = {name: np.asarray(read_rgb(path)) for name, path in files.items()}
    assert np.array_equal(read["grey.png"], np.repeat(grey[..., None], 3, 2))
    assert np.array_equal(read["cmyk.tif"], pixels)
    assert np.array_equal(read["alpha.png"], pixels)  # dropped, not blended
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]])
    assert np.array_equal(read["palette.png"], colours[grey % 4])
    assert np.array_equal(read["turned.png"], pixels)  # not applied: masks refer to pixels as stored


def test_jpegs_of_a_grey_and_a_cmyk_image_and_sixteen_bits(tmp_path):
    """Flat colours survive JPEG to within rounding; CMYK is stored inverted, as Adobe does."""
    Image.new("L", (16, 16), 77).save(tmp_path / "grey.jpg")
    Image.new("CMYK", (16, 16), (55, 155, 205, 0)).save(tmp_path / "cmyk.jpg")
    for name, colour in (("grey.jpg", (77, 77, 77)), ("cmyk.jpg", (200, 100, 50))):
        assert np.abs(np.asarray(read_rgb(tmp_path / name)).astype(int) - colour).max() <= 3, name
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="more than 8 bits a channel; save it with 8"):  # not clipped
        read_rgb(tmp_path / "deep.png")


# broken images, streams, workers -------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path):
    """Eleven images of two classes; one JPEG is cut off, and one is not an image at all."""
    class_folders(tmp_path, ["ant", "bee"], n=4)
    Image.fromarray(picture(5, 64, 64)).save(tmp_path / "ant" / "cut.jpg")
    corrupt(tmp_path / "ant" / "cut.jpg")
    (tmp_path / "bee" / "text.jpg").write_text("not an image")
    Image.fromarray(picture(6, 64, 64)).save(tmp_path / "bee" / "whole.jpg")
    return tmp_path


BROKEN = ["ant/cut.jpg", "bee/text.jpg"]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_reported_once_and_skipped(folder, workers, capfd):
    stream = stream_images(folder, batch_size=3, workers=workers, size=8)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        batches = list(stream)
        again = list(stream)  # nothing is reported a second time
    assert sorted(str(w.message).split()[1] for w in said) == BROKEN == sorted(stream.skipped)
    assert "2 so far" in str(said[-1].message) and "of " + folder.name in str(said[-1].message)
    assert sorted(i for batch in batches for i in batch.skipped) == BROKEN
    assert len(stream.ids) == 11 and set(stream.ids) - set(stream.skipped) == {i for b in batches for i in b.ids}
    assert all(torch.equal(a.x, b.x) and a.ids == b.ids for a, b in zip(batches, again, strict=True))
    assert "Traceback" not in capfd.readouterr().err


def test_a_stream_is_the_whole_whatever_batches_and_workers_and_leaves_the_callers_random_numbers_alone(folder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match="skipped"):
        whole = load_images(folder, n=11, size=8)
        parts = {(size, workers): list(stream_images(folder, batch_size=size, workers=workers, size=8))
                 for size, workers in ((1, 0), (4, 2), (50, 1))}
    assert sorted(whole.skipped) == BROKEN and len(whole) == 9
    for batches in parts.values():
        assert torch.equal(torch.cat([b.x for b in batches]), whole.x) and whole.x.dtype == torch.float32
        assert torch.equal(torch.cat([b.y for b in batches]), whole.y)
        assert [i for b in batches for i in b.ids] == whole.ids
    assert len(stream_images(folder, batch_size=4)) == 3 and torch.equal(torch.get_rng_state(), before)


def test_masks_travel_through_workers(tmp_path):
    dataset_files.coco(tmp_path)
    whole = load_images("coco", root=tmp_path, size=5)
    batches = list(stream_images("coco", root=tmp_path, size=5, workers=1, batch_size=2))
    assert torch.equal(torch.cat([b.mask for b in batches]), whole.mask) and whole.mask.min() == -1


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "a.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped ant/a.jpg"), pytest.raises(
            OSError, match=r"none of the 1 images of .* could be read, first ant/a\.jpg: UnidentifiedImageError"):
        load_images(tmp_path)


# subsets -------------------------------------------------------------------------------------------------------------
def test_subsets_are_nested_and_do_not_depend_on_the_order_on_disk():
    ids = [f"n{i:03d}/x.jpg" for i in range(200)]
    other = list(np.random.default_rng(0).permutation(ids))
    chosen = [ids[i] for i in choose(ids, 50)]
    assert chosen == [other[i] for i in choose(other, 50)] and len(set(chosen)) == 50
    assert chosen[:10] == [ids[i] for i in choose(ids, 10)]
    blocks = [i for start in range(0, 200, 20) for i in choose(ids, 20, start=start)]
    assert blocks == choose(ids, None) and sorted(blocks) == list(range(200))
    assert choose(ids, 50, seed=1) != choose(ids, 50, seed=0)
    fewer = [i for i in ids if i != chosen[3]]  # one that is gone leaves the rest in their order
    assert [fewer[i] for i in choose(fewer, 49)] == chosen[:3] + chosen[4:]


def test_start_and_n_of_loaders(tmp_path):
    class_folders(tmp_path, ["ant", "bee"], n=3)
    whole = load_images(tmp_path, size=8)
    assert load_images(tmp_path, size=8, n=2, start=3).ids == whole.ids[3:5]
    assert load_images(tmp_path, size=8, start=4).ids == whole.ids[4:]
    assert load_images(tmp_path, size=8, seed=1).ids != whole.ids
    class_folders(tmp_path, ["cat"], n=80)
    assert len(load_images(tmp_path, size=8)) == 64 and len(list(stream_images(tmp_path, batch_size=1, size=8))) == 86


# requests that cannot be met -----------------------------------------------------------------------------------------
def test_roots(tmp_path, monkeypatch):
    monkeypatch.delenv("FVIT_DATA", raising=False)
    class_folders(tmp_path / "imagenet" / "val", ["n01440764"])
    for name, how in (("imagenet", "image-net.org"), ("imagenet-seg", "calvin-vision"), ("coco", "cocodataset.org"),
                      ("cityscapes", "cityscapes-dataset.com"), ("cifar10", "cs.toronto.edu")):
        with pytest.raises(FileNotFoundError, match=rf"where is {name}\? Give root=, or set FVIT_DATA .*: .*{how}"):
            load_images(name)
        with pytest.raises(FileNotFoundError, match=f"no folder .*absent with {name}. To get it: .*{how}"):
            load_images(name, root=tmp_path / "absent")
    monkeypatch.setenv("FVIT_DATA", str(tmp_path))
    assert len(load_images("imagenet")) == 2
    with pytest.raises(FileNotFoundError, match=r"no folder .*coco with coco"):
        load_images("coco")


@pytest.mark.parametrize(("arguments", "error", "words"), [
    (dict(source="imagent"), ValueError, "unknown image source 'imagent', known: scenes, imagenet.*mean 'imagenet'"),
    (dict(source="some/where"), FileNotFoundError, "no folder some/where; wanted one of class folders"),
    (dict(n=0), ValueError, "n=0, wanted an integer >= 1"), (dict(start=-1), ValueError, "start=-1"),
    (dict(n=3), ValueError, "n=3, start=0: there are 2 images; want start"),
    (dict(start=2), ValueError, "start=2: there are 2 images"), (dict(size=0), ValueError, "size=0, wanted pixels"),
    (dict(root="elsewhere"), ValueError, "root='elsewhere' with the folder .* sets that have a name"),
    (dict(objects=["car"]), ValueError, "only coco and cityscapes have such classes"),
    (dict(source="scenes", root="here"), ValueError, "root= is for data sets on disk; scenes are drawn"),
    (dict(source="scenes", size=224), ValueError, "size= is for data sets"),
    (dict(batch_size=0), ValueError, "batch_size=0"), (dict(workers=-1), ValueError, "workers=-1"),
    (dict(source="scenes", batch_size=1), ValueError, "scenes are drawn, not read; take them in portions"),
    (dict(source="."), FileNotFoundError, r"no images in class folders below .*; wanted .*/CLASS/\*\.jpg"),
])
def test_bad_requests_say_what_is_known(tmp_path, monkeypatch, arguments, error, words):
    class_folders(tmp_path / "set", ["ant"])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(error, match=words):
        (stream_images if arguments.keys() & {"batch_size", "workers"} else load_images)(
            **({"source": tmp_path / "set"} | arguments))


def test_eight_bit_images_come_out_as_torchvision_has_them():
    """x is uint8 / 255 in float32, to the bit, after PIL's own resize: Resize((h, w)) then ToTensor()."""
    from torchvision import transforms

    x, _, _ = as_tensors(Picture(Image.fromarray(picture(1, 40, 30)), 0), (14, 21))
    published = transforms.Compose([transforms.Resize((14, 21)), transforms.ToTensor()])
    assert torch.equal(x.float() / 255, published(Image.fromarray(picture(1, 40, 30))))
    buffer = io.BytesIO()
    Image.fromarray(picture(1)).save(buffer, "PNG")
    assert np.array_equal(np.asarray(read_rgb(buffer)), picture(1))
