"""Which attention we know, and the proof on one image that a model computes what our explanations take it to."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from timm.layers import Attention, AttentionPoolLatent, AttentionRope
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.swin_transformer import WindowAttention
from timm.models.swin_transformer_v2 import WindowAttention as WindowAttentionV2
from timm.models.vision_transformer import ParallelScalingBlock
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import nn

from fvit.models.weight_files import short

# The map of each passes through its `attn_drop` on the way to the values (with `fused_attn`, once that is off).
KNOWN = (Attention, AttentionRope, BeitAttention, EvaAttention, ParallelScalingBlock, RelPosAttention, WindowAttention,
         WindowAttentionV2)
POOLS = ("token", "avg", "map", "")


@dataclass(frozen=True)
class Layout:
    """What the proof found.

    num_classes   of the logits (B, C); 0 without a classifier, whatever the features are
    readers       slice of the tokens whose output the head reads
    refused       in one line each, why there is no "rollout" (tokens that run through all blocks), or no "tail" (a
                  norm and a head that take the tokens of any block)
    """

    num_classes: int
    readers: slice
    refused: dict


def attention_blocks(vit: nn.Module) -> list[nn.Module]:
    """The blocks whose attention is captured; ValueError if the model has none, or some that we do not know."""
    backbone = getattr(vit, "backbone", vit)
    stages = getattr(backbone, "layers", None)
    blocks = list(getattr(stages[-1] if isinstance(stages, nn.Sequential) else backbone, "blocks", []))
    name = type(backbone).__name__
    if not blocks:
        raise ValueError(f"{name} has no blocks whose attention we can capture; choose a timm ViT, DeiT or Swin")
    for layer in map(attention_layer, blocks):
        if type(layer) not in KNOWN:
            kind = f"{type(layer).__module__}.{type(layer).__name__}"
            raise ValueError(f"{name} has {kind}, whose attention we do not know; choose a timm ViT, DeiT or Swin "
                             "(docs/models.md lists which)")
    return blocks


def attention_layer(block: nn.Module) -> nn.Module:
    return getattr(block, "attn", block)  # itself, if it is a parallel block


def is_swin(backbone: nn.Module) -> bool:
    stages = getattr(backbone, "layers", None)
    return isinstance(stages, nn.Sequential) and hasattr(getattr(stages[-1], "blocks", [None])[-1], "window_size")


def check_outline(backbone: nn.Module) -> None:
    """ValueError unless `backbone` takes RGB images of one size and has blocks over one grid, or stages as Swin has."""
    name, patches = type(backbone).__name__, getattr(backbone, "patch_embed", None)
    if not (hasattr(backbone, "blocks") and getattr(patches, "grid_size", None)) and not is_swin(backbone):
        raise ValueError(f"{name} is no plain vision transformer (blocks over one patch grid); choose a timm ViT, DeiT "
                         "or Swin (docs/models.md lists which)")
    if getattr(patches, "img_size", None) is None:
        raise ValueError(f"{name} states no image size; build it with img_size=...")
    first = next((m for m in patches.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels != 3:
        raise ValueError(f"{name} takes {first.in_channels} channels, wanted 3, RGB; build it with in_chans=3")
    attention_blocks(backbone)
    if (pool := getattr(backbone, "global_pool", "token")) not in POOLS and not is_swin(backbone):
        raise ValueError(f"{name} reads its tokens by global_pool={pool!r}, of which no row can be shown; known: "
                         "'token', 'avg' and 'map'")
    if next(backbone.parameters()).is_meta:
        raise ValueError(f"{name} lies on the device meta, without weights; build it on a device that holds them")


def _readers(backbone: nn.Module) -> slice:
    """The tokens whose output the head reads, as timm states it, which the proof then tries."""
    prefix, pool = getattr(backbone, "num_prefix_tokens", 0), getattr(backbone, "global_pool", "")
    if hasattr(backbone, "head_dist"):
        return slice(0, 2)  # timm averages the heads of the class and of the distillation token
    if pool == "token" or (pool == "" and getattr(backbone, "cls_token", None) is not None):
        return slice(0, 1)  # also where nothing is pooled: the token that would be read
    whole = getattr(backbone, "pool_include_prefix", False)
    return slice(0 if whole else prefix, None)


def pool_attention(pool: nn.Module, x: torch.Tensor):
    """Attention (B, heads, queries, n) of an attention pool over its tokens x (B, n, D), and their values."""
    x = x if pool.pos_embed is None else x + pool.pos_embed.to(x.dtype)
    heads = pool.num_heads
    q = pool.q(pool.latent.expand(len(x), -1, -1)).unflatten(2, (heads, -1)).transpose(1, 2)
    k, v = pool.kv(x).unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    scores = pool.q_norm(q) * pool.scale @ pool.k_norm(k).mT
    return scores.softmax(-1), v


# the proof -----------------------------------------------------------------------------------------------------------
def prove(vit: nn.Module, capture) -> Layout:
    """What a model computes on one random image; ValueError where its attention is not what we take it to be.

    vit       images -> logits, with .backbone, .grid and the rest of a `ViT`
    capture   `capture_attention`

    Every map that `capture` gives has N = prefix + h * w tokens and rows that sum to 1; with the layer's own values,
    and projected, it gives the layer's output. The head reads the tokens that we say, by its gradient, and patches all
    alike. One forward pass, without a trace in the model or in the random numbers.
    """
    net, name, blocks = vit.backbone, type(vit.backbone).__name__, attention_blocks(vit)
    pool, flow, calls = getattr(net, "attn_pool", None), {}, {}
    if pool is not None and type(pool) is not AttentionPoolLatent:
        raise ValueError(f"{name} pools by {type(pool).__name__}, which we do not know; take global_pool='avg'")
    last = net.norm if isinstance(getattr(net, "norm", None), nn.Module) else blocks[-1]

    def keep(module, args, out):
        calls[module] = (args[0], out)

    def into_gradients(module, args, out):
        if "tokens" in flow:
            return out
        flow["tokens"] = out.detach().requires_grad_()
        torch.set_grad_enabled(True)  # for the head only: the context around the pass takes it back
        return flow["tokens"]

    stream = torch.Generator("cpu").manual_seed(0)
    x = torch.rand(1, 3, *vit.image_size, generator=stream, device="cpu").to(vit.mean)
    try:
        with (ExitStack() as hooks, torch.inference_mode(False), torch.no_grad(),
              torch.autocast(x.device.type, enabled=False), capture(vit) as maps):
            def judge(n, layer, args, out):  # at once: all maps of a large model together fill a memory
                if maps[n] is not None:
                    _check_map(vit, n, layer, maps[n], args[0], out)
                    maps[n] = True

            for n, layer in enumerate(map(attention_layer, blocks)):
                hooks.callback(layer.register_forward_hook(partial(judge, n)).remove)
            for module in [*blocks, *([] if pool is None else [pool])]:
                hooks.callback(module.register_forward_hook(keep).remove)
            if not vit.mean.is_inference():
                hooks.callback(last.register_forward_hook(into_gradients).remove)
            logits = vit(x)
            maps.check()
            read, refused = _readers(net), _refused(vit, blocks, calls, logits)
            if pool is not None:
                _check_pool(name, pool, *calls[pool])
                read = slice(flow["tokens"].shape[1] - calls[pool][0].shape[1], None)  # with or without the prefix
        _check_reading(vit, read, flow.get("tokens"), logits)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AttributeError, AssertionError, IndexError, KeyError) as err:
        wanted = f"(1, 3, {vit.image_size[0]}, {vit.image_size[1]})"
        raise ValueError(f"{name} cannot be explained: one image {wanted} gives {short(err)}") from err
    head = getattr(net, "head", None)
    features = logits.ndim != 2 or isinstance(getattr(head, "fc", head), nn.Identity)
    return Layout(0 if features else logits.shape[1], read, refused)


def layer_output(layer: nn.Module, x: torch.Tensor, attn: torch.Tensor) -> torch.Tensor:
    """What a known layer gives for tokens x (B, N, D) if `attn` (B, heads, N, N) multiplies its own values."""
    heads, parallel = attn.shape[1], isinstance(layer, ParallelScalingBlock)
    if parallel:
        hidden, *_, v = layer.in_proj(layer.in_norm(x)).split(layer.in_split, -1)
        v = v.unflatten(2, (heads, -1))
    elif getattr(layer, "v_proj", None) is not None:
        v = layer.v_proj(x).unflatten(2, (getattr(layer, "num_kv_heads", heads), -1))
    else:
        v = layer.qkv(x).chunk(3, 2)[2]
        v = (v if getattr(layer, "v_bias", None) is None else v + layer.v_bias).unflatten(2, (heads, -1))
    v = v.transpose(1, 2)
    mixed = (attn @ v.repeat_interleave(heads // v.shape[1], 1)).transpose(1, 2).flatten(2)
    if parallel:
        hidden = layer.mlp_act(hidden if layer.mlp_bias is None else hidden + layer.mlp_bias)
        return x + layer.ls(layer.out_proj(torch.cat([mixed, hidden], -1)) if layer.out_proj is not None
                            else layer.attn_out_proj(mixed) + layer.mlp_out_proj(hidden))
    mixed = layer.norm(mixed) if hasattr(layer, "norm") else mixed
    gate = getattr(layer, "gate", None)
    return layer.proj(mixed if gate is None else mixed * gate(x).sigmoid())


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal up to the rounding of their precision, against the greatest value."""
    if a.shape != b.shape:
        return False
    tolerance = 1e-3 if a.dtype in (torch.float32, torch.float64) else 5e-2
    return bool((a - b).abs().max() <= tolerance * b.abs().max())


def _check_map(vit, n, layer, attn, x, out):
    name, (h, w) = type(vit.backbone).__name__, vit.grid
    tokens = len(x[0]) if vit.windowed else vit.num_prefix_tokens + h * w
    if attn.ndim != 4 or attn.shape[0] != len(x) or attn.shape[2:] != (tokens, tokens):
        raise ValueError(f"block {n} of {name} attends by a map {tuple(attn.shape)}, wanted (1, heads, {tokens}, "
                         f"{tokens}): {vit.num_prefix_tokens} tokens before {h} x {w} patches")
    if not out.isfinite().all():
        raise ValueError(f"block {n} of {name} gives NaN or infinite values in {out.dtype}; are its weights whole?")
    if not same(layer_output(layer, x, attn), out):
        raise ValueError(f"attention times values is not what {type(layer).__name__} of block {n} of {name} gives; is "
                         "its forward a method of your own?")


def _check_pool(name, pool, x, out):
    attn, v = pool_attention(pool, x)
    read = pool.proj((attn @ v).transpose(1, 2).flatten(2))
    read = read if pool.mlp is None else read + pool.mlp(pool.norm(read))
    if not same({"token": read[:, 0], "avg": read.mean(1)}.get(pool.pool, read), out):
        raise ValueError(f"attention times values is not what the attention pool of {name} gives; is it your own?")


def _refused(vit, blocks, calls, logits):
    """What this model has not, and the reason."""
    net, name, refused = vit.backbone, type(vit.backbone).__name__, {}
    if vit.windowed:
        reason = f"{name} has no tokens that run through all blocks; choose raw_attention or gradcam"
        return {"rollout": reason, "tail": reason}
    if not all(torch.equal(calls[a][1], calls[b][0]) for a, b in pairwise(blocks)):
        reason = f"{name} changes its tokens between blocks; choose raw_attention or gradcam"
        refused["rollout"] = refused["tail"] = reason
    try:
        direct = same(net.forward_head(net.norm(calls[blocks[-1]][1])), logits)
    except (RuntimeError, TypeError, AttributeError):
        direct = False
    if not direct:
        refused["tail"] = f"the logits of {name} are not forward_head(norm(tokens)); choose raw_attention or gradcam"
    return refused


def _check_reading(vit, readers, tokens, logits):
    name = type(vit.backbone).__name__
    if not isinstance(logits, torch.Tensor) or len(logits) != 1 or logits.ndim not in (2, 3):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(f"{name} gives {got} for one image, wanted logits (1, C)")
    if logits.ndim == 3 or not logits.requires_grad:
        return  # nothing is pooled, or the head is all zeros
    with torch.enable_grad():
        score = (logits * torch.arange(logits.shape[1]).cos().to(logits)).sum()  # in a plain sum they may cancel
    slope = torch.autograd.grad(score, tokens)[0].float()[0].flatten(0, -2)  # (N, D)
    size = slope.abs().amax(1)
    wanted = torch.zeros_like(size, dtype=torch.bool)
    wanted[readers] = True
    patches = slope[vit.num_prefix_tokens :]
    pooled = not wanted[: vit.num_prefix_tokens].any() and getattr(vit.backbone, "attn_pool", None) is None
    uneven = pooled and not same(patches, patches[:1].expand_as(patches))
    if size.any() and (size[~wanted].any() or not size[wanted].all() or uneven):
        read = [n for n, value in enumerate(size.tolist()) if value][:6]
        pool = getattr(vit.backbone, "global_pool", "")
        raise ValueError(f"the head of {name} does not read tokens {readers.start}..{readers.stop or len(size)} alike, "
                         f"as global_pool={pool!r} says, but {read}...; choose a timm ViT")
