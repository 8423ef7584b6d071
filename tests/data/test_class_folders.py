"""Class folders as people have them: which are splits, which are classes, and the number of each."""

import os

import numpy as np
import pytest
from fixtures.dataset_files import class_folders, picture
from PIL import Image

from fvit import load_images
from fvit.data.class_folders import canonical, read_class_folders
from fvit.data.folders import CIFAR10
from fvit.data.streams import open_source

pytestmark = pytest.mark.filterwarnings("error")


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(len(name))).save(root / name)


def labels(root, split=None, name=None) -> dict[str, int]:
    """Id -> y."""
    source = open_source(name or root, split, root if name else None)
    return dict(zip(source.ids, (source.read(i).label for i in range(len(source.ids))), strict=True))


# labels and splits ---------------------------------------------------------------------------------------------------
def test_labels_are_those_of_the_training_split_whichever_is_read(tmp_path):
    put(tmp_path, *(f"train/{name}/a.png" for name in ("ant", "bee", "cow", "dog")), "val/dog/b.png", "test/cow/c.png")
    (tmp_path / "val" / "ant").mkdir()  # an empty class changes nothing
    assert list(labels(tmp_path, "train").values()) == [0, 1, 2, 3]
    assert labels(tmp_path, "val") == {"val/dog/b.png": 3} and labels(tmp_path) == {"test/cow/c.png": 2}
    assert load_images(tmp_path, size=4).class_names == ("ant", "bee", "cow", "dog")
    assert labels(tmp_path / "test") == {"cow/c.png": 2}  # a split loaded by its own path is the same split


def test_without_a_training_split_all_splits_count_together(tmp_path):
    put(tmp_path, "val/dog/b.png", "val/ant/b.png", "test/cow/c.png")
    assert labels(tmp_path, "val") == {"val/ant/b.png": 0, "val/dog/b.png": 2}
    assert labels(tmp_path) == {"test/cow/c.png": 1}


def test_empty_class_folders_count(tmp_path):
    put(tmp_path, "b/a.png")
    (tmp_path / "a").mkdir()
    assert labels(tmp_path) == {"b/a.png": 1}


def test_folders_that_are_no_training_classes_are_named(tmp_path):
    put(tmp_path, "train/ant/a.png", "test/ant/a.png", *(f"test/{name}/a.png" for name in ("Ant", "zebu")))
    with pytest.raises(ValueError, match=r"test has the folders 'Ant', 'zebu', wanted those among the training classes "
                                         r"in .*train, such as 'ant'; rename or move it"):
        load_images(tmp_path)
    assert labels(tmp_path, "train") == {"train/ant/a.png": 0}  # what is not read is not looked at


@pytest.mark.parametrize(("folder", "asked"), [("validation", "val"), ("valid", "validation"), ("Val", "valid"),
                                               ("testing", "test"), ("TEST", "test"), ("training", "train")])
def test_a_split_is_known_by_every_spelling(tmp_path, folder, asked):
    put(tmp_path, f"{folder}/ant/a.png", "other/ant/a.png", "other/bee/a.png")
    assert set(labels(tmp_path, asked)) == {f"{folder}/ant/a.png"} == set(labels(tmp_path, folder))
    if canonical(folder) != "train":
        assert set(labels(tmp_path)) == {f"{folder}/ant/a.png"}


def test_a_split_must_be_told_where_nothing_says_which(tmp_path):
    put(tmp_path / "a", "train/ant/a.png")
    put(tmp_path / "b", "photo/ant/a.png", "sketch/ant/a.png", "sketch/bee/a.png")
    (tmp_path / "b" / "notes").mkdir()
    put(tmp_path / "c", "valid/ant/a.png", "validation/bee/a.png")
    put(tmp_path / "d", "train/ant/a.png", "test/a.png")
    for name, first in (("a", "train"), ("b", "photo")):
        with pytest.raises(ValueError, match=f"has the splits {first}.*none of them test or val .*split='{first}'"):
            load_images(tmp_path / name)
    put(tmp_path / "e", "pets/train/cat/a.png", "pets/test/cat/b.png")  # one folder too many
    with pytest.raises(ValueError, match=r"pets has its images in the folders 'test', 'train', .*; load .*pets by its"):
        load_images(tmp_path / "e", "pets")
    assert labels(tmp_path / "b", "sketch") == {"sketch/ant/a.png": 0, "sketch/bee/a.png": 1}
    with pytest.raises(ValueError, match=r"unknown split of .*: 'val', known: valid, validation"):
        load_images(tmp_path / "c", "val")
    with pytest.raises(ValueError, match=r"test has no class folders, wanted .*test/CLASS/\*\.jpg; .* have: train"):
        load_images(tmp_path / "d", "test")


def test_a_class_may_hold_folders_and_be_called_like_a_split(tmp_path):
    put(tmp_path / "a", "cat/a.png", "dog/c.png", "dog/more/deeper/d.png", "fox/young/e.png")
    put(tmp_path / "b", "bus/a.png", "train/b.png")  # one on rails
    assert labels(tmp_path / "a") == {"cat/a.png": 0, "dog/c.png": 1, "dog/more/deeper/d.png": 1, "fox/young/e.png": 2}
    assert labels(tmp_path / "b") == {"bus/a.png": 0, "train/b.png": 1}


# Tiny ImageNet as it is unpacked -------------------------------------------------------------------------------------
@pytest.fixture
def tiny(tmp_path):
    put(tmp_path, "train/n02/images/n02_0.JPEG", "train/n01/images/n01_0.JPEG", "train/n03/images/n03_0.JPEG",
        "val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn03\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    (tmp_path / "train" / "n01" / "n01_boxes.txt").write_text("n01_0.JPEG\t0\t0\t9\t9\n")
    return tmp_path


def test_tiny_imagenet_has_its_labels_from_folders_and_from_the_index(tiny):
    assert labels(tiny, "train") == {f"train/n0{n}/images/n0{n}_0.JPEG": n - 1 for n in (1, 2, 3)}
    want = {"val/images/val_0.JPEG": 2, "val/images/val_1.JPEG": 0}
    assert labels(tiny) == labels(tiny, "val") == want  # its test split has no labels: the default passes it by
    assert labels(tiny / "train") == {f"n0{n}/images/n0{n}_0.JPEG": n - 1 for n in (1, 2, 3)}
    assert labels(tiny / "val") == {name.removeprefix("val/"): y for name, y in want.items()}


def test_images_without_classes_are_refused_and_not_class_0(tiny):
    with pytest.raises(ValueError, match=r"test has its images in a folder 'images', no name of a class; put them "
                                         r"into class folders, .*test/CLASS/\*\.jpg, or name .*/test_annotations\.txt"):
        load_images(tiny, "test")
    index = tiny / "val" / "val_annotations.txt"
    index.write_text("val_0.JPEG\tn03\n")
    with pytest.raises(ValueError, match=r"val_annotations\.txt names no class of val_1\.JPEG, nor of 0 others"):
        load_images(tiny)
    index.write_text("val_0.JPEG n03\n")
    with pytest.raises(ValueError, match=r"has the line 'val_0\.JPEG n03', wanted image, tab, class"):
        load_images(tiny)
    index.unlink()
    with pytest.raises(ValueError, match="has its images in a folder 'images'"):
        load_images(tiny, "val")


@pytest.mark.parametrize("names", [["images/a.png"], ["images/a.png", "masks/a.png"], ["Unlabelled/a.png"],
                                   ["train/a.png", "test/b.png"], ["val/images/a.png", "val/labels/a.png"]])
def test_folders_that_sort_nothing_are_no_classes(tmp_path, names):
    put(tmp_path, *names)
    with pytest.raises(ValueError, match=r"has its images in .*, no name of a class; put them into class folders"):
        load_images(tmp_path)


# numbered folders ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("names", [[str(n) for n in range(12)], ["15", "2"], ["007", "012"], ["0", "999"]])
def test_numbers_are_what_they_say(tmp_path, names):
    class_folders(tmp_path, names, n=1)
    assert labels(tmp_path) == {f"{name}/0000.png": int(name) for name in names}
    data = load_images(tmp_path, size=4)
    assert len(data.class_names) == 1 + max(map(int, names)) and int(data.y.max()) < len(data.class_names)
    assert [data.class_names[y] for y in data.y] == [i.split("/")[0] for i in data.ids]


def test_numbers_do_not_depend_on_the_split_and_codes_are_counted(tmp_path):
    put(tmp_path / "a", *(f"train/{n}/a.png" for n in range(12)), "test/11/b.png")
    assert labels(tmp_path / "a") == {"test/11/b.png": 11}
    put(tmp_path / "b", "10000001/a.png", "9000000/a.png")  # numbers of no classifier: in their order
    assert labels(tmp_path / "b") == {"9000000/a.png": 0, "10000001/a.png": 1}


def test_one_number_twice_is_refused(tmp_path):
    class_folders(tmp_path, ["01", "1", "2"])
    with pytest.raises(ValueError, match="has the class folders '01' and '1', which are one number; rename one"):
        load_images(tmp_path)


def test_numbers_under_a_name_that_fixes_the_classes(tmp_path):
    class_folders(tmp_path / "v2", ["0", "7", "999"], n=1)  # as ImageNetV2 is unpacked
    class_folders(tmp_path / "c", ["0", "9"], n=1)
    class_folders(tmp_path / "more", ["1000"], n=1)
    assert labels(tmp_path / "v2", name="imagenet") == {f"{n}/0000.png": n for n in (0, 7, 999)}
    assert open_source("imagenet", root=tmp_path / "v2").class_names[7] == "cock"
    assert labels(tmp_path / "c", name="cifar10") == {"0/0000.png": 0, "9/0000.png": 9}
    assert open_source("cifar10", root=tmp_path / "c").class_names == CIFAR10
    with pytest.raises(ValueError, match=r"has a folder '1000', wanted classes of imagenet, .* by its path instead"):
        load_images("imagenet", root=tmp_path / "more")
    assert labels(tmp_path / "more") == {"1000/0000.png": 1000}  # which is what the refusal advises


# hidden copies, names ------------------------------------------------------------------------------------------------
def test_hidden_copies_are_no_images_at_any_depth(tmp_path):
    good = ["test/cat/a.png", "test/dog/c.png", "test/dog/more/d.png"]
    put(tmp_path, *good)
    for bad in ("test/cat/.ipynb_checkpoints/a-checkpoint.png", "test/.ipynb_checkpoints/x.png", ".git/train/cat/x.png",
                "__MACOSX/test/cat/x.png", "test/__MACOSX/x.png", "test/dog/more/__MACOSX/x.png", "test/cat/._a.png",
                "test/cat/.DS_Store", "test/cat/Thumbs.db", "test/dog/@eaDir/c.png", "test/.hidden.png", ".b.png"):
        (tmp_path / bad).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / bad).write_bytes(b"no image")
    assert labels(tmp_path) == dict(zip(good, (0, 1, 1), strict=True))
    assert load_images(tmp_path, size=4).class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["caf\udce9/a.png", "cat/caf\udce9.png"])
def test_names_that_no_table_can_hold_are_refused_at_once(tmp_path, name):
    try:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(ValueError, match=r"the name '.*caf\\udce9.*' in .* is not UTF-8.*rename it, e\.g\. by convmv"):
        load_images(tmp_path)


def test_names_with_accents_and_spaces_and_a_tilde(tmp_path, monkeypatch):
    put(tmp_path / "my set~1", "caf\u00e9 au lait/a b.png", "\u8336/c.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for root in (tmp_path / "my set~1", "~/my set~1"):
        assert labels(root) == {"caf\u00e9 au lait/a b.png": 0, "\u8336/c.png": 1}
    with pytest.raises(FileNotFoundError, match="no folder ~nobody-here/x"):
        load_images("~nobody-here/x")


def test_links_lead_to_images(tmp_path):
    put(tmp_path / "elsewhere", "a.png")
    (tmp_path / "set").mkdir()
    try:
        os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "cat", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets nobody make links")
    files, class_names = read_class_folders(tmp_path / "set", None)
    assert [(path.name, y) for path, y in files] == [("a.png", 0)] and class_names == ("cat",)
    assert np.asarray(load_images(tmp_path / "set", size=4).y).tolist() == [0]


def test_a_link_that_leads_back_and_another_kind_of_tree_are_refused_at_once(tmp_path):
    put(tmp_path, "cat/a.png", "dog/b.png")
    try:
        (tmp_path / "dog" / "all").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system lets nobody make links")
    with pytest.raises(ValueError, match=r"more than 3 folders deep in \S*dog, wanted class folders"):
        read_class_folders(tmp_path, None)
