"""Training on CIFAR-10, in a form of seconds on class folders that are written here."""

import numpy as np
import pytest
import torch
from fixtures import dataset_files
from fixtures.resuming import assert_it_resumes

import fvit
from fvit import cli
from fvit.base import paths
from fvit.data.folders import CIFAR10
from fvit.models.cnn import SIZES, PlainCNN, load_cnn
from fvit.training.loop import train
from fvit.training.on_cifar10 import SHIFT, Cifar10, CNNTask, DenoiserTask, TeacherTask, ViTTask, moved, vit_tokens
from fvit.training.vit import new_vit

SMALL = dict(batch=8, every=2, n_val=4, precision="float32")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """40 images to train on, of which 8 are held out."""
    folder = tmp_path_factory.mktemp("cifar10")
    dataset_files.class_folders(folder / "train", CIFAR10, 4, (32, 32))
    return folder


@pytest.fixture
def weights(root, tmp_path, monkeypatch):
    """A package without weights but for CIFAR-10's teacher."""
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "fvit" / "weights")
    train(TeacherTask, paths.shipped("cifar10", "teacher"), steps=2, root=root, **SMALL)
    return paths.WEIGHTS


@pytest.mark.parametrize("task", [TeacherTask, DenoiserTask])
def test_a_resumed_run_ends_with_the_bits_of_an_undisturbed_one(task, root, tmp_path):
    assert_it_resumes(task, tmp_path, 4, root=root, **SMALL)


def test_a_run_that_is_shortened_in_time_ends_with_the_bits_of_one_that_was_planned_short(root, tmp_path):
    """While both hold the learning rate."""
    train(TeacherTask, tmp_path / "short", steps=4, root=root, **SMALL)
    train(TeacherTask, tmp_path / "long", steps=400, stop_at=2, root=root, **SMALL)
    train(TeacherTask, tmp_path / "long", steps=4, root=root, **SMALL)
    for name in ("model.safetensors", "training_log.csv"):
        assert (tmp_path / "short" / name).read_bytes() == (tmp_path / "long" / name).read_bytes()


def test_so_does_that_of_the_vit(weights, root, tmp_path):
    """Through half of the patches and all of them, and over two epochs."""
    assert_it_resumes(ViTTask, tmp_path, 6, root=root, **SMALL)


def test_what_is_written_is_loaded_by_its_name(weights, root):
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FileNotFoundError, match=r"git checkout -- fvit/weights/cifar10-vit.*--data cifar10`"):
        fvit.load_vit("cifar10")
    train(ViTTask, paths.shipped("cifar10", "vit"), steps=2, root=root, **SMALL)
    vit = fvit.load_vit("cifar10")
    assert (vit.name, vit.grid, vit.num_classes) == ("cifar10", (8, 8), 10)
    everything = torch.arange(64).flip(0).expand(2, -1)  # in whatever order
    in_training = vit.backbone.head(vit_tokens(vit.backbone, x, everything)[:, 0])
    torch.testing.assert_close(vit(x), in_training, atol=1e-4, rtol=1e-4)


def test_patches_that_are_left_out_are_not_seen():
    """Whatever they show, the class token is the same to the bit; what is kept changes it."""
    vit, x = new_vit(ViTTask.config).eval(), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    upper = torch.arange(32)[None]
    below, above = x.clone(), x.clone()
    below[:, :, 16:], above[:, :, :16] = 0, 0
    seen = [vit_tokens(vit, image, upper)[:, 0] for image in (x, below, above)]
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_the_denoiser_starts_from_that_of_the_scenes(root, tmp_path):
    scenes, task = fvit.load_denoiser("scenes").network.unet.state_dict(), DenoiserTask(0, root)
    assert all(torch.equal(value, scenes[name]) for name, value in task.model.state_dict().items())
    train(DenoiserTask, tmp_path / "denoiser", steps=2, root=root, **SMALL)
    den, x = fvit.load_denoiser(tmp_path / "denoiser"), torch.rand(2, 3, 32, 32)
    assert den(x, 0.25).shape == x.shape and den.timestep(8 / 255) == 15
    assert any((value != scenes[name]).any() for name, value in den.network.unet.state_dict().items())


def test_an_epoch_shows_each_image_once_and_none_that_is_held_out(root):
    data, everything = Cifar10(0, 8, root), fvit.load_images("cifar10", "train", 40, root=root)
    assert torch.equal(data.held_out[0].float() / 255, everything.x[:8])
    assert torch.equal(data.held_out[1], everything.y[:8])
    x, y = (torch.cat(parts) for parts in zip(*map(data, range(4)), strict=True))
    mirrored = [(image == everything.x.flip(3)).all((1, 2, 3)).nonzero() for image in x]
    upright = [(image == everything.x).all((1, 2, 3)).nonzero() for image in x]
    found = [int(torch.cat(pair)) for pair in zip(mirrored, upright, strict=True)]
    assert sorted(found) == list(range(8, 40)) and torch.equal(y, everything.y[found])
    assert 4 < sum(len(each) for each in mirrored) < 28  # probability 1e-5 to be outside
    assert not torch.equal(data(4)[0], data(0)[0])  # the next epoch has another order


def test_a_batch_depends_on_its_step_only(root):
    asked, fresh = Cifar10(1, 8, root), Cifar10(1, 8, root)
    for step in (0, 9):
        asked(step)
    assert all(torch.equal(a, b) for a, b in zip(asked(3), fresh(3), strict=True))


def test_images_are_moved_by_whole_pixels_and_mirrored_at_the_sides():
    x = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)], mode="reflect")
    places = [[(top, left) for top in range(2 * SHIFT + 1) for left in range(2 * SHIFT + 1)
               if np.array_equal(padded[i, :, top:top + 32, left:left + 32], image.numpy())]
              for i, image in enumerate(moved(x, torch.Generator().manual_seed(1)))]
    assert all(len(found) == 1 for found in places) and len({found[0] for found in places}) > 30
    assert {top for [(top, _)] in places} == set(range(2 * SHIFT + 1))


def test_the_command_trains_and_says_what_it_cannot_do(root, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("FVIT_DATA", raising=False)
    small = ["--out", str(tmp_path), "--steps", "2", "--batch", "8", "--every", "2", "--n-val", "4", "--device", "cpu"]

    def said(*arguments):
        code = cli.main(["train", *arguments, *small])
        return code, capsys.readouterr().err

    assert said("vit", "--data", "cifar100") == (
        2, "fvit: unknown --data 'cifar100', known: scenes, cifar10; did you mean 'cifar10'?\n")
    code, error = said("denoiser", "--data", "cifar10")
    assert code == 1 and "where is cifar10?" in error and "set FVIT_DATA" in error
    code, error = said("denoiser", "--data", "cifar10", "--root", str(tmp_path / "no"))
    assert code == 1 and f"no folder {tmp_path / 'no'} with cifar10" in error
    code, error = said("denoiser", "--root", str(root))
    assert code == 2 and "scenes are drawn, not read; leave it out" in error
    assert not list(tmp_path.iterdir())
    code, error = said("teacher", "--data", "cifar10", "--root", str(root))
    assert code == 0 and "teacher 2/2" in error and (tmp_path / "model.safetensors").exists()


def test_a_batch_larger_than_the_set_is_refused(root):
    with pytest.raises(ValueError, match=r"--batch 33: CIFAR-10 in .* has 32 images to train on; take a smaller batch"):
        Cifar10(0, 33, root)


def test_a_vit_without_its_teacher_says_how_to_train_it(root, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no teacher at .*; train it first: `fvit train teacher --data cifar1"):
        ViTTask(0, root)


def test_the_plain_cnn_starts_from_that_of_the_scenes_and_is_written_as_what_loads(root, tmp_path, monkeypatch):
    first = PlainCNN(**SIZES)
    torch.nn.init.normal_(first.layers[-1].weight)
    monkeypatch.setattr("fvit.training.on_cifar10.load_cnn", lambda source: first)
    assert torch.equal(CNNTask(0, root).model.layers[-1].weight, first.layers[-1].weight)
    train(CNNTask, tmp_path, steps=2, root=root, **SMALL)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert load_cnn(tmp_path)(x, 0.1).shape == x.shape
