"""PGD against optima in closed form, a plain loop and the reference code; restarts."""

import math

import pytest
import torch
from oracles import golden
from oracles.maps import class_token_attention, images, pgd_loop
from torch.nn.functional import cross_entropy

from fvit.attacks import ascent, explanation_loss, pgd, prediction_loss, strongest
from fvit.models.vit_files import load_vit
from fvit.smoothing import DDS


def norms(delta, norm):
    return delta.flatten(1).norm(dim=1) if norm == "l2" else delta.flatten(1).abs().amax(1)


def linear(n=3, seed=1):
    w = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return w, lambda x, step: (x * w).sum((1, 2, 3))


# known optima --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("start", ["clean", "random"])
@pytest.mark.parametrize("eps", [2 / 255, 0.1])
def test_linear_loss_linf_ends_in_the_corner(start, eps):
    x, (w, loss) = images(3), linear()
    torch.testing.assert_close(pgd(loss, x, eps, start=start), x + eps * w.sign(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("start", "steps", "step_size"), [("clean", 9, None), ("clean", 1, None), ("random", 50, 0.5)])
def test_linear_loss_l2_ends_on_the_ray(start, steps, step_size):
    """From elsewhere in the ball, a step of length eps and the projection halve the distance to the ray."""
    x, (w, loss) = images(3), linear()
    want = x + 0.5 * w / norms(w, "l2").view(-1, 1, 1, 1)
    got = pgd(loss, x, 0.5, "l2", steps=steps, step_size=step_size, start=start)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_linear_loss_stops_at_the_box():
    x, (w, loss) = torch.full((3, 3, 32, 32), 0.02, dtype=torch.float64), linear()
    torch.testing.assert_close(pgd(loss, x, 0.1), (x + 0.1 * w.sign()).clamp(0, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_is_the_plain_loop(vit, norm):
    x, y, eps = images(2), torch.tensor([1, 3]), {"linf": 0.1, "l2": 1.0}[norm]
    start = pgd(lambda x, step: x.sum((1, 2, 3)), x, eps, norm, steps=0, seed=4)
    got = pgd(prediction_loss(vit, y), x, eps, norm, steps=5, step_size=0.3 * eps, start=start)
    for i in range(2):
        def gradient(image, step, i=i):
            image = image.clone().requires_grad_()
            return torch.autograd.grad(cross_entropy(vit(image[None]), y[i : i + 1]), image)[0]

        want = pgd_loop(gradient, x[i], eps, norm, 5, 0.3 * eps, start[i])
        torch.testing.assert_close(got[i], want, rtol=0, atol=1e-9)
        assert norms(got[i : i + 1] - start[i : i + 1], norm) > 0.1 * eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [8, 32])
@pytest.mark.parametrize("random_start", [0, 1])
def test_pgd_is_that_of_the_reference_code(dtype, eps, random_start):
    """torchattacks PGD on a net in float32; float64 agrees because no gradient changes its sign here."""
    tensors, _ = golden.explanations()
    vit = load_vit(golden.backbone(), mean=(0.5,) * 3, std=(0.5,) * 3).to(dtype)
    x, start = tensors["pgd/input_normalised"].to(dtype) / 2 + 0.5, "clean"
    if random_start:
        streams = [torch.Generator().manual_seed(100 + i) for i in range(3)]
        draws = [torch.empty(3, 32, 32).uniform_(-eps / 255, eps / 255, generator=g) for g in streams]
        start = (x + torch.stack(draws).to(dtype)).clamp(0, 1)
    got = pgd(prediction_loss(vit, vit(x).argmax(1)), x, eps / 255, start=start)
    want = tensors[f"pgd/adv_eps{eps}_randstart{random_start}"].to(dtype) / 2 + 0.5
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_radii_up_to_the_whole_width_are_answered_and_large_ones_of_l2_with_a_warning(recwarn):
    """At eps = 1 every image is reached; in l2 an average over pixels above a quarter of the range is doubted."""
    x, loss = images(2), lambda x, step: x.sum((1, 2, 3))
    assert torch.equal(pgd(loss, x, 1), torch.ones_like(x)) and not recwarn
    width = math.sqrt(x[0].numel())  # 55.4
    assert norms(pgd(loss, x, width / 4, "l2", steps=1) - x, "l2").max() <= width / 4 and not recwarn
    with pytest.warns(UserWarning, match=r"eps=20 in l2 is a root mean square of 0\.36 .*: eps=20 / 255"):
        pgd(loss, x, 20, "l2", steps=1)
    with pytest.raises(ValueError, match="eps=8, wanted at most 1"):
        strongest(loss, x, 2, eps=8)


# the ball, the start, each image on its own --------------------------------------------------------------------------
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [0.01, 0.3, 1.0])
def test_every_iterate_stays_in_the_ball_and_in_the_box(norm, dtype, eps):
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x[0], x[1] = 0, 1
    seen = []

    def loss(x_adv, step):
        seen.append(x_adv.detach().clone())
        return ((5 * x_adv).sin() * torch.arange(16)).sum((1, 2, 3))

    seen.append(pgd(loss, x, eps, norm, steps=4, step_size=eps))
    assert len(seen) == 5 and seen[-1].dtype == dtype and not seen[-1].requires_grad
    for x_adv in seen:
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        assert norms(x_adv - x, norm).max() <= eps * (1 + 1e-5) + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_batch_order_and_neighbours_do_not_matter(vit, norm):
    x, y, ids = images(3), torch.tensor([0, 1, 2]), ["a", "b", "c"]
    want = pgd(prediction_loss(vit, y), x, 0.05, norm, steps=3, ids=ids)
    for pick in ([2, 0, 1], [1]):
        got = pgd(prediction_loss(vit, y[pick]), x[pick], 0.05, norm, steps=3, ids=[ids[i] for i in pick])
        torch.testing.assert_close(got, want[pick], rtol=0, atol=1e-9)
    other = pgd(prediction_loss(vit, y), x, 0.05, norm, steps=3, ids=ids, seed=1)
    assert (other - want).abs().max() > 1e-3


def test_random_start_is_uniform_in_the_ball():
    """For 3 numbers an image: linf means 0 and variances eps^2/3; l2 radius cubed is uniform, direction has mean 0."""
    n, eps = 4000, 0.1
    x = torch.full((n, 3, 1, 1), 0.5, dtype=torch.float64)
    linf, l2 = ((pgd(torch.sum, x, eps, norm, steps=0) - x).flatten(1) / eps for norm in ("linf", "l2"))
    assert linf.abs().max() <= 1 + 1e-12
    assert linf.mean(0).abs().max() < 5 / math.sqrt(3 * n)
    assert (linf.square().mean(0) - 1 / 3).abs().max() < 5 * math.sqrt(4 / 45 / n)
    volume = l2.norm(dim=1) ** 3
    assert volume.max() <= 1 + 1e-12 and abs(volume.mean() - 0.5) < 5 / math.sqrt(12 * n)
    assert abs(volume.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    assert l2.mean(0).abs().max() < 5 / math.sqrt(5 * n)


def test_no_steps_and_no_radius_are_defined():
    x, (_, loss) = images(2), linear(2)
    assert torch.equal(pgd(loss, x, 0.1, steps=0, start="clean"), x)
    assert torch.equal(pgd(loss, x, 0, steps=5), x) and torch.equal(pgd(loss, x, 0, "l2", steps=5), x)
    start = x + 0.05
    torch.testing.assert_close(pgd(loss, x, 0.1, steps=0, start=start), start, rtol=0, atol=1e-15)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_gradient_moves_nothing_and_a_tiny_one_a_full_step(norm):
    x = images(2, torch.float32)
    scale = torch.tensor([0.0, 1e-30]).view(2, 1, 1, 1)
    x_adv = pgd(lambda x, step: (scale * x).sum((1, 2, 3)), x, 0.1, norm, start="clean")
    assert torch.equal(x_adv[0], x[0]) and norms(x_adv - x, norm)[1].item() == pytest.approx(0.1, rel=1e-4)


def test_steps_are_counted_and_default_to_a_fifth_of_eps():
    x, seen = images(1), []

    def loss(x_adv, step):
        seen.append((step, (x_adv.detach() - x).max().item()))
        return x_adv.sum((1, 2, 3))

    pgd(loss, x, 0.05, start="clean", steps=10)
    assert [s for s, _ in seen] == list(range(10)) and seen[1][1] == pytest.approx(0.01)
    seen.clear()
    pgd(loss, x, 0.05, start="clean", steps=40)
    assert seen[1][1] == pytest.approx(0.0025)


def test_arguments_and_models_are_left_alone(vit):
    x = images(1).requires_grad_()
    before = x.detach().clone()
    with torch.no_grad():
        x_adv = pgd(prediction_loss(vit, torch.tensor([0])), x, 0.05, steps=2)
    assert torch.equal(x, before) and x.grad is None and not x_adv.requires_grad
    assert all(p.grad is None for p in vit.parameters())


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"eps": -0.1}, "eps=-0.1, wanted a number in "), ({"steps": -1}, "steps=-1"),
    ({"eps": 8}, r"eps=8, wanted at most 1, the width of \[0, 1\] in linf; .* divided by 255: eps=8 / 255"),
    ({"step_size": 2}, "step_size=2, wanted at most 1, .*: step_size=2 / 255"),
    ({"eps": 128, "norm": "l2"}, "eps=128, wanted at most 55.4256, the width of .* in l2; .*: eps=128 / 255"),
    ({"step_size": -0.1}, "step_size=-0.1"), ({"norm": "l1"}, "unknown norm 'l1', known: linf, l2"),
    ({"start": "randm"}, "unknown start 'randm'.*did you mean 'random'"),
    ({"start": torch.zeros(1, 3, 32, 32)}, "start has shape"),
    ({"start": torch.full((2, 3, 32, 32), 0.9)}, r"away from x in linf, wanted at most eps=0\.03"),
    ({"start": torch.full((2, 3, 32, 32), math.nan)}, "start has NaN or infinite values"),
    ({"ids": ["a"]}, "got 1 ids for 2 images"),
])
def test_bad_settings_are_refused(kwargs, message):
    def never(x, step):
        raise AssertionError("the loss was called")

    with pytest.raises(ValueError, match=message):
        pgd(never, images(2), **kwargs)


@pytest.mark.parametrize(("loss", "message"), [
    (lambda x, step: (x - x.detach()).sum((1, 2, 3)).sqrt(), r"step 0 is not finite for images \['0', '1'\]"),
    (lambda x, step: x.sum(), r"loss gave \(\), wanted \(2,\) differentiable"),
    (lambda x, step: x.detach().sum((1, 2, 3)), r"loss gave \(2,\), wanted \(2,\) differentiable"),
])
def test_bad_losses_are_named(loss, message):
    with pytest.raises(ValueError, match=message):
        pgd(loss, images(2))
    with pytest.raises(ValueError, match="divide by 255"):
        pgd(loss, 255 * images(2))


# restarts ------------------------------------------------------------------------------------------------------------


def hills(x, step):
    """A loss whose optimum hangs on the start: sine waves along every pixel."""
    return (40 * x).sin().mean((1, 2, 3))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_restart_is_pgd_to_the_bit(vit, den, norm):
    x, dds = images(2), DDS(vit, den, 0.25)
    loss = explanation_loss(dds, class_token_attention(vit, x), 4, n_samples=2)
    want = pgd(loss, x, 0.1, norm, steps=2, seed=3, ids=["a", "b"])
    assert torch.equal(strongest(loss, x, 1, 0.1, norm, steps=2, seed=3, ids=["a", "b"]), want)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_restarts_never_lose_for_any_image_and_win_for_some(norm):
    x, eps = images(6), {"linf": 0.1, "l2": 2.0}[norm]
    reached = torch.stack([hills(strongest(hills, x, n, eps, norm, steps=3), 0) for n in (1, 2, 5)])
    assert (reached.diff(dim=0) >= 0).all() and (reached[2] > reached[0]).any()
    assert norms(strongest(hills, x, 5, eps, norm, steps=3) - x, norm).max() <= eps * (1 + 1e-9)


def test_restarts_are_chosen_image_by_image_whatever_the_batch():
    x, ids = images(4), list("abcd")
    together = strongest(hills, x, 4, 0.1, steps=2, ids=ids)
    for i in range(4):
        alone = strongest(hills, x[i : i + 1], 4, 0.1, steps=2, ids=ids[i : i + 1])[0]
        torch.testing.assert_close(alone, together[i], rtol=0, atol=1e-12)
    starts = [ascent._start(x, "random", 0.1, "linf", 0, ids, *run) for run in ((), (1,), (2,), (3,))]
    assert all(not torch.equal(a, b) for a in starts for b in starts if a is not b)


def test_attacks_and_judgements_of_all_runs_meet_different_steps():
    graded = []

    def loss(x, step):
        graded.append((step, x.requires_grad))
        return hills(x, step)

    strongest(loss, images(1), 3, 0.1, steps=2, judgements=2)
    assert [step for step, wanted in graded if wanted] == [0, 1, 2, 3, 4, 5]
    assert [step for step, wanted in graded if not wanted] == [6, 7] * 3  # the same draws judge every run


def test_the_choice_is_by_the_mean_of_the_judgements():
    """Two runs; judgement 0 likes high pixels a little, judgement 1 likes low pixels much: the lower run must win."""
    x = torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64)

    def loss(x, step):
        return x.mean((1, 2, 3)) * {4: 1.0, 5: -3.0}.get(step, 0.0)

    starts = [ascent._start(x, "random", 0.1, "linf", 0, ["0"], *run) for run in ((), (1,))]
    runs = [pgd(loss, x, 0.1, steps=0, start=start) for start in starts]
    lower = min(runs, key=lambda v: v.mean().item())
    assert torch.equal(strongest(loss, x, 2, 0.1, steps=2, step_size=0, judgements=2), lower)
