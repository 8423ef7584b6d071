"""Slow references written from the formulas, one image and one draw at a time, and the tiny models they run on."""

import timm
import torch
from diffusers import UNet2DModel

from fvit.base import rng
from fvit.models.denoiser import Denoiser
from fvit.models.schedule import linear_alphas_cumprod
from fvit.models.vit import ViT


def tiny_vit(dtype=torch.float32, seed=0, num_classes=5) -> ViT:
    """Three blocks on 32x32, 16 patches; weights large enough that attention is peaked and moves with the image."""
    backbone = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3,
                                             num_classes=num_classes)
    _fill(backbone, 0.25, seed)
    return ViT(backbone, mean=(0.5,) * 3, std=(0.5,) * 3, name="tiny").to(dtype)


def tiny_denoiser(dtype=torch.float32, seed=0) -> Denoiser:
    """A diffusers UNet of two levels with random weights: no good as a prior, but a true one in form."""
    unet = UNet2DModel(sample_size=32, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                       down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False)
    _fill(unet, 0.1, seed)
    return Denoiser(unet.to(dtype).eval().requires_grad_(False), linear_alphas_cumprod())


def _fill(module, std, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            if p.ndim > 1:
                p.copy_(std * torch.randn(p.shape, generator=g))
            elif "norm" not in name:
                p.zero_()


def images(n, dtype=torch.float64, seed=0, size=32):
    """Images away from 0 and 1, so that a small step stays inside."""
    return 0.2 + 0.6 * torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def class_token_attention(vit, x):
    """Last block, mean over heads, class token's row over the patches, scaled to sum 1; from q and k themselves."""
    net = vit.backbone
    tokens = net._pos_embed(net.patch_embed((x - vit.mean) / vit.std))
    for block in net.blocks[:-1]:
        tokens = block(tokens)
    last = net.blocks[-1]
    qkv = last.attn.qkv(last.norm1(tokens)).unflatten(-1, (3, last.attn.num_heads, -1))  # (B, N, 3, heads, d)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    row = (q[:, :, :1] @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean(1)[:, 0, 1:]
    return (row / row.sum(1, keepdim=True)).unflatten(1, vit.grid)


def dds_loop(vit, den, x, ids, sigma, draws, seed=0, purpose="dds"):
    """Every draw's map (B, n, h, w) and class probabilities (B, n, C), in two plain loops."""
    maps, probs = [], []
    for image, image_id in zip(x, ids, strict=True):
        for draw in draws:
            z = rng.normal(image.shape, seed, purpose, image_id, draw, dtype=x.dtype)
            x_noisy = (image + sigma * z)[None]
            x_hat = x_noisy if den is None else den(x_noisy, sigma)
            maps.append(class_token_attention(vit, x_hat)[0])
            probs.append(vit(x_hat).softmax(1)[0])
    return (torch.stack(v).unflatten(0, (len(x), len(draws))) for v in (maps, probs))


def pgd_loop(gradient, x, eps, norm, steps, step_size, start):
    """PGD of one image x (3, H, W) as written in Madry et al. 2018; gradient(x, step) -> (3, H, W)."""
    x_adv = start.clone()
    for step in range(steps):
        g = gradient(x_adv, step)
        x_adv = x_adv + step_size * (torch.sign(g) if norm == "linf" else g / g.pow(2).sum().sqrt())
        delta = x_adv - x
        if norm == "linf":
            delta = torch.minimum(torch.maximum(delta, torch.full_like(x, -eps)), torch.full_like(x, eps))
        elif delta.pow(2).sum().sqrt() > eps:
            delta = eps * delta / delta.pow(2).sum().sqrt()
        x_adv = torch.minimum(torch.maximum(x + delta, torch.zeros_like(x)), torch.ones_like(x))
    return x_adv


def slow_divide(a, b):
    """docs/reference-code.md, section 2, `sd`, entry by entry."""
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    out = [0.0 if d == 0 else n / ((d + 1e-9) or 1e-9) for n, d in pairs]
    return torch.tensor(out, dtype=a.dtype).view_as(a)


def slow_linear(weight, x, relevance, rules):
    """docs/reference-code.md, 2.3, with all clamped products: x (N, in), relevance (N, out) -> (N, in)."""
    plus, minus, x_plus, x_minus = weight.clamp(min=0), weight.clamp(max=0), x.clamp(min=0), x.clamp(max=0)
    first, second = x_plus @ plus.T, x_minus @ minus.T
    if rules == "vta":
        shares = slow_divide(relevance, first + second)
        return x_plus * (shares @ plus) + x_minus * (shares @ minus)
    return x_plus * (slow_divide(relevance, first) @ plus) + x_minus * (slow_divide(relevance, second) @ minus)


def slow_add(p, q, relevance, rules):
    a, b = p * slow_divide(relevance, p + q), q * slow_divide(relevance, p + q)
    if rules == "vta":
        total_a, total_b, whole = a.sum(), b.sum(), relevance.sum()
        share_a = slow_divide(total_a.abs(), total_a.abs() + total_b.abs())
        share_b = slow_divide(total_b.abs(), total_a.abs() + total_b.abs())
        a, b = a * slow_divide(share_a * whole, total_a), b * slow_divide(share_b * whole, total_b)
    return a, b


def lrp_loop(vit, image, target, rules):
    """LRP of one image (3, H, W) through a plain ViT with a class token, block by block and head by head.

    Returns relevance of attention (L, heads, N, N), of the tokens that enter block 0 (N, D), and of pixels (H, W).
    Source: docs/reference-code.md, section 2.
    """
    net = vit.backbone
    pixels = ((image - vit.mean[0]) / vit.std[0])[None]
    patches = net.patch_embed(pixels)[0]
    plain = torch.cat([net.cls_token[0], patches])
    stream, parts = plain + net.pos_embed[0], []
    for block in net.blocks:
        attn, inner = block.attn, block.norm1(stream)
        q, k, v = attn.qkv(inner).unflatten(1, (3, attn.num_heads, -1)).permute(1, 2, 0, 3)  # each (heads, N, d)
        weights = torch.stack([(q[h] @ k[h].T * attn.scale).softmax(-1) for h in range(attn.num_heads)])
        mixed = torch.cat([weights[h] @ v[h] for h in range(attn.num_heads)], 1)
        first = attn.proj(mixed)
        between = stream + first
        hidden = block.norm2(between)
        active = block.mlp.act(block.mlp.fc1(hidden))
        second = block.mlp.fc2(active)
        parts.append((block, stream, inner, q, k, v, weights, mixed, first, between, hidden, active, second))
        stream = between + second
    last = net.norm(stream)
    start = torch.zeros(1, vit.num_classes, dtype=image.dtype)
    start[0, target] = 1
    relevance = torch.zeros_like(stream)
    relevance[0] = last[0] * slow_divide(slow_linear(net.head.weight, last[:1], start, rules)[0], last[0])
    found = []
    for block, stream, inner, q, k, v, weights, mixed, first, between, hidden, active, second in reversed(parts):
        attn, mlp = block.attn, block.mlp
        skip, branch = slow_add(between, second, relevance, rules)
        branch = slow_linear(mlp.fc1.weight, hidden, slow_linear(mlp.fc2.weight, active, branch, rules), rules)
        relevance = between * (slow_divide(skip, between) + slow_divide(branch, between))
        skip, branch = slow_add(stream, first, relevance, rules)
        branch = slow_linear(attn.proj.weight, mixed, branch, rules)
        size, to_qkv, of_attention = q.shape[-1], torch.zeros(len(stream), attn.qkv.out_features).to(image), []
        for h in range(attn.num_heads):
            own = slice(h * size, (h + 1) * size)
            shares = slow_divide(branch[:, own], mixed[:, own])
            of_attention.append(weights[h] * (shares @ v[h].T) / 2)
            inner_shares = slow_divide(of_attention[-1], q[h] @ k[h].T)
            for third, values in enumerate((q[h] * (inner_shares @ k[h]), k[h] * (inner_shares.T @ q[h]),
                                            v[h] * (weights[h].T @ shares))):
                to_qkv[:, third * attn.attn_dim + h * size : third * attn.attn_dim + (h + 1) * size] = values / 2
        found.append(torch.stack(of_attention))
        branch = slow_linear(attn.qkv.weight, inner, to_qkv, rules)
        relevance = stream * (slow_divide(skip, stream) + slow_divide(branch, stream))
    tokens = relevance
    relevance = slow_add(plain, net.pos_embed[0], relevance, rules)[0][1:]
    kernel, (height, width) = net.patch_embed.proj.weight, net.patch_embed.patch_size  # (D, 3, height, width)
    low, high, out = pixels.min(), pixels.max(), torch.zeros_like(pixels[0])
    for n, (row, column) in enumerate((r, c) for r in range(vit.grid[0]) for c in range(vit.grid[1])):
        at = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
        patch = pixels[0, :, at[0], at[1]]
        terms = kernel * patch - kernel.clamp(min=0) * low - kernel.clamp(max=0) * high
        out[:, at[0], at[1]] = (terms * (relevance[n] / (terms.sum((1, 2, 3)) + 1e-9))[:, None, None, None]).sum(0)
    return torch.stack(found[::-1]), tokens, out.sum(0)
