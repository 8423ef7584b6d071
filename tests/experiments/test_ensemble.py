"""The ensemble of attacks on the prediction: its members by direct calls, and itself never above one of them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from oracles.maps import images, tiny_vit

from fvit.attacks import pgd, prediction_loss
from fvit.attacks.dlr import dlr_loss
from fvit.experiments.bench import Bench
from fvit.experiments.ensemble import MEMBERS, ensemble_rows
from fvit.records.rows import KEY
from fvit.smoothing import DDS

IDS, EPS, SIGMA = list("abcdefgh"), 0.002, 0.05


@pytest.fixture(scope="module")
def data(vit):
    """Eight images, of which the bare ViT is right on six."""
    x = images(8)
    y = vit(x).argmax(1)
    y[:2] = (y[:2] + 1) % 5
    return SimpleNamespace(x=x, y=y, ids=IDS, name="toys")


@pytest.fixture(scope="module")
def bench(vit):
    return Bench(vit, None, SIGMA, 2, 4, attack_steps=3, attack_draws=2, eval_batch=8, precision=None, seed=5)


@pytest.fixture(scope="module")
def rows(bench, data):
    return ensemble_rows(bench, data, radii=[0, EPS], defences=["none", "noise_only"], targets=2)


def right(rows, defence, variant):
    at = rows[(rows.defence == defence) & (rows.variant == variant)]
    assert list(at.image_id) == IDS
    return torch.tensor(at.value.to_numpy()).bool()


@pytest.mark.parametrize("defence", ["none", "noise_only"])
def test_members_are_what_direct_calls_find(vit, data, rows, defence):
    bare = defence == "none"
    model = vit if bare else DDS(vit, None, SIGMA, 2, seed=5, batch_size=8)

    def probs(x, seed):
        return vit(x).softmax(1) if bare else DDS(vit, None, SIGMA, 2, seed=seed, batch_size=8)(x, ids=IDS).probs

    clean = probs(data.x, 5)
    y, given = clean.argmax(1), {"n_samples": 2, "ids": IDS}
    order = clean.argsort(dim=1, descending=True)

    def holds(*losses, **rule):
        found = [pgd(loss, data.x, EPS, steps=3, seed=5, ids=IDS, **rule) for loss in losses]
        return torch.stack([probs(x_adv, 6).argmax(1) == data.y for x_adv in found]).all(0)

    apgd = {"rule": "apgd", "judgements": 1 if bare else 4}
    want = {"": clean.argmax(1) == data.y, "pgd": holds(prediction_loss(model, y, **given)),
            "apgd-ce": holds(prediction_loss(model, y, **given), **apgd),
            "apgd-dlr": holds(dlr_loss(model, y, **given), **apgd),
            "apgd-t": holds(*(dlr_loss(model, y, order[:, n], **given) for n in (1, 2)), **apgd)}
    for variant, values in want.items():
        assert torch.equal(right(rows, defence, variant), values), variant
    assert torch.equal(right(rows, defence, "ensemble"), torch.stack([*want.values()]).all(0))


def test_the_ensemble_is_never_above_its_members_and_somewhere_below_each(rows):
    for defence in ("none", "noise_only"):
        whole = right(rows, defence, "ensemble")
        assert all((whole <= right(rows, defence, member)).all() for member in ("", *MEMBERS))
    whole = right(rows, "noise_only", "ensemble")
    assert all((whole < right(rows, "noise_only", member)).any() for member in ("", *MEMBERS))


def test_one_that_is_wrong_when_clean_is_not_right_under_the_ensemble(bench, data):
    """Also where the attack moves it to its label."""
    second = bench.view("none", data.x, IDS, []).probs.argsort(dim=1, descending=True)[:, 1]
    wrong = SimpleNamespace(**vars(data) | {"y": second})
    rows = ensemble_rows(bench, wrong, radii=[0.05], defences=["none"], members=["pgd"])
    assert right(rows, "none", "pgd").any() and not right(rows, "none", "ensemble").any()


def test_columns_say_what_was_run(rows):
    assert not rows.duplicated(KEY).any() and set(rows.metric) == {"right"} and set(rows.method) == {""}
    attacked = rows[rows.eps > 0]
    assert set(zip(attacked.defence, attacked.made_on, strict=True)) == {("none", "vit"), ("noise_only", "noise_only")}
    assert set(attacked.variant) == {*MEMBERS, "ensemble"} and set(attacked.aim) == {"prediction"}
    assert (rows[rows.defence == "noise_only"].sigma == SIGMA).all()


def test_unknown_members_and_too_few_targets_are_refused(bench, data):
    with pytest.raises(ValueError, match="unknown member of the ensemble 'fab', known: pgd, apgd-ce"):
        ensemble_rows(bench, data, radii=[EPS], members=["fab"])
    with pytest.raises(ValueError, match="targets=0"):
        ensemble_rows(bench, data, radii=[EPS], targets=0)
    few = replace(bench, vit=tiny_vit(torch.float64, num_classes=2))
    with pytest.raises(ValueError, match="at least 3 classes"):
        ensemble_rows(few, data, radii=[EPS], defences=["none"], members=["apgd-dlr"])
