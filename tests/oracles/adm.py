"""The UNet of ADM (Dhariwal and Nichol 2021) from its formulas, slow and plain, on weights by guided-diffusion's names.

`Weights` makes up, at random, each tensor when the network first asks for it: one pass through `adm` leaves the whole
state dict of a model with these settings. With `made=` it holds a given one, and asking for another tensor is an error.
"""

import math
import zlib

import torch
from torch.nn import functional as F


class Weights(dict):
    """weights(name, *shape) -> float64 tensor; stored as float32."""

    def __init__(self, made=None):
        super().__init__(made or {})
        self.complete = made is not None
        self.asked = set()

    def __call__(self, name, *shape):
        self.asked.add(name)
        if name not in self and not self.complete:
            draws = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            spread = 1 if len(shape) == 1 else math.prod(shape[1:]) ** -0.5  # norms and biases differ from 1 and 0
            self[name] = spread * torch.randn(shape, generator=draws)
        assert self[name].shape == shape, name
        return self[name].double()


def adm(weights, x, t, *, image_size, num_channels, channel_mult, num_res_blocks, attention_resolutions, num_heads=1,
        num_head_channels=-1, use_new_attention_order=False, use_scale_shift_norm=True, resblock_updown=True,
        learn_sigma=True):
    """What the network answers to images (B, 3, H, W) in [-1, 1] at timesteps (B,): (B, 3 or 6, H, W), float64."""
    emb = F.silu(linear(weights, "time_embed.0", times(t, num_channels), 4 * num_channels))
    emb = F.silu(linear(weights, "time_embed.2", emb, 4 * num_channels))  # every res block begins with this SiLU
    side = image_size  # of the model's own images, whatever the size of x

    def level(name, h, width):
        h = res_block(weights, f"{name}.0", h, emb, width, use_scale_shift_norm)
        if side in attention_resolutions:
            h = attend(f"{name}.1", h)
        return h

    def attend(name, h):
        heads = num_heads if num_head_channels == -1 else h.shape[1] // num_head_channels
        return attention(weights, name, h, heads, use_new_attention_order)

    def resize(name, h, step):
        if resblock_updown:
            return res_block(weights, name, h, emb, h.shape[1], use_scale_shift_norm, step)
        if step == "down":
            return conv(weights, f"{name}.op", h, h.shape[1], 3, stride=2)
        return conv(weights, f"{name}.conv", nearest(h), h.shape[1], 3)

    widths = [mult * num_channels for mult in channel_mult]
    h = conv(weights, "input_blocks.0.0", x.double(), widths[0], 3)
    kept = [h]
    for i, width in enumerate(widths):
        for _ in range(num_res_blocks):
            h = level(f"input_blocks.{len(kept)}", h, width)
            kept.append(h)
        if i < len(widths) - 1:
            h = resize(f"input_blocks.{len(kept)}.0", h, "down")
            kept.append(h)
            side /= 2

    h = res_block(weights, "middle_block.0", h, emb, widths[-1], use_scale_shift_norm)
    h = attend("middle_block.1", h)
    h = res_block(weights, "middle_block.2", h, emb, widths[-1], use_scale_shift_norm)

    number = 0
    for i, width in reversed(list(enumerate(widths))):
        for last in [False] * num_res_blocks + [True]:
            h = level(f"output_blocks.{number}", torch.cat([h, kept.pop()], 1), width)
            if last and i > 0:
                h = resize(f"output_blocks.{number}.{2 if side in attention_resolutions else 1}", h, "up")
                side *= 2
            number += 1
    h = F.silu(group_norm(weights, "out.0", h))
    return conv(weights, "out.2", h, 6 if learn_sigma else 3, 3)


def times(t, width):
    """cos, then sin, of t / 10000^(i / half), i = 0 ... half - 1; in float32, in which the network was trained."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], 1).double()


def res_block(weights, name, x, emb, width, scale_shift, step=None):
    resized = {None: lambda h: h, "down": lambda h: F.avg_pool2d(h, 2), "up": nearest}[step]
    h = resized(F.silu(group_norm(weights, f"{name}.in_layers.0", x)))
    x = resized(x)
    h = conv(weights, f"{name}.in_layers.2", h, width, 3)
    told = linear(weights, f"{name}.emb_layers.1", emb, 2 * width if scale_shift else width)[:, :, None, None]
    if scale_shift:
        h = group_norm(weights, f"{name}.out_layers.0", h) * (1 + told[:, :width]) + told[:, width:]
    else:
        h = group_norm(weights, f"{name}.out_layers.0", h + told)
    h = conv(weights, f"{name}.out_layers.3", F.silu(h), width, 3)
    return h + (x if x.shape[1] == width else conv(weights, f"{name}.skip_connection", x, width, 1))


def attention(weights, name, x, heads, new_order):
    batch, width, height, across = x.shape
    tokens = group_norm(weights, f"{name}.norm", x).flatten(2)  # (B, width, N)
    qkv = conv1d(weights, f"{name}.qkv", tokens, 3 * width)
    d = width // heads
    answers = []
    for head in range(heads):
        if new_order:  # all q, all k, all v
            q, k, v = (qkv[:, part * width + head * d: part * width + (head + 1) * d] for part in range(3))
        else:  # q, k, v of head 0, then of head 1, ...
            q, k, v = (qkv[:, (3 * head + part) * d: (3 * head + part + 1) * d] for part in range(3))
        shares = torch.softmax(torch.einsum("bcq,bck->bqk", q, k) / d**0.5, -1)
        answers.append(torch.einsum("bqk,bck->bcq", shares, v))
    h = conv1d(weights, f"{name}.proj_out", torch.cat(answers, 1), width)
    return x + h.reshape(batch, width, height, across)


def group_norm(weights, name, x):
    width = x.shape[1]
    groups = x.reshape(len(x), 32, -1)
    normal = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    scale, shift = (weights(f"{name}.{part}", width)[:, None, None] for part in ("weight", "bias"))
    return normal.reshape(x.shape) * scale + shift


def conv(weights, name, x, width, kernel, stride=1):
    kernels, bias = weights(f"{name}.weight", width, x.shape[1], kernel, kernel), weights(f"{name}.bias", width)
    return F.conv2d(x, kernels, bias, stride, padding=kernel // 2)


def conv1d(weights, name, x, width):
    kernels, bias = weights(f"{name}.weight", width, x.shape[1], 1), weights(f"{name}.bias", width)
    return torch.einsum("oi,bin->bon", kernels[:, :, 0], x) + bias[:, None]


def linear(weights, name, x, width):
    return x @ weights(f"{name}.weight", width, x.shape[1]).T + weights(f"{name}.bias", width)


def nearest(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
