"""Every method against golden maps of the reference code, slow references, and ViTs whose answer is known."""


import pytest
import timm
import torch
from oracles import golden
from oracles.maps import small_vit
from timm.models.swin_transformer import window_partition
from torch import nn

from fvit.explanations.methods import METHODS, Method
from fvit.explanations.passes import explain, explain_pass, explain_with_logits, forward_pass
from fvit.explanations.record import Pass
from fvit.metrics.maps import normalise_map
from fvit.models.attention import capture_attention
from fvit.models.vit import ViT

HALF = (0.5,) * 3
SPECIFIC = [name for name, row in METHODS.items() if row.class_specific]
X = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tiny_vit(depth=3, **changes):
    sizes = dict(img_size=(16, 24), patch_size=8, embed_dim=12, depth=depth, num_heads=3, num_classes=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.models.VisionTransformer(**{**sizes, **changes})
        for parameter in backbone.parameters():
            parameter.data.normal_(0, 0.3)  # far from uniform attention
    return ViT(backbone.double(), HALF, HALF)


def attention_of(vit, x):
    with capture_attention(vit) as attn:
        vit(x)
    return attn.stack()


def slow_rollout(attn, start_layer):
    """docs/reference-code.md, 1.2, with loops, for one image: attn (L, heads, N, N)."""
    n = attn.shape[-1]
    joint = torch.eye(n, dtype=attn.dtype)
    for layer in attn[start_layer:]:
        mixed = torch.zeros(n, n, dtype=attn.dtype)
        for i in range(n):
            for j in range(n):
                mixed[i, j] = sum(head[i, j] for head in layer) / len(layer) + (i == j)
            mixed[i] /= sum(mixed[i])
        joint = mixed @ joint  # the later layer on the left
    return joint[0]


@pytest.fixture(scope="module", name="golden")
def golden_maps():
    tensors, _ = golden.explanations()
    return ViT(golden.backbone(), HALF, HALF), (tensors["A/input"] + 1) / 2, tensors


def test_golden_logits_and_attention(golden):
    vit, x, tensors = golden
    torch.testing.assert_close(vit(x), tensors["A/logits"], rtol=0, atol=1e-12)
    torch.testing.assert_close(attention_of(vit, x), tensors["A/attn"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("method", "options", "key"), [
    ("raw_attention", {}, "A/raw_attention"), ("rollout", {}, "A/rollout_s1"),
    ("rollout", dict(start_layer=1), "A/rollout_s1"), ("rollout", dict(start_layer=0), "A/rollout_s0"),
])
def test_golden_maps(golden, method, options, key):
    vit, x, tensors = golden
    raw = explain_with_logits(vit, x, method, raw=True, **options)[0]
    torch.testing.assert_close(raw, tensors[key], rtol=0, atol=1e-12)
    normalised = tensors[key] / tensors[key].sum((1, 2), keepdim=True)
    torch.testing.assert_close(explain_with_logits(vit, x, method, **options)[0], normalised, rtol=0, atol=1e-12)


GOLDEN_BY_CLASS = [
    ("gradcam", {}, "gradcam_unnormalised"), ("partial_lrp", {}, "partial_lrp_orig"),
    ("partial_lrp", dict(rules="vta"), "partial_lrp_ours"), ("lrp", {}, "full_lrp_orig"),
    ("lrp", dict(rules="ours"), "full_lrp_ours"), ("lrp_rollout", {}, "lrp_rollout_ours_s0"),
    ("lrp_rollout", dict(start_layer=1), "lrp_rollout_ours_s1"),
    ("lrp_rollout", dict(rules="orig"), "lrp_rollout_orig_s0"),
    ("lrp_rollout", dict(rules="orig", start_layer=1), "lrp_rollout_orig_s1"), ("vta", {}, "vta_ours_s1"),
    ("vta", dict(start_layer=0), "vta_ours_s0"), ("vta", dict(rules="orig"), "vta_orig_s1"),
    ("vta", dict(rules="orig", start_layer=0), "vta_orig_s0"), ("attribution_rollout", {}, "attr_rollout_cls_s0"),
    ("attribution_rollout", dict(start_layer=1), "attr_rollout_cls_s1"),
]
CLASSES = [1, 4]  # those of the golden file


def close(got, expected, tolerance=1e-9):
    """Relative distance in norm of each image's map; the reference adds in another order."""
    gap, size = (got - expected).flatten(1).norm(dim=1), expected.flatten(1).norm(dim=1)
    return bool((gap <= tolerance * size).all())


@pytest.mark.parametrize(("method", "options", "key"), GOLDEN_BY_CLASS)
def test_golden_maps_of_a_class(golden, method, options, key):
    vit, x, tensors = golden
    for n, target in enumerate(CLASSES):
        expected = tensors["A/" + key][:, n]
        assert close(explain_with_logits(vit, x, method, target, raw=True, **options)[0], expected)
        heat = explain_with_logits(vit, x, method, target, **options)[0]
        torch.testing.assert_close(heat, normalise_map(expected, vit.grid), rtol=0, atol=1e-9)


def test_golden_map_of_the_predicted_class(golden):
    vit, x, tensors = golden
    assert torch.equal(vit(x).argmax(1), tensors["A/pred_class"])
    raw = explain_with_logits(vit, x, "attribution_rollout", raw=True)[0]
    assert close(raw, tensors["A/attr_rollout_pred_s0"])


@pytest.mark.parametrize("rules", ["ours", "orig"])
def test_golden_relevance_and_gradients(golden, rules):
    vit, x, tensors = golden
    record = forward_pass(vit, x)
    for n, target in enumerate(CLASSES):
        classes = torch.full((3,), target)
        assert close(torch.stack(record.gradient(classes, 0), 1), tensors["A/attn_grad"][:, n])
        relevance = record.relevance(classes, rules)
        assert close(relevance.tokens(), tensors[f"A/token_relevance_{rules}"][:, n])
        found = torch.stack([relevance.attention(layer) for layer in range(3)], 1)
        assert close(found, tensors[f"A/attn_rel_{rules}"][:, n])
        assert close(torch.stack(relevance.totals, 1), tensors[f"A/relevance_sums_{rules}"][:, n], 1e-8)


def test_a_gradcam_that_is_nan_in_the_reference_is_uniform_here(golden):
    """docs/reference-code.md, fault 14; elsewhere its min-max changes the scale and nothing else."""
    vit, x, tensors = golden
    for n, target in enumerate(CLASSES):
        raw, heat = (explain_with_logits(vit, x, "gradcam", target, raw=raw)[0] for raw in (True, False))
        for i, reference in enumerate(tensors["A/gradcam"][:, n]):
            if reference.isnan().any():
                assert not raw[i].any() and torch.equal(heat[i], torch.full_like(heat[i], 1 / heat[i].numel()))
            else:
                torch.testing.assert_close((raw[i] - raw[i].min()) / (raw[i].max() - raw[i].min()), reference)


@pytest.mark.parametrize("start_layer", [0, 1, 2])
def test_rollout_against_loops(start_layer):
    vit = tiny_vit()
    expected = torch.stack([slow_rollout(attn, start_layer) for attn in attention_of(vit, X)])[:, 1:].reshape(3, 2, 3)
    got = explain(vit, X, "rollout", start_layer=start_layer, raw=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)


def brightness_vit(sharpness):
    """One block, one head: the class token looks at each patch in proportion to exp(sharpness * brightness)."""
    backbone = timm.models.VisionTransformer(
        img_size=(16, 24), patch_size=8, embed_dim=4, depth=1, num_heads=1, num_classes=2, pre_norm=False
    ).double()
    for parameter in backbone.parameters():
        parameter.data.zero_()
    block = backbone.blocks[0]
    block.norm1 = nn.Identity()
    backbone.patch_embed.proj.weight.data[0] = 1 / (3 * 8 * 8)  # channel 0: mean of the patch, in [-1, 1]
    backbone.cls_token.data[0, 0, 1] = 1  # channel 1: marks the class token
    block.attn.qkv.weight.data[0, 1] = 1  # query: 1 for the class token
    block.attn.qkv.weight.data[4, 0] = sharpness / 2 / block.attn.scale  # key: brightness, mapped back to [0, 1]
    return ViT(backbone, HALF, HALF)


@pytest.mark.parametrize("sharpness", [0.0, 3.0, -1.5])
def test_a_one_layer_vit_whose_answer_is_known(sharpness):
    brightness = X.reshape(3, 3, 2, 8, 3, 8).mean((1, 3, 5))  # (B, 2, 3)
    known = (sharpness * brightness).flatten(1).softmax(1).reshape(3, 2, 3)
    vit = brightness_vit(sharpness)
    torch.testing.assert_close(explain(vit, X, "raw_attention"), known, rtol=0, atol=1e-12)
    torch.testing.assert_close(explain(vit, X, "rollout", start_layer=0), known, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_image_without_positions_has_a_uniform_map(method):
    vit = tiny_vit()
    vit.backbone.pos_embed.data.zero_()
    flat = torch.full_like(X[:1], 0.3)
    torch.testing.assert_close(explain(vit, flat, method), torch.full((1, 2, 3), 1 / 6, dtype=torch.float64))
    assert explain(vit, X[:1], method, 2).std() > 1e-3  # while an image with content has not


def reading_vit():
    """One block, one head, no norms: logit 1 is the brightness under attention, sum_j A_j b_j, and logit 0 minus it."""
    backbone = brightness_vit(4.0).backbone  # brightness below is in [0, 1]: exp(2 b)
    backbone.patch_embed.proj.weight.data[0] /= 2
    backbone.patch_embed.proj.bias.data[0] = 0.5  # channel 0: mean of the patch, in [0, 1]
    block = backbone.blocks[0]
    block.attn.qkv.weight.data[8, 0] = 1  # value: brightness
    block.attn.proj.weight.data[2, 0] = 1  # written to channel 2
    block.norm2 = backbone.norm = nn.Identity()
    backbone.head.weight.data[0, 2], backbone.head.weight.data[1, 2] = -1, 1
    return ViT(backbone, HALF, HALF)


@pytest.mark.parametrize("rules", ["vta", "orig"])
def test_class_specific_methods_on_a_one_layer_vit_whose_answer_is_known(rules):
    """d logit / d A_j = b_j, and the relevance of A_j is its share A_j b_j / sum_i A_i b_i, halved."""
    vit = reading_vit()
    b = X.reshape(3, 3, 2, 8, 3, 8).mean((1, 3, 5))  # (B, 2, 3)
    a = (2 * b).flatten(1)
    a = a.exp() / (1 + a.exp().sum(1, keepdim=True))  # the class token, of brightness 0, takes part
    a = a.reshape(b.shape)
    logit = (a * b).sum((1, 2), keepdim=True)
    torch.testing.assert_close(vit(X), torch.cat([-logit, logit], 1)[:, :, 0])
    share, tight = a * b / logit / 2, dict(rtol=1e-6, atol=1e-9)
    for method in ("partial_lrp", "lrp_rollout"):
        got = explain(vit, X, method, 1, raw=True, rules=rules, start_layer=0)
        torch.testing.assert_close(got, share, **tight)
    got = explain(vit, X, "vta", 1, raw=True, rules=rules, start_layer=0)
    torch.testing.assert_close(got, share * b, **tight)
    got = explain(vit, X, "gradcam", 1, raw=True)
    torch.testing.assert_close(got, a * b.mean((1, 2), keepdim=True), **tight)
    got = explain(vit, X, "attribution_rollout", 1, raw=True)
    torch.testing.assert_close(got, a * b / 2 / (1 + logit / 2), **tight)
    against = explain(vit, X, "gradcam", 0)  # nothing speaks for class 0
    assert torch.equal(against, torch.full_like(against, 1 / 6))


@pytest.mark.parametrize("method", SPECIFIC)
def test_permuting_classes_permutes_what_is_explained(method):
    vit, order = tiny_vit(), torch.tensor([2, 0, 3, 1])
    heat = explain(vit, X, method, target=torch.tensor([0, 1, 2]))
    assert not torch.allclose(heat, explain(vit, X, method, target=torch.tensor([1, 2, 3])), atol=1e-3)
    vit.backbone.head.weight.data = vit.backbone.head.weight.data[order]
    vit.backbone.head.bias.data = vit.backbone.head.bias.data[order]
    permuted = explain(vit, X, method, target=order.argsort()[:3])
    torch.testing.assert_close(permuted, heat, rtol=0, atol=1e-9)
    predicted = vit(X).argmax(1)
    assert torch.equal(explain(vit, X, method), explain(vit, X, method, target=predicted))


@pytest.mark.parametrize("method", SPECIFIC)
def test_gradients_are_had_in_every_mode_and_none_leak(method):
    vit, rounding = tiny_vit(), dict(rtol=0, atol=1e-12)  # each mode may have kernels of its own
    expected = explain(vit, X, method, 1)
    with torch.no_grad():
        torch.testing.assert_close(explain(vit, X, method, 1), expected, **rounding)
    with torch.inference_mode():
        torch.testing.assert_close(explain(vit, X.clone(), method, torch.tensor([1, 1, 1])), expected, **rounding)
    heat, logits = explain_with_logits(vit, X, method, 1)
    assert not heat.requires_grad and not logits.requires_grad and not X.requires_grad
    x = X.clone().requires_grad_()
    heat, logits = explain_with_logits(vit, x, method, 1)
    assert heat.requires_grad == METHODS[method].differentiable
    torch.testing.assert_close(heat, expected, **rounding)
    assert torch.autograd.grad(logits.sum(), x)[0].abs().max() > 0  # the prediction can still be attacked
    assert all(p.grad is None for p in vit.parameters())


def test_the_default_is_transformer_attribution():
    vit = tiny_vit()
    assert torch.equal(explain(vit, X), explain(vit, X, "vta", rules="ours", start_layer=1))


@pytest.mark.parametrize("method", ["raw_attention", "gradcam", "partial_lrp"])
def test_the_last_block_is_a_default_and_an_argument(method):
    vit = tiny_vit()
    assert torch.equal(explain(vit, X, method, 1, start_layer=2), explain(vit, X, method, 1))
    assert not torch.allclose(explain(vit, X, method, 1, start_layer=1), explain(vit, X, method, 1), atol=1e-3)


LAYOUTS = {
    "distilled": ("deit_tiny_distilled_patch16_224", {}, slice(0, 2)),
    "registers": ("vit_small_patch14_reg4_dinov2", {}, slice(0, 1)),
    "no class token": ("vit_base_patch16_gap_224", {}, slice(0, None)),
    "pooled with a class token": ("vit_tiny_patch16_224", dict(global_pool="avg"), slice(1, None)),
    "pooled with all tokens": ("vit_tiny_patch16_224", dict(global_pool="avg", pool_include_prefix=True), slice(None)),
}


def layout(name):
    arch, changes, readers = LAYOUTS[name]
    return small_vit(arch, 0.3, img_size=(16, 24), **changes).double(), readers


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_rows_of_the_tokens_that_the_head_reads_are_explained(name):
    vit, readers = layout(name)
    attn = attention_of(vit, X)  # (B, L, heads, N, N)
    rows = attn[:, -1].mean(1)[:, readers].mean(1)[:, -6:].reshape(3, 2, 3)
    torch.testing.assert_close(explain(vit, X, "raw_attention", raw=True), rows, rtol=0, atol=1e-14)
    joint = torch.eye(attn.shape[-1], dtype=torch.float64).expand(3, -1, -1)
    for layer in attn[:, 1:].mean(2).unbind(1):
        mixed = (layer + torch.eye(layer.shape[-1], dtype=torch.float64)) / 2
        joint = mixed @ joint
    rows = joint[:, readers].mean(1)[:, -6:].reshape(3, 2, 3)
    torch.testing.assert_close(explain(vit, X, "rollout", raw=True), rows, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_layouts_have_every_method(name, method):
    vit, _ = layout(name)
    heat = explain(vit, X, method, 1)
    assert heat.shape == (3, 2, 3) and heat.min() >= 0
    torch.testing.assert_close(heat.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    alone = torch.cat([explain(vit, x[None], method, 1) for x in X])
    torch.testing.assert_close(alone, heat, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["distilled", "no class token"])
def test_a_token_that_no_head_reads_gets_no_gradient(name):
    """Of the last attention only the rows that the head reads have a gradient, so the readers are what we say."""
    vit, readers = layout(name)
    (gradient,) = forward_pass(vit, X).gradient(torch.tensor([1, 1, 1]), 2)
    read = torch.zeros(gradient.shape[-1], dtype=torch.bool)
    read[readers] = True
    assert (gradient.abs().amax((0, 1, 3)) > 0).tolist() == read.tolist()


def swin(window_size=4):
    return small_vit("swin_tiny_patch4_window7_224", 0.3, img_size=(32, 48), window_size=window_size, embed_dim=12,
                     depths=(1, 2), num_heads=(3, 3), num_classes=4).double()


IMAGES = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def swin_places(block):
    """For each window the places (row, column) of its tokens before the shift, None for padding."""
    (h, w), (wh, ww), (down, right) = block.input_resolution, block.window_size, block.shift_size
    numbers = torch.arange(1, h * w + 1).reshape(1, h, w, 1).roll((-down, -right), (1, 2))
    padded = nn.functional.pad(numbers, (0, 0, 0, -w % ww, 0, -h % wh))
    return [[divmod(n - 1, w) if n else None for n in window.flatten().tolist()]
            for window in window_partition(padded, (wh, ww))]


@pytest.mark.parametrize("window_size", [2, 3, 4, 6])
def test_swin_in_windows_against_loops(window_size):
    vit = swin(window_size)
    block = vit.backbone.layers[-1].blocks[-1]
    assert vit.grid == (4, 6) and vit.num_prefix_tokens == 0
    places = swin_places(block)
    record = forward_pass(vit, IMAGES)
    maps, (gradient,) = record.attention[-1], record.gradient(torch.tensor([2, 2, 2]), 1)
    raw, weights, cam = torch.zeros(3, 4, 6).double(), torch.zeros(3, 3).double(), torch.zeros(3, 4, 6).double()
    per_head = torch.zeros(2, 3, 3, 4, 6, dtype=torch.float64)  # attention, gradient
    for image in range(3):
        for window, tokens in enumerate(places):
            for j, place in enumerate(tokens):
                if place:
                    for n, source in enumerate((maps, gradient)):
                        column = source[image * len(places) + window, :, :, j].mean(1)  # (heads,)
                        per_head[n, image, :, place[0], place[1]] = column / len(places)
    raw = per_head[0].mean(1)
    weights = per_head[1].mean((2, 3), keepdim=True)
    cam = (weights * per_head[0]).mean(1).clamp(min=0)
    torch.testing.assert_close(explain(vit, IMAGES, "raw_attention", raw=True), raw, rtol=0, atol=1e-14)
    torch.testing.assert_close(explain(vit, IMAGES, "gradcam", 2, raw=True), cam, rtol=1e-9, atol=1e-14)
    alone = torch.cat([explain(vit, x[None], "gradcam", 2) for x in IMAGES])
    torch.testing.assert_close(alone, explain(vit, IMAGES, "gradcam", 2), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_methods_without_meaning_for_swin_say_so_and_others_have_maps(method):
    if METHODS[method].check:
        with pytest.raises(ValueError, match=r"SwinTransformer.*choose raw_attention or gradcam"):
            explain(swin(), IMAGES, method)
    else:
        heat = explain(swin(), IMAGES, method)
        torch.testing.assert_close(heat.sum((1, 2)), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("method", METHODS)
def test_heatmaps_are_distributions_and_batches_do_not_matter(method):
    vit = tiny_vit()
    heat = explain(vit, X, method)
    assert heat.shape == (3, 2, 3) and heat.min() >= 0 and heat.dtype == torch.float64
    torch.testing.assert_close(heat.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    alone = torch.cat([explain(vit, x[None], method) for x in X.flip(0)]).flip(0)
    torch.testing.assert_close(alone, heat, rtol=0, atol=1e-12)
    single = explain(vit.float(), X.float(), method)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, heat.float(), rtol=0, atol=1e-2 if method in SPECIFIC else 1e-5)


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.differentiable])
def test_gradients_in_the_image_are_right(method):
    vit = tiny_vit(depth=2)
    x = X[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: explain(vit, x, method), x, fast_mode=True)
    assert all(p.grad is None for p in vit.parameters())


def test_one_pass_serves_several_methods(monkeypatch):
    vit, calls = tiny_vit(), []
    vit.register_forward_hook(lambda *_: calls.append(1))
    record = forward_pass(vit, X)
    maps = {method: explain_pass(record, method) for method in METHODS}
    assert len(calls) == 1
    assert torch.equal(record.logits, explain_with_logits(vit, X, "vta")[1]) and len(calls) == 2
    for method, heat in maps.items():
        if METHODS[method].reads is None:
            assert torch.equal(heat, explain(vit, X, method))
        else:  # alone, it leaves the blocks that it does not read fused: other roundings
            torch.testing.assert_close(heat, explain(vit, X, method), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method, options, read", [
    ("raw_attention", {}, [3]), ("raw_attention", {"start_layer": 1}, [1]), ("rollout", {}, [1, 2, 3]),
    ("rollout", {"start_layer": 0}, [0, 1, 2, 3]), ("gradcam", {}, [0, 1, 2, 3])])
def test_blocks_a_method_does_not_read_stay_fused(method, options, read):
    vit, unfused = tiny_vit(depth=4), []
    for n, block in enumerate(vit.backbone.blocks):
        block.attn.register_forward_hook(lambda module, *_, n=n: module.fused_attn or unfused.append(n))
    explain(vit, X, method, **options)
    assert unfused == read


def test_a_class_specific_method_is_one_function_and_one_row(monkeypatch):
    def head_weight(record: Pass, target, gain: float = 1.0):
        """A pixel map that holds the class explained in its first pixel, a negative value in another cell."""
        pixels = torch.zeros_like(record.x[:, 0])
        pixels[:, 0, 0], pixels[:, 0, 1], pixels[:, 8, 0] = gain * (1 + target), gain, -1
        return pixels

    monkeypatch.setitem(METHODS, "head_weight", Method(head_weight, True, False, "for this test"))
    vit = tiny_vit()
    predicted = vit(X).argmax(1)
    assert explain(vit, X, "head_weight", raw=True)[:, 0, 0].tolist() == (1 + predicted).tolist()
    assert explain(vit, X, "head_weight", target=2, gain=2.0, raw=True)[:, 0, 0].tolist() == [6, 6, 6]
    heat = explain(vit, X, "head_weight", target=torch.tensor([0, 1, 2]))
    assert torch.equal(heat[:, 0, 0], torch.ones(3, dtype=torch.float64)) and heat.sum() == 3  # pooled by sums, clamped


def test_normalise_map():
    values = torch.tensor([[[3.0, -5.0], [1.0, 0.0]], [[0.0, 0.0], [-1.0, 0.0]]], requires_grad=True)
    heat = normalise_map(values)
    assert heat.tolist() == [[[0.75, 0.0], [0.25, 0.0]], [[0.25, 0.25], [0.25, 0.25]]]
    heat[:, 0, 0].sum().backward()
    assert values.grad.isfinite().all()  # no 0/0 behind the uniform map
    pooled = normalise_map(torch.tensor([[[1.0, 1, 0, 4], [1, 1, -3, 0]]]), grid=(1, 2))
    assert torch.equal(
        pooled, torch.tensor([[[0.8, 0.2]]])
    )  # sums 4 and 1: negatives count in their cell, then cells are clamped


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(method="rolout"), r"unknown method 'rolout', known: raw_attention, .*did you mean 'rollout'"),
    (dict(method="rollout", start=0), r"unknown option of rollout 'start', known: start_layer; did you mean"),
    (dict(method="raw_attention", rules="ours"), "unknown option of raw_attention 'rules', known: start_layer"),
    (dict(rules="our"), "unknown rules 'our', known: vta, orig, ours; did you mean 'ours'"),
    (dict(method="gradcam", start_layer=3), "start_layer=3 with 3 blocks"),
    (dict(method="rollout", start_layer=3), r"start_layer=3 with 3 blocks, wanted 0 <= start_layer <= 2"),
    (dict(method="rollout", start_layer=-1), "start_layer=-1 with 3 blocks"),
    (dict(target=4), r"target has classes 4\.\.4, wanted 0\.\.3"),
    (dict(target=torch.tensor([0, 1])), r"wanted class indices \(B,\) = \(3,\)"),
    (dict(target=torch.tensor([0.0, 1.0, 2.0])), "wanted class indices"), (dict(x=X * 255), "divide by 255"),
    (dict(x=X * float("nan")), "NaN or infinite"), (dict(x=X[:, :1]), "a grey image: expand it"),
])
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        explain(tiny_vit(), **{"x": X, **arguments})


def test_noisy_images_may_leave_the_range_where_smoothing_needs_it():
    for method in METHODS:
        assert explain_with_logits(tiny_vit(), X + 2, method)[0].isfinite().all()
