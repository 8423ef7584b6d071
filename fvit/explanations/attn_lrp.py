"""AttnLRP: relevance through attention by the rules of Achtibat et al. 2024, a backward pass of modified slopes.

Relevance of a value x is x times its slope c, and every rule is told of slopes: those of a layer's output become those
of its input, so that no rule divides by what may be 0.
"""

import math

import torch
from timm.layers import RmsNorm
from torch import nn
from torch.nn.functional import fold, linear, unfold

from fvit.base.checks import check_number
from fvit.explanations.lrp import check_pixels

NORMS = (nn.Identity, nn.LayerNorm, nn.RMSNorm, RmsNorm)


# rules: slopes of a layer's output -> slopes of its inputs -----------------------------------------------------------
def weighted(weight, bias, x, out, slope, gamma: float) -> torch.Tensor:
    """Of out = x @ weight.T + bias, x (..., in), weight (out, in): the gamma rule for inputs of both signs.

    out, slope (..., out); returns (..., in).
    Products that agree in sign with the output count 1 + gamma fold; so does a bias, which keeps its share. With
    gamma = 0 it is the epsilon rule without its epsilon: the gradient.
    Source: Montavon et al. 2019; for negative inputs Andeol et al. 2021.
    """
    if gamma == 0:
        return slope @ weight
    size, sign = weight.abs(), out.sign()
    bias = torch.zeros_like(out[..., :1]) if bias is None else bias
    agreeing = (out - bias + sign * linear(x.abs(), size)) / 2 + torch.where(sign * bias > 0, bias, 0)
    shares = slope * out / torch.where(out == 0, 1, out + gamma * agreeing)  # of modulus <= that of the slope
    return (1 + gamma / 2) * (shares @ weight) + gamma / 2 * x.sign() * ((shares * sign) @ size)


def softmax(weights, slope) -> torch.Tensor:
    """Of a softmax over the last axis: Taylor decomposition at the scores themselves, whose bias keeps its share.

    weights (its output), slope (..., N); returns (..., N).
    """
    weighed = weights * slope
    return weighed - weights * weighed.sum(-1, keepdim=True)


def product(a, b, slope) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a @ b: half of the relevance to each (the uniform rule), in proportion to the products.

    a (..., n, m), b (..., m, p), slope (..., n, p); returns the shapes of a and of b.
    """
    return slope @ b.mT / 2, a.mT @ slope / 2


def normalised(layer: nn.Module, x, slope) -> torch.Tensor:
    """Of a norm over the last axis, one of NORMS: its division hands on all (the identity rule), the rest is linear.

    x, slope (..., D); returns (..., D).
    """
    if isinstance(layer, nn.Identity):
        return slope
    centred = isinstance(layer, nn.LayerNorm)
    power = x.var(-1, correction=0, keepdim=True) if centred else x.square().mean(-1, keepdim=True)
    slope = slope if layer.weight is None else slope * layer.weight
    slope = slope / (power + (torch.finfo(x.dtype).eps if layer.eps is None else layer.eps)).sqrt()
    return slope - slope.mean(-1, keepdim=True) if centred else slope


def activated(x, out, slope) -> torch.Tensor:
    """Of an activation element by element: all is handed on (the identity rule); nothing where x = 0.

    x, out, slope of one shape, which is returned.
    """
    return slope * torch.where(x == 0, 0, out / torch.where(x == 0, 1, x))


# the pass ------------------------------------------------------------------------------------------------------------
def pixel_relevance(vit, seen: dict, target: torch.Tensor, gamma: float, conv_gamma: float) -> torch.Tensor:
    """Relevance (B, H, W) of the pixels, summed over channels, to the target's logit, from what `trace_layers` saw.

    gamma, conv_gamma   of the linear layers of the blocks' MLPs and the head; of the patch embedding. The layers inside
                        attention have 0

    Per-sample: batches do not matter.
    """
    net, tokens = vit.backbone, seen[vit.backbone.norm][1]
    slope = torch.zeros_like(tokens)
    heads = [net.head] if not hasattr(net, "head_dist") else [net.head, net.head_dist]
    for n, head in enumerate(heads):
        read = vit.readers if len(heads) == 1 else slice(n, n + 1)
        (x, out), pooled = seen[head], tokens[:, read].mean(1)
        start = torch.zeros_like(out).scatter_(1, target[:, None], 1 / len(heads))  # (B, C)
        own = normalised(net.fc_norm, pooled, weighted(head.weight, head.bias, x, out, start, gamma))
        slope[:, read] = slope[:, read] + own[:, None] / tokens[:, read].shape[1]
    slope = normalised(net.norm, seen[net.norm][0], slope)
    for block in reversed(net.blocks):
        slope = _block(block, seen, slope, gamma)
    slope = normalised(net.norm_pre, seen[net.norm_pre][0], slope)[:, -math.prod(vit.grid):]
    patches, proj = net.patch_embed, net.patch_embed.proj
    x, out = seen[proj]
    out = out.flatten(2).mT  # (B, h w, D)
    slope = normalised(getattr(patches, "norm", nn.Identity()), out, slope)
    cut = {"kernel_size": proj.kernel_size, "stride": proj.stride}
    weight, cells = proj.weight.flatten(1), unfold(x, **cut).mT  # (D, 3 p p), (B, h w, 3 p p)
    slope = weighted(weight, proj.bias, cells, out, slope, conv_gamma)
    return (x * fold(slope.mT, x.shape[2:], **cut)).sum(1)


def _block(block, seen, slope, gamma):
    """Slopes of a block's output -> slopes of its input (B, N, D)."""
    def scaled(layer, slope):
        return slope if isinstance(layer, nn.Identity) else slope * layer.gamma

    def through(layer, slope, gamma=0.0):
        return weighted(layer.weight, layer.bias, *seen[layer], slope, gamma)

    mlp, attn = block.mlp, block.attn
    branch = through(mlp.fc2, scaled(block.ls2, slope), gamma)
    branch = activated(*seen[mlp.act], normalised(mlp.norm, seen[mlp.norm][0], branch))
    slope = slope + normalised(block.norm2, seen[block.norm2][0], through(mlp.fc1, branch, gamma))

    def by_head(values):  # (B, N, heads * d) -> (B, heads, N, d)
        return values.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)

    branch = normalised(attn.norm, seen[attn.norm][0], through(attn.proj, scaled(block.ls1, slope)))
    q, k, v = seen[attn.q_norm][1], seen[attn.k_norm][1], by_head(seen[attn.qkv][1].chunk(3, 2)[2])
    weights = seen[attn.attn_drop][1]
    of_weights, of_v = product(weights, v, by_head(branch))
    of_q, of_k = product(q, k.mT, attn.scale * softmax(weights, of_weights))
    parts = torch.stack([normalised(attn.q_norm, seen[attn.q_norm][0], of_q),
                         normalised(attn.k_norm, seen[attn.k_norm][0], of_k.mT), of_v], 1)  # (B, 3, heads, N, d)
    branch = through(attn.qkv, parts.permute(0, 3, 1, 2, 4).flatten(2))
    return slope + normalised(block.norm1, seen[block.norm1][0], branch)


def check_attn(vit: nn.Module, settings: dict) -> None:
    """ValueError unless each layer of `vit` has a rule here, down to the pixels, and gammas are numbers from 0 on."""
    for name in ("gamma", "conv_gamma"):
        check_number(settings[name], name, "[0, inf)", "0 for the epsilon rule")
    check_pixels(vit, settings)
    net = vit.backbone
    norms = {"norm_pre": net.norm_pre, "norm": net.norm, "fc_norm": net.fc_norm, "patch_embed.norm": getattr(
        net.patch_embed, "norm", nn.Identity())}
    for n, block in enumerate(net.blocks):
        norms |= {f"blocks.{n}.{part}": block.get_submodule(part) for part in (
            "norm1", "norm2", "attn.norm", "attn.q_norm", "attn.k_norm", "mlp.norm")}
    for part, layer in norms.items():
        if not isinstance(layer, NORMS):
            raise ValueError(f"AttnLRP has rules for LayerNorm and RmsNorm, {part} of {type(net).__name__} is a "
                             f"{type(layer).__name__}; choose vta")
