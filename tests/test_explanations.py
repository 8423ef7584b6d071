"""Raw attention and rollout against golden maps, slow references, and ViTs whose answer is known."""

import json

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from fvit.attention import capture_attention
from fvit.explanations import (
    METHODS,
    Method,
    Pass,
    explain,
    explain_pass,
    explain_with_logits,
    forward_pass,
    normalise_map,
)
from fvit.paths import ROOT
from fvit.vit import ViT

GOLDEN = ROOT.parent / "shared" / "golden"
HALF = (0.5,) * 3
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
    """BASELINES 1.2 with loops, for one image: attn (L, heads, N, N)."""
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


@pytest.fixture(scope="module")
def golden():
    file = GOLDEN / "explanations.safetensors"
    if not file.is_file():
        pytest.skip("the golden explanations are not on this machine (shared/golden)")
    tensors = load_file(file)
    config = json.loads((GOLDEN / "explanations.json").read_text())["configs"]["A"]
    names = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "num_classes", "mlp_ratio")
    backbone = timm.models.VisionTransformer(**{name: config[name] for name in names}).double()
    prefix = "A/weights/"
    backbone.load_state_dict({key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)})
    return ViT(backbone, HALF, HALF), (tensors["A/input"] + 1) / 2, tensors


def test_golden_logits_and_attention(golden):
    vit, x, tensors = golden
    torch.testing.assert_close(vit(x), tensors["A/logits"], rtol=0, atol=1e-12)
    torch.testing.assert_close(attention_of(vit, x), tensors["A/attn"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "options", "key"),
    [
        ("raw_attention", {}, "A/raw_attention"),
        ("rollout", {}, "A/rollout_s1"),
        ("rollout", dict(start_layer=1), "A/rollout_s1"),
        ("rollout", dict(start_layer=0), "A/rollout_s0"),
    ],
)
def test_golden_maps(golden, method, options, key):
    vit, x, tensors = golden
    raw = explain_with_logits(vit, x, method, raw=True, **options)[0]
    torch.testing.assert_close(raw, tensors[key], rtol=0, atol=1e-12)
    normalised = tensors[key] / tensors[key].sum((1, 2), keepdim=True)
    torch.testing.assert_close(explain_with_logits(vit, x, method, **options)[0], normalised, rtol=0, atol=1e-12)


@pytest.mark.parametrize("start_layer", [0, 1, 2])
def test_rollout_against_loops(start_layer):
    vit = tiny_vit()
    expected = torch.stack([slow_rollout(attn, start_layer) for attn in attention_of(vit, X)])[:, 1:].reshape(3, 2, 3)
    got = explain(vit, X, "rollout", start_layer=start_layer, raw=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)


def test_raw_attention_against_loops():
    vit = tiny_vit()
    attn = attention_of(vit, X)
    expected = torch.zeros(3, 2, 3, dtype=torch.float64)
    for image in range(3):
        for row in range(2):
            for column in range(3):
                token = 1 + 3 * row + column  # patches are numbered row by row after the class token
                expected[image, row, column] = sum(attn[image, -1, head, 0, token] for head in range(3)) / 3
    torch.testing.assert_close(explain(vit, X, raw=True), expected, rtol=0, atol=1e-15)


def test_rollout_of_the_last_block_alone_is_half_its_attention():
    """M = (A + I) / 2 moves half of the class token's weight to itself; on patches the ranking is A's own."""
    vit = tiny_vit()
    torch.testing.assert_close(explain(vit, X, "rollout", start_layer=2, raw=True), explain(vit, X, raw=True) / 2)


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
    torch.testing.assert_close(explain(vit, X), known, rtol=0, atol=1e-12)
    torch.testing.assert_close(explain(vit, X, "rollout", start_layer=0), known, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["raw_attention", "rollout"])
def test_a_constant_image_without_positions_has_a_uniform_map(method):
    vit = tiny_vit()
    vit.backbone.pos_embed.data.zero_()
    flat = torch.full_like(X[:1], 0.3)
    torch.testing.assert_close(explain(vit, flat, method), torch.full((1, 2, 3), 1 / 6, dtype=torch.float64))
    assert explain(vit, X[:1], method).std() > 1e-3  # while an image with content has not


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if not row.class_specific])
def test_permuting_classes_changes_nothing_but_the_logits(method):
    vit, order = tiny_vit(), torch.tensor([2, 0, 3, 1])
    heat, logits = explain_with_logits(vit, X, method)
    vit.backbone.head.weight.data = vit.backbone.head.weight.data[order]
    vit.backbone.head.bias.data = vit.backbone.head.bias.data[order]
    permuted_heat, permuted_logits = explain_with_logits(vit, X, method, target=torch.tensor([0, 1, 2]))
    assert torch.equal(permuted_heat, heat)
    torch.testing.assert_close(permuted_logits, logits[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_heatmaps_are_distributions_and_batches_do_not_matter(method):
    vit = tiny_vit()
    heat = explain(vit, X, method)
    assert heat.shape == (3, 2, 3) and heat.min() >= 0 and heat.dtype == torch.float64
    torch.testing.assert_close(heat.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    alone = torch.cat([explain(vit, x[None], method) for x in X.flip(0)]).flip(0)
    torch.testing.assert_close(alone, heat, rtol=0, atol=1e-12)
    torch.testing.assert_close(explain(vit.float(), X.float(), method), heat.float(), rtol=0, atol=1e-5)


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
    assert torch.equal(record.logits, explain_with_logits(vit, X)[1]) and len(calls) == 2
    for method, heat in maps.items():
        assert torch.equal(heat, explain(vit, X, method))


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(method="rolout"), r"unknown method 'rolout', known: raw_attention, rollout.*did you mean 'rollout'"),
        (dict(method="rollout", start=0), r"unknown option of rollout 'start', known: start_layer; did you mean"),
        (dict(start_layer=0), "unknown option of raw_attention 'start_layer'"),
        (dict(method="rollout", start_layer=3), r"start_layer=3 with 3 blocks, wanted 0 <= start_layer <= 2"),
        (dict(method="rollout", start_layer=-1), "start_layer=-1 with 3 blocks"),
        (dict(target=4), r"target has classes 4\.\.4, wanted 0\.\.3"),
        (dict(target=torch.tensor([0, 1])), r"wanted class indices \(B,\) = \(3,\)"),
        (dict(target=torch.tensor([0.0, 1.0, 2.0])), "wanted class indices"),
        (dict(x=X * 255), "divide by 255"),
        (dict(x=X * float("nan")), "NaN or infinite"),
        (dict(x=X[:, :1]), "a grey image: expand it"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        explain(tiny_vit(), **{"x": X, **arguments})


def test_noisy_images_may_leave_the_range_where_smoothing_needs_it():
    heat, _ = explain_with_logits(tiny_vit(), X + 2)
    assert heat.isfinite().all()


@pytest.mark.parametrize("changes", [dict(reg_tokens=2), dict(class_token=True, no_embed_class=True)])
def test_registers_are_not_patches(changes):
    vit = tiny_vit(**changes)
    attn = attention_of(vit, X)[:, -1].mean(1)[:, 0]
    assert torch.equal(explain(vit, X, raw=True).flatten(1), attn[:, -6:])
