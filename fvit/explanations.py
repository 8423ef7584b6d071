"""Explanations of a ViT behind one verb: `explain(vit, x, method)`. A method is one function and one row of METHODS."""

import inspect
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn

from fvit.attention import AttentionMaps, attention_blocks, capture_attention
from fvit.checks import (
    as_integer,
    check_choice,
    check_classes,
    check_flag,
    check_images,
    check_k,
    check_shape,
    check_tensor,
)
from fvit.lrp import RULES, RelevancePass, check_blocks, check_pixels, trace_layers


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
        """Rows of `attn` (B, ..., N, N) of the tokens the head reads, their mean, on the patches -> (B, ..., h, w).

        Note: as published for class tokens; the mean over several tokens (distilled DeiT, pooled heads, Swin, whose
        maps are (B * windows, heads, n, n)) is ours, since no reference exists (docs/reference-code.md, 1.9).
        """
        if getattr(self.vit, "windowed", False):
            return _join_windows(attn.mean(-2), attention_blocks(self.vit)[-1], len(self.x))
        return self.to_grid(attn[..., _readers(self.vit), :].mean(-2))

    def to_grid(self, tokens: torch.Tensor) -> torch.Tensor:
        """Values of all N tokens (B, ..., N) -> those of the patches (B, ..., h, w)."""
        return tokens[..., self.vit.num_prefix_tokens :].unflatten(-1, self.vit.grid)

    def gradient(self, target: torch.Tensor, start_layer: int) -> list[torch.Tensor]:
        """d logit / d attention (B, heads, N, N), one backward pass from the logit of each image's target."""
        score = self.scores.gather(1, target[:, None]).sum()
        maps = self.attention[start_layer:]
        return self._once("gradient", start_layer, target, lambda: torch.autograd.grad(score, maps, retain_graph=True))

    def relevance(self, target: torch.Tensor, rules: str) -> RelevancePass:
        """LRP of the target's logit, which goes down as far as it is asked to."""
        return self._once("relevance", rules, target, lambda: RelevancePass(self.vit, self.layers, target, rules))

    def _once(self, kind, setting, target, compute):
        key = kind, setting, tuple(target.tolist())
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]


@dataclass(frozen=True)
class Method:
    """A row of METHODS. `function(record, target, **options)` returns the method's own values, (B, h, w) or pixels.

    differentiable   an attack may differentiate through it; the others are detached
    check            `check(vit, settings)` raises ValueError where the method has no meaning
    reads            `reads(start_layer, depth)`: the blocks whose attention it reads, None for all
    """

    function: Callable
    class_specific: bool
    differentiable: bool
    summary: str
    check: Callable | None = None
    reads: Callable | None = None

    @property
    def options(self) -> list[str]:
        return list(inspect.signature(self.function).parameters)[2:]

    def settings(self, options: dict) -> dict:
        """Every option with its value, given or default."""
        defaults = inspect.signature(self.function).parameters
        return {name: options.get(name, defaults[name].default) for name in self.options}


# methods: signed values of their own; start_layer None is the last block ---------------------------------------------


def raw_attention(record: Pass, target, start_layer: int | None = None) -> torch.Tensor:
    """Attention of the class token in the last block (or in block `start_layer`), mean over heads.

    Source: docs/reference-code.md, 1.1.
    """
    return record.read(record.attention[_last(start_layer)].mean(1))


def rollout(record: Pass, target, start_layer: int = 1) -> torch.Tensor:
    """Attention rollout: the class token's row of M_L ... M_s, where M = (A + I) with rows scaled to sum 1.

    A is the mean over heads, I stands for the residual path, s = `start_layer` (1 leaves the first block out).
    Source: Abnar and Zuidema 2020, as Chefer et al. 2021 compute it (docs/reference-code.md, 1.2).
    """
    return _joint(record, (_rows_to_one(_with_skip(attn.mean(1))) for attn in reversed(record.attention[start_layer:])))


def gradcam(record: Pass, target, start_layer: int | None = None) -> torch.Tensor:
    """GradCAM on the attention of the last block: heads weighted by the mean gradient over the patches, then clamped.

    Source: Selvaraju et al. 2017, on attention as Chefer et al. 2021 compute it (docs/reference-code.md, 1.3).
    Note: before the reference's min-max, whose 0/0 makes a map without positive values NaN: here it becomes uniform.
    """
    layer = _last(start_layer) % len(record.attention)
    gradient = record.gradient(target, layer)[0]
    weights = record.read(gradient).mean((2, 3), keepdim=True)  # (B, heads, 1, 1)
    return (weights * record.read(record.attention[layer])).mean(1).clamp(min=0)


def partial_lrp(record: Pass, target, rules: str = "orig", start_layer: int | None = None) -> torch.Tensor:
    """Positive relevance of the class token's attention in the last block, mean over heads.

    Source: Voita et al. 2019, as Chefer et al. 2021 compute it for ViTs (docs/reference-code.md, 1.4).
    """
    weights = record.relevance(target, rules).attention(_last(start_layer) % len(record.attention))
    return record.read(weights.clamp(min=0).mean(1))


def lrp(record: Pass, target, rules: str = "orig", start_layer: int = 0) -> torch.Tensor:
    """Relevance of the pixels (B, H, W), signed: LRP through all blocks, so `start_layer` can only be 0.

    Sources: Bach et al. 2015; Chefer et al. 2021 (docs/reference-code.md, 1.8; rules in section 2).
    Note: small denominators amplify rounding. On the shipped ViT float32 maps differ from float64 ones by 0.4 % in the
    median of 24 images, and for single images by as much as the map itself; `vit.double()` where that matters.
    """
    return record.relevance(target, rules).pixels()


def lrp_rollout(record: Pass, target, rules: str = "ours", start_layer: int = 0) -> torch.Tensor:
    """Rollout of positive relevance: M = mean over heads of R+, plus I, rows not scaled.

    Source: an ablation of Chefer et al. 2021 (docs/reference-code.md, 1.6).
    Note: a reproduction plots it under the name "rollout" (docs/reference-code.md, fault 8).
    """
    found = record.relevance(target, rules)
    layers = reversed(range(start_layer, len(record.attention)))
    return _joint(record, (_with_skip(found.attention(layer).clamp(min=0).mean(1)) for layer in layers))


def vta(record: Pass, target, rules: str = "ours", start_layer: int = 1) -> torch.Tensor:
    """Transformer attribution: rollout of M = mean over heads of (gradient * relevance)+, plus I, rows not scaled.

    Source: Chefer et al. 2021 (docs/reference-code.md, 1.5).
    """
    found, gradients = record.relevance(target, rules), record.gradient(target, start_layer)
    layers = reversed(list(enumerate(gradients, start_layer)))
    return _joint(record, (_with_skip((grad * found.attention(n)).clamp(min=0).mean(1)) for n, grad in layers))


def attribution_rollout(record: Pass, target, start_layer: int = 0) -> torch.Tensor:
    """Rollout of M = (max over heads of A * g / 2) + I, rows scaled to sum 1; g is the gradient of a block's own score.

    The score of block l is the target's logit when the block's output goes straight to the final norm and the head.
    Source: Xu et al. 2022, as a reproduction computes it; A * g / 2 is its loop in closed form
    (docs/reference-code.md, 1.7).
    Note: named after integrated gradients there, but no path is integrated (fault 17). Rows of sum 0 are not scaled.
    """
    net = record.vit.backbone

    def mixed(layer):
        output, attn = record.layers[net.blocks[layer]][1], record.attention[layer]
        score = net.forward_head(net.norm(output)).gather(1, target[:, None]).sum()
        (grad,) = torch.autograd.grad(score, attn, retain_graph=True)
        return _rows_to_one(_with_skip((attn.detach() * grad / 2).amax(1)))

    return _joint(record, (mixed(layer) for layer in reversed(range(start_layer, len(record.attention)))))


def _check_tokens(vit, settings):
    if getattr(vit, "windowed", False):
        name = type(vit.backbone).__name__
        raise ValueError(f"{name} has no tokens that run through all blocks; choose raw_attention or gradcam")


def _one_block(start_layer, depth):
    return [_last(start_layer) % depth]


def _blocks_on(start_layer, depth):
    return range(start_layer, depth)


METHODS = {
    row.function.__name__: row
    for row in (
        Method(raw_attention, False, True, "attention of the class token in the last block", reads=_one_block),
        Method(rollout, False, True, "attention multiplied through the blocks, with the residual path", _check_tokens,
               reads=_blocks_on),
        Method(gradcam, True, False, "last attention, its heads weighted by their gradient"),
        Method(partial_lrp, True, False, "relevance of the last attention", check_blocks),
        Method(lrp, True, False, "relevance of the pixels", check_pixels),
        Method(lrp_rollout, True, False, "relevance multiplied through the blocks", check_blocks),
        Method(vta, True, False, "gradient times relevance, multiplied through the blocks", check_blocks),
        Method(attribution_rollout, True, False, "attention times gradient, through the blocks", _check_tokens),
    )
}


def explain(vit, x, method: str = "vta", target=None, raw: bool = False, **options) -> torch.Tensor:
    """Explanation of what `vit` sees in `x`: one heatmap per image, differentiable in `x` where METHODS says so.

    x         images (B, 3, H, W) in [0, 1]
    method    a name in METHODS
    target    class index explained, (B,) or one int; default the prediction; class-agnostic methods do not use it
    raw       True: the method's own signed values at its own resolution
    options   of the method: start_layer, the first block that counts, and rules, "ours" or "orig", where it uses LRP
    returns   (B, h, w) non-negative, sums to 1 per image

    Raises ValueError for unknown methods or options, targets that are no class, images outside [0, 1], and models for
    which the method has no meaning.
    """
    check_images(x, size=getattr(check_vit(vit), "image_size", None))
    return explain_with_logits(vit, x, method, target, check_flag(raw, "raw"), **options)[0]


def explain_with_logits(vit, x, method: str, target=None, raw: bool = False, **options):
    """`explain` and the logits (B, C) of the same forward pass. Values of `x` may leave [0, 1], as noisy images do."""
    check_method(method, check_vit(vit), **options)
    target = None if target is None else check_classes(target, len(check_shape(x)), vit.num_classes)
    record = forward_pass(vit, x, [method], **options)
    return explain_pass(record, method, target, raw, **options), record.logits


def forward_pass(vit, x: torch.Tensor, methods=None, **options) -> Pass:
    """Run `vit` once and keep what `methods` read (default: any); they share the pass through `explain_pass`.

    options   those that `explain_pass` will be given
    Class-specific methods have their gradients also under no_grad; they cost the memory of a backward pass.
    """
    rows = [METHODS[check_choice(method, METHODS, "method")] for method in (METHODS if methods is None else methods)]
    if not any(row.class_specific for row in rows):
        with capture_attention(vit, _blocks_read(rows, options, len(attention_blocks(vit)))) as attention:
            logits = vit(x)
        return Pass(vit, x, attention.check(), logits)
    wanted = x.requires_grad and torch.is_grad_enabled()
    with _gradients(), capture_attention(vit) as attention, trace_layers(vit) as layers:
        scores = vit(x if wanted else x.detach().clone().requires_grad_())
    return Pass(vit, x, attention.check(), scores if wanted else scores.detach(), scores, layers)


def _blocks_read(rows, options, depth):
    """Indices of the blocks whose attention the methods `rows` read; None, all, where one of them does not say."""
    if not all(row.reads for row in rows):
        return None
    return sorted({n for row in rows for n in row.reads(row.settings(options)["start_layer"], depth)})


def explain_pass(record: Pass, method: str, target=None, raw: bool = False, **options) -> torch.Tensor:
    """Explanation (B, h, w) from a pass already made; arguments as in `explain`."""
    row = check_method(method, record.vit, **options)
    with _gradients() if row.class_specific else nullcontext():
        values = row.function(record, _targets(record.logits, target), **options)
    values = values.detach() if row.class_specific else values
    return values if raw else normalise_map(values, record.vit.grid)


def check_method(method: str, vit=None, **options) -> Method:
    """The row of METHODS; ValueError if method, option or its value is unknown, or means nothing for `vit`."""
    row = METHODS[check_choice(method, METHODS, "method")]
    for name in options:
        check_choice(name, row.options, f"option of {method}")
    settings = row.settings(options)
    if "rules" in settings:
        check_choice(settings["rules"], RULES, "rules")
    if vit is not None and row.check is not None:
        row.check(vit, settings)
    start_layer, default = (chosen.get("start_layer") for chosen in (settings, row.settings({})))
    if vit is not None and (start_layer is not None or default is not None):
        depth = len(attention_blocks(vit))
        if as_integer(start_layer) not in range(depth):
            raise ValueError(f"start_layer={start_layer} with {depth} blocks, wanted 0 <= start_layer <= {depth - 1}")
    return row


def check_vit(vit):
    """Return `vit` unchanged if it says of itself what a ViT of `load_vit` says, so that its attention has places."""
    if not (callable(vit) and all(hasattr(vit, name) for name in ("grid", "num_classes"))):
        raise ValueError(f"vit is a {type(vit).__name__}, wanted a ViT of fvit.load_vit; a timm module becomes one by "
                         "load_vit(module)")
    return vit


@contextmanager
def _gradients():
    """Gradients whatever the caller's mode: they are part of a class-specific method, not asked for by it."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _last(start_layer: int | None) -> int:
    return -1 if start_layer is None else start_layer


def _readers(vit) -> slice:
    return getattr(vit, "readers", slice(0, 1))  # a module of one's own may lack it: the class token comes first


def _with_skip(mixed: torch.Tensor) -> torch.Tensor:
    return mixed + torch.eye(mixed.shape[-1], dtype=mixed.dtype, device=mixed.device)


def _rows_to_one(mixed: torch.Tensor) -> torch.Tensor:
    total = mixed.sum(-1, keepdim=True)
    return mixed / torch.where(total == 0, 1, total)


def _joint(record: Pass, layers) -> torch.Tensor:
    """(B, h, w): the read row of a product of (B, N, N) that come from the last block to the first."""
    row = None  # (B, 1, N): the row alone is carried along
    for mixed in layers:
        row = mixed[:, _readers(record.vit)].mean(1, keepdim=True) if row is None else row @ mixed
    return record.to_grid(row[:, 0])


def _join_windows(values: torch.Tensor, block, batch: int) -> torch.Tensor:
    """Values (B * windows, heads, n) or (B * windows, n) of a Swin block, mean over windows -> (B, [heads,] h, w)."""
    (h, w), (wh, ww) = block.input_resolution, block.window_size
    rows, columns = -(-h // wh), -(-w // ww)  # padded up to whole windows, after the shift
    values = values.reshape(batch, rows, columns, *values.shape[1:-1], wh, ww) / (rows * columns)
    values = values.movedim((1, 2), (-4, -2))  # (B, [heads,] rows, wh, columns, ww)
    values = values.flatten(-4, -3).flatten(-2)[..., :h, :w]
    return values.roll(tuple(block.shift_size), (-2, -1))


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
    maps = check_tensor(maps, "maps")
    if maps.ndim < 2:
        raise ValueError(f"maps have shape {tuple(maps.shape)}, wanted (B, h, w) or (B, n); one map becomes maps[None]")
    flat = maps.flatten(1)  # (B, n)
    k = check_k(k, flat.shape[1])
    if flat.isnan().any():
        raise ValueError("maps hold NaN, which has no rank; look at maps.isnan()")
    return flat.argsort(dim=1, descending=True, stable=True)[:, :k]


def _targets(logits: torch.Tensor, target) -> torch.Tensor:
    if target is None:
        return logits.detach().argmax(1)
    return check_classes(target, *logits.shape).to(logits.device).clone()
