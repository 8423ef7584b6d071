"""DDS: add Gaussian noise once, denoise, explain, average over draws."""

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fvit.base import checks, rng
from fvit.base.checks import check_choice, check_classes, check_count, check_ids, check_images, check_k, check_noisy
from fvit.base.memory import halving
from fvit.base.moments import Moments
from fvit.base.positions import Positions
from fvit.explanations.own import method_name
from fvit.explanations.passes import check_method, explain_pass, forward_pass
from fvit.metrics.maps import to_pixels, top_k
from fvit.models.products import products
from fvit.models.vit import check_vit
from fvit.records.rows import conform

DRAWS = ("independent", "antithetic")
SHARED = object()  # as `ids`: all images meet the same noise, so that each answer is a function of its image alone


def add_noise(x, sigma, seed, purpose, ids, draws, antithetic=False):
    """`x + sigma * z`, one stream for each (seed, purpose, image id, draw): the only place where images get noise.

    x         (B, 3, H, W) in [0, 1]; the result is not clamped
    sigma     noise std for images in [0, 1]; at 0 the answer is x itself
    purpose   name of the streams: "dds" in evaluations, "eot" in attacks, so that the two never share a draw
    ids       (B,) image ids, None for positions; an id may occur again with another draw
    draws     (B,) draw indices, or one for all rows. Raises ValueError where they, ids or sigma do not fit
    antithetic   draws 2 j and 2 j + 1 are a pair: that of stream 2 j, and the same with the other sign
    """
    check_noisy(x)
    sigma = checks.check_sigma(sigma)
    if sigma == 0:
        return x
    ids = check_ids(ids, len(x), once=False)
    draws = checks.check_draws(draws, len(x))
    if len(draws) != len(x):
        raise ValueError(f"got {len(ids)} ids and {len(draws)} draws for {len(x)} images, wanted one of each per image")
    odd = [d % 2 if antithetic else 0 for d in draws]
    z = [rng.normal(x.shape[1:], seed, purpose, i, d - mirrored, dtype=x.dtype) * (-1) ** mirrored
         for i, d, mirrored in zip(ids, draws, odd, strict=True)]
    return x + sigma * torch.stack(z).to(x.device)


@dataclass
class DDSOutput:
    """What a DDS says about B images; standard errors are sample std / sqrt(n): NaN at n = 1, 0 at sigma = 0. Of pairs
    (draws="antithetic") n counts pairs, and the std is that of their means. `heat, probs = dds(x)` unpacks both.
    """

    heatmap: torch.Tensor  # (B, h, w) mean over draws; sums to 1, or to k for votes
    heatmap_se: torch.Tensor  # (B, h, w)
    probs: torch.Tensor  # (B, C) smoothed prediction
    probs_se: torch.Tensor  # (B, C)
    target: torch.Tensor  # (B,) the one class of all draws
    ids: list[str]
    samples: torch.Tensor | None = None  # (B, n, h, w) what was averaged, if kept
    labels: dict = field(default_factory=dict)  # columns of `rows` that all images share

    def __iter__(self):
        return iter((self.heatmap, self.probs))

    def heatmap_at(self, size) -> torch.Tensor:
        """The map at `size` pixels, a side or (H, W): (B, H, W) on the CPU, bilinear, as for `segmentation_scores`.

        Values are those of the grid, per patch and not per pixel: they sum to about (H / h) (W / w) times the map's
        sum. Raises ValueError for a size below that of the grid.
        """
        return to_pixels(self.heatmap, checks.check_size(size))

    def rows(self):
        """Tidy DataFrame, for each image `target`, `target_prob` (95 % normal interval) and `heatmap_se`, the root mean
        square over tokens of the map's standard error. Columns of the run and of the attack stay empty."""
        at = (torch.arange(len(self.ids), device=self.target.device), self.target)
        p, half = self.probs[at].cpu().double(), 1.96 * self.probs_se[at].cpu().double()
        found = {"target": {"value": self.target}, "target_prob": {"value": p, "ci_low": p - half, "ci_high": p + half},
                 "heatmap_se": {"value": self.heatmap_se.cpu().double().square().mean((1, 2)).sqrt()}}
        return conform([{"image_id": image_id, "metric": metric, **{name: v[i].item() for name, v in values.items()}}
                        for metric, values in found.items() for i, image_id in enumerate(self.ids)], **self.labels)


class DDS(nn.Module):
    """Denoised diffusion smoothing: `w(x) = E[Z(T(x + z))]`, z ~ N(0, sigma^2 I), and the prediction likewise.

    vit, den     classifier and denoiser; den(x_noisy, sigma) -> images in [0, 1]; None: noise only
    sigma        noise std for images in [0, 1]; at 0 the denoiser is used only where den.has_level(0), if it has that
                 method, and one draw is computed, since all are equal
    n_samples    draws an image; seed: root of the streams (seed, purpose, image id, draw)
    batch_size   noisy images per network call (default 32), over images and draws; halved if memory runs out
    aggregate    "mean" of the normalised maps, or "votes": share of draws with the token in their top k
    precision    "bfloat16" for the denoiser, if it has an attribute `precision`, and for the products of the ViT with
                 its weights; its attention stays in float32, as do maps of a class, from a pass of their own, and
                 functions of one's own. "float32", or None: the denoiser as it is. Averages are float64 inside
    draws        "independent", or "antithetic": in pairs z and -z, an even number of them, whose errors cancel in part.
                 The mean has no bias either way; single draws of a pair are not independent (docs/theory.md, 3)

    An nn.Module without parameters of its own: `.to`, `.double` and `state_dict` reach those of vit and den, where
    these are modules. Both are put into evaluation mode and stay there, since dropout would change the answer.

    Raises ValueError for arguments out of range, or a sigma > 0 for which the denoiser has no level.
    Source: Hu et al. 2024; Carlini et al. 2023. Taught in notebook 03; the reference code: docs/reference-code.md, 4.2.
    """

    def __init__(self, vit, den, sigma=0.25, n_samples=16, seed=0, batch_size=None, aggregate="mean", precision=None,
                 draws="independent"):
        super().__init__()
        self.vit, self.den, self.seed = check_vit(vit), den, checks.check_seed(seed)
        checks.check_classifier(getattr(vit, "num_classes", None), "a DDS, which smooths the prediction,")
        self.sigma, self.positions = checks.check_sigma(sigma), Positions()
        if den is not None and not callable(den):
            raise ValueError(f"den is a {type(den).__name__}, wanted None or a denoiser, den(x_noisy, sigma) -> images")
        self.n_samples, self.draws = check_count(n_samples, "n_samples"), check_choice(draws, DRAWS, "draws")
        if self.draws == "antithetic" and self.sigma > 0 and self.n_samples % 2:
            raise ValueError(f"n_samples={n_samples} with draws='antithetic', which come in pairs; take an even number")
        self.batch_size = check_count(32 if batch_size is None else batch_size, "batch_size")
        self.aggregate = check_choice(aggregate, ("mean", "votes"), "aggregate")
        self.precision = check_choice(precision, (None, "float32", "bfloat16"), "precision")
        if precision is not None and hasattr(den, "precision"):
            self.den = copy.copy(den)  # same weights; the caller's denoiser keeps its own precision
            self.den.precision = precision
        self.denoises = den is not None and (not hasattr(den, "has_level") or bool(den.has_level(self.sigma)))
        if den is not None and self.sigma > 0 and not self.denoises:
            raise ValueError(f"sigma={self.sigma:g} lies outside the denoiser's schedule; is it meant for x in [0, 1]?")
        self.eval()

    def train(self, mode: bool = True):
        """Evaluation mode, whatever is asked: a training loop around a DDS does not change what it computes."""
        return super().train(False)

    def __repr__(self):
        vit, den = (getattr(net, "name", "") or type(net).__name__ for net in (self.vit, self.den))
        inner = getattr(self.den, "precision", None)
        return (f"DDS(vit={vit}, den={'None' if self.den is None else den}, sigma={self.sigma:g}, n_samples="
                f"{self.n_samples}, seed={self.seed}, batch_size={self.batch_size}, aggregate={self.aggregate}, "
                f"precision={self.precision}" + f", denoiser in {inner}" * (inner not in (None, self.precision)) +
                f", draws={self.draws}" * (self.draws != "independent") + ")")

    def as_classifier(self, n_samples=None, fresh=True) -> "SmoothedClassifier":
        """The smoothed prediction as other tools take a classifier: images (B, 3, H, W) in [0, 1] -> log-probabilities
        (B, C), with gradients through noise and denoiser; raises ValueError for other images, as the DDS does.

        n_samples   draws at each call; default those of the DDS. They are those of attacks, the streams "eot"
        fresh       True: new draws at each call (expectation over transformation): call c, from 0, takes draws c n to
                    (c + 1) n - 1 of the stream that an image's position names, as `prediction_loss` does at step c.
                    False: one set of draws for all calls and images: a function of the image alone, whatever its batch,
                    as AutoAttack supposes. An attack then knows the noise it meets: judge it by `dds(x_adv)` too
        """
        return SmoothedClassifier(self, n_samples, fresh)

    @torch.no_grad()
    def forward(self, x, ids=None, method="raw_attention", target=None, keep_samples=False, k=None, **options):
        """Smoothed map and prediction of each image, from the streams "dds" and without gradients.

        x             (B, 3, H, W) in [0, 1]
        ids           (B,) names of the images, each with noise of its own; None for positions, which is for one batch:
                      other images under the same positions would meet the same noise, and a warning says so
        method        a name of METHODS or a function as `explain` takes it, or a list of them: they share the draws
        target        (B,) class explained; None takes the argmax of the smoothed prediction, for all draws
        keep_samples  keep each draw's map; memory then grows with n_samples, otherwise it does not
        k             size of the top set, for aggregate="votes"; ties go to the lowest index
        options       start_layer, rules: of the method; each method of a list must have them. `rows` do not name them
        returns       DDSOutput, or for a list a dict of them, by method

        Raises ValueError for bad images, ids, target or k and for an unknown method or option, before any network runs.
        Note: a clean and an attacked image with one id meet the same noise; another seed gives them fresh draws.
        """
        names = list(method) if isinstance(method, list | tuple) else [method]
        ids, target = self.check(x, ids, names, target, options)
        if self.aggregate == "votes" and k is None:
            raise ValueError('aggregate="votes" needs k, the size of the top set')
        checks.check_flag(keep_samples, "keep_samples")
        k = None if k is None else check_k(k, math.prod(self.vit.grid))
        first = [m for m in names if target is not None or not check_method(m).class_specific]
        probs, found = self._average(x, ids, first, target, keep_samples, k, options)
        target = probs[0].argmax(1) if target is None else target
        later = [m for m in names if m not in first]  # the class is known now: the same draws again
        found |= self._average(x, ids, later, target, keep_samples, k, options)[1] if later else {}
        shared = {"model": str(getattr(self.vit, "name", "")), "sigma": self.sigma, "n_samples": self.n_samples,
                  "defence": ("none", "noise_only", "denoise_only", "dds")[2 * self.denoises + (self.sigma > 0)]}
        out = {m: DDSOutput(*found[m][:2], *probs, target, ids, found[m][2], shared | {"method": method_name(m)})
               for m in names}
        return out if isinstance(method, list | tuple) else out[method]

    @halving
    def maps(self, x, *, ids=None, method="raw_attention", target=None, purpose="dds", draws=None, **options):
        """Maps (B, n, h, w) and class probabilities (B, n, C) of each draw, differentiable in x: the path of attacks.

        method=None leaves out the maps; draws defaults to range(n_samples); a class-specific method needs a target.
        Activations are kept for one batch_size at most: beyond it they are computed again in the backward pass.
        """
        names = [] if method is None else [method]
        ids, target = self.check(x, ids, names, target, options)
        if names and target is None and check_method(method).class_specific:
            raise ValueError(f"method {method!r} explains a class: give target (B,), one class for all draws")
        draws = list(range(self.n_samples)) if draws is None else checks.check_draws(draws)
        check_count(len(draws), "number of draws")
        shown = draws[:1] if self.sigma == 0 else draws
        again = len(x) * len(shown) > self.batch_size and x.requires_grad
        steps = [self._step(x, part, names, target, purpose, options, again) for part in self._chunks(ids, shown)]
        each = [torch.cat(parts).unflatten(0, (len(x), len(shown))) for parts in zip(*steps, strict=True)]
        probs, *maps = [v.expand(-1, len(draws), *v.shape[2:]) for v in each]
        return (maps[0] if maps else None), probs

    @halving
    def _average(self, x, ids, names, target, keep, k, options):
        """(mean, se) of the prediction, then for each name (mean, se, samples) of its maps."""
        draws = range(1 if self.sigma == 0 else self.n_samples)
        unit = 2 if self.draws == "antithetic" and self.sigma > 0 else 1
        moments = [Moments(len(x), unit) for _ in [None, *names]]
        kept = [torch.empty(len(x), len(draws), *self.vit.grid).to(x) if keep else None for _ in names]
        for chunk in self._chunks(ids, draws):
            probs, *maps = self._step(x, chunk, names, target, "dds", options)
            if self.aggregate == "votes":
                maps = [torch.zeros_like(m).flatten(1).scatter_(1, top_k(m, k), 1).view_as(m) for m in maps]
            for moment, values in zip(moments, [probs, *maps], strict=True):
                moment.add(chunk[0], values)
            for samples, heat in zip(kept, maps, strict=True):
                if keep:
                    samples[chunk[0], chunk[2]] = heat.to(samples.dtype)
        results = [[v.to(x.dtype).to(x.device) for v in moment.result(exact=self.sigma == 0)] for moment in moments]
        kept = [s.expand(-1, self.n_samples, -1, -1) if keep else None for s in kept]
        return results[0], {m: (*r, s) for m, r, s in zip(names, results[1:], kept, strict=True)}

    def _chunks(self, ids, draws):
        """Pairs (image, draw) in batches, as lists of positions, ids and draws; an image meets its draws in order."""
        n = len(draws)
        for start in range(0, len(ids) * n, self.batch_size):
            pairs = [divmod(p, n) for p in range(start, min(start + self.batch_size, len(ids) * n))]
            yield [i for i, _ in pairs], [ids[i] for i, _ in pairs], [draws[j] for _, j in pairs]

    def _step(self, x, chunk, names, target, purpose, options, recompute=False):
        """Class probabilities (P, C), then one map (P, h, w) for each name, of the P pairs in `chunk`."""
        rows, ids, draws = chunk

        def run(x_rows):
            x_hat = add_noise(x_rows, self.sigma, self.seed, purpose, ids, draws, self.draws == "antithetic")
            if self.denoises:
                x_hat = _denoised(self.den(x_hat, self.sigma), x_hat)
            whole = [name for name in names if self.precision == "bfloat16" and check_method(name).class_specific]
            shared = [name for name in names if name not in whole]
            with products(x_hat.device.type, self.precision):
                record = forward_pass(self.vit, x_hat, shared, **options) if shared else None  # one for all methods
                logits = self.vit(x_hat) if record is None else record.logits
            exact = forward_pass(self.vit, x_hat, whole, **options) if whole else None  # gradients and relevance
            classes = None if target is None else target[rows]
            return logits.softmax(1), *(explain_pass(exact if name in whole else record, name, classes, **options)
                                        for name in names)

        once = {"use_reentrant": False, "preserve_rng_state": False, "early_stop": False}
        return checkpoint(run, x[rows], **once) if recompute else run(x[rows])

    def check(self, x, ids, names, target, options=None):
        if any(module.training for module in self.modules()):
            raise ValueError("a network of this DDS is in training mode, which may change the answer; call .eval()")
        check_images(x, size=getattr(self.vit, "image_size", None))
        if ids is None and self.sigma > 0:
            self.positions.see(x)
        ids = ["shared"] * len(x) if ids is SHARED else check_ids(ids, len(x))
        for name in names:
            check_method(name, self.vit, **(options or {}))
        if target is not None:
            target = check_classes(target, len(x), self.vit.num_classes).to(x.device)
        return ids, target


class SmoothedClassifier(nn.Module):
    """What `DDS.as_classifier` gives; `calls` counts its calls, and calls = 0 repeats a run to the bit."""

    def __init__(self, dds: DDS, n_samples, fresh):
        super().__init__()
        self.dds, self.num_classes, self.calls = dds, getattr(dds.vit, "num_classes", None), 0
        self.n_samples = dds.n_samples if n_samples is None else check_count(n_samples, "n_samples")
        if dds.draws == "antithetic" and self.n_samples % 2:
            raise ValueError(f"n_samples={n_samples} of a DDS whose draws come in pairs; take an even number")
        self.fresh = checks.check_flag(fresh, "fresh")
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = self.calls * self.n_samples if self.fresh else 0
        ids = range(len(checks.check_shape(x))) if self.fresh else SHARED
        _, probs = self.dds.maps(x, ids=ids, method=None, purpose="eot", draws=range(start, start + self.n_samples))
        self.calls += 1
        return probs.mean(1).clamp_min(torch.finfo(probs.dtype).tiny).log()  # an underflow: no gradient, and no NaN

    def extra_repr(self):
        return f"n_samples={self.n_samples}, fresh={self.fresh}"


def _denoised(x_hat, x_noisy):
    if not isinstance(x_hat, torch.Tensor) or x_hat.shape != x_noisy.shape:
        got = tuple(x_hat.shape) if isinstance(x_hat, torch.Tensor) else type(x_hat).__name__
        raise ValueError(f"the denoiser gave {got} for images {tuple(x_noisy.shape)}, wanted images of the same shape")
    return x_hat.to(x_noisy.dtype)
