"""Layer-wise relevance propagation (LRP) through a ViT: a backward pass with rules of its own, batched."""

from collections import namedtuple
from contextlib import ExitStack, contextmanager
from threading import get_ident

import torch
from timm.layers import Attention, Mlp
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, linear

EPS = 1e-9  # of the reference code, in every division


def divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`a / (b + 1e-9)`, and 0 where b = 0: the division of every rule (docs/reference-code.md, fault 13)."""
    shifted = b + EPS
    shifted.masked_fill_(shifted == 0, EPS)
    return (a / shifted).masked_fill_(b == 0, 0)


# rules: relevance of a layer's output -> relevance of its inputs -----------------------------------------------------
def linear_vta(layer: nn.Linear, x, out, relevance):
    """Positive products W_ji x_i share the relevance of output j: denominators W+ x+ + W- x-, biases get nothing.

    x, out, relevance   (..., in), (..., out), (..., out)      returns   (..., in)

    Computed as W+ x+ + W- x- = (W x + |W||x|) / 2. Source: Chefer et al. 2021 (docs/reference-code.md, 2.3).
    Note: what rounding leaves of denominators without any positive product counts as the 0 that it stands for.
    """
    weight, size = layer.weight, layer.weight.abs()
    moduli = linear(x.abs(), size)
    positive = moduli + (out if layer.bias is None else out - layer.bias)
    rounding = 32 * torch.finfo(x.dtype).eps
    shares = relevance / torch.where(positive > rounding * moduli, positive / 2 + EPS, torch.inf)  # `divide`, faster
    return (x * (shares @ weight) + x.abs() * (shares @ size)) / 2


def linear_orig(layer: nn.Linear, x, out, relevance):
    """As `linear_vta`, but W+ x+ and W- x- are two shares with denominators of their own.

    Note: so relevance may double in a layer, and grows without bound through a net (docs/reference-code.md, fault 12).
    """
    signs = ((layer.weight.clamp(**sign), x.clamp(**sign)) for sign in ({"min": 0}, {"max": 0}))
    return sum(part * (divide(relevance, linear(part, weight)) @ weight) for weight, part in signs)


def add_orig(p, q, relevance):
    """Relevance of p + q, in proportion to p and q element by element: (that of p, that of q)."""
    share = divide(relevance, p + q)
    return p * share, q * share


def add_vta(p, q, relevance):
    """As `add_orig`, then both are scaled: of the whole, |P| / (|P| + |Q|) goes to p and the rest to q.

    P and Q are the totals over tokens and channels before. Source: Chefer et al. 2021; the totals of each sample by
    itself, where theirs run over the batch (docs/reference-code.md, fault 6).
    """
    parts = add_orig(p, q, relevance)
    totals = torch.stack([part.flatten(1).sum(1) for part in parts])  # (2, B)
    whole = relevance.flatten(1).sum(1)  # (B,)
    scales = divide(divide(totals.abs(), totals.abs().sum(0)) * whole, totals)
    return tuple(part * scale.view(-1, *[1] * (part.ndim - 1)) for part, scale in zip(parts, scales, strict=True))


def clone(x, first, second):
    """Relevance of a tensor that is used twice: both uses' together, but for the 1e-9 and where x = 0."""
    return x * divide(first + second, x)


def pool(tokens, relevance):
    """Relevance (B, D) of the mean of tokens (B, n, D) -> that of the tokens: of values with the sign of the mean.

    Of a single token, the class token, as published. For n > 1 there is no reference: in proportion to all values,
    means near 0 would blow relevance up.
    """
    agreeing = torch.where(tokens * tokens.mean(1, keepdim=True) > 0, tokens, 0)
    return agreeing * divide(relevance, agreeing.sum(1))[:, None]


def product(a, b, out, relevance):
    """Relevance of out = a @ b, half to each operand: (that of a, that of b)."""
    shares = divide(relevance, out)
    return a * (shares @ b.mT) / 2, b * (a.mT @ shares) / 2


def patch_embedding(layer: nn.Conv2d, x, relevance):
    """Relevance (B, H, W) of pixels x (B, 3, H, W) from that of patches (B, D, h, w): z^B rule for values in [lo, hi].

    lo, hi are each image's least and greatest value, after normalisation. Source: Montavon et al. 2017.
    """
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    # W x - W+ lo - W- hi, written as a sum of non-negative terms: a constant image gets 0 everywhere
    whole = conv2d(x - low, plus, stride=layer.stride) + conv2d(x - high, minus, stride=layer.stride)
    shares = relevance / (whole + EPS)
    back = (conv_transpose2d(shares, weight, stride=layer.stride) for weight in (plus, minus))
    return ((x - low) * next(back) + (x - high) * next(back)).sum(1)


Rules = namedtuple("Rules", "linear add")  # where the two published rule sets differ
RULES = {"vta": Rules(linear_vta, add_vta), "orig": Rules(linear_orig, add_orig)}
RULES["ours"] = RULES["vta"]  # Chefer et al.'s own word for the set of their transformer attribution


# the pass ------------------------------------------------------------------------------------------------------------
@contextmanager
def trace_layers(vit: nn.Module):
    """Context in which a forward pass of this thread leaves (input, output) of each module in the dictionary given."""
    seen, thread = {}, get_ident()

    def keep(module, args, out):
        if args and get_ident() == thread:
            seen[module] = (args[0], out)

    with ExitStack() as hooks:
        for module in vit.backbone.modules():
            hooks.callback(module.register_forward_hook(keep).remove)
        yield seen


class RelevancePass:
    """LRP of one class per image from what `trace_layers` saw; goes down block by block, and only as far as asked.

    seen     module -> (input, output) of a forward pass of `vit`
    target   (B,) class whose logit starts with relevance 1 (not with its value); rules: "vta" or "orig"
    attached   relevance keeps its graph back to what was seen; else it has none

    Per-sample: batches do not matter. Sources: Bach et al. 2015; for ViTs Chefer et al. 2021, as their code computes it
    (docs/reference-code.md, section 2). Ours: the rule of a pooled head (`pool`), and that the two heads of a distilled
    DeiT share by the rule of addition.
    """

    def __init__(self, vit, seen: dict, target: torch.Tensor, rules: str = "vta", attached: bool = False):
        self.vit, self.net, self.seen, self.rules, self.attached = vit, vit.backbone, seen, RULES[rules], attached
        self.totals = []  # (B,) total relevance after the head, then after each block, from last to first
        self._attention, self._tokens = {}, None
        self._walk = self._down(target)

    def attention(self, layer: int) -> torch.Tensor:
        """Relevance (B, heads, N, N) of the attention of block `layer`."""
        with torch.set_grad_enabled(self.attached):
            while layer not in self._attention:
                next(self._walk)
        return self._attention[layer]

    def tokens(self) -> torch.Tensor:
        """Relevance (B, N, D) that enters the first block."""
        with torch.set_grad_enabled(self.attached):
            for _ in self._walk:
                pass
        return self._tokens

    def pixels(self) -> torch.Tensor:
        """Relevance (B, H, W) of the pixels, summed over channels; that of prefix tokens and positions is lost."""
        with torch.set_grad_enabled(self.attached):
            return self._pixels(self.tokens())

    def _pixels(self, relevance):
        net = self.net
        if net.pos_embed is not None:
            embedded, start = self.seen[net.norm_pre][0], self.vit.num_prefix_tokens if net.no_embed_class else 0
            position = net.pos_embed.expand_as(embedded[:, start:])
            relevance = self.rules.add(embedded[:, start:] - position, position, relevance[:, start:])[0]
        patches = relevance[:, -self.vit.grid[0] * self.vit.grid[1] :].mT.unflatten(2, self.vit.grid)  # (B, D, h, w)
        return patch_embedding(net.patch_embed.proj, self.seen[net.patch_embed][0], patches)

    def _down(self, target):
        self._tokens = self._head(target)
        for layer in reversed(range(len(self.net.blocks))):
            self.totals.append(self._tokens.flatten(1).sum(1))
            yield from self._block(layer)
        self.totals.append(self._tokens.flatten(1).sum(1))

    def _head(self, target):
        """Relevance (B, N, D) of the tokens after the last block."""
        net, tokens = self.net, self.seen[self.net.norm][1]
        logits = self.seen[net.head][1]
        start = torch.zeros_like(logits).scatter_(1, target[:, None], 1)  # (B, C)
        heads = {net.head: (start, self.vit.readers)}
        if hasattr(net, "head_dist"):
            parts = self.rules.add(logits / 2, self.seen[net.head_dist][1] / 2, start)
            heads = {net.head: (parts[0], slice(0, 1)), net.head_dist: (parts[1], slice(1, 2))}
        relevance = torch.zeros_like(tokens)
        for head, (part, read) in heads.items():
            relevance[:, read] = pool(tokens[:, read], self._linear(head, part))
        return relevance

    def _block(self, layer):
        """Relevance of a block's output, in `_tokens`, becomes that of its input; pauses once attention has its own."""
        block, seen, attn = self.net.blocks[layer], self.seen, self.net.blocks[layer].attn
        before, between = seen[block][0], seen[block.norm2][0]  # the residual stream
        skip, branch = self.rules.add(between, seen[block.drop_path2][1], self._tokens)
        branch = self._linear(block.mlp.fc1, self._linear(block.mlp.fc2, branch))
        skip, branch = self.rules.add(before, seen[block.drop_path1][1], clone(between, skip, branch))

        def by_head(values):  # (B, N, heads * d) -> (B, heads, N, d)
            return values.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)

        q, k, v = seen[attn.q_norm][1], seen[attn.k_norm][1], by_head(seen[attn.qkv][1].chunk(3, 2)[2])
        out = by_head(seen[attn.norm][0])
        weights, v_part = product(seen[attn.attn_drop][1], v, out, by_head(self._linear(attn.proj, branch)))
        self._attention[layer] = weights
        yield
        q_part, k_part = product(q, k.mT, q @ k.mT, weights)
        parts = torch.stack([q_part, k_part.mT, v_part], 1)  # (B, 3, heads, N, d)
        branch = self._linear(attn.qkv, parts.permute(0, 3, 1, 2, 4).flatten(2))
        self._tokens = clone(before, skip, branch)

    def _linear(self, layer, relevance):
        return self.rules.linear(layer, *self.seen[layer], relevance)


def check_blocks(vit: nn.Module, settings: dict) -> None:
    """ValueError unless each layer of `vit` has a rule here, and its model puts them together as timm does."""
    net, name, mend = vit.backbone, type(vit.backbone).__name__, "choose raw_attention or gradcam"
    own = ("forward", "forward_features", "forward_head", "pool", "_pos_embed")
    if not isinstance(net, VisionTransformer) or any(
            part in vars(net) or getattr(type(net), part) not in (getattr(VisionTransformer, part),
                                                                  getattr(VisionTransformerDistilled, part))
            for part in own):
        raise ValueError(f"LRP has no rules for the layers of {name}; {mend}")
    for block in net.blocks:
        parts = [block, getattr(block, "attn", None), getattr(block, "mlp", None)]
        if [type(part) for part in parts] != [Block, Attention, Mlp] or block.attn.gate is not None:
            parts = ", ".join(type(part).__name__ for part in parts if part is not None)
            raise ValueError(f"LRP has rules for timm's Block with plain Attention and Mlp, {name} has {parts}; {mend}")
    if net.global_pool not in ("token", "avg"):
        pool = repr(net.global_pool)
        raise ValueError(f"LRP has rules for heads that read 'token' or 'avg', {name} has pool {pool}; {mend}")
    linears = {f"blocks.{n}.{part}": block.get_submodule(part) for n, block in enumerate(net.blocks)
               for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    linears |= {part: getattr(net, part) for part in ("head", "head_dist") if hasattr(net, part)}
    for part, layer in linears.items():
        if type(layer) is not nn.Linear:
            raise ValueError(f"LRP has rules for nn.Linear, {part} of {name} is a {type(layer).__name__}; {mend}, or "
                             "merge it into one linear layer (peft: merge_and_unload)")


def check_pixels(vit: nn.Module, settings: dict) -> None:
    """ValueError unless relevance can be led down to the pixels."""
    check_blocks(vit, settings)
    patches = vit.backbone.patch_embed
    layer, (h, w) = getattr(patches, "proj", None), vit.grid
    plain = isinstance(layer, nn.Conv2d) and layer.kernel_size == layer.stride and layer.in_channels == 3
    if not plain or tuple(patches.img_size) != (h * layer.stride[0], w * layer.stride[1]):
        got = f"{type(layer).__name__} in {type(patches).__name__}"
        raise ValueError(f"LRP to the pixels wants patches from one convolution, got {got}; choose vta or lrp_rollout")
    if (start := settings.get("start_layer", 0)) != 0:
        raise ValueError(f"lrp goes through all blocks to the pixels: start_layer={start}, wanted 0")
