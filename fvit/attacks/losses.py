"""The losses that an attack increases: they move a prediction or an explanation, of a ViT or of a DDS."""

import copy
import math
from types import SimpleNamespace

import torch
from torch.nn.functional import cross_entropy, one_hot, relu

from fvit.base import checks
from fvit.base.checks import check_callable, check_classes, check_count, check_ids, check_shape
from fvit.explanations.methods import METHODS
from fvit.explanations.own import method_name
from fvit.explanations.passes import check_method, explain_with_logits
from fvit.metrics.maps import top_k

VIT_BATCH = 32  # images whose gradient through a bare ViT is taken at once
LIGHTER = 8  # so many times fewer of a map of a class: its graph, of second derivatives, is up to twelve times as large


def prediction_loss(model, y, n_samples=None, ids=None):
    """Loss for `pgd` that grows as the class `y` is lost: cross-entropy of a ViT, or minus the log of the smoothed
    probability of a DDS over fresh draws at each step (expectation over transformation).

    y           (B,) class indices
    n_samples   draws a step for a DDS, default 4; they come from the streams "eot", which no evaluation uses

    Source: Athalye et al. 2018 for the expectation; Salman et al. 2019 for the log outside the mean.
    """
    check_callable(model, "model")
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


def explanation_loss(explainer, heat, k, keep_class=None, method="raw_attention", n_samples=None, ids=None,
                     target=None, goal=None):
    """Loss for `pgd` that grows as the mean map loses its mass on the clean top-k: minus that mass, in [-1, 0]; with a
    goal, as mass comes to lie there: that mass, in [0, 1].

    explainer    a ViT, a DDS or another defence (fresh draws at each step, streams "eot"), or a callable
                 (x, step) -> (B, h, w)
    heat         (B, h, w) clean maps, whose top-k (ties to the lowest index) is attacked
    keep_class   (B,) class to hold, by a penalty and no guarantee: relu(1 - margin), log p_y - max of the other log p
    method       the map that is attacked, a name of METHODS; a callable has its own
    n_samples    draws a step for a DDS, default 4
    target       (B,) class that a class-specific method explains: that of `heat`, whatever is predicted under attack
    goal         where the top-k is moved to, a mask (B, h, w) or indices (B, m) of the flattened grid

    The slope of a class-specific map is a second derivative, so attention is computed step by step: the kernels of
    scaled_dot_product_attention have a first one only. Maps have kinks at a clamp at 0 (all), at the greatest head
    (attribution rollout), and at moduli and signs (LRP), and LRP has poles, where a denominator is 0; where the clamp
    leaves nothing, a map is uniform and has no slope. The top-k is chosen once, on `heat`.
    Raises ValueError for a method without derivatives: it is attacked by transfer.
    Source: ours, in the manner of Ghorbani et al. 2019 (top-k and targeted attack). Taught in notebooks 01 and 12.
    """
    row, name = check_method(method), method_name(method)
    if not row.differentiable:
        able = ", ".join(known for known, entry in METHODS.items() if entry.differentiable)
        raise ValueError(f"method {name!r} has no derivatives here; attack it by transfer: make x_adv with {able}, "
                         f"then explain x_adv with {name!r}")
    check_callable(explainer, "explainer")
    explainer = _lighter(explainer) if row.class_specific else explainer
    order, heat = top_k(heat, k), checks.check_tensor(heat, "heat")
    tokens, grid = heat[:1].numel(), tuple(heat.shape[1:])
    goal = None if goal is None else _places(goal, len(order), grid)
    n = check_count(4 if n_samples is None else n_samples, "n_samples")
    has_prediction = _is_dds(explainer) or hasattr(explainer, "grid")
    if keep_class is not None and not has_prediction:
        raise ValueError("keep_class needs a ViT or a DDS; a callable has no prediction: add a penalty to its loss")
    if target is not None and not has_prediction:
        raise ValueError("target needs a ViT or a DDS; a callable explains the class that it has inside")
    if target is None and has_prediction and row.class_specific:
        raise ValueError(f"method {name!r} explains a class: give target (B,), the class that the maps in heat explain")
    held, target = (None if given is None else check_classes(given, len(order), _classes(explainer), what)
                    for given, what in ((keep_class, "keep_class"), (target, "target")))

    def loss(x, step):
        if len(check_shape(x)) != len(order):
            raise ValueError(f"heat holds {len(order)} maps and x {len(x)} images, wanted one map an image")
        if _is_dds(explainer):
            maps, probs = _draw(explainer, x, step, method, n, ids, target)
            log_probs = _log_probs(probs)
        elif has_prediction:
            maps, logits = explain_with_logits(explainer, x, method, target)
            log_probs = logits.log_softmax(1)
        else:
            maps = explainer(x, step)
        if maps[:1].numel() != tokens:
            raise ValueError(f"heat has {tokens} tokens and maps are {tuple(maps.shape)}, wanted maps of one grid")
        if x.requires_grad and torch.is_grad_enabled() and not maps.requires_grad:  # the class alone would be held
            raise ValueError("the maps have no gradient in x, so nothing would move them; leave out detach and "
                             "no_grad, and take gradients inside with create_graph=True")
        flat = maps.flatten(1)
        moved = -flat.gather(1, order.to(x.device)).sum(1) if goal is None else (flat * goal.to(flat)).sum(1)
        if keep_class is None:
            return moved
        classes = check_classes(held, len(x), log_probs.shape[1], "keep_class").to(x.device)
        other = log_probs.masked_fill(one_hot(classes, log_probs.shape[1]).bool(), -math.inf).amax(1)
        return moved - relu(1 - (log_probs.gather(1, classes[:, None])[:, 0] - other))

    if has_prediction:
        names = check_ids(ids, len(heat))
        _in_portions(loss, explainer, n, len(heat), lambda rows: explanation_loss(
            explainer, heat[rows], k, None if held is None else held[rows], method, n, names[rows],
            None if target is None else target[rows], None if goal is None else goal[rows].unflatten(1, grid)),
            VIT_BATCH // LIGHTER if row.class_specific else VIT_BATCH)
    return loss


def _places(goal, n, grid):
    """The tokens of a goal as a mask (B, h * w), at least one an image."""
    values, size = checks.check_tensor(goal, "goal").detach().cpu(), math.prod(grid)
    if values.ndim == 2 and values.shape[0] == n and not values.is_floating_point() and values.dtype != torch.bool:
        if values.numel() and not (0 <= values.min() and values.max() < size):
            raise ValueError(f"goal has tokens {values.min()}..{values.max()}, wanted 0..{size - 1}")
        mask = torch.zeros(n, size, dtype=torch.bool).scatter_(1, values.long(), True)
    elif values.shape == (n, *grid) and ((values == 0) | (values == 1)).all():
        mask = values.flatten(1) == 1
    else:
        raise ValueError(f"goal is {values.dtype} of shape {tuple(values.shape)}, wanted a mask of 0 and 1 "
                         f"{(n, *grid)}, or indices of tokens ({n}, m)")
    if not mask.any(1).all():
        raise ValueError(f"goal of image {mask.any(1).tolist().index(False)} has no token, wanted at least one")
    return mask


def _in_portions(loss, model, n, count, part, bare=None):
    """Tell `pgd` how to take this loss of `count` images: `part(rows)` is that of some of them, as many as fill a batch
    with n draws each, of a bare ViT `bare`. The gradient of a batch is taken before the next begins: no activations are
    computed twice."""
    loss.part, draws = part, n if getattr(model, "sigma", 0) > 0 else 1
    loss.sized = model if _is_dds(model) else SimpleNamespace(batch_size=max(1, min(count, bare or VIT_BATCH)))
    loss.portion = lambda images: max(1, loss.sized.batch_size // draws) if images == count else images


def _lighter(model):
    """A DDS with the same networks and streams that takes a share of the noisy images at once."""
    if not (_is_dds(model) and hasattr(model, "batch_size")) or hasattr(model, "lighter"):
        return model
    light = copy.copy(model)
    light.batch_size, light.lighter = max(1, model.batch_size // LIGHTER), True
    return light


def _is_dds(model):
    return hasattr(model, "maps")


def _classes(model):
    return getattr(getattr(model, "vit", model), "num_classes", None)


def _draw(dds, x, step, method, n, ids, target=None):
    """Mean map (B, h, w) and smoothed probabilities (B, C) over the draws of this step."""
    step = check_count(step, "step", least=0)
    ids = check_ids(ids, len(x))  # by position here, without the warning of `DDS`: streams "eot" are of attacks alone
    target, draws = None if target is None else target.to(x.device), range(step * n, (step + 1) * n)
    maps, probs = dds.maps(x, ids=ids, method=method, target=target, purpose="eot", draws=draws)
    return None if maps is None else maps.mean(1), probs.mean(1)


def _log_probs(probs):
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()  # an underflow has no gradient, rather than NaN
