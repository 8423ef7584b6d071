"""The loss of AutoAttack's APGD-DLR and targeted APGD: a margin of logits that is blind to their shift and scale."""

import math

from fvit.attacks.losses import _classes, _draw, _in_portions, _is_dds, _log_probs
from fvit.base import checks
from fvit.base.checks import check_callable, check_classes, check_count, check_ids, check_shape


def dlr_loss(model, y, target=None, n_samples=None, ids=None):
    """Loss for `pgd`, the difference of logits ratio: it is above 0 where `y` is lost, or `target` is above `y`.

    model       a ViT, whose logits z it takes; or a DDS or another defence: log-probabilities of the mean over fresh
                draws at each step, as of `DDS.as_classifier` (streams "eot", which no evaluation uses)
    y           (B,) class indices
    target      None: -(z_y - max of the other z) / (z_1 - z_3), with z_1 >= z_2 >= ... the sorted z. Or (B,) class
                indices, none that of `y`: -(z_y - z_target) / (z_1 - (z_3 + z_4) / 2)
    n_samples   draws a step, default 4

    Raises ValueError for fewer than 3 classes, with a target 4, where the ratio is not defined.
    Source: Croce and Hein 2020, equations 6 and 7.
    """
    check_callable(model, "model")
    n = check_count(4 if n_samples is None else n_samples, "n_samples")
    size = checks.check_tensor(y, "y").numel()
    y = check_classes(y, size, _classes(model), "y")
    target = None if target is None else check_classes(target, size, _classes(model), "target")
    if target is not None and (same := (target.cpu() == y.cpu()).nonzero()[:, 0].tolist()):
        raise ValueError(f"target is y for images {same}, wanted another class; the loss would be 0 everywhere")
    least = 3 if target is None else 4

    def loss(x, step):
        if len(check_shape(x)) != size:
            raise ValueError(f"y holds {size} classes and x {len(x)} images, wanted one class an image")
        z = _log_probs(_draw(model, x, step, None, n, ids)[1]) if _is_dds(model) else model(x)
        if z.ndim != 2 or z.shape[1] < least:
            raise ValueError(f"model gives {tuple(z.shape)}, wanted (B, C) with at least {least} classes, of which the "
                             "ratio is taken; use prediction_loss")
        ranked = z.sort(dim=1, descending=True).values
        of_y = z.gather(1, y.to(z.device)[:, None])[:, 0]
        if target is None:
            rival, low = z.scatter(1, y.to(z.device)[:, None], -math.inf).amax(1), ranked[:, 2]
        else:
            rival, low = z.gather(1, target.to(z.device)[:, None])[:, 0], (ranked[:, 2] + ranked[:, 3]) / 2
        return (rival - of_y) / (ranked[:, 0] - low + 1e-12)

    if _is_dds(model) or hasattr(model, "grid"):
        names = check_ids(ids, size)
        _in_portions(loss, model, n, size, lambda rows: dlr_loss(
            model, y[rows], None if target is None else target[rows], n, names[rows]))
    return loss
