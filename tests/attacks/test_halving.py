"""The step rule of APGD and momentum: optima in closed form, a plain loop over images, and losses that draw."""

import math
from itertools import pairwise

import pytest
import torch
from oracles.apgd import apgd_loop
from oracles.maps import images, tiny_denoiser
from torch.nn.functional import cross_entropy

from fvit.attacks import pgd, prediction_loss, strongest
from fvit.attacks.halving import Halving
from fvit.smoothing import DDS

EPS = {"linf": 0.05, "l2": 1.0}
AT = {10: [2, 3, 4, 5, 6, 7, 8, 9, 10], 40: [8, 15, 21, 26, 30, 33, 35, 37, 39]}  # checkpoints of so many steps


def gap(found, want):
    return (found - want).flatten(1).norm(dim=1)


@pytest.mark.parametrize("start", ["clean", "random"])
def test_linear_losses_end_in_the_corner_and_on_the_ray(start):
    x = images(3)
    w = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = {norm: pgd(lambda x, step: (x * w).sum((1, 2, 3)), x, eps, norm, steps=40, start=start, rule="apgd",
                     judgements=1) for norm, eps in EPS.items()}
    torch.testing.assert_close(got["linf"], x + EPS["linf"] * w.sign(), rtol=0, atol=1e-12)
    ray = x + EPS["l2"] * w / w.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert gap(got["l2"], ray).max() < 1e-3 and not got["l2"].requires_grad


@pytest.mark.parametrize("norm", EPS)
def test_an_optimum_inside_the_ball_is_reached_by_halving_and_missed_by_steps_that_stay_as_long(norm):
    """Minus the squared distance to a point: the step 2 eps is halved at each of nine checkpoints."""
    x = images(3)
    top = pgd(lambda v, step: v.sum((1, 2, 3)), x, EPS[norm] / 2, norm, steps=0, seed=9)

    def loss(v, step):
        return -(v - top).square().sum((1, 2, 3))

    start, settings = gap(x, top), dict(eps=EPS[norm], norm=norm, steps=40, start="clean")
    halved = gap(pgd(loss, x, rule="apgd", judgements=1, **settings), top)
    constant = gap(pgd(loss, x, step_size=2 * EPS[norm], **settings), top)
    assert (halved < 0.1 * start).all() and (constant > 0.5 * start).all()


@pytest.mark.parametrize("steps", AT)
@pytest.mark.parametrize("norm", EPS)
def test_apgd_is_the_plain_loop_of_one_image_at_a_time(vit, norm, steps):
    x, y, eps = images(3), torch.tensor([1, 3, 0]), EPS[norm]
    start = pgd(lambda x, step: x.sum((1, 2, 3)), x, eps, norm, steps=0, seed=4)
    got = pgd(prediction_loss(vit, y), x, eps, norm, steps=steps, start=start, rule="apgd", judgements=1)
    for i in range(3):
        def value(image, i=i):
            return cross_entropy(vit(image[None]), y[i : i + 1]).item()

        def gradient(image, step, i=i):
            image = image.detach().clone().requires_grad_()
            return torch.autograd.grad(cross_entropy(vit(image[None]), y[i : i + 1]), image)[0]

        want = apgd_loop(value, gradient, x[i], eps, norm, start[i], steps, AT[steps])
        torch.testing.assert_close(got[i], want, rtol=0, atol=1e-9)


def test_momentum_with_constant_steps_is_the_plain_loop(vit):
    x, y = images(2), torch.tensor([1, 3])
    got = pgd(prediction_loss(vit, y), x, 0.05, steps=6, step_size=0.02, start="clean", momentum=0.4)
    without = pgd(prediction_loss(vit, y), x, 0.05, steps=6, step_size=0.02, start="clean")
    for i in range(2):
        def gradient(image, step, i=i):
            image = image.detach().clone().requires_grad_()
            return torch.autograd.grad(cross_entropy(vit(image[None]), y[i : i + 1]), image)[0]

        want = apgd_loop(lambda image: 0.0, gradient, x[i], 0.05, "linf", x[i], 6, [], 0.02, 0.4)
        torch.testing.assert_close(got[i], want, rtol=0, atol=1e-9)
        assert (got[i] - without[i]).abs().max() > 1e-3


def test_checkpoints_of_a_hundred_steps_are_those_of_the_paper():
    """w = 22, 41, 57, 70, 80, 87, 93, 99: a judgement that never rises halves the step at each of them."""
    x, halved = torch.full((1, 3, 2, 2), 0.5), []
    halving = Halving(lambda v: torch.zeros(1), x, 0.1, 100)
    for step in range(1, 101):
        _, size = halving.after(x)
        if size.item() < 0.1 / 2 ** len(halved):
            halved.append(step)
    assert halved == [22, 41, 57, 70, 80, 87, 93, 99] and size.item() == pytest.approx(0.1 / 2**8)


def test_a_best_that_stays_halves_the_step_once_in_two_checkpoints_where_the_rest_rises():
    """Judgements rise at every step, from far below the start's: only the second condition can halve."""
    values, x = iter([10.0, *torch.arange(100.0).div(100).tolist()]), torch.zeros(1, 3, 1, 1)
    halving, sizes = Halving(lambda v: torch.tensor([next(values)]), x, 1.0, 100), []
    for step in range(100):
        _, size = halving.after(torch.full_like(x, step))
        sizes.append(size.item())
    fell = [step + 2 for step, (a, b) in enumerate(pairwise(sizes)) if b < a]
    assert fell == [41, 70, 87, 99]  # not at the first checkpoint, 22, where nothing is known of the one before
    assert torch.equal(halving.best, x)


@pytest.mark.parametrize("norm", EPS)
def test_batch_order_and_neighbours_do_not_matter(vit, norm):
    x, y, ids = images(3), torch.tensor([0, 1, 2]), ["a", "b", "c"]
    rule = dict(eps=EPS[norm], norm=norm, steps=8, rule="apgd", judgements=1)
    want = pgd(prediction_loss(vit, y), x, ids=ids, **rule)
    for pick in ([2, 0, 1], [1]):
        got = pgd(prediction_loss(vit, y[pick]), x[pick], ids=[ids[i] for i in pick], **rule)
        torch.testing.assert_close(got, want[pick], rtol=0, atol=1e-9)
    delta = (want - x).flatten(1)
    far = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    assert far.max() <= EPS[norm] * (1 + 1e-9) and want.min() >= 0 and want.max() <= 1


# losses that draw ----------------------------------------------------------------------------------------------------
def test_the_best_iterate_is_no_lucky_draw():
    """A rising loss, and an offset of each step that is far greater: by its own draw the start would be the best."""
    x = images(2)

    def loss(v, step):
        return v.mean((1, 2, 3)) + {0: 1e3}.get(step, -step)

    torch.testing.assert_close(pgd(loss, x, 0.05, steps=10, start="clean", rule="apgd"), x + 0.05, rtol=0, atol=1e-12)


def test_through_draws_it_is_the_plain_loop_judged_by_the_mean_over_draws_after_those_of_the_gradients(vit):
    x, y, ids = images(2), torch.tensor([1, 3]), ["a", "b"]
    dds = DDS(vit, tiny_denoiser(torch.float64), 0.1)
    got = pgd(prediction_loss(dds, y, 2, ids), x, 0.05, steps=10, start="clean", ids=ids, rule="apgd", judgements=3)
    for i in range(2):
        def loss(image, step, i=i):
            _, probs = dds.maps(image[None], ids=[ids[i]], method=None, purpose="eot", draws=[2 * step, 2 * step + 1])
            return -probs.mean(1).log()[0, y[i]]

        def value(image, loss=loss):
            return (sum(loss(image, step) for step in (10, 11, 12)) / 3).item()

        def gradient(image, step, loss=loss):
            image = image.detach().clone().requires_grad_()
            return torch.autograd.grad(loss(image, step), image)[0]

        torch.testing.assert_close(got[i], apgd_loop(value, gradient, x[i], 0.05, "linf", x[i], 10, AT[10]), rtol=0,
                                   atol=1e-9)


def test_gradients_and_judgements_meet_different_steps_also_over_restarts():
    seen = []

    def loss(v, step):
        seen.append((step, v.requires_grad))
        return (40 * v).sin().mean((1, 2, 3))

    pgd(loss, images(1), 0.1, steps=3, rule="apgd", judgements=2)
    assert [step for step, graded in seen if graded] == [0, 1, 2]
    assert [step for step, graded in seen if not graded] == [3, 4] * 4  # the start and three iterates
    seen.clear()
    strongest(loss, images(1), 2, 0.1, steps=3, rule="apgd", judgements=2)
    assert [step for step, graded in seen if graded] == [0, 1, 2, 3, 4, 5]
    assert {step for step, graded in seen if not graded} == {6, 7}


@pytest.mark.parametrize("norm", EPS)
def test_restarts_of_apgd_never_lose_and_one_is_pgd_to_the_bit(norm):
    def hills(v, step):
        return (40 * v).sin().mean((1, 2, 3))

    x, how = images(4), dict(eps=EPS[norm], norm=norm, steps=5, rule="apgd", judgements=1, seed=3)
    assert torch.equal(strongest(hills, x, 1, **how), pgd(hills, x, **how))
    reached = torch.stack([hills(strongest(hills, x, n, **how), 0) for n in (1, 2, 4)])
    assert (reached.diff(dim=0) >= 0).all() and (reached[2] > reached[0]).any()


def test_no_steps_and_no_radius_are_the_start_and_the_image():
    x = images(2)
    assert torch.equal(pgd(lambda v, step: v.sum((1, 2, 3)), x, 0.1, steps=0, start="clean", rule="apgd"), x)
    assert torch.equal(pgd(lambda v, step: v.sum((1, 2, 3)), x, 0, rule="apgd"), x)


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"rule": "agpd"}, "unknown rule of the step 'agpd', known: constant, apgd; did you mean 'apgd'"),
    ({"momentum": 1.0}, r"momentum=1\.0, wanted a number in \[0, 1\)"), ({"momentum": -0.1}, r"momentum=-0\.1"),
    ({"momentum": math.nan}, "momentum=nan"), ({"judgements": 0}, "judgements=0")])
def test_bad_settings_are_refused(kwargs, message):
    def never(x, step):
        raise AssertionError("the loss was called")

    for attack in (pgd, strongest):
        with pytest.raises(ValueError, match=message):
            attack(never, images(2), **kwargs)
