"""Capture the attention of every block during a forward pass, and leave the model as it was."""

from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

from fvit.base.checks import as_integer, as_list


class AttentionMaps(list):
    """The maps (B, heads, N, N) of each block in the last forward pass, first block first; rows sum to 1.

    Of a Swin transformer the blocks of the last stage, whose maps are (B * windows, heads, n, n), n tokens a window.
    Blocks that were not asked for have None.
    """

    def __init__(self, depth: int, wanted=None):
        super().__init__()
        self.depth = depth
        self.wanted = range(depth) if wanted is None else sorted(set(wanted))

    def stack(self) -> torch.Tensor:
        """All maps as (B, L, heads, N, N), differentiable; RuntimeError unless there is one for each block."""
        return torch.stack(self.check(range(self.depth)), dim=1)

    def check(self, blocks=None) -> "AttentionMaps":
        """Return itself if every block that was asked for gave its map; RuntimeError otherwise."""
        blocks = self.wanted if blocks is None else blocks
        found = [n for n in blocks if n < len(self) and self[n] is not None]
        if len(found) != len(blocks):
            raise RuntimeError(f"captured {len(found)} attention maps of {len(blocks)} blocks; "
                               "run vit(x) inside capture_attention(vit)")
        return self


@contextmanager
def capture_attention(vit: nn.Module, blocks=None):
    """Context in which each forward pass of `vit` leaves the attention of its blocks in the list that is yielded.

    vit      a ViT of `load_vit`, or a timm vision transformer (plain, or Swin: then its last stage)
    blocks   indices of the blocks that are read, default all; the others stay fused, which is faster
    yields   AttentionMaps: attn[l] is (B, heads, N, N), attn.stack() is (B, L, heads, N, N)

    Each forward pass replaces the maps of the one before. Blocks that are read run unfused (logits differ by some
    1e-7). On exit, also by an exception, only our own hooks are removed and the flags are as they were.
    Raises ValueError if the model has no such blocks, RuntimeError if what was captured is not attention.
    """
    layers = [block.attn for block in attention_blocks(vit)]
    indices = None if blocks is None else [as_integer(n) for n in as_list(blocks) or [None]]
    if not all(n in range(len(layers)) for n in indices or ()):
        raise ValueError(f"blocks={blocks!r} with {len(layers)} blocks, wanted indices 0..{len(layers) - 1}")
    maps = AttentionMaps(len(layers), indices)

    def start(*_):
        maps[:] = [None] * len(layers)

    def keep(n, module, args, out):
        maps[n] = _checked(out)

    with ExitStack() as undo:
        undo.callback(layers[0].register_forward_pre_hook(start).remove)
        for n in maps.wanted:
            undo.callback(setattr, layers[n], "fused_attn", layers[n].fused_attn)
            layers[n].fused_attn = False  # per block: timm's global switch has no effect on models already built
            undo.callback(layers[n].attn_drop.register_forward_hook(partial(keep, n)).remove)
        yield maps


def attention_blocks(vit: nn.Module) -> list[nn.Module]:
    """The blocks whose attention is captured; ValueError if the model has none."""
    backbone = getattr(vit, "backbone", vit)
    stages = getattr(backbone, "layers", None)
    blocks = list(getattr(stages[-1] if isinstance(stages, nn.Sequential) else backbone, "blocks", []))
    layers = [getattr(block, "attn", None) for block in blocks]
    if not layers or not all(hasattr(layer, "fused_attn") and hasattr(layer, "attn_drop") for layer in layers):
        name = type(backbone).__name__
        raise ValueError(f"{name} has no blocks whose attention we can capture; choose a timm ViT, DeiT or Swin")
    return blocks


def _checked(weights: torch.Tensor) -> torch.Tensor:
    """The map, if its first rows sum to 1: scores before the softmax or dropped-out weights would not."""
    total = weights[..., 0, :].detach().sum(-1)
    tolerance = 1e-3 if weights.dtype in (torch.float32, torch.float64) else 2e-2
    if not torch.allclose(total, torch.ones_like(total), rtol=0, atol=tolerance):
        low, high = total.min().item(), total.max().item()
        raise RuntimeError(f"attention rows sum to {low:.3g}..{high:.3g}, wanted 1; is the model in eval() mode?")
    return weights
