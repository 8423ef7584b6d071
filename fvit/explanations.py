"""Explanations of a ViT behind one verb: `explain(vit, x, method)`. A method is one function and one row of METHODS."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fvit.attention import AttentionMaps, capture_attention
from fvit.checks import check_choice, check_images, check_k


@dataclass(frozen=True)
class Pass:
    """What one forward pass leaves for a method: attention[l] (B, heads, N, N), logits (B, C), x (B, 3, H, W)."""

    vit: nn.Module
    x: torch.Tensor
    attention: AttentionMaps
    logits: torch.Tensor

    def to_grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """Values of all N tokens (B, N) -> those of the patches (B, h, w)."""
        return tokens[:, self.vit.num_prefix_tokens :].unflatten(1, self.vit.grid)


@dataclass(frozen=True)
class Method:
    """A row of METHODS. `function(record, target, **options)` returns the method's own values, (B, h, w) or pixels."""

    function: Callable
    class_specific: bool
    differentiable: bool
    summary: str

    @property
    def options(self) -> list[str]:
        return list(inspect.signature(self.function).parameters)[2:]


def raw_attention(record: Pass, target) -> torch.Tensor:
    """Attention of the class token in the last block, mean over heads. BASELINES 1.1."""
    return record.to_grid(record.attention[-1].mean(1)[:, 0])


def rollout(record: Pass, target, start_layer: int = 1) -> torch.Tensor:
    """Attention rollout: the class token's row of M_L ... M_s, where M = (A + I) with rows scaled to sum 1.

    A is the mean over heads, I stands for the residual path, s = `start_layer` (1 leaves the first block out).
    Source: Abnar and Zuidema 2020, as Chefer et al. 2021 compute it. BASELINES 1.2.
    """
    depth = len(record.attention)
    if start_layer not in range(depth):
        raise ValueError(f"start_layer={start_layer} with {depth} blocks, wanted 0 <= start_layer <= {depth - 1}")
    row = None  # (B, 1, N): the row alone is carried along, from the last block to the first
    for attn in reversed(record.attention[start_layer:]):
        attn = attn.mean(1)  # (B, N, N)
        mixed = attn + torch.eye(attn.shape[-1], dtype=attn.dtype, device=attn.device)
        mixed = mixed / mixed.sum(-1, keepdim=True)
        row = mixed[:, :1] if row is None else row @ mixed
    return record.to_grid(row[:, 0])


METHODS = {
    "raw_attention": Method(raw_attention, False, True, "attention of the class token in the last block"),
    "rollout": Method(rollout, False, True, "attention multiplied through the blocks, with the residual path"),
}


def explain(vit, x, method: str = "raw_attention", target=None, raw: bool = False, **options) -> torch.Tensor:
    """Explanation of what `vit` sees in `x`: one heatmap per image, differentiable in `x` where METHODS says so.

    x         images (B, 3, H, W) in [0, 1]
    method    a name in METHODS
    target    class index explained, (B,) or one int; default the prediction; class-agnostic methods do not use it
    raw       True: the method's own signed values at its own resolution
    options   of the method, e.g. start_layer for rollout
    returns   (B, h, w) non-negative, sums to 1 per image

    Raises ValueError for unknown methods or options, targets that are no class, and images outside [0, 1].
    """
    return explain_with_logits(vit, check_images(x), method, target, raw, **options)[0]


def explain_with_logits(vit, x, method: str = "raw_attention", target=None, raw: bool = False, **options):
    """`explain` and the logits (B, C) of the same forward pass. Values of `x` may leave [0, 1], as noisy images do."""
    check_method(method, **options)
    record = forward_pass(vit, x)
    return explain_pass(record, method, target, raw, **options), record.logits


def forward_pass(vit, x: torch.Tensor) -> Pass:
    """Run `vit` once and keep what methods read; several methods can share it through `explain_pass`."""
    with capture_attention(vit) as attention:
        logits = vit(x)
    return Pass(vit, x, attention.check(), logits)


def explain_pass(record: Pass, method: str, target=None, raw: bool = False, **options) -> torch.Tensor:
    """Explanation (B, h, w) from a pass already made; arguments as in `explain`."""
    values = check_method(method, **options).function(record, _targets(record.logits, target), **options)
    return values if raw else normalise_map(values, record.vit.grid)


def check_method(method: str, **options) -> Method:
    """The row of METHODS; ValueError if the method or one of its options is unknown."""
    row = METHODS[check_choice(method, METHODS, "method")]
    for name in options:
        check_choice(name, row.options, f"option of {method}")
    return row


def normalise_map(values: torch.Tensor, grid: tuple[int, int] | None = None) -> torch.Tensor:
    """Heatmap: pixels pooled to `grid` by sums, negatives clamped to 0, divided by the sum; all zero becomes uniform.

    values   (B, h, w) on the grid, or (B, H, W) pixels        returns  (B, h, w), sums to 1 per image
    """
    if grid is not None and tuple(values.shape[1:]) != tuple(grid):
        (height, width), (h, w) = values.shape[1:], grid
        values = values.reshape(-1, h, height // h, w, width // w).sum((2, 4))  # (B, h, w)
    positive = values.clamp(min=0)
    total = positive.sum((1, 2), keepdim=True)
    uniform = torch.full_like(positive, 1 / positive[0].numel())
    return torch.where(total > 0, positive / total.where(total > 0, 1), uniform)  # no 0/0, also not in the gradient


def top_k(maps, k: int) -> torch.Tensor:
    """Indices of the k greatest values of each map, greatest first; ties by lowest index.

    maps      (B, h, w) or (B, n), tensor or array, without NaN
    returns   (B, k) int64, positions in the flattened map
    """
    flat = torch.as_tensor(maps).flatten(1)  # (B, n)
    check_k(k, flat.shape[1])
    if flat.isnan().any():
        raise ValueError("maps hold NaN, which has no rank; look at maps.isnan()")
    return flat.argsort(dim=1, descending=True, stable=True)[:, :k]


def _targets(logits: torch.Tensor, target) -> torch.Tensor:
    batch, n_classes = logits.shape
    if target is None:
        return logits.detach().argmax(1)
    target = torch.as_tensor(target, device=logits.device)
    if target.is_floating_point() or target.shape not in ((), (batch,)):
        raise ValueError(
            f"target is {target.dtype} of shape {tuple(target.shape)}, wanted class indices (B,) = ({batch},)"
        )
    if target.min() < 0 or target.max() >= n_classes:
        raise ValueError(f"target has classes {target.min()}..{target.max()}, wanted 0..{n_classes - 1}")
    return target.long().expand(batch)
