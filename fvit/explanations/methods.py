"""Every explanation method, one function each, and the table of them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fvit.explanations.attn_lrp import check_attn
from fvit.explanations.lrp import check_blocks, check_pixels
from fvit.explanations.record import Pass


@dataclass(frozen=True)
class Method:
    """A row of METHODS. `function(record, target, **options)` returns the method's own values, (B, h, w) or pixels.

    differentiable   an attack may differentiate through it, almost everywhere: clamps, moduli, maxima and divisions by
                     what may be 0 leave kinks and poles. The others are detached
    check            `check(vit, settings)` raises ValueError where the method has no meaning
    reads            `reads(start_layer, depth)`: the blocks whose attention it reads, None for all
    own              whether it came by `register_method`
    """

    function: Callable
    class_specific: bool
    differentiable: bool
    summary: str
    check: Callable | None = None
    reads: Callable | None = None
    own: bool = False

    @property
    def options(self) -> list[str]:
        return list(inspect.signature(self.function).parameters)[2:]

    def settings(self, options: dict) -> dict:
        """Every option with its value, given or default."""
        defaults = inspect.signature(self.function).parameters
        return {name: options.get(name, defaults[name].default) for name in self.options}


# methods: signed values of their own; start_layer None is the last block ---------------------------------------------
def raw_attention(record: Pass, target, start_layer: int | None = None) -> torch.Tensor:
    """Attention of the class token in block `start_layer`, mean over heads. Source: docs/reference-code.md, 1.1.

    Ours: behind an attention pool, the default is the attention of the pool itself.
    """
    if start_layer is None and record.attention.pool is not None:
        return record.to_grid(record.reading(record.attention[-1].shape[-1]))
    return record.read(record.attention[_last(start_layer)].mean(1))


def rollout(record: Pass, target, start_layer: int = 1) -> torch.Tensor:
    """Attention rollout: the class token's row of M_L ... M_s, where M = (A + I) with rows scaled to sum 1.

    A is the mean over heads, I stands for the residual path, s = `start_layer` (1 leaves the first block out).
    Source: Abnar and Zuidema 2020, as Chefer et al. 2021 compute it (docs/reference-code.md, 1.2).
    """
    row = None  # (B, 1, N): the row alone is carried along
    for attn in reversed(record.attention[start_layer:]):
        mixed = _with_skip(attn.mean(1))
        mixed = mixed / mixed.sum(-1, keepdim=True)
        row = record.rows(mixed)[:, None] if row is None else row @ mixed
    return record.to_grid(row[:, 0])


def gradcam(record: Pass, target, start_layer: int | None = None) -> torch.Tensor:
    """GradCAM on the attention of the last block: heads weighted by the mean gradient over the patches, then clamped.

    Source: Selvaraju et al. 2017, on attention as Chefer et al. 2021 (docs/reference-code.md, 1.3), before min-max.
    """
    layer = _last(start_layer) % len(record.attention)
    gradient = record.gradient(target, layer)[0]
    weights = record.read(gradient).mean((2, 3), keepdim=True)  # (B, heads, 1, 1)
    return (weights * record.read(record.attention[layer])).mean(1).clamp(min=0)


def partial_lrp(record: Pass, target, rules: str = "orig", start_layer: int | None = None) -> torch.Tensor:
    """Positive relevance of the class token's attention in the last block, mean over heads.

    Source: Voita et al. 2019, as Chefer et al. 2021 compute it for ViTs (docs/reference-code.md, 1.4).
    """
    weights = record.relevance(target, rules).attention(_last(start_layer) % len(record.attention))
    return record.read(weights.clamp(min=0).mean(1))


def lrp(record: Pass, target, rules: str = "orig", start_layer: int = 0) -> torch.Tensor:
    """Relevance of the pixels (B, H, W), signed: LRP through all blocks, so `start_layer` can only be 0.

    Sources: Bach et al. 2015; Chefer et al. 2021 (docs/reference-code.md, 1.8; rules in section 2).
    Note: small denominators amplify rounding: for single images float32 maps differ from float64 ones by as much as the
    map itself. `vit.double()` where that matters.
    """
    return record.relevance(target, rules).pixels()


def lrp_rollout(record: Pass, target, rules: str = "vta", start_layer: int = 0) -> torch.Tensor:
    """Rollout of M = mean over heads of R+, plus I, rows not scaled (docs/reference-code.md, 1.6 and fault 8).

    Where the head reads patches, what the residual path alone carries is left out (`_joint`).
    """
    found = record.relevance(target, rules)
    layers = reversed(range(start_layer, len(record.attention)))
    return _joint(record, (found.attention(layer).clamp(min=0).mean(1) for layer in layers))


def vta(record: Pass, target, rules: str = "vta", start_layer: int = 1) -> torch.Tensor:
    """Transformer attribution: rollout of M = mean over heads of (gradient * relevance)+, plus I, rows not scaled.

    Where the head reads patches, what the residual path alone carries is left out (`_joint`).
    Source: Chefer et al. 2021 (docs/reference-code.md, 1.5).
    """
    found, gradients = record.relevance(target, rules), record.gradient(target, start_layer)
    layers = reversed(list(enumerate(gradients, start_layer)))
    return _joint(record, ((grad * found.attention(n)).clamp(min=0).mean(1) for n, grad in layers))


def attribution_rollout(record: Pass, target, start_layer: int = 0) -> torch.Tensor:
    """Rollout of M = (max over heads of A * g / 2) + I, rows scaled to sum 1; g is the gradient of a block's own score.

    The score of block l is the target's logit when the block's output goes straight to the final norm and the head.
    Source: Xu et al. 2022, as a reproduction computes it (docs/reference-code.md, 1.7 and fault 17); A * g / 2 is its
    loop in closed form. Rows of sum 0 are not scaled. Where the head reads patches, what the residual path alone
    carries is left out (`_joint`).
    """
    net = record.vit.backbone

    def mixed(layer):
        output, attn = record.layers[net.blocks[layer]][1], record.attention[layer]
        (grad,) = record.slope(net.forward_head(net.norm(output)), target, attn)
        return ((attn if record.attached else attn.detach()) * grad / 2).amax(1)

    layers = reversed(range(start_layer, len(record.attention)))
    return _joint(record, (mixed(layer) for layer in layers), scaled=True)


def attn_lrp(record: Pass, target, gamma: float = 0.05, conv_gamma: float = 0.25) -> torch.Tensor:
    """AttnLRP: relevance of the pixels (B, H, W) to the target's logit, signed, with rules for softmax and products.

    gamma, conv_gamma   of the gamma rule in the MLPs and the head, and in the patch embedding; 0 is the epsilon rule.
                        To be tuned for each model, say its authors, whose example for ViTs tries both defaults

    Source: Achtibat et al. 2024, all of attention included: their own example for ViTs stops at the softmax. Agrees
    with their package lxt 2.1, of which nothing is copied.
    """
    return record.pixels(target, gamma, conv_gamma)


def _needs(part: str):
    """A check of METHODS: ValueError if the proof of the model's layout (models/layouts.py) did not find `part`."""

    def check(vit, settings):
        if reason := getattr(getattr(vit, "layout", None), "refused", {}).get(part):
            raise ValueError(reason)

    return check


METHODS = {
    row.function.__name__: row
    for row in (
        Method(raw_attention, False, True, "attention of the class token in the last block",
               reads=lambda start_layer, depth: [_last(start_layer) % depth]),
        Method(rollout, False, True, "attention multiplied through the blocks, with the residual path",
               _needs("rollout"),
               reads=range),
        Method(gradcam, True, True, "last attention, its heads weighted by their gradient"),
        Method(partial_lrp, True, True, "relevance of the last attention", check_blocks),
        Method(lrp, True, True, "relevance of the pixels", check_pixels),
        Method(lrp_rollout, True, True, "relevance multiplied through the blocks", check_blocks),
        Method(vta, True, True, "gradient times relevance, multiplied through the blocks", check_blocks),
        Method(attribution_rollout, True, True, "attention times gradient, through the blocks", _needs("tail")),
        Method(attn_lrp, True, True, "relevance of the pixels, by rules made for attention", check_attn),
    )
}


def _last(start_layer: int | None) -> int:
    return -1 if start_layer is None else start_layer


def _with_skip(mixed: torch.Tensor) -> torch.Tensor:
    return mixed + torch.eye(mixed.shape[-1], dtype=mixed.dtype, device=mixed.device)


def _joint(record: Pass, layers, scaled: bool = False) -> torch.Tensor:
    """(B, h, w): the read row of the product of M = C + I, of C (B, N, N) that come from the last block to the first.

    scaled   rows of M are divided by their sums
    Note: I stands for the residual path. A class token keeps its part of I in its own column, which no map shows; where
    the head reads N patches, each would show 1 / N of it, beside which their relevance is lost. So that part is carried
    apart and left out: what is shown came by attention at least once. For a class token that changes nothing.
    """
    stayed = moved = None  # (B, N) each, the read row: by the residual path alone, and the rest
    for mixed in layers:
        if stayed is None:
            stayed = record.reading(mixed.shape[-1]).to(mixed)
            moved = torch.zeros_like(stayed)
        if scaled:
            total = mixed.sum(-1) + 1
            total = torch.where(total == 0, 1, total)
            stayed, moved = stayed / total, moved / total
        moved = moved + ((stayed + moved)[:, None] @ mixed)[:, 0]
    return record.to_grid(moved)
