"""Training on photographs, in a form of seconds, on tiny data sets in their real form."""

import numpy as np
import pytest
import torch
from fixtures import dataset_files
from fixtures.resuming import assert_it_resumes

import fvit
from fvit import cli
from fvit.base import paths
from fvit.data.caltech101 import of_split
from fvit.experiments import defences
from fvit.models.cnn import load_cnn
from fvit.training import on_photographs
from fvit.training.loop import train
from fvit.training.on_photographs import CNNTask, DenoiserTask, Photographs, pictures

SMALL = dict(batch=4, every=2, n_val=2, precision="float32")


@pytest.fixture(scope="module", autouse=True)
def smaller():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_photographs, "SIZE", 32)
        patch.setattr(on_photographs, "CROP", 16)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Of panda: five colour photographs and a grey one to train on, two to choose by, two for test; and a sample."""
    folder, keys = tmp_path_factory.mktemp("data"), {}
    for split, n in (("train", 6), ("val", 2), ("test", 2)):
        found = [k for k in range(1, 100) if of_split(f"panda/image_{k:04d}") == split][:n]
        keys |= {("panda", k): dataset_files.picture(k, 170, 200) for k in found}
        if split == "train":
            keys["panda", found[0]] = keys["panda", found[0]][..., 0]
    dataset_files.caltech101(folder, keys)
    dataset_files.class_folders(folder / "imagenet256", ["n01440764", "n01443537"], 2, (40, 50))
    return folder


def test_it_is_trained_on_colour_photographs_of_the_training_share_and_the_sample(root, monkeypatch):
    x = pictures(str(root))
    assert x.shape == (9, 3, 32, 32) and x.dtype == torch.uint8
    monkeypatch.setenv("FVIT_DATA", str(root))
    wanted = torch.cat([fvit.load_images("caltech101", "train_natural", size=32).x,
                        fvit.load_images(root / "imagenet256", size=32).x])
    assert torch.equal(pictures(None), x) and torch.equal(x, (wanted * 255).round().byte())
    assert DenoiserTask(0).validation(2).shape == (2, 3, 32, 32)
    assert torch.equal(CNNTask(0).validation(2), fvit.load_images("caltech101", "val", 2, size=32).x)


def test_an_epoch_shows_a_crop_of_each_and_a_batch_depends_on_its_step_only(root):
    data, again = Photographs(1, 3, root), Photographs(1, 3, root)
    batches = [data(step)[0] for step in range(6)]
    for step in (4, 0, 5):
        assert torch.equal(again(step)[0], batches[step])
    assert not torch.equal(Photographs(2, 3, root)(0)[0], batches[0])
    windows = data.x.unfold(2, 16, 1).unfold(3, 16, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2) / 255  # (9, 289, ...)
    found, mirrored = [], []
    for crop in torch.cat(batches[:3]):
        hits = [(windows == view).flatten(2).all(2).any(1) for view in (crop, crop.flip(2))]
        [place] = (hits[0] | hits[1]).nonzero().flatten().tolist()
        found.append(place)
        mirrored.append(bool(hits[1][place]))
    assert sorted(found) == list(range(9)) and 0 < sum(mirrored) < 9


@pytest.mark.parametrize("task", [DenoiserTask, CNNTask])
def test_a_resumed_run_ends_with_the_bits_of_an_undisturbed_one(task, root, tmp_path):
    assert_it_resumes(task, tmp_path, 4, root=root, **SMALL)


def test_both_start_from_what_the_scenes_taught_and_are_loaded_by_their_name(root, tmp_path, monkeypatch):
    scenes = fvit.load_denoiser("scenes"), load_cnn("scenes")
    tasks = DenoiserTask(0, root), CNNTask(0, root)
    nets = scenes[0].network.unet, scenes[1]
    for task, net in zip(tasks, nets, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(task.model.parameters(), net.parameters(), strict=True))
    own = paths.shipped
    monkeypatch.setattr(paths, "shipped", lambda *name: tmp_path / name[1] if name[0] == "photographs" else own(*name))
    for what, load in (("denoiser", fvit.load_denoiser), ("cnn", load_cnn)):
        train({"denoiser": DenoiserTask, "cnn": CNNTask}[what], tmp_path / what, steps=2, root=root, **SMALL)
        x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        assert load("photographs")(x, 0.25).shape == x.shape
    vit = torch.nn.Linear(1, 1)
    vit.name = "caltech101"  # whose defences clean by what was trained on photographs
    assert torch.equal(defences._own_cnn(vit).layers[0].weight, load_cnn(tmp_path / "cnn").layers[0].weight)


def test_what_lacks_is_said(root, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("FVIT_DATA", raising=False)
    small = ["--data", "photographs", "--out", str(tmp_path / "out"), "--steps", "2", "--batch", "4", "--every", "2",
             "--n-val", "2", "--device", "cpu", "--precision", "float32"]

    def said(*more):
        return cli.main(["train", "denoiser", *small, *more]), capsys.readouterr().err

    code, error = said()
    assert code == 1 and "where is caltech101? Give root=, or set FVIT_DATA" in error
    dataset_files.caltech101(tmp_path, {("panda", 1): np.zeros((170, 200, 3), np.uint8)})
    code, error = said("--root", str(tmp_path))
    assert code == 1 and f"no folder {tmp_path / 'imagenet256'} with a sample of ImageNet. To get it: " in error
    with pytest.raises(ValueError, match="--batch 10: there are 9 photographs to train on"):
        Photographs(0, 10, root)
    code = cli.main(["train", "teacher", *small])
    assert code == 2 and "unknown --data 'photographs', known: scenes, cifar10" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert said("--root", str(root))[0] == 0 and (tmp_path / "out" / "unet" / "config.json").is_file()
