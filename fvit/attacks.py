"""PGD on a loss passed in as a callable, and the losses that move a prediction or an explanation."""

import math
import warnings
from types import SimpleNamespace

import torch
from torch.nn.functional import cross_entropy, one_hot, relu

from fvit.base import checks, rng
from fvit.base.checks import check_choice, check_classes, check_count, check_ids, check_images, check_seed, check_shape
from fvit.base.memory import in_memory
from fvit.explanations.methods import METHODS
from fvit.explanations.passes import check_method, explain_with_logits
from fvit.metrics.maps import top_k

VIT_BATCH = 32  # images whose gradient through a bare ViT is taken at once


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
    _check_callable(loss, "loss")
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
    _check_callable(loss, "loss")
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


def prediction_loss(model, y, n_samples=None, ids=None):
    """Loss for `pgd` that grows as the class `y` is lost: cross-entropy of a ViT, or minus the log of the smoothed
    probability of a DDS over fresh draws at each step (expectation over transformation).

    y           (B,) class indices
    n_samples   draws a step for a DDS, default 4; they come from the streams "eot", which no evaluation uses

    Source: Athalye et al. 2018 for the expectation; Salman et al. 2019 for the log outside the mean.
    """
    _check_callable(model, "model")
    n = check_count(4 if n_samples is None else n_samples, "n_samples")
    y = check_classes(y, checks.check_tensor(y, "y").numel(), _classes(model), "y")

    def loss(x, step):
        classes = check_classes(y, len(check_shape(x)), name="y").to(x.device)
        if not _is_dds(model):
            return cross_entropy(checks.check_logits(model(x), classes), classes, reduction="none")
        _, probs = _draw(model, x, step, None, n, ids)
        return -_log_probs(probs).gather(1, classes[:, None])[:, 0]

    if _is_dds(model) or hasattr(model, "grid"):
        names = check_ids(ids, len(y))
        _in_portions(loss, model, n, len(y), lambda rows: prediction_loss(model, y[rows], n, names[rows]))
    return loss


def explanation_loss(explainer, heat, k, keep_class=None, method="raw_attention", n_samples=None, ids=None):
    """Loss for `pgd` that grows as the mean map loses its mass on the clean top-k: minus that mass, in [-1, 0].

    explainer    a ViT, a DDS (fresh draws at each step, streams "eot"), or a callable (x, step) -> (B, h, w)
    heat         (B, h, w) clean maps, whose top-k (ties to the lowest index) is attacked
    keep_class   (B,) class to hold, by a penalty and no guarantee: relu(1 - margin), log p_y - max of the other log p
    n_samples    draws a step for a DDS, default 4

    Raises ValueError for a method without derivatives: it is attacked by transfer.
    Source: ours, in the manner of Ghorbani et al. 2019 (top-k attack). Taught in notebooks 01 and 05.
    """
    if not check_method(method).differentiable:
        able = ", ".join(name for name, entry in METHODS.items() if entry.differentiable)
        raise ValueError(f"method {method!r} would need second derivatives; attack it by transfer: make x_adv with "
                         f"{able}, then explain x_adv with {method!r}")
    _check_callable(explainer, "explainer")
    order, tokens = top_k(heat, k), checks.check_tensor(heat, "heat")[:1].numel()
    n = check_count(4 if n_samples is None else n_samples, "n_samples")
    has_prediction = _is_dds(explainer) or hasattr(explainer, "grid")
    if keep_class is not None and not has_prediction:
        raise ValueError("keep_class needs a ViT or a DDS; a callable has no prediction: add a penalty to its loss")
    held = None if keep_class is None else check_classes(keep_class, len(order), _classes(explainer), "keep_class")

    def loss(x, step):
        if len(check_shape(x)) != len(order):
            raise ValueError(f"heat holds {len(order)} maps and x {len(x)} images, wanted one map an image")
        if _is_dds(explainer):
            maps, probs = _draw(explainer, x, step, method, n, ids)
            log_probs = _log_probs(probs)
        elif has_prediction:
            maps, logits = explain_with_logits(explainer, x, method)
            log_probs = logits.log_softmax(1)
        else:
            maps = explainer(x, step)
        if maps[:1].numel() != tokens:
            raise ValueError(f"heat has {tokens} tokens and maps are {tuple(maps.shape)}, wanted maps of one grid")
        mass = maps.flatten(1).gather(1, order.to(x.device)).sum(1)
        if keep_class is None:
            return -mass
        classes = check_classes(held, len(x), log_probs.shape[1], "keep_class").to(x.device)
        other = log_probs.masked_fill(one_hot(classes, log_probs.shape[1]).bool(), -math.inf).amax(1)
        return -mass - relu(1 - (log_probs.gather(1, classes[:, None])[:, 0] - other))

    if has_prediction:
        names = check_ids(ids, len(heat))
        _in_portions(loss, explainer, n, len(heat), lambda rows: explanation_loss(
            explainer, heat[rows], k, None if held is None else held[rows], method, n, names[rows]))
    return loss


def _in_portions(loss, model, n, count, part):
    """Tell `pgd` how to take this loss of `count` images: `part(rows)` is that of some of them, as many as fill a batch
    with n draws each. The gradient of a batch is taken before the next begins: no activations are computed twice."""
    loss.part, draws = part, n if getattr(model, "sigma", 0) > 0 else 1
    loss.sized = model if _is_dds(model) else SimpleNamespace(batch_size=max(1, min(count, VIT_BATCH)))
    loss.portion = lambda images: max(1, loss.sized.batch_size // draws) if images == count else images


def _is_dds(model):
    return hasattr(model, "maps")


def _classes(model):
    return getattr(getattr(model, "vit", model), "num_classes", None)


def _check_callable(value, name):
    if not callable(value):
        raise ValueError(f"{name} is a {type(value).__name__}, wanted something to call, such as a ViT or a fvit.DDS")


def _draw(dds, x, step, method, n, ids):
    """Mean map (B, h, w) and smoothed probabilities (B, C) over the draws of this step."""
    step = check_count(step, "step", least=0)
    ids = check_ids(ids, len(x))  # by position here, without the warning of `DDS`: streams "eot" are of attacks alone
    maps, probs = dds.maps(x, ids=ids, method=method, purpose="eot", draws=range(step * n, (step + 1) * n))
    return None if maps is None else maps.mean(1), probs.mean(1)


def _log_probs(probs):
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()  # an underflow has no gradient, rather than NaN


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
