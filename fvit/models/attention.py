"""Capture the attention of every block during a forward pass, and leave the model as it was."""

from contextlib import ExitStack, contextmanager
from functools import partial
from threading import get_ident

import torch
from timm.layers import AttentionPoolLatent
from torch import nn

from fvit.base.checks import as_integer, as_list
from fvit.models.layouts import attention_blocks, attention_layer, pool_attention
from fvit.models.state import evaluated, held


class AttentionMaps(list):
    """The maps (B, heads, N, N) of each block in the last forward pass, first block first; rows sum to 1.

    Of a Swin transformer the blocks of the last stage, whose maps are (B * windows, heads, n, n), n tokens a window.
    Blocks that were not asked for have None. `.pool` is that of an attention pool behind the blocks, (B, heads,
    queries, n) over its n tokens, None where the model has none.
    """

    def __init__(self, depth: int, wanted=None):
        super().__init__()
        self.depth, self.pool = depth, None
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
                               "run vit(x) inside capture_attention(vit), in its own thread")
        return self


@contextmanager
def capture_attention(vit: nn.Module, blocks=None):
    """Context in which each forward pass of `vit` leaves the attention of its blocks in the list that is yielded.

    vit      a ViT of `load_vit`, or a timm vision transformer (plain, or Swin: then its last stage)
    blocks   indices of the blocks that are read, default all; the others stay fused, which is faster
    yields   AttentionMaps: attn[l] is (B, heads, N, N), attn.stack() is (B, L, heads, N, N)

    Each forward pass of this thread replaces the maps of the one before; those of other threads go by unseen. Blocks
    that are read run unfused (logits differ by some 1e-7), in evaluation mode and without gradient checkpointing. On
    exit, also by an exception, only our own hooks are removed and the flags are as they were.
    Raises ValueError if the model has no such blocks, RuntimeError if what was captured is not attention.
    """
    layers, thread = [attention_layer(block) for block in attention_blocks(vit)], get_ident()
    indices = None if blocks is None else [as_integer(n) for n in as_list(blocks) or [None]]
    if not all(n in range(len(layers)) for n in indices or ()):
        raise ValueError(f"blocks={blocks!r} with {len(layers)} blocks, wanted indices 0..{len(layers) - 1}")
    maps, backbone = AttentionMaps(len(layers), indices), getattr(vit, "backbone", vit)
    pool = getattr(backbone, "attn_pool", None)

    def start(*_):
        if get_ident() == thread:
            maps[:], maps.pool = [None] * len(layers), None

    def keep(n, module, args, out):
        if get_ident() == thread:
            maps[n] = _checked(out)

    def keep_pool(module, args, out):
        if get_ident() == thread:
            weights, _ = pool_attention(module, args[0])
            maps.pool = weights[:, :, :1] if module.pool == "token" else weights  # the queries whose answer is read

    with ExitStack() as undo:
        undo.enter_context(evaluated(backbone, recompute=False))
        undo.enter_context(held([layers[n] for n in maps.wanted], "fused_attn", False))
        undo.callback(layers[0].register_forward_pre_hook(start).remove)
        for n in maps.wanted:
            undo.callback(layers[n].attn_drop.register_forward_hook(partial(keep, n)).remove)
        if type(pool) is AttentionPoolLatent:
            undo.callback(pool.register_forward_hook(keep_pool).remove)
        yield maps


def _checked(weights: torch.Tensor) -> torch.Tensor:
    """The map, if its first rows sum to 1: scores before the softmax or dropped-out weights would not."""
    total = weights[..., 0, :].detach().sum(-1)
    tolerance = 1e-3 if weights.dtype in (torch.float32, torch.float64) else 2e-2
    if not torch.allclose(total, torch.ones_like(total), rtol=0, atol=tolerance):
        low, high = total.min().item(), total.max().item()
        raise RuntimeError(f"attention rows sum to {low:.3g}..{high:.3g}, wanted 1; what changes the softmax?")
    return weights
