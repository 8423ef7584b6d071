"""PGD on a loss passed in as a callable: once from a random start, or the strongest of several runs."""

import math
import warnings
from dataclasses import dataclass
from functools import partial

import torch

from fvit.attacks.halving import Halving
from fvit.base import checks, rng
from fvit.base.checks import check_callable, check_choice, check_count, check_ids, check_images, check_seed
from fvit.base.memory import in_memory

RULES = ("constant", "apgd")  # how the length of a step goes on


def pgd(loss, x, eps=8 / 255, norm="linf", steps=10, step_size=None, start="random", seed=0, ids=None,
        rule="constant", momentum=None, judgements=4):
    """Images within `eps` of `x` and in [0, 1] that increase `loss`, by projected gradient ascent, each on its own.

    loss        callable (x, step) -> (B,), increased; `step` counts from 0 and picks fresh draws where there are any
    x           (B, 3, H, W) in [0, 1]
    eps, norm   radius in [0, 1] pixel units, per image, of "linf", at most 1, or "l2", at most sqrt(3 H W)
    step_size   length of a step in that norm, for "apgd" of the first; default 2 * eps / steps, the published eps / 5
                for 10 steps, and for "apgd" 2 * eps
    ids         names of the streams; give the same to the loss where it draws, as that of a DDS does
    start       "random": uniform in the ball, one stream for each (seed, image id); "clean"; or a tensor in the ball
    rule        "constant" steps; or "apgd", which halves the step of an image where it stalls, and goes on from its
                best iterate so far (`attacks.halving`)
    momentum    share of a step that is the step before, in [0, 1); None: 0, for "apgd" the published .25
    judgements  for "apgd": iterates are compared by their mean loss at so many step indices after those of the ascent,
                the same for all of them. So where a loss draws, the best is no lucky draw of its own gradient, and two
                iterates differ by what they are, not by their noise. 1 suffices where it does not draw
    returns     x_adv, detached, dtype of x: the last iterate, for "apgd" the best

    Raises ValueError for arguments out of range, a start outside the ball, or a gradient that is not finite.
    Source: Madry et al. 2018; numbers as in docs/reference-code.md, 3.3; "apgd": Croce and Hein 2020, there without
    draws or by the value of the last of them. Taught in notebook 01.
    """
    x, ids, how = _settings(loss, x, eps, norm, steps, step_size, seed, ids, rule, momentum)
    judge = partial(_mean_loss, loss, range(how.steps, how.steps + check_count(judgements, "judgements")))
    return _ascend(loss, x, _start(x, start, how.eps, norm, seed, ids), ids, how, judge)


def strongest(loss, x, restarts=1, eps=8 / 255, norm="linf", steps=10, step_size=None, seed=0, ids=None, judgements=4,
              rule="constant", momentum=None):
    """Of several `pgd` runs from random starts, for each image the one whose result has the greatest loss.

    restarts     runs; the first is that of `pgd` to the bit, start streams of the others are (seed, "pgd", id, restart)
    judgements   results are compared by the mean loss at so many step indices after all those of the attacks: draws
                 that no gradient has seen; with "apgd" iterates too, in each run by these. The attack's strength is to
                 be measured on yet others
    returns      x_adv as from `pgd`; other arguments are its

    Raises ValueError as `pgd` does. Source: Madry et al. 2018, and ours for the choice. Taught in notebook 13.
    """
    x, ids, how = _settings(loss, x, eps, norm, steps, step_size, seed, ids, rule, momentum)
    last = check_count(restarts, "restarts") * how.steps
    judge = partial(_mean_loss, loss, range(last, last + check_count(judgements, "judgements")))
    best, most = x, -math.inf
    for run in range(restarts):
        start = _start(x, "random", how.eps, norm, seed, ids, *([run] if run else []))
        x_adv = _ascend(_shifted(loss, run * how.steps), x, start, ids, how, judge)  # draws of its own for each run
        if restarts == 1:
            return x_adv
        reached = judge(x_adv)
        better = reached > most if run else torch.ones_like(reached, dtype=torch.bool)
        best, most = torch.where(better.view(-1, 1, 1, 1), x_adv, best), torch.where(better, reached, most)
    return best


@dataclass(frozen=True)
class Settings:
    """Arguments of an ascent, checked, and with their defaults."""

    eps: float
    norm: str
    steps: int
    size: float
    rule: str
    momentum: float


def _settings(loss, x, eps, norm, steps, step_size, seed, ids, rule, momentum):
    check_callable(loss, "loss")
    ids = check_ids(ids, len(check_images(x)))
    check_choice(norm, ("linf", "l2"), "norm")
    eps, steps = _length(eps, "eps", norm, x), check_count(steps, "steps", least=0)
    check_seed(seed)
    adaptive = check_choice(rule, RULES, "rule of the step") == "apgd"
    size = 2 * eps / (1 if adaptive else max(steps, 1))
    if step_size is not None:
        size = _length(step_size, "step_size", norm, x)
    momentum = (0.25 if adaptive else 0.0) if momentum is None else checks.check_number(momentum, "momentum", "[0, 1)")
    return x.detach(), ids, Settings(eps, norm, steps, size, rule, momentum)


def _ascend(loss, x, start, ids, how, judge):
    """The ascent itself; `judge` (B, 3, H, W) -> (B,) says what iterates are compared by, for "apgd"."""
    x_adv = before = _project(start, x, how.eps, how.norm)
    steps, size, halving = how.steps if how.eps > 0 else 0, how.size, None
    if how.rule == "apgd" and steps:
        halving = Halving(judge, x_adv, size, steps)
    for step in range(steps):
        grad = _by_portions(_gradient, loss, x_adv, step)
        if bad := [i for i, ok in zip(ids, grad.isfinite().flatten(1).all(1).tolist(), strict=True) if not ok]:
            raise ValueError(f"gradient at step {step} is not finite for images {bad}; look at their loss")
        here = x_adv.detach()
        x_adv = _project(here + size * _direction(grad, how.norm), x, how.eps, how.norm)
        if step and how.momentum > 0:
            x_adv = here + (1 - how.momentum) * (x_adv - here) + how.momentum * (here - before)
            x_adv = _project(x_adv, x, how.eps, how.norm)
        before = here
        if halving:
            x_adv, size = halving.after(x_adv)
    return halving.best if halving else x_adv.detach()


def _mean_loss(loss, at, x_adv):
    """(B,) mean of the loss at the step indices `at`, without a gradient."""
    with torch.no_grad():
        return sum(_by_portions(lambda f, images, step: f(images, step), loss, x_adv, step) for step in at) / len(at)


def _length(value, name, norm, x):
    """A radius or step as a float; ValueError beyond the whole width of [0, 1], where it cannot be in these units."""
    found = checks.check_number(value, name, "[0, inf)", "for images in [0, 1]")
    width = 1.0 if norm == "linf" else math.sqrt(x[0].numel())
    checks.check_unit(found, name, width, f"the width of [0, 1] in {norm}")
    if norm == "l2" and found > width / 4:
        warnings.warn(f"{name}={found:.4g} in l2 is a root mean square of {found / width:.2g} at every pixel value of "
                      f"[0, 1]; one in units of [0, 255] is divided by 255: {name}={found:.4g} / 255", stacklevel=4)
    return found


def _by_portions(what, loss, x, step):
    """`what(loss, x, step)`, a row an image; some of the images at a time, if the loss says how many fill a batch."""
    def once():
        size = loss.portion(len(x)) if hasattr(loss, "portion") else len(x)
        if size >= len(x):
            return what(loss, x, step)
        parts = [slice(start, start + size) for start in range(0, len(x), size)]
        return torch.cat([what(loss.part(rows), x[rows], step) for rows in parts])

    return in_memory(once, getattr(loss, "sized", None))


def _gradient(loss, x_adv, step):
    with torch.enable_grad():
        values = loss(x_adv.requires_grad_(True), step)
        if not isinstance(values, torch.Tensor) or values.shape != x_adv.shape[:1] or not values.requires_grad:
            got = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise ValueError(f"loss gave {got}, wanted ({len(x_adv)},) differentiable in x; "
                             "return one value an image, without detach or no_grad")
        return torch.autograd.grad(values.sum(), x_adv)[0]  # of a sum: each image has its own gradient


def _shifted(loss, first):
    def later(x, step):
        return loss(x, first + step)

    if hasattr(loss, "portion"):
        later.sized, later.portion = loss.sized, loss.portion
        later.part = lambda rows: _shifted(loss.part(rows), first)
    return later


def _start(x, start, eps, norm, seed, ids, *restart):
    if isinstance(start, torch.Tensor):
        if start.shape != x.shape:
            raise ValueError(f"start has shape {tuple(start.shape)}, wanted that of x, {tuple(x.shape)}")
        far = _norm(checks.check_noisy(start, "start").to(x) - x, norm).max().item()
        if not far <= eps * (1 + 1e-4) + 1e-6:
            raise ValueError(f"start is {far:.4g} away from x in {norm}, wanted at most eps={eps:.4g}")
        return start.detach().to(x)
    if check_choice(start, ("random", "clean"), "start") == "clean":
        return x
    draws = [_uniform(x.shape[1:], norm, rng.numpy_generator(seed, "pgd", i, *restart)) for i in ids]
    return x + eps * torch.stack(draws).to(x.dtype).to(x.device)


def _uniform(shape, norm, g):
    """A point uniform in the unit ball of `norm`."""
    if norm == "linf":
        return torch.from_numpy(g.uniform(-1, 1, tuple(shape)))
    z = torch.from_numpy(g.standard_normal(tuple(shape)))
    return z / z.norm() * g.uniform() ** (1 / z.numel())  # radius u^(1/d) makes the ball uniform


def _norm(delta, norm):
    return torch.linalg.vector_norm(delta.flatten(1), math.inf if norm == "linf" else 2, dim=1).view(-1, 1, 1, 1)


def _direction(grad, norm):
    if norm == "linf":
        return grad.sign()
    grad = grad / _norm(grad, "linf").clamp_min(torch.finfo(grad.dtype).tiny)  # squares of small gradients underflow
    return grad / _norm(grad, "l2").clamp_min(1)  # after scaling, the norm is >= 1 unless the gradient is zero


def _project(x_adv, x, eps, norm):
    delta = x_adv - x
    if norm == "linf":
        return (x + delta.clamp(-eps, eps)).clamp(0, 1)
    return (x + delta * (eps / _norm(delta, "l2").clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)).clamp(0, 1)
