"""Every explanation method, one function each, and the table of them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fvit.explanations.lrp import check_blocks, check_pixels
from fvit.explanations.record import Pass, _readers


@dataclass(frozen=True)
class Method:
    """A row of METHODS. `function(record, target, **options)` returns the method's own values, (B, h, w) or pixels.

    differentiable   an attack may differentiate through it; the others are detached
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
    """Attention of the class token in block `start_layer`, mean over heads. Source: docs/reference-code.md, 1.1."""
    return record.read(record.attention[_last(start_layer)].mean(1))


def rollout(record: Pass, target, start_layer: int = 1) -> torch.Tensor:
    """Attention rollout: the class token's row of M_L ... M_s, where M = (A + I) with rows scaled to sum 1.

    A is the mean over heads, I stands for the residual path, s = `start_layer` (1 leaves the first block out).
    Source: Abnar and Zuidema 2020, as Chefer et al. 2021 compute it (docs/reference-code.md, 1.2).
    """
    return _joint(record, (_rows_to_one(_with_skip(attn.mean(1))) for attn in reversed(record.attention[start_layer:])))


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
    """Rollout of M = mean over heads of R+, plus I, rows not scaled (docs/reference-code.md, 1.6 and fault 8)."""
    found = record.relevance(target, rules)
    layers = reversed(range(start_layer, len(record.attention)))
    return _joint(record, (_with_skip(found.attention(layer).clamp(min=0).mean(1)) for layer in layers))


def vta(record: Pass, target, rules: str = "vta", start_layer: int = 1) -> torch.Tensor:
    """Transformer attribution: rollout of M = mean over heads of (gradient * relevance)+, plus I, rows not scaled.

    Source: Chefer et al. 2021 (docs/reference-code.md, 1.5).
    """
    found, gradients = record.relevance(target, rules), record.gradient(target, start_layer)
    layers = reversed(list(enumerate(gradients, start_layer)))
    return _joint(record, (_with_skip((grad * found.attention(n)).clamp(min=0).mean(1)) for n, grad in layers))


def attribution_rollout(record: Pass, target, start_layer: int = 0) -> torch.Tensor:
    """Rollout of M = (max over heads of A * g / 2) + I, rows scaled to sum 1; g is the gradient of a block's own score.

    The score of block l is the target's logit when the block's output goes straight to the final norm and the head.
    Source: Xu et al. 2022, as a reproduction computes it (docs/reference-code.md, 1.7 and fault 17); A * g / 2 is its
    loop in closed form. Rows of sum 0 are not scaled.
    """
    net = record.vit.backbone

    def mixed(layer):
        output, attn = record.layers[net.blocks[layer]][1], record.attention[layer]
        score = net.forward_head(net.norm(output)).gather(1, target[:, None]).sum()
        (grad,) = torch.autograd.grad(score, attn, retain_graph=True)
        return _rows_to_one(_with_skip((attn.detach() * grad / 2).amax(1)))

    return _joint(record, (mixed(layer) for layer in reversed(range(start_layer, len(record.attention)))))


def _check_tokens(vit, settings):
    if getattr(vit, "windowed", False):
        name = type(vit.backbone).__name__
        raise ValueError(f"{name} has no tokens that run through all blocks; choose raw_attention or gradcam")


METHODS = {
    row.function.__name__: row
    for row in (
        Method(raw_attention, False, True, "attention of the class token in the last block",
               reads=lambda start_layer, depth: [_last(start_layer) % depth]),
        Method(rollout, False, True, "attention multiplied through the blocks, with the residual path", _check_tokens,
               reads=range),
        Method(gradcam, True, False, "last attention, its heads weighted by their gradient"),
        Method(partial_lrp, True, False, "relevance of the last attention", check_blocks),
        Method(lrp, True, False, "relevance of the pixels", check_pixels),
        Method(lrp_rollout, True, False, "relevance multiplied through the blocks", check_blocks),
        Method(vta, True, False, "gradient times relevance, multiplied through the blocks", check_blocks),
        Method(attribution_rollout, True, False, "attention times gradient, through the blocks", _check_tokens),
    )
}


def _last(start_layer: int | None) -> int:
    return -1 if start_layer is None else start_layer


def _with_skip(mixed: torch.Tensor) -> torch.Tensor:
    return mixed + torch.eye(mixed.shape[-1], dtype=mixed.dtype, device=mixed.device)


def _rows_to_one(mixed: torch.Tensor) -> torch.Tensor:
    total = mixed.sum(-1, keepdim=True)
    return mixed / torch.where(total == 0, 1, total)


def _joint(record: Pass, layers) -> torch.Tensor:
    """(B, h, w): the read row of a product of (B, N, N) that come from the last block to the first."""
    row = None  # (B, 1, N): the row alone is carried along
    for mixed in layers:
        row = mixed[:, _readers(record.vit)].mean(1, keepdim=True) if row is None else row @ mixed
    return record.to_grid(row[:, 0])
