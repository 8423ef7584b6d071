"""Further training of the shipped ViT: the loss is what it says, a run resumes, and what it writes is found by name."""

import pytest
import torch
import torch.nn.functional as F
from fixtures.resuming import assert_it_resumes

import fvit
from fvit.base import paths, rng
from fvit.training.loop import train
from fvit.training.on_scenes import AdversarialTask, NoiseTask

SMALL = dict(batch=4, chapter=32, every=2, n_val=4)


@pytest.fixture(scope="module")
def batch():
    return NoiseTask(3).batches(4, 32)(5)


def summed(task, batch, progress=1.0):
    return sum(part.item() for part in task.losses(task.model, batch, 5, progress, torch.device("cpu")))


def test_the_loss_on_noise_is_that_of_the_noise_of_its_streams(batch):
    task = NoiseTask(3)
    x, y = batch[:2]
    z = torch.stack([rng.normal(x.shape[1:], 3, "train 5 0", str(i), 0) for i in range(4)])
    shipped = fvit.load_vit("scenes")
    want = -(y * shipped(x + 0.25 * z).log_softmax(1)).sum(1).mean()
    assert summed(task, batch) == pytest.approx(want.item(), rel=1e-4)
    assert (y.sum(1) == 1).all() and abs(want - F.cross_entropy(shipped(x), y)) > 0.1  # and noise matters


def test_the_loss_on_attacks_is_that_of_images_in_the_ball_that_are_worse(batch):
    task = AdversarialTask(3)
    x, y = batch[:2]
    shown = []
    changed = task.changed
    task.changed = lambda *given: shown.append(changed(*given)) or shown[-1]
    whole, half = summed(task, batch), summed(task, batch, progress=0.125)
    assert all(p.grad is None for p in task.model.parameters())  # the attack leaves no gradient behind
    for x_adv, eps, loss in zip(shown, (8 / 255, 4 / 255), (whole, half), strict=True):
        assert (x_adv - x).abs().max() <= eps + 1e-6 and (x_adv - x).abs().max() > 0.9 * eps
        assert x_adv.min() >= 0 and x_adv.max() <= 1 and not x_adv.requires_grad
        each = F.cross_entropy(task.model(x_adv), y, reduction="none")
        assert loss == pytest.approx(each.mean().item(), rel=1e-4)
        assert (each > F.cross_entropy(task.model(x), y, reduction="none")).all()
    assert whole > half
    assert summed(task, batch, progress=0.0) == pytest.approx(F.cross_entropy(task.model(x), y).item(), rel=1e-4)


@pytest.mark.parametrize("task", [NoiseTask, AdversarialTask])
def test_a_run_resumes_and_what_it_writes_is_found_by_name(task, tmp_path, monkeypatch):
    ended = assert_it_resumes(task, tmp_path, 4, **SMALL)
    (tmp_path / "whole").rename(tmp_path / task.name)
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path)
    name = f"scenes-{task.name.removeprefix('vit_')}"
    vit = fvit.load_vit(name)
    assert vit.name == name and not any(p.requires_grad for p in vit.parameters())
    for key, value in vit.backbone.state_dict().items():
        assert torch.equal(value, ended[f"ema.backbone.{key}"])
    x = fvit.load_images("scenes", "val", 2).x
    assert fvit.explain(vit, x, "raw_attention").shape == (2, 16, 16)


def test_a_run_begins_with_the_shipped_weights_and_says_how_it_does_on_both_kinds_of_images(tmp_path):
    task, shipped = NoiseTask(0), fvit.load_vit("scenes").state_dict()
    assert all(torch.equal(value, shipped[key]) for key, value in task.model.state_dict().items())
    log = train(NoiseTask, tmp_path, steps=1, batch=4, chapter=32, every=1, n_val=4)
    assert list(log) == ["step", "loss", "accuracy", "pairs_both_in_top2", "accuracy_changed",
                         "pairs_both_in_top2_changed"]


def test_weights_that_are_not_there_are_asked_for_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    with pytest.raises(FileNotFoundError, match="train it with `fvit train vit_noise --data cifar10`") as caught:
        fvit.load_vit("cifar10-noise")
    assert "\n" not in str(caught.value)
