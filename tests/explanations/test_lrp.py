"""LRP against slow loops, conservation layer by layer, and layers whose answer is known."""

import pytest
import timm
import torch
from oracles.maps import images, slow_divide, slow_linear, small_vit, tiny_vit
from torch import nn

from fvit.explanations import lrp
from fvit.explanations.lrp import RULES, RelevancePass, divide, trace_layers
from fvit.explanations.passes import explain, forward_pass
from fvit.models.vit import ViT

X = images(3)
SIZES = dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=5)
LAYOUTS = {  # a timm architecture each, made small
    "class token": ("vit_tiny_patch16_224", {}), "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "registers, layer scale": ("vit_small_patch14_reg4_dinov2", dict(mlp_ratio=2)),
    "pooled, no class token": ("vit_base_patch16_gap_224", {}),
    "pooled, class token, its own norm": ("vit_tiny_patch16_224", dict(global_pool="avg")),
    "norms of q, k and the output": ("vit_tiny_patch16_224", dict(qk_norm=True, scale_attn_norm=True)),
    "norm before the blocks, no positions": ("vit_tiny_patch16_224", dict(pre_norm=True, pos_embed="none")),
    "positions of patches only": ("vit_tiny_patch16_224", dict(no_embed_class=True)),
}


NAMES = ("vta", "orig")


def made(layout, noise=0.3):
    name, changes = LAYOUTS[layout]
    return small_vit(name, noise, **(SIZES | changes)).double()


def passed(vit, x, target, rules):
    forward = forward_pass(vit, x)
    return RelevancePass(vit, forward.layers, torch.as_tensor(target).expand(len(x)), rules)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vta_conserves_relevance_layer_by_layer(layout):
    vit = made(layout)
    relevance = passed(vit, X, [0, 3, 1], "vta")
    assert relevance.tokens().shape == (3, vit.num_prefix_tokens + 16, 24)
    torch.testing.assert_close(torch.stack(relevance.totals), torch.ones(4, 3, dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixels_keep_the_relevance_of_their_patches(layout):
    """The z^B rule conserves up to its 1e-9; the positions take the share that the add rule gives them."""
    vit = made(layout)
    vit.backbone.pos_embed = None if vit.backbone.pos_embed is None else nn.Parameter(vit.backbone.pos_embed * 0)
    for rules in NAMES:
        relevance = passed(vit, X, 2, rules)
        kept = relevance.tokens()[:, vit.num_prefix_tokens :].sum((1, 2))
        torch.testing.assert_close(relevance.pixels().sum((1, 2)), kept, rtol=1e-6, atol=1e-6)


def test_orig_counts_the_two_signs_apart():
    """docs/reference-code.md, fault 12: the head hands on twice what it got."""
    totals = passed(tiny_vit(torch.float64), X, 1, "orig")
    totals.tokens()
    torch.testing.assert_close(totals.totals[0], torch.full((3,), 2.0, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rules", NAMES)
def test_the_result_of_an_image_does_not_depend_on_its_batch(rules):
    vit = tiny_vit(torch.float64)
    together = passed(vit, X, [0, 3, 1], rules)
    for i, target in enumerate([0, 3, 1]):
        alone = passed(vit, X[i : i + 1], target, rules)
        for read in (lambda found: found.attention(0), RelevancePass.pixels):
            mine, want = read(together)[i], read(alone)[0]
            assert (mine - want).norm() <= 1e-9 * want.norm()


def test_the_pass_goes_down_only_as_far_as_asked():
    relevance = passed(tiny_vit(torch.float64), X, 1, "vta")
    assert relevance.totals == []
    relevance.attention(2)
    assert len(relevance.totals) == 1
    relevance.attention(1), relevance.attention(2)
    assert len(relevance.totals) == 2
    relevance.tokens(), relevance.tokens(), relevance.attention(0)
    assert len(relevance.totals) == 4


# rules ---------------------------------------------------------------------------------------------------------------
def test_division_at_its_edges():
    a = torch.tensor([2.0, 2, 2, 0], dtype=torch.float64)
    b = torch.tensor([0.0, -1e-9, 1, 0], dtype=torch.float64)
    assert divide(a, b).tolist() == [0, 2 / 1e-9, 2 / (1 + 1e-9), 0]
    assert torch.equal(divide(a, b), slow_divide(a, b))
    assert divide(a.float(), b.float()).dtype == torch.float32


def random_linear(g, *sizes, **options):
    """Of the stream g: torch's own initial weights hang on which tests ran before."""
    layer = nn.Linear(*sizes, **options).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.normal_(0, 0.3, generator=g)
    return layer


@pytest.mark.parametrize("rules", NAMES)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_rules_with_fewer_products_are_those_with_all(rules, bias):
    g = torch.Generator().manual_seed(0)
    layer = random_linear(g, 7, 5, bias=bias).double()
    layer.weight[0] = -1.0  # with positive inputs, no product is positive
    x, relevance = (torch.randn(4, n, generator=g, dtype=torch.float64) for n in (7, 5))
    x[0] = x[0].abs()
    got = RULES[rules].linear(layer, x, layer(x), relevance)
    torch.testing.assert_close(got, slow_linear(layer.weight, x, relevance, rules), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_output_without_positive_products_gives_nothing(dtype):
    """Its denominator is 0, and rounding in the three-product form must not pass for a denominator."""
    g = torch.Generator().manual_seed(0)
    layer = random_linear(g, 50, 20).to(dtype)
    layer.weight.copy_(-torch.rand(20, 50, generator=g))
    x, relevance = torch.rand(30, 50, generator=g).to(dtype), torch.randn(30, 20, generator=g).to(dtype)
    assert not lrp.linear_vta(layer, x, layer(x), relevance).any()


def test_addition_shares_by_size_whatever_the_signs():
    p, q = torch.tensor([[3.0, 1.0]]).double(), torch.tensor([[-1.0, 1.0]]).double()
    relevance = torch.tensor([[1.0, 1.0]]).double()  # in proportion: p 1.5 + 0.5, q -0.5 + 0.5
    a, b = lrp.add_orig(p, q, relevance)
    torch.testing.assert_close(torch.stack([a, b]), torch.tensor([[[1.5, 0.5]], [[-0.5, 0.5]]]).double())
    relevance = torch.tensor([[4.0, 2.0]]).double()  # p 6 + 1 = 7, q -2 + 1 = -1: shares 7/8 and 1/8 of 6
    a, b = lrp.add_vta(p, q, relevance)
    torch.testing.assert_close(torch.stack([a, b]), torch.tensor([[[4.5, 0.75]], [[1.5, -0.75]]]).double())


def test_products_share_half_and_half():
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 3, generator=g, dtype=torch.float64) for _ in range(2))
    relevance = torch.randn(2, 3, 3, generator=g, dtype=torch.float64)
    halves = lrp.product(a, b, a @ b, relevance)
    for half in halves:
        torch.testing.assert_close(half.sum(), relevance.sum() / 2)


def test_pooling_shares_among_the_tokens_that_agree_with_the_mean():
    tokens = torch.tensor([[[3.0, 1.0], [-1.0, -5.0], [1.0, 0.0]]]).double()  # means 1 and -4/3
    got = lrp.pool(tokens, torch.tensor([[8.0, 2.0]]).double())
    torch.testing.assert_close(got, torch.tensor([[[6.0, 0], [0, 2], [2, 0]]]).double())
    one = torch.tensor([[[3.0, -1.0]]]).double()
    torch.testing.assert_close(lrp.pool(one, one[:, 0] ** 2), one**2)


# layouts and edges ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rules", NAMES)
def test_float32_agrees_with_float64(layout, rules):
    """In the last block and for most images: a small denominator, of A V say, amplifies rounding without bound."""
    vit = made(layout, 0.1)
    expected = passed(vit, X, 1, rules).attention(2)
    got = passed(vit.float(), X.float(), 1, rules)
    assert got.attention(2).dtype == got.pixels().dtype == torch.float32 and got.pixels().isfinite().all()
    gaps = (got.attention(2) - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert gaps.median() <= 2e-3


def test_a_constant_image_has_no_relevant_pixels():
    for dtype in (torch.float32, torch.float64):
        vit, flat = tiny_vit(dtype), torch.full((1, 3, 32, 32), 0.3, dtype=dtype)
        for rules in NAMES:
            assert not explain(vit, flat, "lrp", rules=rules, raw=True).any()
            assert torch.equal(explain(vit, flat, "lrp", rules=rules), torch.full((1, 4, 4), 1 / 16, dtype=dtype))


def test_a_net_of_zeros_is_finite():
    vit = tiny_vit(torch.float64)
    for parameter in vit.parameters():
        parameter.zero_()
    for rules in NAMES:
        assert not passed(vit, X, 1, rules).pixels().any()


def test_nothing_is_left_behind():
    vit = tiny_vit()
    explain(vit, X.float(), "lrp")
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in vit.modules())
    with pytest.raises(KeyError), trace_layers(vit):
        raise KeyError("in the middle")
    assert not any(m._forward_hooks for m in vit.modules())


@pytest.mark.parametrize(("changes", "message"), [
    (dict(block_fn=timm.models.vision_transformer.ParallelScalingBlock), "ParallelScalingBlock"),
    (dict(block_fn=timm.models.vision_transformer.ResPostBlock, init_values=1), "ResPostBlock, Attention, Mlp"),
    (dict(mlp_layer=timm.layers.SwiGLU), "Block, Attention, SwiGLU"),
    (dict(global_pool="map"), r"heads that read 'token' or 'avg', VisionTransformer has pool 'map'"),
])
@pytest.mark.parametrize("method", ["vta", "lrp", "partial_lrp", "lrp_rollout"])
def test_layers_without_rules_are_named(changes, message, method):
    vit = ViT(timm.models.VisionTransformer(**{**SIZES, **changes}), (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match=message):
        explain(vit, X.float(), method)


def test_pixels_want_one_convolution_and_all_blocks():
    vit = tiny_vit(torch.float64)
    with pytest.raises(ValueError, match="start_layer=1, wanted 0"):
        explain(vit, X, "lrp", start_layer=1)
    assert torch.equal(explain(vit, X, "lrp", start_layer=0), explain(vit, X, "lrp"))
    proj = vit.backbone.patch_embed.proj
    vit.backbone.patch_embed.proj = nn.Sequential(proj)
    with pytest.raises(ValueError, match="patches from one convolution, got Sequential"):
        explain(vit, X, "lrp")
    assert explain(vit, X, "vta").shape == (3, 4, 4)
