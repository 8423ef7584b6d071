"""The difference of logits ratio against its formula, by loops; for a ViT, and for a DDS on draws of its own."""

import pytest
import torch
from oracles.maps import images, tiny_denoiser, tiny_vit

from fvit.attacks import pgd, prediction_loss
from fvit.attacks.dlr import dlr_loss
from fvit.smoothing import DDS

Y, TARGET, IDS = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 4, 0, 2]), ["0", "1", "2", "3"]


@pytest.fixture(scope="module")
def dds(vit):
    return DDS(vit, tiny_denoiser(torch.float64), 0.1, batch_size=4)


def by_hand(z, y, target=None):
    """Croce and Hein 2020, equations 6 and 7, image by image."""
    found = []
    for row, c, t in zip(z.tolist(), y.tolist(), [None] * len(y) if target is None else target.tolist(), strict=True):
        one, two, three, four = sorted(row, reverse=True)[:4]
        if t is None:
            found.append(-(row[c] - (two if row[c] == one else one)) / (one - three))
        else:
            found.append(-(row[c] - row[t]) / (one - (three + four) / 2))
    return torch.tensor(found, dtype=z.dtype)


@pytest.mark.parametrize("target", [None, TARGET])
def test_it_is_the_formula_of_logits_and_of_the_log_probabilities_of_a_dds_as_a_classifier(vit, dds, target):
    x, clf = images(4), dds.as_classifier(n_samples=2)
    torch.testing.assert_close(dlr_loss(vit, Y, target)(x, 0), by_hand(vit(x), Y, target))
    loss = dlr_loss(dds, Y, target, n_samples=2)
    for step in (0, 3):
        clf.calls = step
        torch.testing.assert_close(loss(x, step), by_hand(clf(x), Y, target))
    assert (loss(x, 0) - loss(x, 3)).abs().min() > 0


def test_it_is_above_zero_where_the_class_is_lost_and_blind_to_shift_and_scale(vit):
    x = images(8)
    y = torch.arange(8) % 5
    found, lost = dlr_loss(vit, y)(x, 0), vit(x).argmax(1) != y
    assert torch.equal(found > 0, lost) and 0 < lost.sum() < 8
    torch.testing.assert_close(dlr_loss(lambda v: 7 * vit(v) + 100, y)(x, 0), found)


@pytest.mark.parametrize("target", [None, TARGET])
def test_an_attack_raises_it_on_draws_it_has_not_seen_whatever_the_batch(dds, target):
    x, settings = images(4), dict(eps=0.05, steps=4, rule="apgd")
    loss = dlr_loss(dds, Y, target, 2, IDS)
    x_adv = pgd(loss, x, ids=IDS, **settings)  # in portions of two images
    assert (loss(x_adv, 50) > loss(x, 50)).all()
    alone = pgd(dlr_loss(dds, Y[2:3], None if target is None else target[2:3], 2, IDS[2:3]), x[2:3], ids=IDS[2:3],
                **settings)
    torch.testing.assert_close(alone[0], x_adv[2], rtol=0, atol=1e-9)


def test_it_moves_where_cross_entropy_of_great_logits_has_no_gradient():
    """Float32, logits 1,000 apart: the reason for the ratio (Croce and Hein 2020, figure 2)."""
    x = images(2, torch.float32)
    y = tiny_vit()(x).argmax(1)
    vit = tiny_vit()
    vit.backbone.head.weight.data *= 1e5
    assert (pgd(prediction_loss(vit, y), x, 0.1, steps=1, start="clean") == x).all()
    assert (pgd(dlr_loss(vit, y), x, 0.1, steps=1, start="clean") != x).any()


@pytest.mark.parametrize(("arguments", "message"), [
    ((Y, torch.tensor([0, 1])), "target"), ((torch.tensor([0, 1, 2, 9]),), "y .*9"), ((Y, None, 0), "n_samples=0")])
def test_bad_arguments_are_refused(vit, arguments, message):
    with pytest.raises(ValueError, match=message):
        dlr_loss(vit, *arguments)


def test_too_few_classes_and_other_images_are_refused(vit):
    few = torch.tensor([0, 1])
    for classes, target in ((2, None), (3, 1 - few)):
        with pytest.raises(ValueError, match=rf"gives \(2, {classes}\), wanted .* at least {classes + 1} classes"):
            dlr_loss(lambda v, n=classes: vit(v)[:, :n], few, target)(images(2), 0)
    with pytest.raises(ValueError, match=r"target is y for images \[1\], wanted another class"):
        dlr_loss(vit, few, torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="y holds 4 classes and x 2 images"):
        dlr_loss(vit, Y)(images(2), 0)
