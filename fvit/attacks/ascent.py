"""PGD on a loss passed in as a callable: once from a random start, or the strongest of several runs."""

import math
import warnings

import torch

from fvit.base import checks, rng
from fvit.base.checks import check_callable, check_choice, check_count, check_ids, check_images, check_seed
from fvit.base.memory import in_memory


def pgd(loss, x, eps=8 / 255, norm="linf", steps=10, step_size=None, start="random", seed=0, ids=None):
    """Images within `eps` of `x` and in [0, 1] that increase `loss`, by projected gradient ascent, each on its own.

    loss        callable (x, step) -> (B,), increased; `step` counts from 0 and picks fresh draws where there are any
    x           (B, 3, H, W) in [0, 1]
    eps, norm   radius in [0, 1] pixel units, per image, of "linf", at most 1, or "l2", at most sqrt(3 H W)
    step_size   length of a step in that norm; default 2 * eps / steps, the published eps / 5 for 10 steps
    ids         names of the streams; give the same to the loss where it draws, as that of a DDS does
    start       "random": uniform in the ball, one stream for each (seed, image id); "clean"; or a tensor in the ball
    returns     x_adv, detached, dtype of x: the last iterate

    Raises ValueError for arguments out of range, a start outside the ball, or a gradient that is not finite.
    Source: Madry et al. 2018; numbers as in docs/reference-code.md, 3.3. Taught in notebook 01.
    """
    check_callable(loss, "loss")
    ids = check_ids(ids, len(check_images(x)))
    check_choice(norm, ("linf", "l2"), "norm")
    eps, steps, seed = _length(eps, "eps", norm, x), check_count(steps, "steps", least=0), check_seed(seed)
    step_size = 2 * eps / max(steps, 1) if step_size is None else _length(step_size, "step_size", norm, x)
    x = x.detach()
    x_adv = _project(_start(x, start, eps, norm, seed, ids), x, eps, norm)
    for step in range(steps if eps > 0 else 0):
        grad = _by_portions(_gradient, loss, x_adv, step)
        if bad := [i for i, ok in zip(ids, grad.isfinite().flatten(1).all(1).tolist(), strict=True) if not ok]:
            raise ValueError(f"gradient at step {step} is not finite for images {bad}; look at their loss")
        x_adv = _project(x_adv.detach() + step_size * _direction(grad, norm), x, eps, norm)
    return x_adv.detach()


def _length(value, name, norm, x):
    """A radius or step as a float; ValueError beyond the whole width of [0, 1], where it cannot be in these units."""
    found = checks.check_number(value, name, "[0, inf)", "for images in [0, 1]")
    width = 1.0 if norm == "linf" else math.sqrt(x[0].numel())
    checks.check_unit(found, name, width, f"the width of [0, 1] in {norm}")
    if norm == "l2" and found > width / 4:
        warnings.warn(f"{name}={found:.4g} in l2 is a root mean square of {found / width:.2g} at every pixel value of "
                      f"[0, 1]; one in units of [0, 255] is divided by 255: {name}={found:.4g} / 255", stacklevel=3)
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


def strongest(loss, x, restarts=1, eps=8 / 255, norm="linf", steps=10, step_size=None, seed=0, ids=None, judgements=4):
    """Of several `pgd` runs from random starts, for each image the one whose last iterate has the greatest loss.

    restarts     runs; the first is that of `pgd` to the bit, start streams of the others are (seed, "pgd", id, restart)
    judgements   the last iterates are compared by the mean loss at so many step indices after all those of the
                 attacks: draws that no gradient has seen. The attack's strength is to be measured on yet others
    returns      x_adv as from `pgd`; other arguments are its

    Raises ValueError as `pgd` does. Source: Madry et al. 2018, and ours for the choice. Taught in notebook 09.
    """
    check_callable(loss, "loss")
    restarts, judgements = check_count(restarts, "restarts"), check_count(judgements, "judgements")
    steps, ids = check_count(steps, "steps", least=0), check_ids(ids, len(check_images(x)))
    eps = _length(eps, "eps", check_choice(norm, ("linf", "l2"), "norm"), x)
    best, most = x.detach(), -math.inf
    for run in range(restarts):
        start = _start(x.detach(), "random", eps, norm, seed, ids, *([run] if run else []))
        later = _shifted(loss, run * steps)  # draws of its own for each run
        x_adv = pgd(later, x, eps, norm, steps, step_size, start, seed, ids)
        with torch.no_grad():
            after = range(restarts * steps, restarts * steps + judgements)
            reached = sum(_by_portions(lambda f, images, step: f(images, step), loss, x_adv, step) for step in after)
        better = reached > most if run else torch.ones_like(reached, dtype=torch.bool)
        best, most = torch.where(better.view(-1, 1, 1, 1), x_adv, best), torch.where(better, reached, most)
    return best


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
