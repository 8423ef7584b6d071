"""Explanations as other tools call them: Quantus's `explain_func`, captum's `.attribute`; used in docs/interop.md."""

import numpy as np
import torch

from fvit.base.checks import check_images
from fvit.explanations.own import method_name, method_row
from fvit.explanations.passes import explain_with_logits
from fvit.metrics.maps import to_pixels
from fvit.smoothing import DDS, SHARED, SmoothedClassifier

BEYOND = 0.5  # how far a tool's perturbation may carry images out of [0, 1]; those scaled to [-1, 1] go further


def as_quantus(method="vta", **options):
    """`method` as an `explain_func` for Quantus: called (model, inputs, targets), arrays in, array (B, 1, H, W) out.

    method    a name in METHODS, or a function as `explain` takes it
    options   those of the method; those of Quantus's `explain_func_kwargs` come on top
    model     a ViT; or a DDS, whose mean map it is, by its `as_classifier(fresh=False)`, which Quantus can call too
    inputs    (B, 3, H, W) in [0, 1], or perturbed: up to 0.5 beyond. They go to the model's device, not to `device`
    targets   (B,) class indices; None: the prediction

    Values are those of the patches, interpolated to pixels as for `segmentation_scores`. Behind a DDS all images and
    calls meet the same noise, and a perturbed image is clamped to [0, 1] first.
    Raises ValueError for an unknown method or option, and for other images or classes.
    """
    method_row(method)

    def explain_func(model, inputs, targets=None, *, device=None, **more):
        more.pop("method", None)  # the label that `quantus.evaluate` gives it
        return _pixels(model, torch.tensor(np.asarray(inputs)), method, targets, options | more)[:, None].numpy()

    explain_func.__name__ = method_name(method)
    return explain_func


def as_captum(model, method="vta", **options):
    """`method` as an attribution of captum, for its metrics and pictures: an object with `.attribute(inputs, target)`.

    model     a ViT, a DDS or its `as_classifier()`; method and options as for `as_quantus`
    """
    return Captum(model, method, **options)


class Captum:
    """What `as_captum` gives."""

    def __init__(self, model, method, **options):
        method_row(method)
        self.model, self.method, self.options = model, method, options

    def attribute(self, inputs, target=None, **options):
        """Attributions of the shape of `inputs`, (B, 3, H, W): a third of the pixel's value in each channel, so that
        their sum is the map. `inputs` may be a tuple of one tensor, as captum's metrics give it; then so is the answer.
        """
        if isinstance(inputs, tuple):
            return tuple(self.attribute(x, target, **options) for x in inputs)
        pixels = _pixels(self.model, inputs, self.method, target, self.options | options).to(inputs)
        return (pixels / 3)[:, None].repeat(1, 3, 1, 1)


def _pixels(model, x, method, target, options) -> torch.Tensor:
    """Attributions (B, H, W) on the CPU of what `model` sees in `x`."""
    model = model.dds if isinstance(model, SmoothedClassifier) else model
    x = check_images(x, "inputs", beyond=BEYOND).detach()
    weight = next(iter(getattr(model, "parameters", list)()), None)
    if weight is not None:  # arrays that a tool has perturbed are float64, which no accelerator need have
        x = x.to(torch.float32 if x.dtype == torch.float64 != weight.dtype else x.dtype).to(weight.device)
    if isinstance(model, DDS):
        heat = model(x.clamp(0, 1), SHARED, method, target, **options).heatmap
    else:
        with torch.no_grad():
            heat = explain_with_logits(model, x, method, target, **options)[0]
    return to_pixels(heat, tuple(x.shape[2:]))
