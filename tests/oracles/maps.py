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


def small_vit(arch="vit_tiny_patch16_224", noise=0.0, **sizes) -> ViT:
    """A timm architecture made small, the same each time; noise in every parameter makes its attention peaked."""
    small = dict(img_size=16, patch_size=8, embed_dim=12, depth=3, num_heads=3, num_classes=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(arch, pretrained=False, **(sizes if "swin" in arch else small | sizes))
    g = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data += noise * torch.randn(parameter.shape, generator=g)
    return ViT(net, (0.5,) * 3, (0.5,) * 3, name="tiny")


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
