"""Explanations of a ViT behind one verb: `explain(vit, x, method)`. A method is one function and one row of METHODS."""

import copy
from contextlib import ExitStack, contextmanager

import torch

from fvit.base.checks import (
    as_integer,
    check_choice,
    check_classes,
    check_classifier,
    check_flag,
    check_images,
    check_shape,
)
from fvit.explanations.lrp import RULES, trace_layers
from fvit.explanations.methods import METHODS, Method
from fvit.explanations.own import method_name, method_row
from fvit.explanations.record import Pass
from fvit.metrics.maps import normalise_map
from fvit.models.attention import AttentionMaps, capture_attention
from fvit.models.layouts import attention_blocks
from fvit.models.state import evaluated, held
from fvit.models.vit import check_vit


def explain(vit, x, method: str = "vta", target=None, raw: bool = False, **options) -> torch.Tensor:
    """Explanation of what `vit` sees in `x`: one heatmap per image, differentiable in `x` where METHODS says so.

    x         images (B, 3, H, W) in [0, 1]
    method    a name in METHODS, or a function of your own, f(vit, x, target) or f(vit, x) -> (B, h, w) on the patches
              or (B, H, W) of pixels, finite, real values; `register_method` says more and gives it a name
    target    class index explained, (B,) or one int; default the prediction; class-agnostic methods do not use it
    raw       True: the method's own signed values at its own resolution
    options   of the method: start_layer, the first block that counts; with LRP rules, "vta" (or "ours") or "orig"
    returns   (B, h, w) non-negative, sums to 1 per image, float32 or float64

    Gradients and relevance are computed in float32 at least, whatever the precision of the weights and also inside
    torch.autocast: of weights in half precision a copy is made for the call, float64 on a CPU and float32 elsewhere,
    and the prediction is the copy's.
    Raises ValueError for unknown methods or options, targets that are no class, images outside [0, 1], models for which
    the method has no meaning (`supports`), and values that overflow.
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
    rows = [method_row(method) for method in (METHODS if methods is None else methods)]
    if not any(row.class_specific and row.reads is None for row in rows):
        depth, blocks = len(attention_blocks(vit)), None  # all, where a method does not say which it reads
        if all(row.reads for row in rows):
            blocks = sorted({n for row in rows for n in row.reads(row.settings(options).get("start_layer"), depth)})
        if blocks == []:  # functions of one's own, which run the model themselves
            return Pass(vit, x, AttentionMaps(depth, blocks), vit(x))
        with capture_attention(vit, blocks) as attention:
            logits = vit(x)
        maps = attention.check()
        maps[:] = [None if attn is None else attn.to(_precision(attn)) for attn in maps]
        maps.pool = None if maps.pool is None else maps.pool.to(_precision(maps.pool))
        return Pass(vit, x, maps, logits)
    if half := [weight for weight in getattr(vit, "parameters", tuple)() if weight.dtype != _precision(weight)]:
        vit = copy.deepcopy(vit).to(torch.float64 if half[0].device.type == "cpu" else torch.float32)
    wanted = x.requires_grad and torch.is_grad_enabled()
    with (_gradients(x.device), _unfused_pool(vit, wanted), capture_attention(vit) as attention,
          trace_layers(vit) as layers):
        scores = vit(x if wanted else x.detach().clone().requires_grad_())
    return Pass(vit, x, attention.check(), scores if wanted else scores.detach(), scores, layers)


def explain_pass(record: Pass, method: str, target=None, raw: bool = False, **options) -> torch.Tensor:
    """Explanation (B, h, w) from a pass already made; arguments as in `explain`."""
    row, logits = check_method(method, record.vit, **options), record.logits
    with ExitStack() as inside:
        inside.enter_context(_gradients(logits.device) if row.class_specific else _whole(logits.device))
        inside.enter_context(evaluated(getattr(record.vit, "backbone", record.vit), recompute=False))
        inside.enter_context(_unfused_pool(record.vit, row.class_specific and record.attached))
        classes = logits.detach().argmax(1) if target is None else check_classes(target, *logits.shape)
        values = row.function(record, classes.to(logits.device).clone(), **options)
    tracked = not row.class_specific or (row.differentiable and record.attached and torch.is_grad_enabled())
    values = values if tracked else values.detach()
    if bad := [i for i, fine in enumerate(values.isfinite().flatten(1).all(1).tolist()) if not fine]:
        wider = "choose other rules or another method" if values.dtype == torch.float64 else (
            "compute in float64: explain(vit.double(), x.double(), ...)")
        raise ValueError(f"{method_name(method)} is NaN or infinite in {values.dtype} for images {bad}; {wider}")
    return values if raw else normalise_map(values, record.vit.grid)


def supports(vit) -> dict:
    """What can explain `vit`, a ViT of `load_vit`: for each name in METHODS True, or in one line the reason why not.

    These are the checks of `explain` itself, with each method's default options. Raises ValueError for what is no ViT
    of `load_vit`.
    """
    check_vit(vit)
    answers = {}
    for method in METHODS:
        try:
            answers[method] = bool(check_method(method, vit))
        except ValueError as err:
            answers[method] = str(err)
    return answers


def check_method(method: str, vit=None, **options) -> Method:
    """The row of METHODS; ValueError if method, option or its value is unknown, or means nothing for `vit`."""
    row = method_row(method)
    for name in options:
        check_choice(name, row.options, f"option of {method_name(method)}")
    settings = row.settings(options)
    if "rules" in settings:
        check_choice(settings["rules"], RULES, "rules")
    if vit is not None and row.class_specific:
        check_classifier(getattr(vit, "num_classes", None), f"{method_name(method)}, which explains a class,")
    if vit is not None and row.check is not None:
        row.check(vit, settings)
    layers = [chosen.get("start_layer") for chosen in (settings, row.settings({}))]
    if vit is not None and not layers[0] is layers[1] is None:
        depth = len(attention_blocks(vit))
        if as_integer(layers[0]) not in range(depth):
            raise ValueError(f"start_layer={layers[0]} with {depth} blocks, wanted 0 <= start_layer <= {depth - 1}")
    return row


def _precision(values: torch.Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)


def _unfused_pool(vit, twice):
    """Context in which an attention pool has second derivatives, which the fused kernels have not, if `twice`."""
    pool = getattr(getattr(vit, "backbone", vit), "attn_pool", None)
    return held([pool] if twice else [], "fused_attn", False)


def _whole(device):
    return torch.autocast(device.type, enabled=False)


@contextmanager
def _gradients(device):
    """Gradients whatever the caller's mode: they are part of a class-specific method, not asked for by it."""
    with torch.inference_mode(False), torch.enable_grad(), _whole(device):
        yield
