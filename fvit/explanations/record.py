"""What the forward passes of one batch leave for all methods, computed when first asked for."""

from dataclasses import dataclass, field

import torch
from torch import nn

from fvit.explanations.attn_lrp import pixel_relevance
from fvit.explanations.lrp import RelevancePass
from fvit.models.attention import AttentionMaps
from fvit.models.layouts import attention_blocks


@dataclass(frozen=True)
class Pass:
    """What one forward pass leaves for a method: attention[l] (B, heads, N, N), logits (B, C), x (B, 3, H, W).

    Only passes made for class-specific methods have the rest: `scores`, the logits with a graph back to the attention,
    and `layers`, module -> (input, output). Gradients and relevance are computed once, for all methods that ask.
    """

    vit: nn.Module
    x: torch.Tensor
    attention: AttentionMaps
    logits: torch.Tensor
    scores: torch.Tensor | None = None
    layers: dict = field(default_factory=dict)
    known: dict = field(default_factory=dict)

    def read(self, attn: torch.Tensor) -> torch.Tensor:
        """`rows` of `attn` (B, ..., N, N) on the patches -> (B, ..., h, w); of Swin's windows the mean of all rows."""
        if getattr(self.vit, "windowed", False):
            return _join_windows(attn.mean(-2), attention_blocks(self.vit)[-1], len(self.x))
        return self.to_grid(self.rows(attn))

    def rows(self, attn: torch.Tensor) -> torch.Tensor:
        """Rows of `attn` (B, ..., N, N) as the head reads its tokens -> (B, ..., N): their mean, weighted by a pool.

        As published for class tokens; of several the mean is ours (docs/reference-code.md, 1.9).
        """
        if self.attention.pool is not None:
            return torch.einsum("bn,b...nm->b...m", self.reading(attn.shape[-1]), attn)
        return attn[..., _readers(self.vit), :].mean(-2)

    def reading(self, n_tokens: int) -> torch.Tensor:
        """Shares (B, N), sum 1, of the tokens in what the head reads: an attention pool's attention, or all alike."""
        if self.attention.pool is not None:
            shares = self.attention.pool.mean((1, 2))
            return nn.functional.pad(shares, (n_tokens - shares.shape[1], 0))  # it may leave the prefix out
        shares = torch.zeros(len(self.x), n_tokens, dtype=self.logits.dtype, device=self.logits.device)
        shares[:, _readers(self.vit)] = 1
        return shares / shares.sum(1, keepdim=True)

    def to_grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """Values of all N tokens (B, ..., N) -> those of the patches (B, ..., h, w)."""
        return tokens[..., self.vit.num_prefix_tokens :].unflatten(-1, self.vit.grid)

    @property
    def attached(self) -> bool:
        """Whether maps of a class keep their graph back to x, second derivatives in it: x asked for gradients."""
        return self.logits.requires_grad

    def gradient(self, target: torch.Tensor, start_layer: int) -> list[torch.Tensor]:
        """d logit / d attention (B, heads, N, N), one backward pass from the logit of each image's target."""
        return self._once("gradient", start_layer, target, lambda: self.slope(
            self.scores, target, self.attention[start_layer:]))

    def slope(self, scores: torch.Tensor, target: torch.Tensor, maps) -> tuple[torch.Tensor, ...]:
        """d (score of each image's target) / d maps, of scores (B, C)."""
        score = scores.gather(1, target[:, None]).sum()
        return torch.autograd.grad(score, maps, retain_graph=True, create_graph=self.attached)

    def relevance(self, target: torch.Tensor, rules: str) -> RelevancePass:
        """LRP of the target's logit, which goes down as far as it is asked to."""
        return self._once("relevance", rules, target, lambda: RelevancePass(
            self.vit, self.layers, target, rules, self.attached))

    def pixels(self, target: torch.Tensor, gamma: float, conv_gamma: float) -> torch.Tensor:
        """Relevance (B, H, W) of the pixels by AttnLRP."""
        with torch.set_grad_enabled(self.attached):
            return pixel_relevance(self.vit, self.layers, target, gamma, conv_gamma)

    def _once(self, kind, setting, target, compute):
        key = kind, setting, tuple(target.tolist())
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]


def _readers(vit) -> slice:
    return getattr(vit, "readers", slice(0, 1))  # a module of one's own may lack it: the class token comes first


def _join_windows(values: torch.Tensor, block, batch: int) -> torch.Tensor:
    """Values (B * windows, heads, n) or (B * windows, n) of a Swin block, mean over windows -> (B, [heads,] h, w)."""
    (h, w), (wh, ww) = block.input_resolution, block.window_size
    rows, columns = -(-h // wh), -(-w // ww)  # padded up to whole windows, after the shift
    values = values.reshape(batch, rows, columns, *values.shape[1:-1], wh, ww) / (rows * columns)
    values = values.movedim((1, 2), (-4, -2))  # (B, [heads,] rows, wh, columns, ww)
    return values.flatten(-4, -3).flatten(-2)[..., :h, :w].roll(tuple(block.shift_size), (-2, -1))
